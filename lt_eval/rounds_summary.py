"""A multi-round run to Table 2: percentiles with intervals, raw means beside, and all statistics as JSON.

Pure numpy: neither torch, a clip nor the judge is touched, so percentile, pool and marks can be chosen at any time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from lt_eval import stats
from lt_eval.errors import SpecError, UnjudgedError
from lt_eval.records import DIMENSIONS, Cell, Column, Difference, Summary
from lt_eval.rounds_statistics import (
    Coverage,
    RoundsStatistics,
    asked_dimensions,
    coverage_of,
    judged_of,
    marks_of,
    statistics_of,
    to_json,
)

if TYPE_CHECKING:
    from lt_eval.records import AnsweredTurn, Row
    from lt_eval.report.rounds import JudgeInfo, RoundsRun
    from lt_eval.stats import Interval, Kind, ReferencePool

THROUGHPUT = Column("higher", unit="FPS", minimum=0.0)
LATENCY = Column("lower", unit="s", minimum=0.0)
PERCENTILE = Column("higher", minimum=0.0, maximum=100.0)

RAW_TITLE = "raw means"
"""What follows the data set's name over the second table."""


@dataclass(frozen=True)
class SummaryOptions:
    """Choices that need no new judgment.

    Attributes:
        percentile: "normal-cdf", the paper's as far as that can be known, or "empirical-midrank".
        reference: a frozen pool to compare with instead of the run's own methods.
        mark: "significance" marks ranks that differ beyond chance, "naive" the largest values, as the paper does.
        draws: redraws of the intervals.
    """

    percentile: Kind = "normal-cdf"
    reference: ReferencePool | None = None
    mark: Literal["significance", "naive"] = "significance"
    draws: int = 2000


@dataclass(frozen=True)
class RoundsSummary:
    """What a report shows of a run.

    Attributes:
        percentiles: Table 2's shape.
        raw: the same dimensions as mean scores.
        statistics: everything else, as JSON types.
        coverage: a method, what there is and what is missing.
        found: the statistics as records.
    """

    percentiles: Summary
    raw: Summary
    statistics: Mapping[str, Any]
    coverage: tuple[Coverage, ...]
    found: RoundsStatistics


def summarise_rounds(run: RoundsRun, options: SummaryOptions | None = None) -> RoundsSummary:
    """Return the tables and statistics of a run.

    Raises:
        SpecError: the frozen pool is of another judge or other prompts, or mid-ranks were asked of it.
    """
    options = options or SummaryOptions()
    judge = run.manifest.judge
    if options.reference:
        if options.percentile != "normal-cdf":
            raise SpecError("--percentile empirical-midrank ranks within a pool, and --reference-pool holds no ranks.")
        if judge:
            stats.require_same_judge(
                options.reference,
                judge=_judge_id(judge),
                prompts=judge.prompts,
                dimensions=asked_dimensions(run),
            )
    pools = options.reference.pools if options.reference else None
    found = statistics_of(
        judged_of(run), kind=options.percentile, pools=pools, seed=run.manifest.seed, draws=options.draws
    )
    coverage = coverage_of(run)
    percentiles = _summary(run, options, found, coverage, raw=False)
    raw = _summary(run, options, found, coverage, raw=True)
    statistics = {
        "percentile": options.percentile,
        "reference_pool": options.reference.name if options.reference else None,
        "seed": run.manifest.seed,
        "draws": options.draws,
        "scenarios": len(run.manifest.scenarios),
        "coverage": [asdict(each) for each in coverage],
        **to_json(found),
    }
    return RoundsSummary(percentiles, raw, statistics, coverage, found)


def refuse_unjudged(summary: RoundsSummary) -> None:
    """Refuse a run whose judge failed somewhere: what is missing may be the hard part.

    Raises:
        UnjudgedError: with counts by method and status.
    """
    lost = {each.method: each.unresolved for each in summary.coverage if each.unresolved}
    if lost:
        counts = "; ".join(f"{method}: {_counts(statuses)}" for method, statuses in lost.items())
        raise UnjudgedError(
            f"the judge gave no score where it should have ({counts}). Run `lt-eval multiround` again with the same "
            "--out: only these are asked. Or report without them, with the coverage: --allow-missing."
        )


