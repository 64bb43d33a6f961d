"""What was verified, and when: docs/verified.json and the Markdown tables made from it.

docs/verified.md has every row, README.md the few of README_TABLES.
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
#: What the README's tables show, by name and in this order.
README_TABLES: Mapping[str, tuple[str, ...]] = {
    # One for each main promise.
    "verified": (
        "build `ubuntu-22.04` offline, from an empty layer cache; Testinfra",
        "a real MLflow client logs a run and reads it back, also after a reboot",
        "figure: power-on to the first logged run / bare boot",
        "a disk sealed twice has identical bytes; running VMs keep their own disk",
        "users and HTTPS: a VM from two blocks of YAML",
        "Chromium signs in, sees runs, charts, files, a model, logs out: 3 addresses",
        "boots with Secure Boot enabled",
        "build `debian-12`, package set `server`; Testinfra",
    ),
    # One for each of the documents that mlflow-image comes from.
    "tutorials": (
        "000: PostgreSQL behind pgbouncer (TLS), clients with keys of their own; Ceph (TLS)",
        "001: the same, and an experiment with its own `s3://` place; versitygw (TLS)",
        "002: PostgreSQL (TLS); HDFS with Kerberos and privacy, through the server and directly",
        "003, its server: PostgreSQL (TLS), the root of a bucket; versitygw (TLS)",
        "004: SQLite, artifacts through the server; MinIO",
    ),
    # One for each folder of examples/, against a VM.
    "days": (
        "000 and 004: the notebook, with what `client-env` prints; its plots in Chromium",
        "001: a night of Airflow, sshd, HDFS and Spark: two models, a t-test, a plot",
        "003: `mlflow run` on the laptop",
        "003: `mlflow run` as a Job of Kubernetes: API server, kubelet, registry; a Secret",
        "the client kit, on Python 3.10 and 3.13 with MLflow 2.22 and 3.17",
        "two VMs behind HAProxy are replaced under load: no call fails, no run is lost",
    ),
}


def marks(table: str) -> tuple[str, str]:
    """The two lines around a table; the text around them is written by hand."""
    return f"<!-- {table}: begin -->", f"<!-- {table}: end -->"


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
    readme = (checkout.root / README).read_text()
    for mark, names in README_TABLES.items():
        chosen = [by_name[name] for name in names if name in by_name]
        text = table(chosen) if chosen else "Nothing is recorded yet.\n"
        readme = with_table(readme, text, mark, README)
    full = (checkout.root / FULL_TABLE).read_text()
    full = with_table(full, table(rows, "machine"), "verified", FULL_TABLE)
    document = json.dumps({"rows": rows}, indent=1, ensure_ascii=False) + "\n"
    for name, text in ((ROWS, document), (FULL_TABLE, full), (README, readme)):
        files.write(checkout.root / name, text)


def with_table(text: str, table: str, mark: str, name: str) -> str:
    """The text of a page with one table replaced; raises Failure when its marks are missing."""
    begin, end = marks(mark)
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise Failure(
            f"{name} has no place for its table of {mark} rows",
            remedy=f"put the lines {begin} and {end} where the table belongs",
        )
    return f"{before}{begin}\n{table}{end}{after}"


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
