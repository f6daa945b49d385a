"""Distributions over clips as inline SVG: one strip a method, each clip a dot, with quartiles and mean.

Colours are the page's own variables, so that a plot follows light and dark. Drawn at about 360 px, so that its letters
keep their size on a phone.
"""

from __future__ import annotations

import html
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lt_eval.records import GROUND_TRUTH, Column, Summary
from lt_eval.report.table import label, method_label, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_WIDTH, _LEFT, _RIGHT = 360, 8, 352
_STRIP, _TOP, _AXIS = 44, 4, 26
_GOLDEN = 0.6180339887498949
_MANY = 80
"""Clips of one method beyond which dots are drawn faint, so that the quartiles show through."""


@dataclass(frozen=True)
class Plot:
    """One column's distributions. `svg` is safe to put into a page as it is."""

    title: str
    subtitle: str
    svg: str


def distributions(summary: Summary) -> list[Plot]:
    """Return a plot for each column that clips have values of, in the order of the columns."""
    plots = []
    for name, column in summary.columns.items():
        series = {
            method.name: finite
            for method in summary.methods
            if (finite := _finite(summary.contributions.get(method.name, {}).get(name, {})))
        }
        if any(len(values) > 1 for values in series.values()):
            plots.append(_plot(label(name, column), column, series))
    return plots


def is_pull(column: Column) -> bool:
    """Return whether a clip has a pull on the column's value (FID, FVD), and not a value of its own."""
    return column.fixed_by_reference


def tick_digits(step: float) -> int:
    """Return how many decimals tell marks apart that lie a step of 1, 2, 2.5 or 5 times a power of ten apart."""
    return max(0, -math.floor(math.log10(step) + 1e-9)) + (1 if step < 10 and f"{step:.1e}"[:3] == "2.5" else 0)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return at most `most` + 1 round numbers within [low, high]."""
    if not high > low:
        return [low]
    rough = (high - low) / most
    if rough < sys.float_info.min:  # powers of ten of its size cannot be told from 0
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((m * power for m in (1, 2, 2.5, 5) if m * power >= rough * (1 - 1e-9)), 10 * power)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def quantile(ordered: Sequence[float], q: float) -> float:
    """Return the linearly interpolated quantile of sorted values."""
    place = q * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {clip: value for clip, value in values.items() if math.isfinite(value)}


def _plot(title: str, column: Column, series: Mapping[str, Mapping[str, float]]) -> Plot:
    everything = [value for values in series.values() for value in values.values()]
    low, high = min(everything), max(everything)
    margin = (high - low) * 0.04 or abs(high) * 0.05 or 1.0
    scale = _Scale(low - margin, high + margin)
    bottom = _TOP + _STRIP * len(series)
    parts = [*_axis(scale, bottom, column)]
    for index, (method, values) in enumerate(series.items()):
        parts += _strip(method, values, scale, _TOP + _STRIP * index, column)
    described = "; ".join(f"{method_label(m)} median {_median(v, column)}, {len(v)} clips" for m, v in series.items())
    svg = (
        f'<svg viewBox="0 0 {_WIDTH} {bottom + _AXIS}" role="img" class="plot" '
        f'aria-label="{html.escape(f"{title}: {described}")}">{"".join(parts)}</svg>'
    )
    subtitle = "pull of each clip: above 0 it raises the value" if is_pull(column) else "value of each clip"
    arrow = {"higher": " ↑", "lower": " ↓", "neither": ""}[column.better]
    return Plot(title + arrow, subtitle, svg)


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float

    def __call__(self, value: float) -> str:
        """Return the horizontal place of a value, in the drawing's units."""
        return f"{_LEFT + (value - self.low) / (self.high - self.low) * (_RIGHT - _LEFT):.1f}"


def _axis(scale: _Scale, bottom: float, column: Column) -> Iterator[str]:
    marks = ticks(scale.low, scale.high)
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    digits = tick_digits(step)
    for mark in marks:
        x = scale(mark)
        kind = "zero" if is_pull(column) and abs(mark) < step / 1e6 else "grid"
        yield f'<line class="{kind}" x1="{x}" x2="{x}" y1="{_TOP}" y2="{bottom}"/>'
        yield f'<text class="tick" x="{x}" y="{bottom + 16}">{number(mark, digits)}</text>'


def _strip(method: str, values: Mapping[str, float], scale: _Scale, top: float, column: Column) -> Iterator[str]:
    ordered = sorted(values.values())
    middle = top + 30
    kind = ("truth" if method == GROUND_TRUTH else "method") + (" many" if len(values) > _MANY else "")
    low, median, high = (scale(quantile(ordered, q)) for q in (0.25, 0.5, 0.75))
    name = method_label(method)
    shown = name if len(name) <= 34 else name[:33] + "…"
    yield f'<g class="{kind}"><text class="name" x="{_LEFT}" y="{top + 14}">{html.escape(shown)}</text>'
    yield f'<text class="stat" x="{_RIGHT}" y="{top + 14}">median {_median(values, column)}</text>'
    yield f'<rect class="box" x="{low}" y="{middle - 8}" width="{float(high) - float(low):.1f}" height="16" rx="2"/>'
    for index, (clip, value) in enumerate(values.items()):
        # a fixed jitter, so that the same run always gives the same picture
        y = middle + ((index * _GOLDEN) % 1 - 0.5) * 12
        yield (
            f'<circle cx="{scale(value)}" cy="{y:.1f}" r="2.6" data-clip="{html.escape(clip)}" '
            f'data-tip="{html.escape(f"{clip}: {number(value, column.digits)}")}"/>'
        )
    yield f'<line class="median" x1="{median}" x2="{median}" y1="{middle - 10}" y2="{middle + 10}"/></g>'


def _median(values: Mapping[str, float], column: Column) -> str:
    return number(quantile(sorted(values.values()), 0.5), column.digits)
