from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lt_eval import stats
from lt_eval.errors import SpecError, UnjudgedError
from lt_eval.records import DIMENSIONS, Cell, MethodInfo, Summary
from lt_eval.report.rounds import RoundsRun
from lt_eval.rounds_statistics import (
    MISSING,
    Judged,
    agreement_of_judges,
    coverage_of,
    judged_of,
    marks_of,
    statistics_of,
)
from lt_eval.rounds_summary import RoundsSummary, SummaryOptions, reference_pool, refuse_unjudged, summarise_rounds
from tests.report.rounds_fixtures import write_run

QUICK = SummaryOptions(draws=200)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RoundsRun:
    return write_run(tmp_path_factory.mktemp("rounds"), scenarios=30)


@pytest.fixture(scope="module")
def summary(run: RoundsRun) -> RoundsSummary:
    return summarise_rounds(run, QUICK)


def cell(summary: Summary, method: str, column: str) -> Cell:
    (found,) = (each for each in summary.cells if (each.method, each.column) == (method, column))
    return found


def only(run: RoundsRun, *methods: str) -> RoundsRun:
    """Return the run without the other methods."""
    return replace(
        run,
        manifest=replace(run.manifest, methods=tuple(MethodInfo(m) for m in methods)),
        conversations=tuple(c for c in run.conversations if c.method in methods),
        verdicts=tuple(v for v in run.verdicts if v.method in methods),
        rows=tuple(r for r in run.rows if r.method in methods),
    )


def test_columns_are_those_of_table_2_then_the_signals(summary: RoundsSummary) -> None:
    assert list(summary.percentiles.columns) == ["Throughput", "Latency", *DIMENSIONS, "Mention recall"]
    assert list(summary.raw.columns) == list(DIMENSIONS)
    assert len(summary.percentiles.cells) == 3 * 12


def test_percentiles_and_raw_means_are_those_of_the_verdicts(run: RoundsRun, summary: RoundsSummary) -> None:
    scores = np.full((3, 30, 2), np.nan)
    methods = [method.name for method in run.manifest.methods]
    for verdict in run.verdicts:
        if verdict.dimension == "LC":
            at = methods.index(verdict.method), run.manifest.scenarios.index(verdict.scenario), verdict.repeat
            scores[at] = verdict.score if verdict.score is not None else np.nan
    expected = stats.pooled_percentiles(scores, seed=7, draws=200)
    for index, method in enumerate(methods):
        found = cell(summary.percentiles, method, "LC")
        assert stats.Interval(found.value or 0, found.low, found.high) == expected.percentiles[index]
        assert cell(summary.raw, method, "LC").value == pytest.approx(scores[index].mean())
        assert (found.n, found.total) == (30, 30)


def test_clear_differences_are_marked_and_unclear_ones_are_not(run: RoundsRun, summary: RoundsSummary) -> None:
    assert summary.percentiles.marks["EA"] == {"ours": "best", "theirs & co": "second"} == summary.raw.marks["EA"]
    copies = tuple(replace(v, method="twin") for v in run.verdicts if v.method == "ours")
    held = tuple(replace(c, method="twin") for c in run.conversations if c.method == "ours")
    both = replace(
        run,
        manifest=replace(run.manifest, methods=(*run.manifest.methods, MethodInfo("twin"))),
        verdicts=(*run.verdicts, *copies),
        conversations=(*run.conversations, *held),
    )
    tied = summarise_rounds(both, QUICK)
    assert all(marks == {} for marks in tied.percentiles.marks.values())
    (pair,) = (p for p in tied.found.dimensions["EA"].pairs if (p.method, p.other) == (0, 3))
    assert pair.p == pair.p_holm == 1.0
    assert pair.raw == (0, 0, 0)


def test_a_second_that_equals_the_third_is_not_marked(summary: RoundsSummary) -> None:
    one = summary.found.dimensions["EA"]
    assert marks_of(one) == {0: "best", 1: "second"}
    unclear = tuple(replace(p, p_holm=0.3) if (p.method, p.other) == (1, 2) else p for p in one.pairs)
    assert marks_of(replace(one, pairs=unclear)) == {0: "best"}


