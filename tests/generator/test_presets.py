"""Named generators, and the sentences that meet a wrong option."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lt_eval.errors import SpecError
from lt_eval.generator.codec_config import TinyCodecConfig
from lt_eval.generator.config import ModelConfig, StreamConfig
from lt_eval.generator.presets import LIVETALK_1_3B, MINI, PRESETS, TEACHER_14B, configure, read_config


def test_the_papers_shape() -> None:
    model, stream = LIVETALK_1_3B.model, LIVETALK_1_3B.stream
    assert (model.dim, model.layers, model.heads, model.head_dim, model.ffn_dim) == (1536, 30, 12, 128, 8960)
    assert (model.in_channels, model.audio_dim, len(model.audio_layers)) == (33, 43008, 14)
    assert (TEACHER_14B.model.layers // 2 - 1, LIVETALK_1_3B.latent_side) == (len(TEACHER_14B.model.audio_layers), 64)
    assert (stream.window_blocks, stream.ring_blocks, stream.steady_block) == (5, 2, 5)


def test_mini_is_48_tokens_a_block() -> None:
    assert MINI.stream.block_frames * (MINI.latent_side // 2) ** 2 == 48


def test_changes_are_laid_over_a_preset() -> None:
    made = configure("livetalk", {"size": 256, "fps": 25, "stream": {"rope": "relative"}, "codec": {"kind": "tiny"}})
    assert (made.size, made.fps, made.stream.rope) == (256, 25.0, "relative")
    assert isinstance(made.codec, TinyCodecConfig)
    assert made.model == LIVETALK_1_3B.model
    assert configure("mini", {"codec": {"kind": "mini", "shift": 4}}).codec.shift == 4  # type: ignore[union-attr]
    assert configure("mini", {"model": {"audio_layers": [0, 5]}}).model.audio_layers == (0, 5)
    assert configure("livetalk", {"stream": {"timestep_rounding": "none"}}).stream.timestep_rounding is None
    assert all(configure(name) == PRESETS[name] for name in PRESETS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sise": 256}, "no field 'sise'. Did you mean 'size'"),
        ({"stream": {"step": 4}}, "stream has no field 'step'. Did you mean 'steps'"),
        ({"stream": {"steps": "four"}}, "stream.steps is 'four'; it must be a value of type int"),
        ({"stream": {"anchor_first_latent": "yes"}}, "anchor_first_latent is 'yes'; it must be true or false."),
        ({"stream": 4}, "stream is 4; it must be a table of fields. Set one of them: stream."),
        ({"stream": {"rope": "sideways"}}, "rope is 'sideways'; it must be absolute or relative"),
        ({"stream": {"rolling_blocks": 0}}, "rolling_blocks is 0; it must be at least 1"),
        ({"stream": {"context_noise": 1001}}, "context_noise is 1001"),
        ({"stream": {"shift": 0}}, "shift is 0; it must be above 0"),
        ({"size": 250}, "size is 250; it must be a multiple of 64"),
        ({"fps": 0}, "fps is 0"),
        ({"model": {"heads": 3}}, "dim 256 over 3 heads"),
        ({"model": {"audio_layers": [6]}}, "must be among the layers 0 to 5"),
        ({"model": {"patch": [2, 2, 2]}}, "it must span 1"),
        ({"model": {"freq_dim": 7}}, "freq_dim is 7"),
        ({"model": {"latent_channels": 8}}, "model.latent_channels is 8 and codec.latent_channels 96"),
        ({"audio": {"rows": 4}}, "model.audio_features is 256 and the audio has 128"),
        ({"codec": {"kind": "vae"}}, "No codec is called 'vae'"),
    ],
)
def test_a_wrong_option_is_named_with_its_rule(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        configure("mini", changes)
    assert message in str(caught.value)


def test_a_file_describes_a_generator(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('preset = "nano"\n[stream]\nsteps = 2\n')
    assert read_config(tmp_path / "mine.toml").stream.steps == 2
    (tmp_path / "bad.toml").write_text('preset = "minni"\n')
    with pytest.raises(SpecError, match="Did you mean 'mini'"):
        read_config(tmp_path / "bad.toml")


def test_no_rolling_block_is_needed_beside_the_current_one() -> None:
    assert StreamConfig(rolling_blocks=0, window_includes_current=False).window_blocks == 4


def test_a_model_without_audio_needs_no_layers_for_it() -> None:
    silent = ModelConfig(32, 2, 2, 64, 4, 16, 4, 16, 32, 0, ())
    assert silent.audio_dim == 128


def test_configurations_need_no_torch() -> None:
    code = "import sys, lt_eval.generator.presets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


PAGE = Path(__file__).resolve().parents[2] / "docs" / "generator_model.md"


def test_every_field_of_the_window_is_documented() -> None:
    named = set(re.findall(r"`([a-z_]+)`", PAGE.read_text()))
    assert {field.name for field in dataclasses.fields(StreamConfig)} <= named
    assert set(PRESETS) <= named


def test_the_example_of_the_page_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.S)
    made: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), made)
    assert made["latents"].isfinite().all() and made["cache"].block == 8
