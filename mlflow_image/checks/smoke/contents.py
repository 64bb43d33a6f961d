"""What the smoke test writes: contents computed from a token, and how to compare them.

The writing and the reading phase are different processes. Both compute the contents from the
same token, so that what is read is compared with what was intended, not with what a client
cached.
"""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass

ARTIFACT_BYTES = 5_000_000
POINTS = 40
ALIAS = "smoke"
ARTIFACT_FOLDER = "data"
ARTIFACT_NAME = "noise.bin"

#: One point of a metric's history: step, milliseconds since the epoch, value.
Point = tuple[int, int, float]


@dataclass(frozen=True)
class Contents:
    """Everything that one smoke test writes; the token makes all names unique."""

    token: str
    started_ms: int

    @property
    def experiment(self) -> str:
        return f"mlflow-image-smoke-{self.token}"

    @property
    def run(self) -> str:
        return f"smoke-run-{self.token}"

    @property
    def model(self) -> str:
        return f"mlflow-image-smoke-model-{self.token}"

    @property
    def params(self) -> dict[str, str]:
        return {
            "alpha": "0.1",
            "layers": "64,32,16",
            "note": "Größe ≤ 3 µm — 测试",
            "long": "x" * 500,
            "token": self.token,
        }

    @property
    def tags(self) -> dict[str, str]:
        return {"smoke.token": self.token, "smoke.text": "two\nlines, “quoted”, 100 %"}

    @property
    def metrics(self) -> dict[str, list[Point]]:
        """Histories by metric; the values need all digits of a double."""
        chance = random.Random(f"metrics {self.token}")  # noqa: S311
        return {
            "loss": [
                (step, self.started_ms + 1000 * step, math.exp(-step / 7) + chance.random() / 9)
                for step in range(POINTS)
            ],
            "tiny": [(0, self.started_ms, 1e-300 * (1 + chance.random()))],
            "negative": [(7, self.started_ms + 7, -chance.random())],
        }

    @property
    def artifact(self) -> bytes:
        """ARTIFACT_BYTES of random bytes, which cannot be compressed."""
        return random.Random(f"artifact {self.token}").randbytes(ARTIFACT_BYTES)  # noqa: S311

    @property
    def coefficients(self) -> tuple[float, float]:
        """Slope and intercept of the model, which it reads from its artifact."""
        chance = random.Random(f"model {self.token}")  # noqa: S311
        return (chance.uniform(1, 2), chance.uniform(-1, 1))

    @property
    def model_input(self) -> list[float]:
        return [0.0, 1.0, -2.5, 1000.0]

    @property
    def model_output(self) -> list[float]:
        slope, intercept = self.coefficients
        return [slope * x + intercept for x in self.model_input]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def compare_mapping(expected: dict[str, str], found: dict[str, str]) -> tuple[str, str]:
    """(expected, found) as text; the texts are equal when every expected key has its value.

    Keys that only `found` has, such as the server's own tags, are ignored.
    """
    for key, value in expected.items():
        if key not in found:
            return f"{key} = {shown(value)}", f"{key} is missing"
        if found[key] != value:
            return f"{key} = {shown(value)}", f"{key} = {shown(found[key])}"
    return same(f"{len(expected)} values")


def compare_history(expected: list[Point], found: list[Point]) -> tuple[str, str]:
    """(expected, found) as text: the first point that differs, or equal texts.

    The server may return the points in any order; they are sorted by step and time.
    """
    left, right = sorted(expected), sorted(found)
    for point in left:
        if point not in right:
            step = [other for other in right if other[0] == point[0]]
            return f"point {shown_point(point)}", (
                f"point {shown_point(step[0])}" if step else f"no point of step {point[0]}"
            )
    if len(left) != len(right):
        return f"{len(left)} points", f"{len(right)} points"
    return same(f"{len(left)} points")


def compare_numbers(expected: list[float], found: list[float]) -> tuple[str, str]:
    """(expected, found) as text; the texts are equal when all numbers agree within 1e-12."""
    if len(expected) == len(found) and all(
        math.isclose(a, b, rel_tol=1e-12) for a, b in zip(expected, found, strict=True)
    ):
        return same(f"{len(expected)} predictions")
    return str(expected), str(found)


def same(text: str) -> tuple[str, str]:
    return text, text


def shown(value: str) -> str:
    return repr(value) if len(value) <= 60 else f"{value[:40]!r}… ({len(value)} characters)"


def shown_point(point: Point) -> str:
    step, when_ms, value = point
    return f"step {step}, {value!r} at {when_ms}"
