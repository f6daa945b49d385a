"""What the logs of a distillation say, as curves: losses and norms, and what was measured on held-out people.

    OUT/plots.html                          one page, every curve of every stage
    OUT/plots/dmd-Sync-C_held_out.svg ...   each curve as a file of its own

DMD keeps its best weights by a held-out measurement, FVD over Sync-C; the step that was kept is marked in every
measured curve. There one sees what LiveTalk reports of its short window: quality that peaks, then degrades.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from lt_eval.distill.training import outcome, read_log, why_it_ended
from lt_eval.errors import StoreError
from lt_eval.report.clips import safe_name
from lt_eval.report.plots import Plot, tick_digits, ticks
from lt_eval.report.table import number
from lt_eval.store import atomic_write

Points = Sequence[tuple[float, float]]
"""(step, value)."""

STAGES = {"codec": "Codec", "teacher": "Teacher", "ode": "ODE initialisation", "dmd": "Distribution matching (DMD)"}
"""Folder to title, in the order of the page."""

KEEPS_BEST = ("dmd",)
"""Stages of which not the last weights come out, but those with the lowest held-out loss."""

MOST_POINTS = 300
"""Of one curve; of more, neighbours are averaged."""

_WIDTH, _HEIGHT = 360, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 340, 10, 146

_STYLE = """
.curve text { font: 10.5px system-ui, sans-serif; fill: var(--muted, #59616c); }
.curve .y { text-anchor: end; } .curve .x { text-anchor: middle; }
.curve .grid { stroke: var(--line, #dde1e6); }
.curve polyline { fill: none; stroke: var(--accent, #0b5cbf); stroke-width: 1.6; stroke-linejoin: round; }
.curve circle { fill: var(--accent, #0b5cbf); }
.curve .kept { stroke: var(--good, #0b6b3c); stroke-dasharray: 4 3; }
"""


@dataclass(frozen=True)
class Curve:
    """One quantity over the steps of a stage.

    Attributes:
        name: its key in the log.
        points: (step, value), finite, in order.
        measured: whether it was measured on held-out people; each point is then shown by itself.
        skipped: lines whose value was not finite.
    """

    name: str
    points: Points
    measured: bool
    skipped: int = 0


def curves_of(lines: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """Return the quantities of a stage's log, those of training before those that were measured."""
    found: dict[tuple[bool, str], list[tuple[float, float]]] = {}
    for line in lines:
        measured = "held_out" in line
        values = line["held_out"] if measured else {key: value for key, value in line.items() if key != "step"}
        for name, value in values.items():
            found.setdefault((measured, name), []).append((float(line["step"]), float(value)))
    curves = []
    for (measured, name), points in sorted(found.items(), key=lambda item: item[0][0]):
        finite = [point for point in points if math.isfinite(point[1])]
        curves.append(Curve(name, finite, measured, len(points) - len(finite)))
    return curves


def kept_step(curves: Sequence[Curve]) -> float | None:
    """Return the step with the lowest held-out loss; None where none was measured."""
    losses = [curve.points for curve in curves if curve.measured and curve.name == "loss" and curve.points]
    return min(losses[0], key=lambda point: point[1])[0] if losses else None


def thinned(points: Points, most: int = MOST_POINTS) -> Points:
    """Return at most so many points: means of neighbours, as many in each, the last one's perhaps fewer."""
    size = math.ceil(len(points) / most)
    if size <= 1:
        return points
    groups = [points[at : at + size] for at in range(0, len(points), size)]
    return [(fmean(step for step, _ in group), fmean(value for _, value in group)) for group in groups]


def plot(curve: Curve, kept: float | None = None) -> Plot:
    """Return a curve as SVG.

    Args:
        curve: with at least one point.
        kept: the step to mark.
    """
    shown = curve.points if curve.measured else thinned(curve.points)
    values, last = [value for _, value in shown], max(step for step, _ in curve.points)
    low, high = min(values), max(values)
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    scale = _Scale(0.0, max(last, 1.0), low - margin, high + margin)
    parts = [f"<style>{_STYLE}</style>", *_axes(scale)]
    if kept is not None:
        parts.append(f'<line class="kept" x1="{scale.x(kept)}" x2="{scale.x(kept)}" y1="{_TOP}" y2="{_BOTTOM}"/>')
    parts.append(f'<polyline points="{" ".join(f"{scale.x(step)},{scale.y(value)}" for step, value in shown)}"/>')
    if curve.measured or len(shown) == 1:
        for step, value in shown:
            told = f"<title>step {step:g}: {value:.5g}</title>"
            parts.append(f'<circle cx="{scale.x(step)}" cy="{scale.y(value)}" r="2.6">{told}</circle>')
    said = [f"{len(curve.points)} measurements" if curve.measured else f"{len(curve.points)} logged steps"]
    said += [f"kept: step {kept:g}"] if kept is not None else []
    said += ["means of neighbours"] if len(shown) < len(curve.points) else []
    said += [f"{curve.skipped} not finite"] if curve.skipped else []
    described = f"{curve.name}: from {curve.points[0][1]:.4g} to {curve.points[-1][1]:.4g}; {', '.join(said)}"
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" class="curve" '
        f'aria-label="{html.escape(described)}">{"".join(parts)}</svg>'
    )
    return Plot(curve.name + (", held out" if curve.measured else ""), ", ".join(said), svg)


@dataclass(frozen=True)
class _Scale:
    first: float
    last: float
    low: float
    high: float

    def x(self, step: float) -> str:
        """Return the horizontal place of a step, in the drawing's units."""
        return f"{_LEFT + (step - self.first) / (self.last - self.first) * (_RIGHT - _LEFT):.1f}"

    def y(self, value: float) -> str:
        """Return the vertical place of a value."""
        return f"{_BOTTOM - (value - self.low) / (self.high - self.low) * (_BOTTOM - _TOP):.1f}"


def _axes(scale: _Scale) -> Iterator[str]:
    heights = ticks(scale.low, scale.high, most=4)
    digits = tick_digits(heights[1] - heights[0]) if len(heights) > 1 else 3
    for mark in heights:
        y = scale.y(mark)
        text = number(mark, digits) if digits < 5 else f"{mark:.2g}"
        yield f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y}" y2="{y}"/>'
        yield f'<text class="y" x="{_LEFT - 5}" y="{float(y) + 3.5:.1f}">{text}</text>'
    for mark in ticks(scale.first, scale.last, most=4):
        yield f'<text class="x" x="{scale.x(mark)}" y="{_BOTTOM + 16}">{mark:g}</text>'


def plots_of(folder: Path) -> list[Plot]:
    """Return the plots of one stage's folder; [] where it has no log yet."""
    if not (folder / "log.jsonl").is_file():
        return []
    curves = curves_of(read_log(folder))
    kept = kept_step(curves) if folder.name in KEEPS_BEST else None
    return [plot(curve, kept if curve.measured else None) for curve in curves if curve.points]


def has_log(out: Path) -> bool:
    """Return whether a distillation's folder has something to plot."""
    return any((out / stage / "log.jsonl").is_file() for stage in STAGES)


def write_plots(out: Path) -> Path:
    """Write the page and the files of a distillation's folder, as far as it has come; return the page.

    Raises:
        StoreError: no stage has a log yet, or the folder cannot be written.
    """
    sections = {stage: plots_of(out / stage) for stage in STAGES}
    if not any(sections.values()):
        raise StoreError(f"{out}: no stage of a distillation has a log there, and curate and ode-pairs keep none.")
    for stage, plots in sections.items():
        for one in plots:
            with atomic_write(out / "plots" / f"{stage}-{safe_name(one.title)}.svg") as file:
                file.write(one.svg)
    page = out / "plots.html"
    with atomic_write(page) as file:
        file.write(_page(out, sections))
    return page


def _page(out: Path, sections: Mapping[str, Sequence[Plot]]) -> str:
    import lt_eval.report

    css = (Path(str(lt_eval.report.__file__)).parent / "page" / "report.css").read_text(encoding="utf-8")
    name = html.escape(out.absolute().name)
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}: curves</title><style>{css}\n.curve {{ display: block; width: 100%; height: auto; }}</style>"
        f"</head><body><main><h1>{name}</h1>"
    ]
    for stage, plots in sections.items():
        if plots:
            parts.append(f"<h2>{STAGES[stage]}</h2><p class='hint'>{_ended(out / stage)}</p><div class='plots'>")
            parts += [
                f"<figure><figcaption>{html.escape(one.title)} <span>{html.escape(one.subtitle)}</span></figcaption>"
                f"{one.svg}</figure>"
                for one in plots
            ]
            parts.append("</div>")
    return "".join([*parts, "</main></body></html>\n"])


def _ended(folder: Path) -> str:
    done = outcome(folder)
    if done is None:
        return "Not at its end yet."
    return f"Ended after {done['steps']} steps and {done['seconds']:.0f} s because {why_it_ended(done['reason'])}."