def test_a_percentile_that_the_raw_scores_contradict_is_not_marked() -> None:
    """All 3 against 45 % of 1 and 55 % of 5 beside a weak third: the percentile puts the lower mean first."""
    scores = np.stack([np.full(100, 3.0), np.repeat([1.0, 5.0], [45, 55]), np.full(100, 1.0)])[..., None]
    nothing = np.full((3, 100), np.nan)
    judged = Judged(("a", "b", "c"), tuple(map(str, range(100))), {"EA": scores}, nothing, nothing)
    one = statistics_of(judged, draws=20).dimensions["EA"]
    percentiles = [p.value for p in one.pooled.percentiles if p is not None]
    assert percentiles[0] > percentiles[1]
    (pair,) = (p for p in one.pairs if (p.method, p.other) == (0, 1))
    assert pair.raw is not None
    assert pair.raw.value < 0
    certain = replace(one, pairs=tuple(replace(p, p_holm=0.001) for p in one.pairs))
    assert marks_of(certain) == {}


def test_naive_marks_leave_the_ranking_to_the_values(run: RoundsRun) -> None:
    naive = summarise_rounds(run, replace(QUICK, mark="naive"))
    assert naive.percentiles.marks == {}
    assert any("by value alone" in note for note in naive.percentiles.footnotes)


def test_holm_covers_all_pairs_and_dimensions(summary: RoundsSummary) -> None:
    pairs = [pair for one in summary.found.dimensions.values() for pair in one.pairs]
    assert len(pairs) == 27
    assert [p.p_holm for p in pairs] == stats.holm([p.p for p in pairs])


def test_differences_are_from_the_first_method_and_of_the_same_redraws(summary: RoundsSummary) -> None:
    found = {(d.method, d.column): d for d in summary.percentiles.differences}
    assert {d.baseline for d in summary.percentiles.differences} == {"ours"}
    weak = found["weak", "EA"]
    apart = cell(summary.percentiles, "weak", "EA"), cell(summary.percentiles, "ours", "EA")
    assert weak.value == pytest.approx((apart[0].value or 0) - (apart[1].value or 0))
    assert weak.low < weak.value < weak.high < 0


def test_latency_and_throughput_are_means_over_turns(summary: RoundsSummary) -> None:
    """Latencies are 1.0, 1.1 and 1.2 s; 100 frames in 5.0 s, of which the talker took 0.4 s."""
    latency, throughput = (cell(summary.percentiles, "ours", name) for name in ("Latency", "Throughput"))
    assert latency.value == pytest.approx(1.1)
    assert throughput.value == pytest.approx(100 / 4.6)
    assert latency.total == 90


def test_a_system_without_times_has_empty_cells_that_say_so(run: RoundsRun) -> None:
    untimed = tuple(
        replace(c, turns=tuple(replace(t, latency_s=None, wall_s=None) for t in c.turns)) for c in run.conversations
    )
    found = summarise_rounds(replace(run, conversations=untimed), QUICK).percentiles
    assert cell(found, "ours", "Latency").value is None
    assert cell(found, "ours", "Throughput").note == "the system did not state it"


def test_without_a_judge_only_judged_cells_are_empty(tmp_path: Path) -> None:
    found = summarise_rounds(write_run(tmp_path, scenarios=4, judged=False), QUICK)
    assert {each.note for each in found.percentiles.cells if each.column in DIMENSIONS} == {"no server was named"}
    assert cell(found.percentiles, "ours", "Mention recall").value == pytest.approx(3.9 / 5 + 0.1, abs=0.02)
    assert found.statistics["dimensions"] == {}
    refuse_unjudged(found)


def test_one_method_has_raw_means_and_no_percentile(run: RoundsRun) -> None:
    found = summarise_rounds(only(run, "ours"), QUICK)
    assert "one method alone" in cell(found.percentiles, "ours", "EA").note
    assert cell(found.raw, "ours", "EA").value is not None
    with pytest.raises(SpecError, match="two methods or more"):
        reference_pool(only(run, "ours"), found, "x")


def test_a_frozen_pool_gives_one_method_the_percentiles_it_had(run: RoundsRun, summary: RoundsSummary) -> None:
    pool = reference_pool(run, summary, "first")
    assert pool.judge == "Qwen3-VL-30B-A3B-Instruct"
    assert pool.methods == ("ours", "theirs & co", "weak")
    found = summarise_rounds(only(run, "ours"), replace(QUICK, reference=pool))
    for dimension in DIMENSIONS:
        own, before = (cell(each.percentiles, "ours", dimension).value for each in (found, summary))
        assert own == pytest.approx(before)
    assert any("frozen pool 'first'" in note for note in found.percentiles.footnotes)
    with pytest.raises(SpecError, match="compared among themselves"):
        reference_pool(run, found, "again")


