"""F1 with its bootstrap interval, and the t-test: is the second model better than the first?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 10_000
CONFIDENCE = 0.95
ALPHA = 0.05
#: The held-out rows are dealt into this many parts; the t-test compares the models on each.
PARTS = 20
#: A row of predictions: label, prediction.
Row = tuple[int, int]


@dataclass(frozen=True)
class Interval:
    f1: float
    low: float
    high: float


@dataclass(frozen=True)
class Test:
    """Student's t of the differences second - first, and p for "the second is not better"."""

    t: float
    p: float

    @property
    def is_better(self) -> bool:
        return self.p < ALPHA

    def conclusion(self, first: str, second: str) -> str:
        if self.is_better:
            return f"{second} is better than {first}"
        return f"no evidence that {second} is better than {first}"


def of(rows: Sequence[Row]) -> float:
    """F1 of the class 1; 0 where nothing is or was predicted as 1."""
    hit, false, missed, _ = counts(rows)
    return float(from_counts(np.array([[hit, false, missed]]))[0])


def counts(rows: Sequence[Row]) -> tuple[int, int, int, int]:
    """True positives, false positives, false negatives, true negatives."""
    table = np.asarray(rows, dtype=int).reshape(-1, 2)
    label, predicted = table[:, 0] == 1, table[:, 1] == 1
    pairs = (label & predicted, ~label & predicted, label & ~predicted, ~label & ~predicted)
    hit, false, missed, rest = (int(found.sum()) for found in pairs)
    return hit, false, missed, rest


def from_counts(table: np.ndarray) -> np.ndarray:
    """F1 of each line: true positives, false positives, false negatives."""
    hit, false, missed = table[:, 0], table[:, 1], table[:, 2]
    found = 2 * hit + false + missed
    return np.asarray(np.divide(2 * hit, found, out=np.zeros(len(table)), where=found > 0))


def interval(rows: Sequence[Row], seed: int = 0) -> Interval:
    """The percentile interval of F1 when the rows are drawn again with replacement.

    F1 depends on four counts only, and those of such a sample have a multinomial distribution: it
    is drawn from directly, in the same memory for any number of rows.
    """
    found = np.array(counts(rows))
    drawn = np.random.default_rng(seed).multinomial(
        found.sum(), found / found.sum(), size=RESAMPLES
    )
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(from_counts(drawn[:, :3]), [tail, 1 - tail])
    return Interval(of(rows), float(low), float(high))


def by_part(rows: Mapping[int, Row]) -> list[float]:
    """F1 on each part. rows: by their id, which decides about the part."""
    parts: list[list[Row]] = [[] for _ in range(PARTS)]
    for place, key in enumerate(sorted(rows)):
        parts[place % PARTS].append(rows[key])
    return [of(part) for part in parts]


def is_second_better(first: Sequence[float], second: Sequence[float]) -> Test:
    """The paired, one-sided t-test of F1 on the same parts.

    The parts are disjoint, so the differences are independent. Bootstrap samples would not be: with
    enough of them any difference would look certain.
    """
    if np.allclose(first, second):
        return Test(0.0, 1.0)
    found = stats.ttest_rel(second, first, alternative="greater")
    return Test(float(found.statistic), float(found.pvalue))
