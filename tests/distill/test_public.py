"""A recipe of published parts: teacher and start in the public layout, Wan's codec, an encoder of prompts, recordings.

All of it at a size that trains in seconds, in files laid out as those of the large models, on seeded weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lt_eval.distill.conditions import collection, write_picture
from lt_eval.distill.material import audio_of
from lt_eval.distill.placing import start_of, teacher_of
from lt_eval.distill.public import KnownText, Public, Weights, teacher_config
from lt_eval.distill.ranks import Ranks
from lt_eval.distill.recipe import BASES, Recipe, build, check_shares, facts, read_recipe
from lt_eval.distill.stages import STAGES, Workshop, run_stage
from lt_eval.errors import DatasetError, SpecError, StoreError, WeightsError
from lt_eval.generator.checkpoint import from_public, to_public
from lt_eval.generator.codec import create_codec
from lt_eval.generator.codec_files import save_codec
from lt_eval.generator.model import Transformer
from lt_eval.generator.networks import Sources, load_parts
from lt_eval.generator.wav2vec2_weights import seeded_wav2vec2
from lt_eval.generator.wav2vec2_weights import to_public as audio_to_public
from lt_eval.media.waves import wav_bytes
from lt_eval.spec import merge
from lt_eval.synthetic.talker import perform
from tests.generator import nano

AUDIO = {
    **{"kind": "wav2vec2", "hidden": 32, "layers": 2, "heads": 2, "ffn": 48},
    **{"conv_dim": 16, "position_kernel": 8, "position_groups": 4},
}

TABLES: dict[str, Any] = {
    "preset": "nano",
    "name": "public",
    "audio_weight": 0.0,
    "held_out_seconds": 2.2,
    "held_out_people": 1,
    "generator": {
        "model": {"prompt_table": 0, "audio_features": 128},
        "codec": {"kind": "wan", "dim": 4, "blocks": 1},
        "audio": AUDIO,
    },
    "material": {"people": 2, "held_out": 1, "windows": 1, "frames": 9, "size": 64},
    "pairs": {"trajectory_steps": 4, "batch": 4},
    "conditions": {
        "pairs": 4,
        "curated": False,
        "people": {"size": 64},
        "bounds": {"sharpness_min": 0.1, "noise_max": 99.0, "contrast_min": 0.001, "brightness_min": 0.0},
    },
    "codec": {"crop": 32, "people": {"size": 64}},
    "ode": {"batch": 2, "held_out": 1, "bf16": False, "loop": {"steps": 2, "evaluate_every": 2}},
    "dmd": {"batch": 2, "bf16": False, "critic_warmup": 0, "ratio": 1, "loop": {"steps": 2, "evaluate_every": 2}},
    "teacher": {"bf16": False},
    "public": {"teacher_model": {"dim": 48, "layers": 3, "audio_layers": [1, 2]}},
}


def public_state(recipe: Recipe, seed: int, *, teacher: bool) -> dict[str, Tensor]:
    config = teacher_config(recipe.config(), recipe.public) if teacher else recipe.config()
    return to_public(nano.model(config.model, seed).state_dict())


def small_update(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a low-rank update of one matrix, and a replacement of one vector."""
    out, into = state["blocks.0.ffn.0.weight"].shape
    name = "blocks.0.ffn.0.lora_"
    return {f"{name}A.weight": torch.ones(2, into), f"{name}B.weight": torch.full((out, 2), 0.01)}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """The recipe with all its files: a base of two shards, its update, a training checkpoint, a codec, recordings."""
    folder = tmp_path_factory.mktemp("published")
    plain = build(merge(TABLES, {"public": {"start": {"files": ["later"]}}}))
    base = public_state(plain, 1, teacher=True)
    names = sorted(base)
    (folder / "base").mkdir()
    save_file({name: base[name].contiguous() for name in names[::2]}, folder / "base" / "a-00001-of-2.safetensors")
    save_file({name: base[name].contiguous() for name in names[1::2]}, folder / "base" / "a-00002-of-2.safetensors")
    torch.save(small_update(base), folder / "update.pt")
    torch.save({"generator_ema": public_state(plain, 2, teacher=False)}, folder / "start.pt")
    save_codec(create_codec(plain.config().codec, 3), folder / "vae.pth")
    torch.save(audio_to_public(seeded_wav2vec2(plain.config().audio, 4)), folder / "pytorch_model.bin")
    (folder / "text_encoder").mkdir()
    (folder / "text_encoder" / "config.json").write_text("{}")
    for person in range(5):
        show = perform(900 + person, 1.0, 64, 25.0)
        write_picture(folder / "people" / f"p{person}.png", show.draw(0))
        (folder / "people" / f"p{person}.wav").write_bytes(wav_bytes(show.audio))
        (folder / "people" / f"p{person}.txt").write_text(f"Person {person}\nspeaks.\n")
    return build(
        merge(
            TABLES,
            {
                "codec_weights": str(folder / "vae.pth"),
                "conditions": {"folder": str(folder / "people")},
                "public": {
                    "teacher": {"files": [str(folder / "base"), str(folder / "update.pt")], "lora_alpha": 4.0},
                    "start": {"files": [str(folder / "start.pt")]},
                    "text_encoder": str(folder / "text_encoder"),
                    "audio": str(folder / "pytorch_model.bin"),
                },
            },
        )
    )


