"""Lines over time as SVG: one line a method, time along the bottom, a legend above.

Colours are the page's own variables where there is one, with values of their own where the drawing stands alone. What
names share before their last word share a colour, and the second of such is dashed: "3+2 relative", "3+2 absolute".
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lt_eval.records import GROUND_TRUTH
from lt_eval.report.plots import Plot, tick_digits, ticks
from lt_eval.report.table import ARROWS, label, method_label, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lt_eval.records import Column

_WIDTH, _LEFT, _RIGHT = 360, 40, 352
_HIGH, _AXIS, _LINE = 170, 34, 15
_PALETTE = ("#0b5cbf", "#c2410c", "#1a7f5a", "#8b3fb0", "#a16207", "#0e7490")
"""Each at least 3 to 1 against white and against the dark page."""

_DASHES = ("", "5 4", "2 3", "8 3 2 3")

STYLE = (
    ".lines text{font:11.5px system-ui,sans-serif;fill:var(--ink,#171a1f)}"
    ".lines .tick{fill:var(--muted,#59616c);font-size:10.5px}.lines .tick.y{text-anchor:end}"
    ".lines .tick.x,.lines .label{text-anchor:middle}.lines .grid{stroke:var(--line,#dde1e6)}"
    ".lines .title{font-weight:600;font-size:13px}"
    ".lines polyline{fill:none;stroke-width:1.8;stroke-linejoin:round}.lines .truth{stroke:var(--truth,#6d7683)}"
    ".lines circle{stroke:none}.lines circle.truth{fill:var(--truth,#6d7683)}"
)
"""Of a page or a file that holds such drawings."""


@dataclass(frozen=True)
class Point:
    """One value of a line. `value` is None where there is none, and the line has a gap."""

    minutes: float
    value: float | None


def plot(name: str, column: Column, lines: Mapping[str, Sequence[Point]]) -> Plot | None:
    """Return the drawing of a column over time, None where no line has a value.

    Args:
        name: of the column.
        column: its unit and direction.
        lines: method -> points in the order of time.
    """
    shown = {method: points for method, points in lines.items() if any(p.value is not None for p in points)}
    if not shown:
        return None
    title = label(name, column)
    values = [point.value for points in shown.values() for point in points if point.value is not None]
    ends = [point.minutes for points in shown.values() for point in points]
    scale = _scale(values, column, max(ends))
    top = _LINE * ((len(shown) + 1) // 2) + 8
    look = styles(list(lines))  # that of all, so that a method looks alike in every drawing
    parts = [*_legend(shown, look), *_axes(scale, top)]
    for method, points in shown.items():
        parts += _line(method, points, look[method], scale, top, column)
    described = "; ".join(f"{method_label(method)} {_ends(points, column)}" for method, points in shown.items())
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top + _HIGH + _AXIS}" role="img" '
        f'class="plot lines" aria-label="{html.escape(f"{title}: {described}")}">{"".join(parts)}</svg>'
    )
    arrow = ARROWS[column.better]
    return Plot(f"{title} {arrow}".strip(), "over minutes", svg)


def standalone(plots: Sequence[Plot], across: int = 2) -> str:
    """Return one SVG file of several drawings with their titles, side by side."""
    heights = [float(one.svg.partition('viewBox="0 0 ')[2].partition('"')[0].split()[1]) for one in plots]
    parts, y = [], 0.0
    for start in range(0, len(plots), across):
        row = list(zip(plots, heights, strict=True))[start : start + across]
        for place, (one, height) in enumerate(row):
            x = place * (_WIDTH + 20)
            parts.append(f'<text class="title" x="{x + 8}" y="{y + 18:g}">{html.escape(one.title)}</text>')
            put = f'<svg x="{x}" y="{y + 26:g}" width="{_WIDTH}" height="{height:g}" '
            parts.append(one.svg.replace("<svg ", put, 1))
        y += max(height for _, height in row) + 40
    width = min(across, len(plots)) * (_WIDTH + 20)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y:g}" width="{width}" height="{y:g}" '
        f'class="lines"><style>{STYLE}</style><rect width="100%" height="100%" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


def styles(methods: Sequence[str]) -> dict[str, str]:
    """Return the SVG attributes of each method's line; ground truth is told by its class."""
    groups: dict[str, list[str]] = {}
    found: dict[str, str] = {}
    for method in methods:
        if method == GROUND_TRUTH:
            found[method] = 'class="truth"'
            continue
        group = method.rpartition(" ")[0] or method
        groups.setdefault(group, []).append(method)
        colour = _PALETTE[list(groups).index(group) % len(_PALETTE)]
        dash = _DASHES[(len(groups[group]) - 1) % len(_DASHES)]
        found[method] = f'stroke="{colour}"' + (f' stroke-dasharray="{dash}"' if dash else "")
    return found


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    minutes: float

    def x(self, minutes: float) -> str:
        return f"{_LEFT + minutes / self.minutes * (_RIGHT - _LEFT):.1f}"

    def y(self, value: float, top: float) -> str:
        return f"{top + _HIGH * (1 - (value - self.low) / (self.high - self.low)):.1f}"


