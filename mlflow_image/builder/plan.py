"""What a build would do: each layer cached or stale, what made it so, and the expected time."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_image.builder import layers
from mlflow_image.builder.layers import Layer
from mlflow_image.progress import human_seconds

MAX_REASONS = 6


@dataclass(frozen=True)
class Row:
    """One layer's fate."""

    layer: Layer
    cached: bool
    reasons: tuple[str, ...]
    expected_s: float | None


def make(of: list[Layer], rebuild: str = "") -> list[Row]:
    """The fate of each layer; `rebuild` names one that is made anew with all above it."""
    rows: list[Row] = []
    forced = False
    for layer in of:
        forced = forced or layer.name == rebuild
        cached = layer.built and not forced
        why = () if cached else tuple(layers.reasons(layer))
        if forced and layer.built:
            why = ("asked for",)
        expected = None if cached else layers.expected_seconds(layer)
        rows.append(Row(layer, cached, why, expected))
    return rows


def table(rows: list[Row]) -> str:
    """The plan as people read it: a line a layer, and below a stale one what made it so."""
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
    """How long it will take, in one line, as far as past builds tell."""
    stale = [row for row in rows if not row.cached]
    if not stale:
        return "every layer is there: nothing is to be made"
    unknown = [row.layer.name for row in stale if row.expected_s is None]
    known = human_seconds(sum(row.expected_s or 0 for row in stale))
    if not unknown:
        return f"expected: {known}, and the verification"
    more = "" if len(unknown) == len(stale) else f"{known}, and "
    return f"expected: {more}what was never built here ({', '.join(unknown)})"
