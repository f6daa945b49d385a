"""The reference generator in the bench: what it says of itself, and its halves."""

from __future__ import annotations

from pathlib import Path

import pytest

from lt_eval.bench.run import BenchSpec, run
from lt_eval.bench.work import Drive
from lt_eval.generator.reference import ReferenceGenerator
from lt_eval.interfaces import HasBlocks, HasDescription, HasStages
from lt_eval.testing import toy_portrait, toy_speech

NANO = ReferenceGenerator(preset="nano", device="cpu")


def test_it_offers_its_blocks_its_halves_and_what_decides_its_speed() -> None:
    assert isinstance(NANO, HasBlocks) and isinstance(NANO, HasDescription) and isinstance(NANO, HasStages)
    assert NANO.block_frames == (9, 12)
    assert NANO.description["steps"] == 4 and NANO.description["dtype"] == "float32"
    assert "3 sink + 2 rolling" in NANO.description["window"]


@pytest.mark.parametrize("half", ["denoise_only", "decode_only"])
@pytest.mark.parametrize("seconds", [0.2, 0.36, 1.0])
def test_each_half_makes_the_blocks_of_the_turn(half: str, seconds: float) -> None:
    """As many frames as the turn shows, filled up to whole blocks."""
    counts = list(getattr(NANO, half)(toy_portrait(64), toy_speech(seconds), seed=1))
    shown = round(seconds * 25)
    assert counts == [9, 12, 12, 12][: len(counts)] and sum(counts[:-1]) < shown <= sum(counts)


def test_a_bench_of_it_has_all_figures(tmp_path: Path) -> None:
    drive = Drive(seconds=3.2, size=64, kind="noise")
    spec = BenchSpec("reference", {"preset": "nano"}, drive, runs=1, warmups=1, device="cpu", timeout_s=120.0)
    result = run(spec, tmp_path, progress=lambda *_: None, say=lambda _: None).result
    assert result["failed"] == 0 and result["resolution"] == [64, 64] and result["block_frames"] == [9, 12]
    assert result["warm_up_blocks"] == 6 and result["warm_up_enough"]
    assert result["figures"]["steady_fps"]["mean"] > 0
    stages = result["stages"]
    assert stages["denoise_fps"]["mean"] > 0 and stages["decode_fps"]["mean"] > 0
    assert result["settings"]["device"] == "cpu" and result["settings"]["weights"] == "random"
