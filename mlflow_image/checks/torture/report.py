"""The result of a torture test, as a table or as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from mlflow_image.checks.torture.record import ACKNOWLEDGED, KINDS, REFUSED, Outcome
from mlflow_image.progress import human_seconds

LOST, HALF_THERE = "lost", "half there"


@dataclass(frozen=True)
class Report:
    """findings: {"kind", "fault", "text"} of each call that is not as it must be.

    refusals: how often each text was the answer to a call that was not acknowledged.
    """

    url: str
    outcomes: Sequence[Outcome]
    findings: Sequence[Mapping[str, str]]
    seconds: float
    refusals: Mapping[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.findings

    @property
    def acknowledged(self) -> int:
        return sum(one.state == ACKNOWLEDGED for one in self.outcomes)

    def rows(self) -> dict[str, dict[str, int]]:
        """How many calls of each kind had which end."""
        states = Counter((one.call.kind, one.state) for one in self.outcomes)
        faults = Counter((one["kind"], one["fault"]) for one in self.findings)
        return {
            kind: {
                ACKNOWLEDGED: states[kind, ACKNOWLEDGED],
                REFUSED: states[kind, REFUSED],
                LOST: faults[kind, LOST],
                HALF_THERE: faults[kind, HALF_THERE],
            }
            for kind in KINDS
        }

    def sentence(self) -> str:
        """The result in one line."""
        faults = Counter(one["fault"] for one in self.findings)
        refused = sum(row[REFUSED] for row in self.rows().values())
        return (
            f"lost {faults[LOST]} of {self.acknowledged} acknowledged calls, half there "
            f"{faults[HALF_THERE]}; {refused} refused; {human_seconds(self.seconds)}"
        )

    def table(self) -> Table:
        table = Table(title=f"torture test of {self.url}", title_justify="left")
        table.add_column("calls")
        for name in (ACKNOWLEDGED, REFUSED, LOST, HALF_THERE):
            table.add_column(name, justify="right")
        for kind, row in self.rows().items():
            bad = row[LOST] or row[HALF_THERE]
            table.add_row(kind, *map(str, row.values()), style="red" if bad else "")
        return table

    def as_json(self) -> str:
        """All of it; `schema_version` 1."""
        document: dict[str, Any] = {
            "schema_version": 1,
            "url": self.url,
            "ok": self.ok,
            "seconds": self.seconds,
            "calls": self.rows(),
            "findings": [dict(one) for one in self.findings],
            "refusals": dict(self.refusals),
        }
        return json.dumps(document, indent=2)