class Encoder:
    """Stands for umt5-xxl: tokens that depend on the prompt; notes what it was asked."""

    asked: list[str]

    def __init__(self, folder: Path, *, tokens: int, device: str) -> None:
        self.tokens = tokens

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        type(self).asked += prompts
        seeds = [torch.Generator().manual_seed(len(prompt)) for prompt in prompts]
        return torch.stack([torch.randn(self.tokens, 16, generator=seed) for seed in seeds]).bfloat16()


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[Encoder]:
    monkeypatch.setenv("LT_EVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("lt_eval.distill.public.Umt5", Encoder)
    Encoder.asked = []
    return Encoder


def test_a_recipe_of_published_parts_comes_to_a_student(recipe: Recipe, encoder: type[Encoder], tmp_path: Path) -> None:
    shop = Workshop(recipe, tmp_path / "out", lambda *_: None)
    said = [run_stage(stage, shop) for stage in ("curate", "codec", "teacher", "ode-pairs", "ode-init", "dmd")]
    assert "of 5 conditions passed" in said[0] and "vae.pth" in said[1] and "update.pt" in said[2]
    assert not (shop.out / "teacher").exists()  # what lies elsewhere is not copied
    assert len(encoder.asked) == len(set(encoder.asked))  # each prompt once, over all stages
    assert {"", "Person 0 speaks.", "Person 4 speaks."} <= set(encoder.asked)
    bundle = shop.out / "public.safetensors"
    assert load_parts(recipe.config(), Sources(transformer=bundle)).transformer.config.layers == 2
    before = bundle.read_bytes()
    run_stage("dmd", shop)
    assert bundle.read_bytes() == before and len(encoder.asked) == len(set(encoder.asked))


def test_teacher_and_start_are_the_files(recipe: Recipe, encoder: type[Encoder], tmp_path: Path) -> None:
    shop = Workshop(recipe, tmp_path / "out", lambda *_: None)
    base, start = public_state(recipe, 1, teacher=True), public_state(recipe, 2, teacher=False)
    base["blocks.0.ffn.0.weight"] = base["blocks.0.ffn.0.weight"] + 4.0 / 2 * 2 * 0.01
    teacher, student = teacher_of(shop, bf16=False), start_of(shop, bf16=False)
    for model, state in ((teacher, base), (student, start)):
        own = from_public(state, model.config.model)
        for name, value in model.transformer.state_dict().items():
            torch.testing.assert_close(value, own[name])
    assert (teacher.config.model.layers, student.config.model.layers) == (3, 2)
    tokens = teacher.read(["Person 0 speaks.", ""])
    assert tokens.shape == (2, 4, 16) and not torch.equal(tokens[0], tokens[1])


def test_another_teacher_or_start_in_the_same_place_is_not_continued(
    recipe: Recipe, encoder: type[Encoder], tmp_path: Path
) -> None:
    copy = tmp_path / "start.pt"
    copy.write_bytes(Path(recipe.public.start.files[0]).read_bytes())
    mine = replace(recipe, public=replace(recipe.public, start=Weights((str(copy),))))
    shop = Workshop(mine, tmp_path / "out", lambda *_: None)
    for stage in ("curate", "codec", "ode-pairs", "ode-init"):
        run_stage(stage, shop)
    torch.save({"generator_ema": public_state(recipe, 9, teacher=False)}, copy)
    with pytest.raises(StoreError, match="came from other weights"):
        run_stage("ode-init", shop)


def test_weights_of_another_shape_are_named_before_anything_is_made(recipe: Recipe, tmp_path: Path) -> None:
    wrong = replace(recipe, public=replace(recipe.public, teacher=recipe.public.start))
    with pytest.raises(WeightsError, match="not laid out as this model"):
        run_stage("teacher", Workshop(wrong, tmp_path / "out", lambda *_: None))


def test_features_are_those_of_the_audio_networks_weights(recipe: Recipe) -> None:
    sound = perform(1, 0.5, 16).audio
    seeded, given = (audio_of(recipe.config(), sound, 3, path) for path in (None, recipe.public.audio_path))
    assert seeded.shape == given.shape == (3, 512) and not torch.allclose(seeded, given)


# Recordings ----------------------------------------------------------------------------------------------------------


def test_a_folder_of_recordings_is_a_collection(recipe: Recipe) -> None:
    people = collection(Path(recipe.conditions.folder))
    assert [person.id for person in people] == [f"p{number}" for number in range(5)]
    assert people[2].prompt == "Person 2 speaks." and people[2].speech is not None and people[2].seed is None


def test_a_portrait_without_speech_and_a_folder_without_portraits_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no conditions"):
        collection(tmp_path)
    write_picture(tmp_path / "ann.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DatasetError, match=r"ann\.png has no speech beside it"):
        collection(tmp_path)


# What does not go together -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("public", "why"),
    [
        ({"teacher_preset": "teachr"}, "Did you mean 'teacher'"),
        ({"teacher_model": {"layer": 3}}, "no field 'layer'"),
        ({"teacher_model": {"text_tokens": 7}, "start": {"files": ["a"]}}, "text_tokens is 4 and the teacher's 7"),
        ({"teacher_model": {"layers": 3}}, "another shape than the student"),
        ({"start": {"files": ["a"]}}, "prompt table of 64 rows"),
        ({"start": {"file": ["a"]}}, "Did you mean 'files'"),
    ],
)
def test_what_does_not_go_together_is_refused(public: Mapping[str, Any], why: str) -> None:
    tables = {"preset": "nano", "material": {"size": 64}, "conditions": {"people": {"size": 64}}}
    with pytest.raises(SpecError, match=why):
        build(merge(tables | {"codec": {"crop": 32, "people": {"size": 64}}}, {"public": public}))


def test_a_model_without_a_prompt_table_asks_for_an_encoder(recipe: Recipe, tmp_path: Path) -> None:
    without = replace(recipe, public=replace(recipe.public, text_encoder="nowhere"))
    with pytest.raises(SpecError, match=r"public\.text_encoder is 'nowhere'"):
        start_of(Workshop(without, tmp_path / "out", lambda *_: None), bf16=False)


def test_earlier_folders_still_know_their_recipe() -> None:
    """Keys that came later are in no hash where they say nothing."""
    found = facts(BASES["mini"])
    assert "public" not in found and "folder" not in found["conditions"]
    assert facts(replace(BASES["mini"], public=Public(audio="a")))["public"]["audio"] == "a"


def test_the_papers_shapes_go_together() -> None:
    """14 billion parameters of teacher for 1.3 of student: shapes alone, nothing is allocated."""
    recipe = read_recipe(Path(__file__).parents[2] / "benchmarks" / "distill" / "published" / "livetalk.toml")
    check_shares(recipe, STAGES, Ranks(0, 64))
    config = teacher_config(recipe.config(), recipe.public)
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in Transformer(each.model).parameters()) for each in (config, recipe.config())]
    assert sizes[0] > 14e9 and 1.3e9 < sizes[1] < 1.5e9
    assert config.stream == recipe.config().stream


def test_one_batch_may_bring_what_pushes_its_own_prompts_out(encoder: type[Encoder], tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    known = KnownText(tmp_path / "text", 4, "cpu")
    known.most = 2
    first, second = known(["a"]), known(["bb"])
    assert torch.equal(known(["a", "ccc", "bb"])[[0, 2]], torch.cat([first, second]))
    known(["ccc"])
    known(["bb"])
    known(["dddd"])  # what was asked for last stays
    assert list(known._held) == ["bb", "dddd"]


def test_memory_holds_the_latest_prompts_alone(encoder: type[Encoder], tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    known = KnownText(tmp_path / "text", 4, "cpu")
    known.most = 2
    first = known(["a"])
    known(["bb", "ccc"])
    assert len(known._held) == 2 and torch.equal(known(["a"]), first) and encoder.asked == ["a", "bb", "ccc"]
