"""Material that travels arrives as it left."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from lt_eval.distill.material import make_material, rounded
from lt_eval.distill.talkers import TalkerOptions
from lt_eval.generator.codec import create_codec
from tests.distill.nano import CONFIG
from tests.scripts import script


@pytest.fixture(scope="module")
def travel() -> ModuleType:
    return script("distill", "travel")


@pytest.mark.parametrize("scale", [0.0, 1.0, 300.0])
def test_numbers_on_the_grid_come_back(travel: ModuleType, scale: float) -> None:
    values = rounded(np.random.default_rng(0).standard_normal((3, 4, 7)).astype(np.float32) * scale).astype(np.float16)
    again = travel.unpacked(travel.packed(values), values.shape)
    on_grid = np.round(values.astype(np.float32) * 32) / 32  # above 64, float16 itself is coarser
    np.testing.assert_array_equal(again, on_grid.astype(np.float16))


def test_a_folder_of_material_is_found_where_it_was_taken(
    travel: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = TalkerOptions(first_seed=5, people=2, held_out=1, windows=1, frames=9, size=64)
    codec = create_codec(CONFIG.codec).requires_grad_(False)
    made = make_material(people, CONFIG, codec, "x", tmp_path / "here")
    (home,) = (tmp_path / "here").iterdir()
    monkeypatch.setattr(travel, "ProcessPoolExecutor", _Here)
    travel.pack(home, tmp_path / "packed")
    travel.unpack(tmp_path / "packed", tmp_path / "there")
    told: list[int] = []
    found = make_material(
        people, CONFIG, codec, "x", tmp_path / "there" / "distill", lambda done, total: told.append(done)
    )
    assert told == [] and found.prompts == made.prompts
    assert np.array_equal(found.latents, made.latents) and np.array_equal(found.audio, made.audio)


class _Here:
    """A crew of this process: a module loaded from a file is not known to others."""

    def __init__(self, workers: int | None) -> None:
        self.map = map

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass
