"""What a build will do: each layer cached or stale, the reasons, and the expected time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlflow_image.builder import layers
from mlflow_image.builder.layers import Layer
from mlflow_image.progress import human_seconds

MAX_REASONS = 6


@dataclass(frozen=True)
class Row:
    """What happens to one layer. expected_s: None when no such layer was made before."""

    layer: Layer
    cached: bool
    reasons: tuple[str, ...]
    expected_s: float | None
    #: To be made although it is in the cache.
    remake: bool = False


def decide(stack: Sequence[Layer], rebuild: str = "") -> list[Row]:
    """What happens to each layer; `rebuild` names one that is made again, with all above it."""
    rows: list[Row] = []
    forced = False
    for layer in stack:
        forced = forced or layer.name == rebuild
        built = layer.built
        if built and not forced:
            rows.append(Row(layer, True, (), None))
            continue
        why: tuple[str, ...]
        if built:
            why = ("requested by --rebuild",)
        elif damage := layer.damage:
            why = (f"damaged in the cache: {damage}",)
        else:
            why = tuple(layers.reasons(layer))
        rows.append(Row(layer, False, why, layers.expected_seconds(layer), remake=built))
    return rows


def table(rows: list[Row]) -> str:
    """The plan as text: one line for each layer, and the reasons below a stale one."""
    lines = ["Plan"]
    for row in rows:
        expected = human_seconds(row.expected_s) if row.expected_s is not None else "unknown"
        state = "cached" if row.cached else f"stale, expected: {expected}"
        lines.append(f"  {row.layer.name:<12} {row.layer.title:<26} {state}")
        lines += [f"      {reason}" for reason in row.reasons[:MAX_REASONS]]
        if len(row.reasons) > MAX_REASONS:
            lines.append(f"      … and {len(row.reasons) - MAX_REASONS} more")
    return "\n".join(lines)


def outlook(rows: list[Row]) -> str:
    """The expected time in one line, from earlier builds."""
    stale = [row for row in rows if not row.cached]
    if not stale:
        return "every layer is in the cache"
    unknown = [row.layer.name for row in stale if row.expected_s is None]
    known = human_seconds(sum(row.expected_s or 0 for row in stale))
    if not unknown:
        return f"expected: {known}, then the verification"
    more = "" if len(unknown) == len(stale) else f"{known}, then "
    return f"expected: {more}layers that were never built here ({', '.join(unknown)})"
