"""From verdicts to statistics: everything that can be said of the judged dimensions of a run, once.

Shapes: M methods, S scenarios, K repeats; NaN is a score that is missing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from lt_eval import stats
from lt_eval.records import DIMENSIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lt_eval.records import Conversation, Verdict
    from lt_eval.report.rounds import RoundsRun
    from lt_eval.stats import Correlations, Interval, Kind, LengthBias, Pool, Pooled, Samples, Scores, VarianceSplit

JUDGE_FAILED = ("parse_error", "truncated", "refused", "transport_error")
"""Statuses of a verdict that are the judge's failure and no property of the answer."""

MISSING = "missing"
"""A judgment that was to be made and stands nowhere."""


@dataclass(frozen=True)
class Judged:
    """The scores of a run.

    Attributes:
        methods: names, M.
        scenarios: ids, S.
        scores: dimension -> float64 [M, S, K], of the dimensions that the judge was asked for.
        words: float64 [M, S], words of all answers of a conversation.
        seconds: float64 [M, S], their length.
    """

    methods: tuple[str, ...]
    scenarios: tuple[str, ...]
    scores: Mapping[str, Scores]
    words: Samples
    seconds: Samples


@dataclass(frozen=True)
class Coverage:
    """What there is of one method.

    Attributes:
        scenarios: conversations that were asked for.
        failed: conversations that the method did not finish, by reason.
        judged: dimension -> conversations with a score.
        unresolved: judgments without a score that are the judge's failure, by status.
        not_applicable: judgments that the rubric does not apply to.
    """

    method: str
    scenarios: int
    failed: Mapping[str, int] = field(default_factory=dict)
    judged: Mapping[str, int] = field(default_factory=dict)
    unresolved: Mapping[str, int] = field(default_factory=dict)
    not_applicable: int = 0


@dataclass(frozen=True)
class Pair:
    """Two methods on one dimension, over the scenarios that all methods have.

    Attributes:
        method: index of the one.
        other: index of the other.
        raw: difference of raw scores, method minus other.
        points: the same in percentile points; None without percentiles.
        p: of the sign-flip test.
        p_holm: adjusted for all pairs and dimensions of the run.
    """

    method: int
    other: int
    raw: Interval | None
    points: Interval | None
    p: float | None
    p_holm: float | None = None


@dataclass(frozen=True)
class DimensionStatistics:
    """One judged dimension.

    Attributes:
        pooled: percentiles.
        raw: mean score of each method on the same scenarios.
        ranks: of each method.
        pairs: of all methods that have scores.
        detectable: smallest difference of raw means that one test finds with 80 % probability, by the median spread of
            the pairs; None where nothing varies.
        alpha: ordinal agreement of the repeats.
        variance: components.
        words: how scores go with the words of the answers.
        seconds: and with their length.
    """

    pooled: Pooled
    raw: tuple[Interval | None, ...]
    ranks: tuple[stats.Rank | None, ...]
    pairs: tuple[Pair, ...]
    detectable: float | None
    alpha: float | None
    variance: VarianceSplit | None
    words: LengthBias
    seconds: LengthBias


@dataclass(frozen=True)
class RoundsStatistics:
    """All dimensions that were judged, and how they go together, within methods and over all."""

    judged: Judged
    dimensions: Mapping[str, DimensionStatistics]
    within: Correlations | None
    overall: Correlations | None


def asked_dimensions(run: RoundsRun) -> tuple[str, ...]:
    """Return the dimensions that the judge was asked for, in the order of Table 2."""
    if run.manifest.judge is None:
        return ()
    known = set(run.manifest.judge.prompts) or {verdict.dimension for verdict in run.verdicts}
    return tuple(name for name in DIMENSIONS if name in known)


def judged_of(run: RoundsRun) -> Judged:
    """Arrange the verdicts of a run; where the judge gave expected scores, those count."""
    methods = tuple(method.name for method in run.manifest.methods)
    scenarios = run.manifest.scenarios
    place = {(m, s): (i, j) for i, m in enumerate(methods) for j, s in enumerate(scenarios)}
    judge = run.manifest.judge
    repeats = max([judge.repeats if judge else 1, *(verdict.repeat + 1 for verdict in run.verdicts)])
    shape = len(methods), len(scenarios)
    scores = {name: np.full((*shape, repeats), np.nan) for name in asked_dimensions(run)}
    for verdict in run.verdicts:
        at = place.get((verdict.method, verdict.scenario))
        score = verdict.expected if judge and judge.expected and verdict.expected is not None else verdict.score
        if at and verdict.dimension in scores and verdict.status == "ok" and score is not None:
            scores[verdict.dimension][(*at, verdict.repeat)] = score
    words, seconds = np.full(shape, np.nan), np.full(shape, np.nan)
    for conversation in run.conversations:
        if (at := place.get((conversation.method, conversation.scenario))) and not conversation.failure:
            words[at], seconds[at] = _words(conversation), _seconds(conversation)
    return Judged(methods, scenarios, scores, words, seconds)


