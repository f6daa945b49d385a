"""`lt-eval distill` from nothing to a bundle that the reference generator plays, at nano size."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lt_eval.cli import main
from lt_eval.distill.recipe import BASES, Recipe, build
from lt_eval.distill.stages import Workshop, run_stage
from lt_eval.errors import SpecError, StoreError, WeightsError
from lt_eval.generator.reference import ReferenceGenerator
from lt_eval.synthetic.talker import perform

REPOSITORY = Path(__file__).parents[2]

RECIPE = """
preset = "nano"
name = "nano"
held_out_seconds = 2.6
held_out_people = 2
material = {people = 6, held_out = 2, windows = 1, frames = 33, size = 64}
pairs = {trajectory_steps = 4, batch = 4}
generator = {model = {prior_side = 4}}

[conditions]
pairs = 6
people = {people = 6, size = 64}
bounds = {sharpness_min = 0.5, noise_max = 50.0, contrast_min = 0.01, brightness_min = 0.01, brightness_max = 1.0}

[codec]
batch = 2
crop = 32
bf16 = false
people = {people = 6, held_out = 2, size = 64}
pieces = {pieces = 1, frames = 5}
loop = {steps = 6, evaluate_every = 3}

[teacher]
batch = 2
bf16 = false
loop = {steps = 4, evaluate_every = 2}

[ode]
batch = 2
held_out = 2
bf16 = false
loop = {steps = 4, evaluate_every = 2}