def reference_pool(run: RoundsRun, summary: RoundsSummary, name: str) -> ReferencePool:
    """Return the run's own pool, frozen, for later runs to be compared with.

    Raises:
        SpecError: the run was not judged, has one method only, or was itself compared with a frozen pool.
    """
    judge = run.manifest.judge
    pools = {dim: one.pooled.pool for dim, one in summary.found.dimensions.items() if one.pooled.pool}
    if judge is None or not pools or summary.statistics["reference_pool"]:
        raise SpecError("a pool is made of a judged run of two methods or more, compared among themselves.")
    return stats.ReferencePool(
        name=name,
        judge=_judge_id(judge),
        prompts={dim: judge.prompts[dim] for dim in pools if dim in judge.prompts},
        pools=pools,
        methods=summary.found.judged.methods,
        scenarios=len(run.manifest.scenarios),
        repeats=judge.repeats,
    )


def _judge_id(judge: JudgeInfo) -> str:
    """Return what decides the scale of scores beside the prompts: model, its revision, and which score is read."""
    revision = f"@{judge.revision}" if judge.revision else ""
    return f"{judge.model}{revision}{', expected scores' if judge.expected else ''}"


def _summary(
    run: RoundsRun,
    options: SummaryOptions,
    found: RoundsStatistics,
    coverage: Sequence[Coverage],
    *,
    raw: bool,
) -> Summary:
    dataset = f"{run.manifest.dataset}, {RAW_TITLE}" if raw else run.manifest.dataset
    judge = run.manifest.judge
    low, high = judge.scale if judge else (1, 5)
    column = Column("higher", minimum=float(low), maximum=float(high)) if raw else PERCENTILE
    columns: dict[str, Column] = {} if raw else {"Throughput": THROUGHPUT, "Latency": LATENCY}
    cells: list[Cell] = [] if raw else [*_timing(run)]
    columns.update(dict.fromkeys(DIMENSIONS, column))
    cells += [
        cell for dimension in DIMENSIONS for cell in _judged_cells(run, options, found, dimension, column, raw=raw)
    ]
    if not raw:
        columns.update(run.manifest.signals)
        cells += [cell for name, signal in run.manifest.signals.items() for cell in _signal_cells(run, name, signal)]
    marks = {
        name: {found.judged.methods[i]: mark for i, mark in marks_of(one).items()}
        for name, one in found.dimensions.items()
        if options.mark == "significance"
    }
    return Summary(
        dataset,
        run.manifest.methods,
        columns,
        tuple(replace(cell, dataset=dataset) for cell in cells),
        tuple(replace(each, dataset=dataset) for each in _differences(found, raw=raw)),
        contributions=_contributions(found) if raw else {},
        footnotes=(*_score_notes(run, options, found, coverage, raw=raw), *(() if raw else run.manifest.footnotes)),
        marks=marks,
    )


def _judged_cells(
    run: RoundsRun,
    options: SummaryOptions,
    found: RoundsStatistics,
    dimension: str,
    column: Column,
    *,
    raw: bool,
) -> list[Cell]:
    one = found.dimensions.get(dimension)
    total = len(run.manifest.scenarios)
    cells = []
    for index, method in enumerate(run.manifest.methods):
        blank = Cell("", method.name, dimension, None, total=total, unit=column.unit, better=column.better)
        if one is None:
            why = run.manifest.no_judge if run.manifest.judge is None else "the judge was not asked for it"
            cells.append(replace(blank, total=0, note=why))
            continue
        value = one.raw[index] if raw else one.pooled.percentiles[index]
        n = one.pooled.n[index]
        if value is None:
            alone = "one method alone has no percentile: see the raw means, or name a --reference-pool"
            cells.append(replace(blank, n=n, note=alone if n else "no scenario with a score that all methods have"))
            continue
        low, high = _within(value, column)
        cells.append(replace(blank, value=value.value, low=low, high=high, n=n))
    return cells


def _within(interval: Interval, column: Column) -> tuple[float | None, float | None]:
    low, high = interval.low, interval.high
    if low is not None and column.minimum is not None:
        low = max(low, column.minimum)
    if high is not None and column.maximum is not None:
        high = min(high, column.maximum)
    return low, high