def coverage_of(run: RoundsRun) -> tuple[Coverage, ...]:
    """Count, a method, what was answered and judged, and what was not and why."""
    judge, dimensions = run.manifest.judge, asked_dimensions(run)
    held = {(c.method, c.scenario): c for c in run.conversations}
    given = {(v.method, v.scenario, v.dimension, v.repeat): v for v in run.verdicts}
    found = []
    for method in run.manifest.methods:
        failed: Counter[str] = Counter()
        unresolved: Counter[str] = Counter()
        judged = dict.fromkeys(dimensions, 0)
        not_applicable = 0
        for scenario in run.manifest.scenarios:
            conversation = held.get((method.name, scenario))
            if conversation is None or conversation.failure:
                failed[conversation.failure.reason if conversation and conversation.failure else "not held"] += 1
                continue
            asked = {
                dimension: [
                    _status(given.get((method.name, scenario, dimension, repeat)))
                    for repeat in range(judge.repeats if judge else 0)
                ]
                for dimension in dimensions
            }
            # held, and yet no judge can see it: a video that breaks off
            failed["generation_failure"] += any("generation_failure" in statuses for statuses in asked.values())
            for dimension, statuses in asked.items():
                judged[dimension] += "ok" in statuses
                not_applicable += statuses.count("not_applicable")
                unresolved.update(status for status in statuses if status in (*JUDGE_FAILED, MISSING))
        scenarios = len(run.manifest.scenarios)
        found.append(Coverage(method.name, scenarios, dict(+failed), judged, dict(unresolved), not_applicable))
    return tuple(found)


def statistics_of(
    judged: Judged,
    *,
    kind: Kind = "normal-cdf",
    pools: Mapping[str, Pool] | None = None,
    seed: int = 0,
    draws: int = 2000,
) -> RoundsStatistics:
    """Return all statistics of the judged dimensions.

    Args:
        judged: the scores.
        kind: of the percentile.
        pools: dimension -> frozen pool; None pools the run's own methods.
        seed: of redraws and permutations.
        draws: redraws of the intervals.
    """
    found = {
        name: _dimension(judged, scores, kind, pools[name] if pools else None, seed, draws)
        for name, scores in judged.scores.items()
    }
    tests = [(name, index) for name, one in found.items() for index in range(len(one.pairs))]
    adjusted = iter(stats.holm([found[name].pairs[index].p for name, index in tests]))
    corrected = {
        name: DimensionStatistics(
            **{
                **one.__dict__,
                "pairs": tuple(Pair(**{**pair.__dict__, "p_holm": next(adjusted)}) for pair in one.pairs),
            }
        )
        for name, one in found.items()
    }
    within = overall = None
    if corrected:
        samples = np.stack([stats.sample_means(scores) for scores in judged.scores.values()])
        within, overall = (stats.dimension_correlations(samples, within=each) for each in (True, False))
    return RoundsStatistics(judged, corrected, within, overall)


def agreement_of_judges(runs: Sequence[RoundsRun]) -> dict[str, float | None]:
    """Return ordinal alpha a dimension, over the runs' judges, of the conversations that they have in common by name.

    Each judge's repeats are averaged first. A dimension that only one of them was asked for is left out.
    """
    judged = [judged_of(run) for run in runs]
    units = list(dict.fromkeys((m, s) for one in judged for m in one.methods for s in one.scenarios))
    found: dict[str, float | None] = {}
    for dimension in DIMENSIONS:
        raters = []
        for one in judged:
            if dimension not in one.scores:
                continue
            samples = stats.sample_means(one.scores[dimension])
            at = {(m, s): samples[i, j] for i, m in enumerate(one.methods) for j, s in enumerate(one.scenarios)}
            raters.append([at.get(unit, np.nan) for unit in units])
        if len(raters) > 1:
            found[dimension] = stats.krippendorff_alpha(np.array(raters, dtype=np.float64))
    return found


def marks_of(one: DimensionStatistics) -> dict[int, str]:
    """Return which methods are "best" and "second" beyond chance: each must differ from its neighbours in rank.

    Two methods that cannot be told apart get no mark, whichever has the larger value.
    """
    values = [(p.value, i) for i, p in enumerate(one.pooled.percentiles) if p is not None]
    order = [i for _, i in sorted(values, key=lambda pair: (-pair[0], pair[1]))]
    if len(order) < 2 or not _is_above(one, order[0], order[1]):
        return {}
    marks = {order[0]: "best"}
    if len(order) == 2 or _is_above(one, order[1], order[2]):
        marks[order[1]] = "second"
    return marks


