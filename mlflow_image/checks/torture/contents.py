"""What the calls write: it follows from the number of the call, so that it can be checked."""

from __future__ import annotations

import hashlib
import random

BATCH_METRICS, BATCH_PARAMS, BATCH_TAGS = 10, 3, 2
LARGEST_BYTES = 40_000


def metrics(number: int) -> dict[str, float]:
    return {f"b{number}.{i}": number + i / 16 for i in range(BATCH_METRICS)}


def params(number: int) -> dict[str, str]:
    return {f"p{number}.{i}": f"{number}:{i}" for i in range(BATCH_PARAMS)}


def tags(number: int) -> dict[str, str]:
    return {f"t{number}.{i}": f"{number}:{i}" for i in range(BATCH_TAGS)}


def metric(number: int) -> tuple[str, float]:
    return f"m{number}", number / 8


def tag(number: int) -> tuple[str, str]:
    return f"tag{number}", f"value {number}"


def artifact(number: int) -> tuple[str, bytes]:
    """Its path, and its bytes, which do not compress."""
    chance = random.Random(number)  # noqa: S311 contents, not a secret
    return f"files/{number}.bin", chance.randbytes(chance.randint(1, LARGEST_BYTES))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
