"""The benchmark's results: figures with their goals, as a table, as JSON, as rows to record."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One measured value. at_least, at_most: the limit that the project promises, if any."""

    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def measured(self) -> str:
        # Rounded to one digit, 0.79 would look like 0.8.
        digits = 2 if self.unit == "times" and self.value < 10 else 1
        return f"{self.value:.{digits}f} {self.unit}"

    @property
    def goal(self) -> str:
        """The limit as text; empty when there is none."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        return "" if self.at_most is None else f"at most {self.at_most:g}"

    @property
    def met(self) -> bool | None:
        """Whether the value is within its limit; None when there is no limit."""
        if self.at_least is not None:
            return self.value >= self.at_least
        return None if self.at_most is None else self.value <= self.at_most


def ratio(
    name: str,
    over: Sequence[float],
    under: Sequence[float],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    digits: int | None = None,
) -> Figure:
    """The median of the ratios of each round, because the load of a machine varies.

    digits: those of each round's ratio in the note; None: no note.
    """
    rounds = [one / other for one, other in zip(over, under, strict=True)]
    note = "" if digits is None else f"rounds: {', '.join(f'{one:.{digits}f}' for one in rounds)}"
    return Figure(name, statistics.median(rounds), "times", at_least, at_most, note)


def table(figures: list[Figure]) -> Table:
    """The figures as a table for the terminal."""
    shown = Table(box=None, pad_edge=False)
    for heading in ("", "what", "measured", "goal", "note"):
        shown.add_column(heading, overflow="fold")
    marks = {True: "ok", False: "MISSED", None: ""}
    for figure in figures:
        shown.add_row(marks[figure.met], figure.name, figure.measured, figure.goal, figure.note)
    return shown


def as_json(figures: list[Figure]) -> str:
    """The figures as a JSON list: the fields of Figure, and `met`."""
    return json.dumps([{**asdict(figure), "met": figure.met} for figure in figures], indent=1)


def as_rows(figures: list[Figure]) -> list[dict[str, object]]:
    """The figures that have a goal, as rows for `record.add_rows`."""
    return [
        {
            "name": f"figure: {figure.name}",
            "result": "met" if figure.met else "missed",
            "figure": f"{figure.measured}; goal: {figure.goal}",
        }
        for figure in figures
        if figure.met is not None
    ]