[dmd]
batch = 2
bf16 = false
critic_warmup = 1
ratio = 2
ema_from = 0
loop = {steps = 4, evaluate_every = 2}
"""


def lt_eval(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "LT_EVAL_CACHE": str(cwd / "cache")}
    command = [sys.executable, "-m", "lt_eval", *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distill")
    (folder / "nano.toml").write_text(RECIPE)
    done = lt_eval("distill", "all", "--recipe", "nano.toml", "--out", "out", "--threads", 1, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "out"
    return folder


def test_the_bundle_talks(made: Path) -> None:
    show = perform(1, 1.0, 64)
    (made / "shape.toml").write_text('preset = "nano"\nmodel = {prior_side = 4}\n')
    generator = ReferenceGenerator(config=str(made / "shape.toml"), weights=str(made / "out" / "nano.safetensors"))
    with generator.session(show.draw(0), prompt=show.prompt) as session:
        frames = np.concatenate(list(session.speak([show.audio])))
    assert frames.shape == (25, 64, 64, 3)


def test_every_stage_says_how_it_ended_and_logs_what_was_held_out(made: Path) -> None:
    for stage in ("codec", "teacher", "ode", "dmd"):
        assert json.loads((made / "out" / stage / "done.json").read_text())["reason"] == "steps"
        lines = [json.loads(line) for line in (made / "out" / stage / "log.jsonl").read_text().splitlines()]
        assert any("held_out" in line for line in lines)
    watched = [line["held_out"] for line in lines if "held_out" in line]
    assert all({"FID", "FVD", "without Sync", "loss"} <= set(values) for values in watched)


def test_a_codec_that_was_trained_before_is_taken_as_it_is(made: Path, tmp_path: Path) -> None:
    recipe = replace(build(tomllib.loads(RECIPE)), codec_weights=str(made / "out" / "codec" / "codec.safetensors"))
    shop = Workshop(recipe, tmp_path / "other", lambda *_: None)
    assert "is that of" in run_stage("codec", shop)
    mine, other = (load_file(folder / "codec" / "codec.safetensors") for folder in (made / "out", shop.out))
    assert mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in mine)
    wrong = Workshop(replace(recipe, codec_weights=str(made / "nano.toml")), tmp_path / "wrong", lambda *_: None)
    with pytest.raises(WeightsError, match=r"nano\.toml"):
        run_stage("codec", wrong)


def test_a_second_run_changes_nothing(made: Path) -> None:
    bundle = made / "out" / "nano.safetensors"
    before = bundle.read_bytes()
    done = lt_eval("distill", "dmd", "--recipe", "nano.toml", "--out", "out", "--threads", 1, cwd=made)
    assert done.returncode == 0 and bundle.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("dmd", "--set", "dmd.rato=3"), "Did you mean 'ratio'"),
        (("dmdd",), "There is no stage 'dmdd'"),
        (("teacher", "--out", "other"), "run lt-eval distill codec"),
        (("codec", "--out", "out"), "another recipe"),
        (("all", "--recipe", "none.toml"), "cannot be read"),
        (("all", "--set", "conditions.pairs=3"), "conditions.pairs is 3"),
    ],
)
def test_wrong_uses_are_one_sentence(
    words: tuple[str, ...], why: str, made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(made)
    monkeypatch.setattr(sys, "argv", ["lt-eval", "distill", *words])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2 and why in capsys.readouterr().err


def test_another_curation_is_not_mixed_with_trajectories_of_the_first(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LT_EVAL_CACHE", str(made / "cache"))
    out = Path(shutil.copytree(made / "out", tmp_path / "out"))
    kept = out / "conditions" / "kept" / "conditions.jsonl"
    kept.write_text(kept.read_text().replace('"prompt": "', '"prompt": "Slowly, ', 1))
    shop = Workshop(build(tomllib.loads(RECIPE)), out, lambda *_: None)
    for stage, why in (("ode-pairs", "of other conditions"), ("ode-init", "of other"), ("dmd", "another recipe")):
        with pytest.raises(StoreError, match=why):
            run_stage(stage, shop)


def test_the_papers_figures_are_those_of_table_4() -> None:
    paper = BASES["livetalk"]
    assert (paper.ode.batch, paper.ode.adam.learning_rate, paper.ode.adam.weight_decay) == (64, 4e-5, 0.0)
    assert (paper.ode.loop.steps, paper.pairs.trajectory_steps, paper.pairs.guidance) == (20_000, 48, 4.5)
    assert (paper.dmd.batch, paper.dmd.loop.steps, paper.dmd.teacher_guidance) == (64, 1000, 6.0)
    assert (paper.dmd.student.learning_rate, paper.dmd.critic.learning_rate) == (4e-6, 8e-7)
    for adam in (paper.dmd.student, paper.dmd.critic):
        assert (adam.beta1, adam.beta2, adam.eps, adam.weight_decay) == (0.0, 0.999, 1e-8, 0.01)
    assert (paper.dmd.ratio, paper.dmd.critic_warmup, paper.dmd.ema, paper.dmd.ema_from) == (5, 20, 0.99, 200)


def test_the_small_recipe_keeps_the_papers_ratios() -> None:
    small, paper = BASES["mini"].dmd, BASES["livetalk"].dmd
    assert small.student.learning_rate / small.critic.learning_rate == pytest.approx(5.0)
    assert (small.ratio, small.teacher_guidance, small.ema) == (paper.ratio, paper.teacher_guidance, paper.ema)


def test_recipes_in_the_repository_can_be_read() -> None:
    for path in sorted((REPOSITORY / "benchmarks" / "distill").glob("*.toml")):
        assert build(tomllib.loads(path.read_text())).name


@pytest.mark.parametrize("tables", [{"base": "m"}, {"generator": 3}, {"dmd": {"ratio": "x"}}, {"dmd": 1}])
def test_recipes_that_are_none_are_refused(tables: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        build(tables)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"codec": {"batch": 0}}, "codec.batch is 0; it must be at least 1"),
        ({"codec": {"crop": 0}}, "codec.crop is 0; it must be at least 1"),
        ({"codec": {"adam": {"learning_rate": float("nan")}}}, "codec.adam.learning_rate is nan; it must be finite"),
        ({"teacher": {"loop": {"steps": -1}}}, "teacher.loop.steps is -1; it must be at least 1"),
        ({"dmd": {"loop": {"checkpoint_every": 0}}}, "dmd.loop.checkpoint_every is 0; it must be at least 1"),
        ({"ode": {"ema": 1.5}}, "ode.ema is 1.5; it must be at most 1"),
        ({"dmd": {"teacher_guidance": float("inf")}}, "dmd.teacher_guidance is inf; it must be finite"),
        ({"held_out_seconds": -1.0}, "held_out_seconds is -1.0; it must be at least 0"),
        ({"codec": {"change_scale": 0.0}}, "codec.change_scale is 0.0; it must be above 0"),
        ({"codec": {"principal": {"motion": 0.0}}}, "codec.principal.motion is 0.0; it must be above 0"),
        ({"codec": {"principal": {"change_pool": 0}}}, "codec.principal.change_pool is 0; it must be at least 1"),
        ({"codec": {"principal": {"change_pool": 32}}}, "codec.principal.change_pool is 32; seen so coarsely"),
        ({"codec": {"principal": {"squares": 60}}}, "codec.principal.squares is 60; with the other values of this"),
    ],
)
def test_a_number_that_no_stage_could_use_is_refused(tables: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message.replace(".", r"\.")):
        build(tables)


def test_a_folder_in_which_nothing_was_made_takes_another_recipe(tmp_path: Path) -> None:
    recipe = build(tomllib.loads(RECIPE))

    def shop(changed: Recipe) -> Workshop:
        return Workshop(changed, tmp_path / "out", lambda *_: None)

    for wrong in (replace(recipe, codec_weights="builtin"), replace(recipe, shared={"curate": str(tmp_path / "no")})):
        with pytest.raises((WeightsError, StoreError)):
            run_stage("codec", shop(wrong))
        assert not (tmp_path / "out" / "recipe.json").is_file()
    shop(replace(recipe, seed=5)).claim("curate")  # and one that was stopped before it made anything
    run_stage("curate", shop(recipe))
    with pytest.raises(StoreError, match=r"another recipe was carried out here \(it differs in dmd.ratio, seed\)"):
        run_stage("curate", shop(replace(recipe, seed=5, dmd=replace(recipe.dmd, ratio=7))))
