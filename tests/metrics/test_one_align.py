"""The network of Q-Align and the loading of its checkpoints; `tests/full` compares both with pyiqa."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lt_eval.errors import WeightsError
from lt_eval.metrics.nets.inference import exact_inference
from lt_eval.metrics.nets.mplug_owl2 import MplugOwl2
from lt_eval.metrics.nets.mplug_owl2_config import OwlConfig, owl_config
from lt_eval.metrics.nets.one_align import OneAlign, load_one_align
from lt_eval.metrics.qalign_inputs import CLIP_MEAN, CLIP_STD, read_json
from tests.metrics.one_align import one_align_script, pictures

PYIQA = [[3.92776918, 3.50085235], [1.95295513, 3.26045179], [3.88874626, 3.27318883]]
"""Quality and aesthetics by pyiqa 0.1.16 of the first pictures, same checkpoint, float32, Pillow preprocessing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = one_align_script().write_checkpoint(tmp_path_factory.mktemp("one_align") / "tiny", image_size=56)
    return path


@pytest.fixture(scope="module")
def tiny(folder: Path) -> OneAlign:
    return load_one_align(folder, "cpu", "float32")


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    config = owl_config(read_json(folder / "config.json"), folder)
    state: dict[str, torch.Tensor] = one_align_script().weights_of(config)
    return state


def with_weights(folder: Path, target: Path, state: dict[str, torch.Tensor], **form: Any) -> Path:
    """Return a folder like another, with other weights."""
    target.mkdir()
    for source in folder.iterdir():
        if source.suffix != ".safetensors":
            (target / source.name).symlink_to(source)
    one_align_script().write_weights(state, target, **form)
    return target


def test_the_layout_is_that_of_the_published_checkpoint() -> None:
    """Number of values and names against the sizes that the model hub states: 9.99 + 6.42 GB, an index of 87.8 kB."""
    with torch.device("meta"):
        state = MplugOwl2(OwlConfig()).state_dict()
    assert len(state) == 862
    assert round(2 * sum(value.numel() for value in state.values()) / 1e9, 2) == 9.99 + 6.42
    derived = [f"model.layers.{layer}.self_attn.rotary_emb.inv_freq" for layer in range(32)]
    places = dict.fromkeys((*state, *derived), "pytorch_model-00001-of-00002.bin")
    index = {"metadata": {"total_size": 16_409_100_288}, "weight_map": places}
    assert round(len(json.dumps(index, indent=2)) / 1e3, 1) == 87.8


def test_names_of_the_parts() -> None:
    with torch.device("meta"):
        state = MplugOwl2(OwlConfig()).state_dict()
    expected = {
        "lm_head.weight": (32000, 4096),
        "model.layers.31.self_attn.k_proj.multiway.1.weight": (4096, 4096),
        "model.layers.0.input_layernorm.multiway.0.weight": (4096,),
        "model.layers.0.mlp.down_proj.weight": (4096, 11008),
        "model.vision_model.embeddings.position_embedding": (1, 1025, 1024),
        "model.vision_model.encoder.layers.23.self_attn.query_key_value.weight": (3072, 1024),
        "model.visual_abstractor.encoder.layers.5.crossattention.attention.k_pos_embed": (1025, 1024),
        "model.visual_abstractor.encoder.layers.0.crossattention.output.mlp.ffn_ln.weight": (2816,),
        "model.visual_abstractor.query_embeds": (1, 64, 1024),
        "model.visual_abstractor.vit_eos": (1, 1, 4096),
    }
    assert {key: tuple(state[key].shape) for key in expected} == expected


def test_pixels_are_normalised_as_clip_s(tiny: OneAlign) -> None:
    for level in (0, 128, 255):
        pixels = tiny.pixels([np.full((56, 56, 3), level, np.uint8)])
        expected = (level / 255 - np.array(CLIP_MEAN)) / CLIP_STD
        assert pixels.shape == (1, 3, 56, 56)
        assert np.abs(pixels[0, :, 3, 5].numpy() - expected).max() < 1e-6


