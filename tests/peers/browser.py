"""Opens MLflow's pages in Chromium as a person would: `browser.py < errand.json`.

A program of its own, in an environment of its own: `uv run --with-requirements locks/browser.txt`.
The errand is a JSON object: {"address": "https://HOST[:PORT]", "connect_to": "127.0.0.1:PORT",
"ca": path, "name", "password", "experiment": id, "runs": [names], "file": [name, a part of its
text] or null, "pictures": [names of images], "model": name, "screenshots": folder}. Chromium asks
`connect_to` for whatever host the address names, as a DNS server or a forwarded port would have it
do.

Prints a JSON object: {"steps": {name: seconds}, "refused": ["STATUS METHOD URL", of answers from
400], "after_logout": the status of a page}. Ends with 1 when a page does not show what it should.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Error, Page, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
#: Nothing of Chromium's own goes out to the network.
ARGUMENTS = (
    *("--disable-background-networking", "--disable-component-update", "--disable-gpu"),
    *("--disable-quic", "--disable-sync", "--no-first-run"),
)
PATIENCE_MS = 60_000


def main() -> int:
    """Run the program; returns its exit code."""
    errand = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as home:
        trust(Path(home), errand["ca"])
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM,
                chromium_sandbox=os.geteuid() != 0,
                args=[*ARGUMENTS, f"--host-resolver-rules=MAP * {errand['connect_to']}"],
                env={**os.environ, "HOME": home},
            )
            try:
                print(json.dumps(visit(browser, errand)))
            finally:
                browser.close()
    return 0


def trust(home: Path, ca: str) -> None:
    """Make the authority known to the Chromium of this home, as its dialog for authorities does."""
    folder = home / ".pki" / "nssdb"
    folder.mkdir(parents=True)
    for words in (
        ["-N", "--empty-password"],
        ["-A", "-n", "authority of the server", "-t", "C,,", "-i", ca],
    ):
        subprocess.run(["certutil", "-d", f"sql:{folder}", *words], check=True)


def visit(browser: Browser, errand: dict[str, Any]) -> dict[str, Any]:
    """Sign in, look at everything that the errand names, and log out."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    refused: list[str] = []
    page.on("response", lambda answer: refused.append(_line(answer)) if answer.status >= 400 else 0)
    steps: dict[str, float] = {}
    address, experiment = errand["address"], errand["experiment"]
    runs = errand["runs"]
    last = runs[-1]

    def step(name: str, action: Callable[[], None]) -> None:
        begun_s = time.monotonic()
        action()
        # Charts are drawn a moment after their data have come.
        page.wait_for_timeout(700)
        steps[name] = round(time.monotonic() - begun_s, 1)
        page.screenshot(path=f"{errand['screenshots']}/{len(steps)}-{name.replace(' ', '-')}.png")

    def open_runs() -> None:
        page.goto(f"{address}/#/experiments/{experiment}/runs?workflowType=machine_learning")
        page.get_by_role("link", name=last, exact=True).wait_for()

    def sign_in() -> None:
        assert status(context, address) == 401
        answer_the_dialog(page, address, errand["name"], errand["password"])
        page.get_by_role("button", name=f"Account menu for {errand['name']}").wait_for()
        refused.clear()

    def open_a_run() -> None:
        open_runs()
        page.get_by_role("link", name=last, exact=True).click()
        page.get_by_role("heading", name=last).wait_for()

    def see_its_charts() -> None:
        page.get_by_role("tab", name="Model metrics").click()
        page.get_by_role("heading", name="rmse").wait_for()
        expect(page.locator(".js-plotly-plot .trace").first).to_be_attached()

    def see_its_artifacts() -> None:
        page.get_by_role("tab", name="Artifacts").click()
        if errand["file"]:
            name, text = errand["file"]
            page.get_by_text(name).click()
            page.get_by_text(text).wait_for()

    def see_a_picture(name: str) -> None:
        page.get_by_text(name, exact=True).click()
        # Its width is 0 until it is drawn, and when it cannot be.
        drawn = "Array.from(document.images).some(one => one.naturalWidth > 300)"
        page.wait_for_function(drawn)

    def compare_runs() -> None:
        open_runs()
        page.get_by_role("checkbox", name="Select all runs").click()
        page.get_by_role("button", name="Compare", exact=True).click()
        page.get_by_role("heading", name=f"Comparing {len(runs)} Runs").wait_for()
        for name in runs:
            page.get_by_role("cell", name=name).wait_for()

    def see_the_model() -> None:
        page.goto(f"{address}/#/models/{errand['model']}")
        page.get_by_role("link", name="Version 1").wait_for()

    def log_out() -> None:
        page.get_by_role("button", name=f"Account menu for {errand['name']}").click()
        with page.expect_response(lambda answer: answer.status == 401):
            page.get_by_role("menuitem", name="Logout").click()

    step("sign in", sign_in)
    step("a run", open_a_run)
    step("its charts", see_its_charts)
    step("its artifacts", see_its_artifacts)
    for picture in errand["pictures"]:
        step(picture.partition(".")[0], functools.partial(see_a_picture, picture))
    step("runs compared", compare_runs)
    step("a registered model", see_the_model)
    before_logout = list(refused)
    step("logged out", log_out)
    return {"steps": steps, "refused": before_logout, "after_logout": status(context, address)}


def status(context: BrowserContext, address: str) -> int:
    """What the server answers to a visit; without a dialog, Chromium shows nothing for a 401."""
    # A page of its own: the page of an error is another process, which a next call may miss.
    page = context.new_page()
    try:
        with page.expect_response(f"{address}/") as answer, suppress(Error):
            page.goto(address)
        return answer.value.status
    finally:
        page.close()


def answer_the_dialog(page: Page, address: str, name: str, password: str) -> None:
    """Give the browser name and password once, as in its own dialog; it keeps them afterwards."""
    session = page.context.new_cdp_session(page)

    def answer(event: dict[str, Any]) -> None:
        given = {"response": "ProvideCredentials", "username": name, "password": password}
        session.send(
            "Fetch.continueWithAuth",
            {"requestId": event["requestId"], "authChallengeResponse": given},
        )

    session.on("Fetch.authRequired", answer)
    session.on(
        "Fetch.requestPaused",
        lambda event: session.send("Fetch.continueRequest", {"requestId": event["requestId"]}),
    )
    session.send("Fetch.enable", {"handleAuthRequests": True})
    page.goto(address)
    session.send("Fetch.disable")
    session.detach()


def _line(answer: Any) -> str:
    return f"{answer.status} {answer.request.method} {urlsplit(answer.url).path}"


if __name__ == "__main__":
    raise SystemExit(main())