def _differences(found: RoundsStatistics, *, raw: bool) -> list[Difference]:
    """Return each method's difference from the first one."""
    names = found.judged.methods
    differences = []
    for dimension, one in found.dimensions.items():
        for pair in one.pairs:
            interval = pair.raw if raw else pair.points
            if pair.method or interval is None or interval.low is None or interval.high is None:
                continue
            value, low, high = -interval.value, -interval.high, -interval.low
            n = one.pooled.n[pair.other]
            differences.append(Difference("", names[pair.other], names[0], dimension, value, low, high, n))
    return differences


def _contributions(found: RoundsStatistics) -> dict[str, dict[str, dict[str, float]]]:
    contributions: dict[str, dict[str, dict[str, float]]] = {}
    for dimension, scores in found.judged.scores.items():
        for method, samples in zip(found.judged.methods, stats.sample_means(scores), strict=True):
            known = {s: float(x) for s, x in zip(found.judged.scenarios, samples, strict=True) if math.isfinite(x)}
            if known:
                contributions.setdefault(method, {})[dimension] = known
    return contributions


def _timing(run: RoundsRun) -> list[Cell]:
    """Average over turns; the interval redraws whole conversations."""
    lengths: dict[str, int] = {}
    for conversation in run.conversations:
        lengths[conversation.scenario] = max(lengths.get(conversation.scenario, 0), len(conversation.turns))
    total = sum(lengths.values())  # a conversation that broke off lacks turns that others have
    cells = []
    for name, column, value in (("Throughput", THROUGHPUT, _throughput), ("Latency", LATENCY, _latency)):
        for method in run.manifest.methods:
            turns = [(c.scenario, turn) for c in run.conversations if c.method == method.name for turn in c.turns]
            timed = [(scenario, seconds) for scenario, turn in turns if (seconds := value(turn)) is not None]
            cells.append(_mean_cell(method.name, name, column, timed, total, "the system did not state it"))
    return cells


def _latency(turn: AnsweredTurn) -> float | None:
    return turn.latency_s


def _throughput(turn: AnsweredTurn) -> float | None:
    """Frames over the time from the talker's first sound to the last frame: what the video cost, the talker apart."""
    if turn.frames is None or turn.wall_s is None:
        return None
    spent = turn.wall_s - (turn.talker_s or 0.0)
    return turn.frames / spent if spent > 0 else None


def _signal_cells(run: RoundsRun, name: str, column: Column) -> list[Cell]:
    rows = {
        m.name: [r for r in run.rows if r.method == m.name and _measures(r, name, run)] for m in run.manifest.methods
    }
    total = max(map(len, rows.values()), default=0)
    cells = []
    for method, own in rows.items():
        valued = [(row.sample, row.values[name]) for row in own if name in row.values]
        reasons = {row.failure.reason for row in own if row.failure}
        why = ", ".join(sorted(reasons)) or "not measured"
        cells.append(_mean_cell(method, name, column, valued, total, why))
    return cells


def _measures(row: Row, column: str, run: RoundsRun) -> bool:
    """Whether a row is of the metric that gives this column: a failed one has no values to tell it by."""
    stated = column in row.values or column in row.details.get("columns", ())
    return stated or row.metric in {other.metric for other in run.rows if column in other.values}


def _mean_cell(
    method: str, name: str, column: Column, values: Sequence[tuple[str, float]], total: int, why: str
) -> Cell:
    blank = Cell("", method, name, None, total=total, unit=column.unit, better=column.better)
    if not values:
        return replace(blank, total=0, note=why)
    mean = stats.mean_interval([value for _, value in values], clusters=[scenario for scenario, _ in values])
    low, high = _within(mean, column)
    return replace(blank, value=mean.value, low=low, high=high, n=len(values))