def test_scores_are_pyiqa_s(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = []
    for index, (width, height) in enumerate([(640, 480), (300, 500), (256, 256)]):
        y, x = np.mgrid[:height, :width]
        pace = rng.uniform(0.01, 0.2, 6)
        waves = [np.sin(pace[c] * x + pace[c + 3] * y + c) * 90 + 120 for c in range(3)]
        grain = [rng.normal(0, (0, 5, 40)[index % 3], (height, width)) for _ in range(3)]
        frames.append(np.stack([a + b for a, b in zip(waves, grain, strict=True)], -1).clip(0, 255).astype(np.uint8))
    tiny = load_one_align(one_align_script().write_checkpoint(tmp_path / "t", image_size=56), "cpu", "float32")
    assert np.abs(tiny.scores(frames) - PYIQA).max() <= 1e-4


def test_scores_lie_between_the_levels_and_differ_between_pictures_and_prompts(tiny: OneAlign) -> None:
    scores = tiny.scores(pictures())
    assert scores.shape == (7, 2) and scores.dtype == np.float32
    assert scores.min() >= 1 and scores.max() <= 5
    assert np.ptp(scores, axis=0).min() > 0.3
    assert np.abs(scores[:, 0] - scores[:, 1]).max() > 0.1


def test_a_picture_s_score_does_not_depend_on_its_batch(tiny: OneAlign) -> None:
    whole = tiny.scores(pictures())
    single = np.concatenate([tiny.scores([picture]) for picture in pictures()])
    reverse = tiny.scores(pictures()[::-1])[::-1]
    assert np.abs(whole - single).max() <= 1e-5
    assert np.abs(whole - reverse).max() <= 1e-5


def test_text_before_is_not_changed_by_what_follows(tiny: OneAlign) -> None:
    before = tiny.wording.prompts[1].before
    with exact_inference():
        whole, part = tiny.network.prefix(before), tiny.network.prefix(before[:5])
    for full, begun in zip(whole, part, strict=True):
        assert (full.keys[:, :, :5] - begun.keys).abs().max() <= 1e-5
        assert (full.values[:, :, :5] - begun.values).abs().max() <= 1e-5


def test_every_token_of_prompt_and_picture_counts(tiny: OneAlign) -> None:
    prompt, rows = tiny.wording.prompts[0], tiny.wording.levels
    with exact_inference():
        tokens = tiny.network.picture_tokens(tiny.pixels(pictures()[:1]))
        usual = tiny.network.logits(tiny.prefixes[0], tokens, prompt.after, rows)
        for place in range(tokens.shape[1]):
            changed = tokens.clone()
            changed[:, place] += 1.0
            assert (tiny.network.logits(tiny.prefixes[0], changed, prompt.after, rows) - usual).abs().max() > 1e-4
        for place in range(len(prompt.before)):
            other = [*prompt.before[:place], 100, *prompt.before[place + 1 :]]
            prefix = tiny.network.prefix(other)
            assert (tiny.network.logits(prefix, tokens, prompt.after, rows) - usual).abs().max() > 1e-5


def test_rows_of_the_head_are_those_asked_for(tiny: OneAlign) -> None:
    prompt = tiny.wording.prompts[0]
    with exact_inference():
        tokens = tiny.network.picture_tokens(tiny.pixels(pictures()[:2]))
        some = tiny.network.logits(tiny.prefixes[0], tokens, prompt.after, (7, 3))
        every = tiny.network.logits(tiny.prefixes[0], tokens, prompt.after, range(tiny.network.config.vocab_size))
    assert (some - every[:, [7, 3]]).abs().max() <= 1e-5


@pytest.mark.parametrize("form", [{"shards": 3}, {"form": "bin"}, {"form": "bin", "shards": 2}])
def test_all_ways_of_writing_weights_give_the_same(
    folder: Path, tiny: OneAlign, tmp_path: Path, form: dict[str, Any]
) -> None:
    other = load_one_align(with_weights(folder, tmp_path / "other", state_of(folder), **form), "cpu", "float32")
    assert np.array_equal(other.scores(pictures()[:3]), tiny.scores(pictures()[:3]))


def test_what_older_files_store_beside_is_ignored(folder: Path, tiny: OneAlign, tmp_path: Path) -> None:
    state = state_of(folder) | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    other = load_one_align(with_weights(folder, tmp_path / "older", state), "cpu", "float32")
    assert np.array_equal(other.scores(pictures()[:1]), tiny.scores(pictures()[:1]))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_precision_is_the_one_asked_for(folder: Path, tiny: OneAlign, dtype: str) -> None:
    other = load_one_align(folder, "cpu", dtype)
    assert {value.dtype for value in other.network.state_dict().values()} == {getattr(torch, dtype)}
    difference = np.abs(other.scores(pictures()) - tiny.scores(pictures()))
    assert 0 < difference.max() < 1.0


def test_the_network_does_not_depend_on_the_files_once_loaded(folder: Path, tmp_path: Path) -> None:
    copy = with_weights(folder, tmp_path / "copy", state_of(folder))
    loaded = load_one_align(copy, "cpu", "float32")
    before = loaded.scores(pictures()[:1])
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(100_000)
        file.write(bytes(200_000))
    assert np.array_equal(loaded.scores(pictures()[:1]), before)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda state: state.pop("model.norm.weight"), r"1 missing: model\.norm\.weight"),
        (lambda state: state.update(extra=torch.ones(1)), "1 unexpected: extra"),
        (
            lambda state: state.update({"model.norm.weight": torch.ones(3)}),
            r"1 wrong shape: model\.norm\.weight \(3,\)",
        ),
    ],
)
def test_other_layouts_are_refused(folder: Path, tmp_path: Path, change: Any, finding: str) -> None:
    state = state_of(folder)
    change(state)
    with pytest.raises(WeightsError, match=finding):
        load_one_align(with_weights(folder, tmp_path / "changed", state), "cpu", "float32")


