"""Options, weights and fingerprint of the reference generator, and the example on its page."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lt_eval.errors import SpecError, WeightsError
from lt_eval.generator.networks import save_bundle, seeded_parts
from lt_eval.generator.reference import ReferenceGenerator
from lt_eval.registry import create
from tests.generator.test_reference import NANO, SPEECH, say


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "mine"}, "No generator is called 'mine'"),
        ({"codec": "vae"}, "No codec is called 'vae'"),
        ({"rope": "none"}, "rope"),
        ({"size": 100}, "size is 100; it must be a multiple of 64"),
        ({"preset": float("nan")}, "preset = nan: it must be a text"),
        ({"threads": 0}, "threads is 0"),
        ({"dtype": "float8"}, "dtype is 'float8'"),
        ({"steps": 0}, "steps is 0"),
        ({"look_ahead": -1}, "look_ahead_frames is -1"),
    ],
)
def test_options_are_checked_before_anything_is_loaded(options: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        create("generators", "reference", options)


def test_weights_that_are_not_there_are_named() -> None:
    with pytest.raises(WeightsError, match="no official weights"):
        ReferenceGenerator(weights="official")
    with pytest.raises(WeightsError, match=r"no weights at random1.*Did you mean 'random'"):
        ReferenceGenerator(preset="nano", weights="random1").networks()


def test_a_file_of_changes_comes_between_preset_and_options(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text('preset = "nano"\nfps = 20\n[stream]\nsteps = 2\nsink_blocks = 1\n')
    found = ReferenceGenerator(config=str(file), steps=3).settings
    assert (found.name, found.fps, found.stream.steps, found.stream.sink_blocks) == ("nano", 20.0, 3, 1)


def test_a_bundle_brings_everything_that_was_trained(tmp_path: Path) -> None:
    path = tmp_path / "trained.safetensors"
    save_bundle(seeded_parts(NANO.settings, 1), path, dtype=torch.float32, card={"recipe": "none"})
    bundled = replace(NANO, weights=str(path))
    assert np.array_equal(say(SPEECH, generator=bundled)[0], say(SPEECH, generator=replace(NANO, weights_seed=1))[0])
    assert not any("noise" in note for note in bundled.footnotes)
    with pytest.raises(WeightsError, match=r"trained.safetensors"):
        replace(bundled, preset="mini").networks()


def test_untrained_weights_are_called_noise() -> None:
    assert any("random, not trained" in note for note in replace(NANO, weights="random").footnotes)


def test_the_fingerprint_follows_options_and_weights(tmp_path: Path) -> None:
    files = []
    for seed in (1, 2):
        files.append(tmp_path / f"{seed}.safetensors")
        save_bundle(seeded_parts(NANO.settings, seed), files[-1])
    made = [NANO, replace(NANO, steps=2), replace(NANO, look_ahead=1), replace(NANO, threads=2)]
    made += [replace(NANO, weights=str(file)) for file in files]
    prints = [generator.fingerprint for generator in made]
    assert len(set(prints)) == len(prints)
    assert replace(NANO).fingerprint == NANO.fingerprint


def test_the_example_on_the_page_runs() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "generator.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    exec(example, {})