def _score_notes(
    run: RoundsRun,
    options: SummaryOptions,
    found: RoundsStatistics,
    coverage: Sequence[Coverage],
    *,
    raw: bool,
) -> list[str]:
    """Return what stands under the table: judge, transcripts, pool, n, seed, and what these cannot tell."""
    manifest, judge = run.manifest, run.manifest.judge
    if judge is None or not found.dimensions:
        return [] if raw else [*_setting_notes(run), *_coverage_notes(coverage)]
    n = sorted({count for one in found.dimensions.values() for count in one.pooled.n if count})
    compared = f"{' or '.join(map(str, n)) or 'none'} of {len(manifest.scenarios)} scenarios"
    notes = []
    if raw:
        notes.append(f"Mean scores, {judge.scale[0]} to {judge.scale[1]}, on {compared} that all methods have.")
    else:
        kind = "mean of 100 Φ(z)" if options.percentile == "normal-cdf" else "mean mid-rank"
        pool = options.reference
        whose = f"the frozen pool {pool.name!r} ({len(pool.methods)} methods)" if pool else "these methods' own pool"
        notes.append(
            f"Percentiles: {kind}, of {whose}, on {compared} that all methods have; 95 % intervals by {options.draws} "
            f"redraws of scenarios, seed {manifest.seed}. They depend on who is in the pool; the raw means do not."
        )
    if options.mark == "naive":
        notes.append("Marks are by value alone, as in the paper: no test says that the methods differ.")
    else:
        notes.append(
            "Marks of judged columns: sign-flip tests of paired scores, Holm's correction over all pairs and "
            "dimensions, 5 %; methods that cannot be told apart carry none."
        )
    if flat := [name for name, one in found.dimensions.items() if one.pooled.degenerate]:
        notes.append(f"{', '.join(flat)}: all scores are equal, so that every percentile is 50 and says nothing.")
    if not raw:
        notes += [*_trust_notes(found), *_setting_notes(run), *_coverage_notes(coverage)]
    return notes


def _trust_notes(found: RoundsStatistics) -> list[str]:
    notes = []
    detectable = [one.detectable for one in found.dimensions.values() if one.detectable]
    if detectable:
        notes.append(
            f"A difference of raw means from {min(detectable):.2f} to {max(detectable):.2f}, by dimension, would be "
            "found with 80 % probability by one test; smaller ones mostly would not."
        )
    alphas = [one.alpha for one in found.dimensions.values() if one.alpha is not None]
    if alphas:
        notes.append(f"Agreement of the judge's repeats: Krippendorff's α {min(alphas):.2f} to {max(alphas):.2f}.")
    if found.within and found.within.first_share is not None:
        notes.append(
            f"Within methods, one component holds {found.within.first_share:.0%} of the variance of the "
            f"{len(found.dimensions)} dimensions' ranks: near 100 % they would be one impression."
        )
    return notes


def _setting_notes(run: RoundsRun) -> list[str]:
    judge, heard = run.manifest.judge, run.manifest.transcripts
    notes = []
    if judge:
        served = f" on {judge.server}" if judge.server else ""
        revision = f", revision {judge.revision}" if judge.revision else ""
        notes.append(
            f"Judge: {judge.model}{revision}{served}; up to {judge.frames} frames of {judge.size_px} px a video; "
            f"T {judge.temperature:g}, top-p {judge.top_p:g}; K = {judge.repeats} judgment"
            f"{'s' if judge.repeats > 1 else ''} each"
            f"{', score asked apart' if judge.two_step else ''}{', expected scores' if judge.expected else ''}."
        )
        prompts = ", ".join(f"{name} {digest[:8]}" for name, digest in judge.prompts.items())
        notes += [f"Prompts: {prompts}."] if prompts else []
    if heard:
        wer = "" if heard.user_wer is None else f"; user lines: WER {heard.user_wer:.1%} of {heard.user_words} words"
        notes.append(f"Transcripts: {heard.backend}{f' {heard.model}' if heard.model else ''}{wer}.")
    digest = f" (sha256 {run.manifest.scenario_hash[:8]})" if run.manifest.scenario_hash else ""
    notes.append(f"Scenarios: {run.manifest.scenario_set}{digest}, {len(run.manifest.scenarios)}.")
    return notes


def _coverage_notes(coverage: Sequence[Coverage]) -> list[str]:
    notes = []
    for each in coverage:
        lost = sum(each.failed.values())
        if lost:
            notes.append(f"{each.method}: {lost} of {each.scenarios} conversations failed ({_counts(each.failed)}).")
        if each.unresolved:
            notes.append(f"{each.method}: judgments without a score: {_counts(each.unresolved)}.")
        if each.not_applicable:
            notes.append(f"{each.method}: {each.not_applicable} judgments not applicable.")
    return notes


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
