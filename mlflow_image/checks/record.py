"""What was seen to work, and when: docs/verified.json, and the README's table made from it."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterable, Mapping
from typing import Any

import psutil

from mlflow_image.host import accelerator
from mlflow_image.images import provenance
from mlflow_image.paths import HERE

FILE = HERE.root / "docs" / "verified.json"
README = HERE.root / "README.md"
BEGIN, END = "<!-- verified: begin -->", "<!-- verified: end -->"


def commit() -> str:
    """What the checkout stands on, with a + when anything but this module's files differs."""
    git = provenance.git(
        apart_from=tuple(str(path.relative_to(HERE.root)) for path in (FILE, README))
    )
    return (git.commit or "")[:12] + ("" if git.clean else "+")


def update(seen: Iterable[Mapping[str, Any]], commit: str) -> None:
    """Take in the rows (name, result, figure) seen on this commit; all others keep theirs."""
    now = {"commit": commit, "date": time.strftime("%Y-%m-%d"), "machine": machine()}
    rows = {row["name"]: row for row in read()}
    for row in seen:
        rows[row["name"]] = {**row, **now}
    write(list(rows.values()))


def read() -> list[dict[str, Any]]:
    """The rows of docs/verified.json: name, result, figure, commit, date, machine."""
    loaded: list[dict[str, Any]] = json.loads(FILE.read_text())["rows"] if FILE.is_file() else []
    return loaded


def write(rows: list[dict[str, Any]]) -> None:
    """Write docs/verified.json and the README's table."""
    beside = FILE.with_suffix(".new")
    beside.write_text(json.dumps({"rows": rows}, indent=1, ensure_ascii=False) + "\n")
    beside.replace(FILE)
    README.write_text(with_table(README.read_text(), rows))


def with_table(text: str, rows: list[dict[str, Any]]) -> str:
    """The README with its table between the two marks made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(rows)}{END}{after}"


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | result | figure | seen |", "| --- | --- | --- | --- |"]
    for row in rows:
        seen = f"{row['date']}, {row['commit']}"
        lines.append(f"| {row['name']} | {row['result']} | {row['figure']} | {seen} |")
    return "\n".join(lines) + "\n"


def machine() -> str:
    """The kind of machine that the figures come from."""
    memory = round(psutil.virtual_memory().total / 2**30)
    return f"{psutil.cpu_count()} cores, {memory} GiB, {accelerator.choose().name}, " + (
        platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    )
