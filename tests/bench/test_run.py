"""Whole benches on generators whose speed is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lt_eval.bench.figures import FIGURES, means, table
from lt_eval.bench.page import page
from lt_eval.bench.run import BenchSpec, LoadSpec, Outcome, run
from lt_eval.bench.work import Drive, steady_rate
from lt_eval.errors import SpecError
from lt_eval.store import read_rows

DRIVE = Drive(seconds=0.5, size=32, kind="noise")


def bench(out: Path, generator: str = "Odd", *, said: list[str] | None = None, **more: Any) -> Outcome:
    options = more.pop("options", {})
    spec = BenchSpec(f"tests.bench.odd:{generator}", options, DRIVE, device="cpu", timeout_s=60.0)
    heard = said.append if said is not None else (lambda _: None)
    return run(replace(spec, **{"runs": 3, **more}), out, progress=lambda *_: None, say=heard)


def test_known_delays_give_known_figures(tmp_path: Path) -> None:
    """Eight blocks of four frames, 20 ms each: at most 200 FPS, and nothing can be faster than its sleeps."""
    outcome = bench(tmp_path, options={"delay_s": 0.02, "at": -1})
    found = outcome.result["figures"]
    assert outcome.failed == 0 and found["throughput_fps"]["n"] == 3
    assert 10 < found["throughput_fps"]["mean"] <= 200 and 10 < found["steady_fps"]["mean"] <= 200
    assert 0.02 <= found["first_frame_s"]["mean"] < 1
    assert found["gap_p50_s"]["mean"] >= 0.02
    assert found["audio_needed_s"]["mean"] == pytest.approx(0.5)
    assert found["with_audio_s"]["mean"] >= 0.52
    assert outcome.result["warm_up_blocks"] == 8 and outcome.result["warm_up_enough"]


def test_what_was_measured_with_what_is_left_in_the_folder(tmp_path: Path) -> None:
    outcome = bench(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["settings"] == {"dtype": "uint8", "steps": 0}
    assert manifest["resolution"] == [32, 32] and manifest["playback_fps"] == 25.0
    assert manifest["hardware"]["cores"] and manifest["spec"]["drive"]["seconds"] == 0.5
    assert json.loads((tmp_path / "bench.json").read_text()) == json.loads(json.dumps(outcome.result))
    rows = read_rows(tmp_path)
    assert [row.sample for row in rows] == ["run000", "run001", "run002"]
    assert set(rows[0].values) <= set(FIGURES) and len(rows[0].details["arrivals"]) == 8


def test_rows_of_an_earlier_bench_are_kept(tmp_path: Path) -> None:
    bench(tmp_path, runs=2)
    bench(tmp_path, runs=1)
    assert len({row.key for row in read_rows(tmp_path)}) == 3


def test_a_failed_run_is_a_row_with_its_reason_and_the_others_count(tmp_path: Path) -> None:
    """Without a warm-up the first run raises, the file says so, and the other two are as they should be."""
    outcome = bench(tmp_path, warmups=0, options={"mode": "raise", "once": str(tmp_path / "happened")})
    assert outcome.failed == 1 and outcome.result["figures"]["throughput_fps"]["n"] == 2
    failures = [row.failure for row in read_rows(tmp_path)]
    assert failures[0] is not None and failures[0].reason == "generation_failed" and failures[1:] == [None, None]
    assert "note: The warm-up reached no blocks" in "\n".join(page(outcome.result))


def test_a_run_that_hangs_is_a_row_and_the_next_ones_run(tmp_path: Path) -> None:
    options = {"mode": "hang", "once": str(tmp_path / "happened")}
    outcome = bench(tmp_path, warmups=0, runs=2, options=options, timeout_s=6.0)
    first, second = read_rows(tmp_path)
    assert first.failure is not None and first.failure.reason == "generation_timeout"
    assert "no sign of life for 6 s while it was generating run 0" in first.failure.message
    assert second.failure is None and outcome.failed == 1


def test_nothing_but_failures_still_gives_a_result(tmp_path: Path) -> None:
    said: list[str] = []
    outcome = bench(tmp_path, options={"mode": "raise"}, runs=1, said=said)
    assert outcome.failed == 1 and outcome.result["figures"] == {} and outcome.result["resolution"] is None
    assert any("warm-up 1 failed" in line for line in said)
    json.dumps(outcome.result, allow_nan=False)
    assert "failed: generation_failed: RuntimeError: out of ideas" in "\n".join(page(outcome.result))


def test_a_short_turn_is_warmed_up_by_a_longer_one(tmp_path: Path) -> None:
    """Blocks of 0.2 s: a turn of 0.5 s has two, and a warm-up must reach six."""
    outcome = bench(tmp_path, "Paced", options={"work_s": 0.0}, runs=1)
    assert outcome.result["warm_up_blocks"] >= 6


def test_a_generator_that_does_not_stream_is_marked(tmp_path: Path) -> None:
    outcome = bench(tmp_path, "Kept", options={"delay_s": 0.01, "at": -1}, runs=1)
    found = outcome.result["figures"]
    assert outcome.result["streams"] is False and "steady_fps" not in found
    assert found["first_frame_s"]["mean"] >= 0.08
    assert "It does not stream" in "\n".join(page(outcome.result))
    assert "audio instant; on " in page({**outcome.result, "settings": {}})[0]


def test_stages_are_timed_apart_where_they_are_offered(tmp_path: Path) -> None:
    """8 frames a block: at 10 ms at most 800 FPS, at 5 ms at most 1600."""
    outcome = bench(tmp_path, "Staged", runs=2)
    stages = outcome.result["stages"]
    assert 20 < stages["denoise_fps"]["mean"] <= 800 and 20 < stages["decode_fps"]["mean"] <= 1600
    assert stages["denoise_first_s"]["mean"] >= 0.01
    assert "denoise alone" in "\n".join(page(outcome.result))
    assert bench(tmp_path, "Staged", runs=1, stages=False).result["stages"] is None


def test_the_steady_rate_of_stages_leaves_the_first_five_blocks_out() -> None:
    ends = [(100.0 + n, 12) for n in range(5)] + [(104.0 + 0.5 * n, 12) for n in range(1, 4)]
    assert steady_rate(ends) == pytest.approx(24.0)
    assert steady_rate(ends[:5]) is None


def test_sessions_at_a_rate_are_served_and_counted(tmp_path: Path) -> None:
    asked = LoadSpec(rate=4.0, arrivals="fixed", seconds=1.0, buffer_s=0.5)
    load = bench(tmp_path, "Paced", runs=1, load=asked).result["load"]
    assert (load["sessions"], load["sustained"], load["failed"]) == (4, 4, 0) and load["most_at_once"] >= 2
    assert load["first_frame_p50_s"] >= 0.02


def test_means_have_intervals_from_two_runs_on() -> None:
    (single,) = means([{"throughput_fps": 3.0}]).values()
    assert single == {"mean": 3.0, "low": None, "high": None, "n": 1}
    (several,) = means([{"throughput_fps": 1.0}, {"throughput_fps": 3.0}]).values()
    assert several["mean"] == 2.0 and several["low"] == 0.0 and several["high"] > 3.0
    (share,) = means([{"late_share": 0.6}, {"late_share": 1.0}]).values()
    assert share["high"] == 1.0 and share["low"] == 0.0
    assert table(means([{"throughput_fps": 3.0}])) == ["throughput  3.00 FPS"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"runs": 0}, "--runs 0: it must be at least 1"),
        ({"timeout_s": 0.0}, "--generator-timeout 0"),
        ({"drive": Drive(seconds=0.0)}, "--seconds 0"),
        ({"drive": Drive(seconds=float("nan"))}, "--seconds nan"),
        ({"load": LoadSpec(seconds=0.0)}, "--load-seconds 0"),
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_starts(
    tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(SpecError, match=words):
        bench(tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()
