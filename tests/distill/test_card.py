"""The model card says what the folder holds, and what is not there it calls unknown."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from lt_eval.distill.card import hardware_of, model_card
from lt_eval.distill.public import Weights
from lt_eval.distill.recipe import BASES, build
from lt_eval.distill.stages import STAGES, Workshop, run_stage
from lt_eval.store import write_json
from tests.distill.test_command import RECIPE
from tests.distill.test_plots import log

MINI = BASES["mini"]


def folders(tmp_path: Path) -> dict[str, Path]:
    homes = {"codec": "codec", "teacher": "teacher", "ode-init": "ode", "dmd": "dmd"}
    found = {stage: log(tmp_path / name) for stage, name in homes.items()}
    for stage, steps in zip(found, (300, 200, 100, 20), strict=True):
        write_json(found[stage] / "done.json", {"steps": steps, "reason": "steps", "seconds": 12.6})
    write_json(tmp_path / "conditions" / "kept" / "curation.json", {"kept": 230, "given": 384})
    return found | {"curate": tmp_path / "conditions"}


def test_a_card_says_data_steps_time_hardware_and_figures(tmp_path: Path) -> None:
    card = model_card(MINI, folders(tmp_path), "a chip")
    assert f"{MINI.material.people} drawn people, seeds {MINI.material.first_seed} to" in card
    assert "those that pass curation, 230 of 384." in card and "40% of the portraits damaged" in card
    assert "| teacher | 200 | 13 | its steps were done | loss 25 |" in card
    assert "| distribution matching | 20 | 13 | its steps were done | see below |" in card
    assert "ended on a chip." in card
    assert "(step 10, by FVD over Sync-C)" in card and "| | step 0, before | step 10, kept |" in card
    assert "| FID | 9 | 5 |" in card and "| Sync-C | – | 3 |" in card


def test_a_student_that_was_kept_where_it_was_first_measured_has_one_column(tmp_path: Path) -> None:
    homes = folders(tmp_path)
    once = {"step": 20, "held_out": {"FID": 4.0, "Sync-C": 3.0, "loss": 2.0}}
    (homes["dmd"] / "log.jsonl").write_text(json.dumps(once) + "\n")
    card = model_card(MINI, homes, "a chip")
    assert "| | step 20, kept |\n|---|---:|\n| FID | 4 |\n| Sync-C | 3 |" in card
    assert "they chose nothing" in card and "chose the checkpoint" not in card
    better = [once, once | {"step": 40, "held_out": {"FID": 9.0, "Sync-C": 1.0, "loss": 9.0}}]
    (homes["dmd"] / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in better))
    card = model_card(MINI, homes, "a chip")
    assert "chose the checkpoint** (step 20" in card and "| | step 20, kept |" in card


def test_what_was_made_elsewhere_is_called_so(tmp_path: Path) -> None:
    homes = folders(tmp_path) | {"teacher": tmp_path / "none", "curate": tmp_path / "none"}
    recipe = replace(MINI, conditions=replace(MINI.conditions, curated=False), codec_weights="x")
    card = model_card(recipe, homes, "a chip")
    assert "| teacher | unknown | unknown | made elsewhere | |" in card
    assert "all, of which an unknown number would pass curation" in card and "Codec: that of x." in card


def test_published_parts_and_recorded_people_are_not_called_drawn(tmp_path: Path) -> None:
    recipe = replace(
        MINI,
        public=replace(MINI.public, teacher=Weights(files=("omni.safetensors",)), start=Weights(files=("wan.pth",))),
        conditions=replace(MINI.conditions, folder="recordings"),
        codec_weights="vae.pth",
    )
    card = model_card(recipe, folders(tmp_path), "a chip")
    assert "nothing but drawn people" not in card and "no photograph" not in card
    assert "Teacher: published, omni.safetensors." in card and "Student and critic begin as wan.pth." in card
    assert "Codec: that of vae.pth." in card and "recorded people of the folder recordings" in card
    drawn = model_card(MINI, folders(tmp_path), "a chip")
    assert "nothing but drawn people" in drawn and "no photograph" in drawn


def test_changes_to_the_preset_are_part_of_the_command(tmp_path: Path) -> None:
    homes = folders(tmp_path)
    assert "--set preset=mini --set weights=mini.safetensors" in model_card(MINI, homes, "x")
    changed = model_card(replace(MINI, generator={"stream": {"rope": "absolute"}}), homes, "x")
    assert "--set config=CHANGES.toml" in changed and 'CHANGES.toml holds `preset = "mini"`' in changed


def test_gpus_are_named_only_where_they_were_used() -> None:
    described = {"hardware": {"gpus": ["A", "B"], "cpu": "C", "cores": 2}}
    assert hardware_of(described, "cuda") == "A, B" and hardware_of(described, "cpu") == "C, 2 cores, no GPU"


def test_card_and_curves_are_written_at_the_end_of_a_distillation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LT_EVAL_CACHE", str(tmp_path / "cache"))
    shop = Workshop(build(tomllib.loads(RECIPE)), tmp_path / "out", lambda *_: None)
    run_stage("curate", shop)
    assert not (shop.out / "plots.html").exists()  # nothing is logged yet
    for number, stage in enumerate(STAGES[1:]):
        run_stage(stage, shop)
        page = (shop.out / "plots.html").read_text()
        assert page.count("<h2>") == (1, 2, 2, 3, 4)[number]
    card = (shop.out / "nano.md").read_text()
    assert card.startswith("# nano\n") and "6 of 6" in card and "| teacher | 4 | " in card
    assert "without Sync" in card
    before = card
    run_stage("dmd", shop)
    assert (shop.out / "nano.md").read_text() == before


@pytest.mark.parametrize("base", sorted(BASES))
def test_every_base_has_a_card(base: str, tmp_path: Path) -> None:
    assert model_card(BASES[base], folders(tmp_path), "x").startswith(f"# {base}\n")
