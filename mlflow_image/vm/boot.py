"""Following a boot: what the guest is at just now, when it is there, why it never will be."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import requests

from mlflow_image.errors import Failure
from mlflow_image.vm import console

POLL_S = 0.5
#: How long the host may need to get through once the guest says that its server is ready.
PROBE_GRACE_S = 60.0
#: This call goes through the server's database; `/health` does not.
MLFLOW_PROBE = "/api/2.0/mlflow/experiments/get?experiment_id=0"

#: Told what is waited for just now: "the kernel", "cloud-init", ...
OnWait = Callable[[str], None]
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Boot:
    """A boot under way: where its console's text begins, and whether QEMU still runs."""

    directory: Path
    console_from: int
    alive: Callable[[], bool]

    @property
    def text(self) -> str:
        return console.read(self.directory, self.console_from)


def follow(
    boot: Boot,
    goal: str,
    reached: Callable[[str], Answer | None],
    on_wait: OnWait,
    timeout_s: float,
) -> Answer:
    """Wait until `reached`, given the console's text, returns something; return that.

    goal: what is waited for, in words. Raises Failure with the guest's own lines as soon
    as QEMU has ended or the boot is at a dead end, and when the time is over.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        alive = boot.alive()
        text = boot.text
        if (answer := reached(text)) is not None:
            return answer
        if end := console.dead_end(text):
            raise Failure(end.what, evidence=end.evidence)
        if not alive:
            raise Failure(f"the VM ended while {goal} was waited for", evidence=_last_words(boot))
        at = console.stage(text)
        if time.monotonic() > deadline:
            raise Failure(
                f"{goal} did not come within {timeout_s:.0f} s; the guest was at {at}",
                evidence=_last_words(boot),
            )
        on_wait(at)
        time.sleep(POLL_S)


def mlflow_ready(port_of: Callable[[int], int | None]) -> Callable[[str], str | None]:
    """A `reached` for `follow`: the address that the guest's server is ready at.

    The guest must say so, and then the same must be seen from the host through the
    forwarded port (port_of: guest port -> port on 127.0.0.1), unless the server listens
    on the guest's loopback only or on a port that is not forwarded. Settings that keep
    the server from starting end the wait at once.
    """
    said_at: list[float] = []

    def reached(text: str) -> str | None:
        url = console.ready_url(text)
        if url is None:
            if lines := console.refused_settings(text):
                raise Failure(
                    "the guest has no settings that its server could start with",
                    evidence="\n".join(lines),
                )
            return None
        address = urlsplit(url)
        port = port_of(address.port or 80)
        if port is None or is_guest_loopback(url):
            return url
        said_at.append(time.monotonic())
        problem = probe(f"http://127.0.0.1:{port}{MLFLOW_PROBE}")
        if problem and time.monotonic() - said_at[0] > PROBE_GRACE_S:
            raise Failure(
                f"the guest says it is ready at {url}, but through 127.0.0.1:{port} {problem}"
            )
        return None if problem else url

    return reached


def is_guest_loopback(url: str) -> bool:
    """Whether an address can be reached from inside the guest only."""
    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")


def probe(url: str, timeout_s: float = 10.0) -> str:
    """What is wrong with a server's answer, in words; empty when it is 200."""
    try:
        # trust_env would send a call to 127.0.0.1 through the user's proxy.
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(url, timeout=timeout_s)
    except requests.RequestException as error:
        return f"no answer comes: {error}"
    if answer.status_code == 200:
        return ""
    return f"HTTP {answer.status_code} comes: {answer.text.strip()[:300]}"


def _last_words(boot: Boot) -> str:
    said = console.last_lines(boot.directory, offset=boot.console_from)
    return said or "(the guest printed nothing on its console)"