def _is_above(one: DimensionStatistics, better: int, worse: int) -> bool:
    """Whether the test of raw scores says what the percentiles say; on skewed scores the two can point apart."""
    (pair,) = (each for each in one.pairs if {each.method, each.other} == {better, worse})
    ahead = pair.raw is not None and (pair.raw.value > 0) == (pair.method == better)
    return ahead and pair.p_holm is not None and pair.p_holm < 0.05


def to_json(found: RoundsStatistics) -> dict[str, Any]:
    """Return the statistics as JSON types, methods by name."""
    names = found.judged.methods
    return {
        "dimensions": {name: _dimension_json(one, names) for name, one in found.dimensions.items()},
        "correlations": {
            "dimensions": list(found.dimensions),
            "within_methods": asdict(found.within) if found.within else None,
            "over_all": asdict(found.overall) if found.overall else None,
        },
    }


def _status(verdict: Verdict | None) -> str:
    if verdict is None or (verdict.status == "ok" and verdict.score is None):
        return MISSING
    return verdict.status


def _words(conversation: Conversation) -> float:
    said = [turn.transcript for turn in conversation.turns]
    return float("nan") if None in said else float(sum(len((text or "").split()) for text in said))


def _seconds(conversation: Conversation) -> float:
    lengths = [turn.frames / turn.fps for turn in conversation.turns if turn.frames is not None and turn.fps]
    return sum(lengths) if len(lengths) == len(conversation.turns) else float("nan")


def _dimension(
    judged: Judged, scores: Scores, kind: Kind, pool: Pool | None, seed: int, draws: int
) -> DimensionStatistics:
    pooled = stats.pooled_percentiles(scores, kind=kind, pool=pool, seed=seed, draws=draws)
    samples = stats.sample_means(scores)
    common = samples[:, stats.intersection(samples)]
    scored = [i for i, count in enumerate(pooled.n) if count]
    raw = tuple(
        stats.mean_interval(common[i].tolist(), seed=seed) if i in scored else None for i in range(len(samples))
    )
    pairs, spreads = [], []
    for one, other in combinations(scored, 2):
        differences = (common[one] - common[other]).round(9)
        spreads.append(float(differences.std(ddof=1)) if len(differences) > 1 else 0.0)
        interval = stats.mean_interval(differences.tolist(), seed=seed)
        p = stats.sign_flip_p(differences, seed=seed)
        pairs.append(Pair(one, other, interval, stats.difference(pooled, one, other), p))
    spread = float(np.median(spreads)) if spreads else 0.0
    flat = np.moveaxis(scores, -1, 0).reshape(scores.shape[-1], -1)
    return DimensionStatistics(
        pooled,
        raw,
        stats.ranks(pooled),
        tuple(pairs),
        stats.detectable_difference(spread, common.shape[1]),
        stats.krippendorff_alpha(flat),
        stats.variance_split(scores),
        stats.length_bias(samples, judged.words, seed=seed),
        stats.length_bias(samples, judged.seconds, seed=seed),
    )


def _dimension_json(one: DimensionStatistics, names: Sequence[str]) -> dict[str, Any]:
    pool = one.pooled.pool
    return {
        "pool": {"mu": pool.mean, "sigma": pool.deviation, "n": pool.n} if pool else None,
        "degenerate": one.pooled.degenerate,
        "n": dict(zip(names, one.pooled.n, strict=True)),
        "percentile": {name: _listed(p) for name, p in zip(names, one.pooled.percentiles, strict=True)},
        "raw": {name: _listed(p) for name, p in zip(names, one.raw, strict=True)},
        "rank": {name: rank._asdict() if rank else None for name, rank in zip(names, one.ranks, strict=True)},
        "pairs": [
            {
                "method": names[pair.method],
                "other": names[pair.other],
                "raw": _listed(pair.raw),
                "points": _listed(pair.points),
                "p": pair.p,
                "p_holm": pair.p_holm,
            }
            for pair in one.pairs
        ],
        "detectable_raw_difference": one.detectable,
        "alpha_of_repeats": one.alpha,
        "variance": asdict(one.variance) if one.variance else None,
        "words": _bias(one.words),
        "seconds": _bias(one.seconds),
    }


def _bias(bias: LengthBias) -> dict[str, Any]:
    return {"within_methods": _listed(bias.within), "over_all": bias.overall, "n": bias.n}


def _listed(interval: Interval | None) -> dict[str, Any] | None:
    return interval._asdict() if interval else None
