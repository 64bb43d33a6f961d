"""What was verified, and when: docs/verified.json and the Markdown tables made from it.

docs/verified.md has every row, README.md the few of README_ROWS.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterable, Mapping
from typing import Any

import psutil

from mlflow_image import files
from mlflow_image.errors import Failure
from mlflow_image.host import accelerator
from mlflow_image.images import provenance
from mlflow_image.paths import HERE, Checkout

ROWS = "docs/verified.json"
FULL_TABLE = "docs/verified.md"
README = "README.md"
#: The tables stand between these two lines; the text around them is written by hand.
BEGIN, END = "<!-- verified: begin -->", "<!-- verified: end -->"
#: The rows of the README, by name and in this order: one for each main promise.
README_ROWS = (
    "build `ubuntu-22.04` offline, from an empty layer cache; Testinfra",
    "a real MLflow client logs a run and reads it back, also after a reboot",
    "figure: power-on to the first logged run / bare boot",
    "a disk sealed twice has identical bytes; running VMs keep their own disk",
    "boots with Secure Boot enabled",
    "build `debian-12`, package set `server`; Testinfra",
)


def current_commit(checkout: Checkout = HERE) -> str:
    """The checked-out commit, shortened; followed by + when the checkout differs from it.

    The files that this module writes may differ.
    """
    git = provenance.git(checkout, (ROWS, FULL_TABLE, README))
    return (git.commit or "")[:12] + ("" if git.clean else "+")


def add_rows(seen: Iterable[Mapping[str, Any]], commit: str, checkout: Checkout = HERE) -> None:
    """Record rows (name, result, figure) seen on a commit; rows of other names stay as they are.

    Raises Failure when a page has no place for its table.
    """
    now = {"commit": commit, "date": time.strftime("%Y-%m-%d"), "machine": machine()}
    rows = {row["name"]: row for row in read_rows(checkout)}
    for row in seen:
        rows[row["name"]] = {**row, **now}
    write_rows(list(rows.values()), checkout)


def read_rows(checkout: Checkout = HERE) -> list[dict[str, Any]]:
    """The recorded rows: name, result, figure, commit, date, machine. No file means no rows."""
    file = checkout.root / ROWS
    loaded: list[dict[str, Any]] = json.loads(file.read_text())["rows"] if file.is_file() else []
    return loaded


def write_rows(rows: list[dict[str, Any]], checkout: Checkout = HERE) -> None:
    """Write docs/verified.json and both tables; raises Failure when a page has no place for one."""
    by_name = {row["name"]: row for row in rows}
    chosen = [by_name[name] for name in README_ROWS if name in by_name]
    readme = page_with(table(chosen), README, checkout)
    full = page_with(table(rows, "machine"), FULL_TABLE, checkout)
    document = json.dumps({"rows": rows}, indent=1, ensure_ascii=False) + "\n"
    for name, text in ((ROWS, document), (FULL_TABLE, full), (README, readme)):
        files.write(checkout.root / name, text)


def page_with(table: str, name: str, checkout: Checkout = HERE) -> str:
    """The text of a page with its table replaced; raises Failure when the marks are missing."""
    text = (checkout.root / name).read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise Failure(
            f"{name} has no place for its table of verified rows",
            remedy=f"put the lines {BEGIN} and {END} where the table belongs",
        )
    return f"{before}{BEGIN}\n{table}{END}{after}"


def table(rows: list[dict[str, Any]], *more: str) -> str:
    """The rows as a Markdown table; `more` names further fields of a row, one column each."""
    headings = ("what", "result", "figure", "verified on", *more)
    lines = [headings, ("---",) * len(headings)]
    lines += [
        (
            row["name"],
            row["result"],
            row["figure"],
            f"{row['date']}, {row['commit']}",
            *(row[field] for field in more),
        )
        for row in rows
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def machine() -> str:
    """The kind of machine that the figures come from: cores, memory, accelerator, system."""
    memory = round(psutil.virtual_memory().total / 2**30)
    return f"{psutil.cpu_count()} cores, {memory} GiB, {accelerator.choose().name}, " + (
        platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    )