def test_a_pool_of_another_judge_is_refused(run: RoundsRun, summary: RoundsSummary) -> None:
    pool = reference_pool(run, summary, "first")
    with pytest.raises(SpecError, match="is of judge 'other'"):
        summarise_rounds(run, replace(QUICK, reference=replace(pool, judge="other")))
    with pytest.raises(SpecError, match="other prompts of NI"):
        summarise_rounds(run, replace(QUICK, reference=replace(pool, prompts={**pool.prompts, "NI": "x"})))
    with pytest.raises(SpecError, match="holds no ranks"):
        summarise_rounds(run, SummaryOptions("empirical-midrank", pool))


@pytest.mark.parametrize("status", ["parse_error", "truncated", "refused", "transport_error"])
def test_a_failed_judgment_stops_the_report_and_costs_its_scenario_only(tmp_path: Path, status: str) -> None:
    run = write_run(tmp_path, scenarios=12, failed=(("weak", 3, status),))
    found = summarise_rounds(run, QUICK)
    with pytest.raises(UnjudgedError, match=rf"weak: {status} 2.*--allow-missing"):
        refuse_unjudged(found)
    assert cell(found.percentiles, "ours", "EA").n == 11
    assert cell(found.percentiles, "ours", "NI").n == 12
    assert found.coverage[2].judged["EA"] == 11
    assert any(f"weak: judgments without a score: {status} 2" in note for note in found.percentiles.footnotes)


def test_a_judgment_that_stands_nowhere_is_missing_and_stops_the_report(run: RoundsRun) -> None:
    lost = replace(run, verdicts=run.verdicts[1:])
    assert coverage_of(lost)[0].unresolved == {MISSING: 1}
    with pytest.raises(UnjudgedError, match="missing 1"):
        refuse_unjudged(summarise_rounds(lost, QUICK))


def test_a_failed_conversation_is_the_methods_and_no_reason_to_stop(tmp_path: Path) -> None:
    found = summarise_rounds(write_run(tmp_path, scenarios=12, failed=(("weak", 3, "generation_failure"),)), QUICK)
    refuse_unjudged(found)
    assert found.coverage[2].failed == {"generation_failed": 1}
    assert cell(found.percentiles, "ours", "EA").n == 11
    latency = cell(found.percentiles, "weak", "Latency")
    assert (latency.n, latency.total) == (34, 36)
    assert any("weak: 1 of 12 conversations failed" in note for note in found.percentiles.footnotes)


def test_expected_scores_count_where_the_judge_gave_them(run: RoundsRun) -> None:
    assert run.manifest.judge is not None
    soft = replace(
        run,
        manifest=replace(run.manifest, judge=replace(run.manifest.judge, expected=True)),
        verdicts=tuple(replace(v, expected=2.5) for v in run.verdicts),
    )
    assert set(judged_of(soft).scores["EA"].ravel()) == {2.5}
    found = summarise_rounds(soft, QUICK)
    assert cell(found.percentiles, "ours", "EA").value == 50
    assert any("all scores are equal" in note for note in found.percentiles.footnotes)


def test_dimensions_that_were_not_asked_for_say_so(run: RoundsRun) -> None:
    assert run.manifest.judge is not None
    judge = replace(run.manifest.judge, prompts={"OIE": "x"})
    part = replace(
        run,
        manifest=replace(run.manifest, judge=judge),
        verdicts=tuple(v for v in run.verdicts if v.dimension == "OIE"),
    )
    found = summarise_rounds(part, QUICK)
    assert cell(found.percentiles, "ours", "EA").note == "the judge was not asked for it"
    assert cell(found.percentiles, "ours", "OIE").value is not None
    refuse_unjudged(found)


def test_two_judges_agree_as_far_as_their_scores_do(run: RoundsRun) -> None:
    assert agreement_of_judges([run, run])["EA"] == pytest.approx(1)
    contrary = tuple(replace(v, score=None if v.score is None else 6 - v.score) for v in run.verdicts)
    against = agreement_of_judges([run, replace(run, verdicts=contrary)])["EA"]
    assert against is not None
    assert against < -0.5
    assert run.manifest.judge is not None
    part = replace(run, manifest=replace(run.manifest, judge=replace(run.manifest.judge, prompts={"EA": "x"})))
    assert set(agreement_of_judges([run, part])) == {"EA"}
    assert agreement_of_judges([run]) == {}