def _scale(values: Sequence[float], column: Column, minutes: float) -> _Scale:
    """Return room for all values; a floor that a column cannot pass is kept in sight where it is not far."""
    low, high = min(values), max(values)
    if column.minimum == 0.0 and low < 0.5 * high:
        low = 0.0
    margin = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
    return _Scale(low if low == 0.0 and column.minimum == 0.0 else low - margin, high + margin, minutes or 1.0)


def _legend(lines: Mapping[str, Sequence[Point]], look: Mapping[str, str]) -> Iterator[str]:
    for place, method in enumerate(lines):
        x, y = 8 + 176 * (place % 2), 12 + _LINE * (place // 2)
        name = method_label(method)
        shown = name if len(name) <= 22 else name[:21] + "…"
        yield f'<polyline {look[method]} points="{x},{y - 4} {x + 26},{y - 4}"/>'
        yield f'<text x="{x + 32}" y="{y}">{html.escape(shown)}</text>'


def _axes(scale: _Scale, top: float) -> Iterator[str]:
    marks = ticks(scale.low, scale.high, 4)
    step = marks[1] - marks[0] if len(marks) > 1 else abs(marks[0]) or 1.0
    digits = tick_digits(step)
    for mark in marks:
        y = scale.y(mark, top)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y}" y2="{y}"/>'
        yield f'<text class="tick y" x="{_LEFT - 5}" y="{float(y) + 3.5:.1f}">{number(mark, digits)}</text>'
    for mark in ticks(0.0, scale.minutes, 5):
        yield f'<text class="tick x" x="{scale.x(mark)}" y="{top + _HIGH + 15}">{mark:g}</text>'
    yield f'<text class="tick x" x="{(_LEFT + _RIGHT) / 2}" y="{top + _HIGH + 30}">minutes</text>'


def _line(method: str, points: Sequence[Point], look: str, scale: _Scale, top: float, column: Column) -> Iterator[str]:
    run: list[str] = []
    for point in [*points, Point(0.0, None)]:
        if point.value is not None:
            run.append(f"{scale.x(point.minutes)},{scale.y(point.value, top)}")
        elif run:
            yield f'<polyline {look} points="{" ".join(run)}"/>'
            run = []
    fill = look if method == GROUND_TRUTH else f'fill="{look.split(chr(34))[1]}"'
    for point in points:
        if point.value is not None:
            tip = html.escape(f"{method_label(method)}, {point.minutes:.2f} min: {number(point.value, column.digits)}")
            x, y = scale.x(point.minutes), scale.y(point.value, top)
            yield f'<circle {fill} cx="{x}" cy="{y}" r="2.4"><title>{tip}</title></circle>'


def _ends(points: Sequence[Point], column: Column) -> str:
    values = [point.value for point in points if point.value is not None]
    return f"from {number(values[0], column.digits)} to {number(values[-1], column.digits)}"
