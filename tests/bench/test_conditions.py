"""Random conditions are seeded; resources are read where they can be, and None elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lt_eval.bench.conditions import Kind, draw_conditions
from lt_eval.bench.resources import EnergyMeter, peak_memory


@pytest.mark.parametrize("kind", ["talker", "noise"])
@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_conditions_are_what_was_asked_for_and_depend_on_the_seed_alone(kind: Kind, rate: int) -> None:
    given = draw_conditions(3, 1.5, 48, rate, kind)
    again, other = draw_conditions(3, 1.5, 48, rate, kind), draw_conditions(4, 1.5, 48, rate, kind)
    assert given.portrait.shape == (48, 48, 3) and given.portrait.dtype == np.uint8
    assert given.audio.shape == (round(1.5 * rate),) and given.audio.dtype == np.float32
    assert np.abs(given.audio).max() <= 1 and np.abs(given.audio).max() > 0.01
    assert np.array_equal(given.portrait, again.portrait) and np.array_equal(given.audio, again.audio)
    assert not np.array_equal(given.portrait, other.portrait) and not np.array_equal(given.audio, other.audio)
    assert (given.prompt == "") == (kind == "noise")


def package(root: Path, name: str, spent: int) -> Path:
    folder = root / name
    folder.mkdir(exist_ok=True)
    (folder / "energy_uj").write_text(f"{spent}\n")
    (folder / "max_energy_range_uj").write_text("1000000000\n")
    return folder


def test_energy_is_the_difference_of_all_packages_and_not_of_their_parts(tmp_path: Path) -> None:
    package(tmp_path, "intel-rapl:0", 1_000_000)
    package(tmp_path, "intel-rapl:1", 500_000)
    package(tmp_path, "intel-rapl:0:0", 7)
    meter = EnergyMeter(tmp_path)
    package(tmp_path, "intel-rapl:0", 4_000_000)
    package(tmp_path, "intel-rapl:1", 1_000_000)
    package(tmp_path, "intel-rapl:0:0", 900_000_000)
    assert meter.joules()["cpu_j"] == pytest.approx(3.5)


def test_a_counter_that_began_again_is_still_right(tmp_path: Path) -> None:
    package(tmp_path, "intel-rapl:0", 999_000_000)
    meter = EnergyMeter(tmp_path)
    package(tmp_path, "intel-rapl:0", 2_000_000)
    assert meter.joules()["cpu_j"] == pytest.approx(3.0)


def test_energy_that_cannot_be_read_is_none_and_no_zero(tmp_path: Path) -> None:
    assert EnergyMeter(tmp_path).joules()["cpu_j"] is None
    package(tmp_path, "intel-rapl:0", 1)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("not a number")
    assert EnergyMeter(tmp_path).joules()["cpu_j"] is None


def test_peak_memory_grows_by_what_is_held() -> None:
    before = peak_memory()["host_mib"]
    held = np.ones(64 * 2**20, np.uint8)
    after = peak_memory()["host_mib"]
    assert before is not None and after is not None and after >= before and after > held.nbytes / 2**20
