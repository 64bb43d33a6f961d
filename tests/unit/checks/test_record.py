"""record: verified rows, each with its own commit, in a file and in the tables of two pages."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mlflow_image.checks import record
from mlflow_image.errors import Failure
from mlflow_image.paths import HERE, Checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A repository of one commit whose README and docs/verified.md have a place for a table."""
    (tmp_path / "docs").mkdir()
    for page in (record.README, record.FULL_TABLE):
        places = ("\n".join(record.marks(mark)) for mark in record.README_TABLES)
        (tmp_path / page).write_text("# us\n\n" + "\n\n".join(places) + "\n\nmore\n")
    who = ("-c", "user.name=us", "-c", "user.email=us@example.org")
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return Checkout(tmp_path)


def seen(*names: str, result: str = "passed") -> list[dict[str, str]]:
    return [{"name": name, "result": result, "figure": "9 s"} for name in names]


def page(checkout: Checkout, name: str) -> str:
    return (checkout.root / name).read_text()


BEGIN, END = record.marks("verified")
ROWS = record.README_TABLES["verified"]


def names_in_table(text: str, mark: str = "verified") -> list[str]:
    begin, end = record.marks(mark)
    rows = text.partition(begin)[2].partition(end)[0].splitlines()[3:]
    return [row.split(" | ")[0].removeprefix("| ") for row in rows]


def test_a_row_is_in_the_file_and_in_the_full_table(checkout: Checkout) -> None:
    record.add_rows(seen("builds"), "abc", checkout)
    (row,) = record.read_rows(checkout)
    assert (row["name"], row["result"], row["commit"]) == ("builds", "passed", "abc")
    wanted = f"| builds | passed | 9 s | {row['date']}, abc | {row['machine']} |\n{END}"
    assert wanted in page(checkout, record.FULL_TABLE)


def test_a_row_that_did_not_run_again_keeps_its_commit(checkout: Checkout) -> None:
    record.add_rows(seen("builds", "boots"), "abc", checkout)
    record.add_rows(seen("boots", result="failed"), "def", checkout)
    rows = {row["name"]: (row["result"], row["commit"]) for row in record.read_rows(checkout)}
    assert rows == {"builds": ("passed", "abc"), "boots": ("failed", "def")}


def test_the_readme_has_only_the_chosen_rows_in_their_order(checkout: Checkout) -> None:
    every = [name for names in record.README_TABLES.values() for name in names]
    record.add_rows(seen("other", *reversed(every)), "abc", checkout)
    for mark, names in record.README_TABLES.items():
        assert names_in_table(page(checkout, record.README), mark) == list(names)
    assert page(checkout, record.README).endswith("\n\nmore\n")
    assert "other" in names_in_table(page(checkout, record.FULL_TABLE))


def test_a_chosen_row_that_was_never_recorded_is_left_out(checkout: Checkout) -> None:
    record.add_rows(seen(ROWS[1]), "abc", checkout)
    assert names_in_table(page(checkout, record.README)) == [ROWS[1]]


@pytest.mark.parametrize("name", [record.README, record.FULL_TABLE])
def test_a_page_without_a_place_for_the_table_is_refused_and_nothing_is_written(
    checkout: Checkout, name: str
) -> None:
    (checkout.root / name).write_text(f"# us\n{BEGIN}\n")
    with pytest.raises(Failure, match=name) as failure:
        record.add_rows(seen("builds"), "abc", checkout)
    assert END in failure.value.remedy
    assert record.read_rows(checkout) == []


def test_the_commit_has_a_plus_when_other_files_differ_than_those_written_here(
    checkout: Checkout,
) -> None:
    clean = record.current_commit(checkout)
    record.add_rows(seen("builds", ROWS[0]), clean, checkout)
    assert record.current_commit(checkout) == clean
    (checkout.root / "tasks.py").write_text("")
    assert record.current_commit(checkout) == f"{clean}+"


def test_the_tables_in_this_checkout_are_those_of_its_rows() -> None:
    rows = record.read_rows()
    assert names_in_table(page(HERE, record.FULL_TABLE)) == [row["name"] for row in rows]
    assert names_in_table(page(HERE, record.README)) == list(ROWS)
