"""For all tests: a time budget for each test, and a record of what the slow tests verify."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlflow_image import files

#: Seconds that a test may take on 2 cores without KVM, by folder; `budget` overrides it.
BUDGETS_S = {"unit": 1.0, "lint": 30.0, "image": 10.0, "system": 120.0}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full", action="store_true", help="also run the tests that are too slow for every commit"
    )
    parser.addoption(
        "--record", help="write the results of tests with a `verifies` mark to this file, as JSON"
    )


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "budget(seconds): how long the test may take on 2 cores without KVM",
        "full: too slow for every commit; runs only with --full",
        "verifies(name): the row that the test records in docs/verified.json",
    ):
        config.addinivalue_line("markers", line)
    config.stash[RESULTS] = {}
    # A background shell ignores SIGINT, nohup ignores SIGHUP; what tests start would inherit it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


RESULTS = pytest.StashKey[dict[str, dict[str, object]]]()
#: How many cases each row has, also those that -k leaves out.
CASES = pytest.StashKey[Counter[object]]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    markers = (item.get_closest_marker("verifies") for item in items)
    config.stash[CASES] = Counter(marker.args[0] for marker in markers if marker)
    if config.getoption("--full"):
        return
    skip = pytest.mark.skip(reason="slow: runs only with --full")
    for item in items:
        if item.get_closest_marker("full"):
            item.add_marker(skip)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    taken = item.config.stash[RESULTS].setdefault(
        item.nodeid, {"seconds": 0.0, "budget": budget_of(item), "result": "passed"}
    )
    taken["seconds"] += call.duration
    if report.skipped:
        taken["result"] = "skipped"
    elif report.failed:
        taken["result"] = "failed"
    if marker := item.get_closest_marker("verifies"):
        taken["verifies"] = marker.args[0]
        taken["figure"] = dict(item.user_properties).get("figure", "")
    return report


def budget_of(item: pytest.Item) -> float:
    if marker := item.get_closest_marker("budget"):
        return float(marker.args[0])
    folder = Path(item.nodeid).parts[1] if item.nodeid.startswith("tests/") else ""
    return BUDGETS_S.get(folder, 1.0)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the budget table: every test of a second or more, and the sum of each folder."""
    results = config.stash[RESULTS]
    ran = {name: row for name, row in results.items() if row["result"] != "skipped"}
    if not ran:
        return
    write = terminalreporter.write_line
    terminalreporter.section("budget: seconds taken, seconds allowed")
    for name, row in sorted(ran.items(), key=lambda entry: -entry[1]["seconds"]):
        if row["seconds"] >= 1.0:
            over = "  OVER" if row["seconds"] > row["budget"] else ""
            write(f"{row['seconds']:8.1f} {row['budget']:8.0f}  {name}{over}")
    for folder in BUDGETS_S:
        inside = [r["seconds"] for name, r in ran.items() if f"tests/{folder}/" in name]
        if inside:
            write(f"{sum(inside):8.1f}           tests/{folder}: {len(inside)} tests")
    if target := config.getoption("--record"):
        rows = rows_of(ran)
        every = config.stash[CASES]
        whole = [
            row for row in rows if row["result"] == "failed" or row["cases"] == every[row["name"]]
        ]
        for row in rows:
            if row not in whole:
                write(f"not recorded, only {row['cases']} of {every[row['name']]}: {row['name']}")
        write_record(Path(target), whole)


def write_record(target: Path, rows: list[dict[str, Any]]) -> None:
    kept = [{key: row[key] for key in row if key != "cases"} for row in rows]
    files.write(target, json.dumps({"at": time.time(), "rows": kept}, indent=1))


def rows_of(results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each name: a test with parameters has passed when all of its cases have."""
    rows: dict[object, dict[str, Any]] = {}
    figures: defaultdict[object, list[object]] = defaultdict(list)
    for result in results.values():
        if "verifies" not in result:
            continue
        name = result["verifies"]
        row = rows.setdefault(
            name, {"name": name, "result": "passed", "figure": "", "seconds": 0, "cases": 0}
        )
        row["cases"] += 1
        if result["result"] != "passed":
            row["result"] = result["result"]
        figures[name] += [result["figure"]] if result["figure"] else []
        count = f"{row['cases']} cases" if row["cases"] > 1 else ""
        row["figure"] = ", ".join(figures[name]) or count
        row["seconds"] = round(row["seconds"] + result["seconds"], 1)
    return list(rows.values())
