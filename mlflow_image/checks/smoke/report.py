"""The smoke test's result: rows of expected and found, as a table or as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

#: Characters of a value that the table shows when both sides are equal; the JSON has all.
SHORT = 40


@dataclass(frozen=True)
class Row:
    """One comparison: its phase, what was compared, and both sides as text."""

    phase: str
    what: str
    expected: str
    found: str
    ok: bool
    seconds: float


@dataclass(frozen=True)
class Report:
    """All rows of one smoke test, in order.

    left_behind: names of what is still on the server, because of `keep` or because the API
    cannot delete it.
    """

    url: str
    rows: tuple[Row, ...]
    seconds: float
    left_behind: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there is at least one row and no row differs."""
        return bool(self.rows) and all(row.ok for row in self.rows)

    @property
    def first_difference(self) -> Row | None:
        return next((row for row in self.rows if not row.ok), None)

    def document(self) -> dict[str, Any]:
        """The report as plain JSON types; `schema_version` 1."""
        first = self.first_difference
        return {
            "schema_version": 1,
            "url": self.url,
            "ok": self.ok,
            "seconds": self.seconds,
            "first_difference": asdict(first) if first else None,
            "left_behind": list(self.left_behind),
            "rows": [asdict(row) for row in self.rows],
        }

    def as_json(self) -> str:
        """The document as text."""
        return json.dumps(self.document(), indent=2)

    def table(self) -> Table:
        """One line for each row, a rule between phases; rows that differ show both sides."""
        table = Table(title=f"smoke test of {self.url}", title_justify="left")
        for name in ("", "what", "expected", "found"):
            table.add_column(name, overflow="fold")
        table.add_column("s", justify="right")
        for index, row in enumerate(self.rows):
            ends = index + 1 == len(self.rows) or self.rows[index + 1].phase != row.phase
            starts = index == 0 or self.rows[index - 1].phase != row.phase
            table.add_row(
                row.phase if starts else "",
                row.what,
                *sides(row),
                f"{row.seconds:.1f}",
                style="" if row.ok else "red",
                end_section=ends,
            )
        return table

    def difference_text(self) -> str:
        """The first difference in one sentence; empty when there is none."""
        row = self.first_difference
        if row is None:
            return ""
        return f"{row.phase}: {row.what}: expected {row.expected}, found {row.found}"


def sides(row: Row) -> tuple[str, str]:
    """Both sides for the table: in full when they differ, shortened when they are equal."""
    if not row.ok:
        return row.expected, row.found
    text = row.expected
    return text if len(text) <= SHORT else f"{text[: SHORT - 1]}…", "same"