def test_statistics_are_json_and_name_everything(summary: RoundsSummary) -> None:
    text = json.dumps(summary.statistics, allow_nan=False)
    data = json.loads(text)
    one = data["dimensions"]["CU"]
    assert set(one["rank"]) == {"ours", "theirs & co", "weak"}
    assert one["alpha_of_repeats"] > 0.5
    assert one["variance"]["repeat"] is not None
    assert one["words"]["within_methods"]["low"] is not None
    assert len(data["correlations"]["within_methods"]["matrix"]) == 9
    assert data["coverage"][0]["judged"]["EA"] == 30


def test_the_footer_names_judge_server_prompts_frames_transcriber_repeats_and_seed(summary: RoundsSummary) -> None:
    footer = "\n".join(summary.percentiles.footnotes)
    for part in (
        *("Qwen3-VL-30B-A3B-Instruct", "vllm 0.33.0", "32 frames of 768 px", "K = 2", "EA cd0cd8b9"),
        *("funasr speech-paraformer-asr-en-16k-vocab4199", "WER 3.1%", "30 of 30 scenarios", "seed 7", "own pool"),
        *("Krippendorff", "80 % probability"),
    ):
        assert part in footer, part


def test_the_same_files_give_the_same_summary(run: RoundsRun, summary: RoundsSummary) -> None:
    again = summarise_rounds(replace(run, verdicts=run.verdicts[::-1]), QUICK)
    assert again.percentiles == summary.percentiles
    assert again.statistics == summary.statistics
    assert Summary.from_json(json.loads(json.dumps(summary.percentiles.to_json()))) == summary.percentiles


def test_a_video_that_no_judge_can_see_is_counted_as_the_methods_failure(run: RoundsRun) -> None:
    """The conversation was held, and its file does not decode: neither the judge's failure nor forgotten."""
    lost = tuple(
        replace(v, status="generation_failure", score=None) if (v.method, v.scenario) == ("weak", "s3") else v
        for v in run.verdicts
    )
    summary = summarise_rounds(replace(run, verdicts=lost), QUICK)
    weak = next(each for each in summary.coverage if each.method == "weak")
    assert weak.failed == {"generation_failure": 1} and weak.unresolved == {}
    assert set(weak.judged.values()) == {29}
    assert any("weak: 1 of 30 conversations failed" in note for note in summary.percentiles.footnotes)
    assert all(each.failed == {} for each in summary.coverage if each.method != "weak")


def test_a_pool_is_for_one_revision_of_the_judge(run: RoundsRun, summary: RoundsSummary) -> None:
    def at(revision: str) -> RoundsRun:
        assert run.manifest.judge is not None
        return replace(run, manifest=replace(run.manifest, judge=replace(run.manifest.judge, revision=revision)))

    pool = reference_pool(at("abc"), summarise_rounds(at("abc"), QUICK), "p")
    summarise_rounds(at("abc"), replace(QUICK, reference=pool))
    with pytest.raises(SpecError, match="of judge"):
        summarise_rounds(at("def"), replace(QUICK, reference=pool))
    with pytest.raises(SpecError, match="of judge"):
        summarise_rounds(run, replace(QUICK, reference=pool))


def test_a_pool_of_other_dimensions_is_refused_for_a_judge_without_prompts(run: RoundsRun) -> None:
    """A plugin names no prompts; what it was asked for stands in its verdicts."""
    assert run.manifest.judge is not None
    bare = replace(run, manifest=replace(run.manifest, judge=replace(run.manifest.judge, prompts={})))
    part = replace(bare, verdicts=tuple(v for v in bare.verdicts if v.dimension != "LC"))
    pool = reference_pool(part, summarise_rounds(part, QUICK), "p")
    with pytest.raises(SpecError, match="no scores of LC"):
        summarise_rounds(bare, replace(QUICK, reference=pool))


def test_a_pool_of_expected_scores_is_not_for_boxed_ones(run: RoundsRun) -> None:
    assert run.manifest.judge is not None
    soft = replace(run, manifest=replace(run.manifest, judge=replace(run.manifest.judge, expected=True)))
    pool = reference_pool(soft, summarise_rounds(soft, QUICK), "p")
    with pytest.raises(SpecError, match="expected"):
        summarise_rounds(run, replace(QUICK, reference=pool))