def test_missing_and_damaged_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    sharded = with_weights(folder, tmp_path / "sharded", state_of(folder), shards=3)
    (sharded / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"lacks model-00002-of-00003\.safetensors"):
        load_one_align(sharded, "cpu", "float32")
    (sharded / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(WeightsError, match="is no index of weights"):
        load_one_align(sharded, "cpu", "float32")
    (sharded / "model.safetensors.index.json").unlink()
    with pytest.raises(WeightsError, match=r"holds no weights: none of model\.safetensors"):
        load_one_align(sharded, "cpu", "float32")
    for name in ("model.safetensors", "pytorch_model.bin"):
        (sharded / name).write_bytes(b"no weights at all")
        with pytest.raises(WeightsError, match="cannot be read as weights"):
            load_one_align(sharded, "cpu", "float32")
        (sharded / name).unlink()


class Harmful:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path("harm"),)  # type: ignore[return-value]


def test_nothing_in_a_pickle_is_executed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    changed = with_weights(folder, tmp_path / "harmful", state_of(folder), form="bin")
    torch.save({"model.norm.weight": Harmful()}, changed / "pytorch_model.bin", pickle_module=pickle)
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load_one_align(changed, "cpu", "float32")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"model_type": "llama"}, "describes a 'llama'"),
        ({"hidden_act": "gelu"}, "states hidden_act = 'gelu'"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "states rope_scaling"),
        ({"num_key_value_heads": 2}, "states num_key_value_heads = 2"),
        ({"visual_config": {"visual_model": {"image_size": 224}}}, "grid_size is 32; pictures have 16"),
    ],
)
def test_configurations_of_other_networks_are_refused(change: dict[str, object], finding: str) -> None:
    stated = {"model_type": "mplug_owl2", "num_attention_heads": 32} | change
    with pytest.raises(WeightsError, match=finding):
        owl_config(stated, Path("config.json"))


def test_sizes_that_a_configuration_leaves_out_are_the_published_ones() -> None:
    assert owl_config({"model_type": "mplug_owl2"}, Path("config.json")) == OwlConfig()


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_missing_and_broken_small_files_are_named(folder: Path, tmp_path: Path, name: str) -> None:
    copy = with_weights(folder, tmp_path / "copy", {"x": torch.ones(1)})
    (copy / name).unlink()
    with pytest.raises(WeightsError, match=name):
        load_one_align(copy, "cpu", "float32")
    (copy / name).write_text("[]")
    with pytest.raises(WeightsError, match=f"{name} holds a JSON list"):
        load_one_align(copy, "cpu", "float32")
