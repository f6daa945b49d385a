"""What is trained on: people drawn, cut, encoded and kept; who is held out; what curation leaves for trajectories."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lt_eval.distill import talkers
from lt_eval.distill.asked import chosen_conditions
from lt_eval.distill.codec_stage import CodecOptions, crops, measure_codec, reconstruction_terms, statistics
from lt_eval.distill.conditions import Condition, write_conditions, write_picture
from lt_eval.distill.folders import journal, note
from lt_eval.distill.held_out import longer, measure_clips
from lt_eval.distill.material import GRID, Material, audio_of, latent_frames, make_material
from lt_eval.distill.pictures import of_levels, to_frames, to_video
from lt_eval.distill.recipe import build
from lt_eval.distill.stages import Workshop, run_stage
from lt_eval.distill.talkers import PieceOptions, TalkerOptions, draw, pieces
from lt_eval.distill.teacher_stage import TeacherOptions, teacher_loss
from lt_eval.distill.training import generator_of
from lt_eval.errors import RunBusyError, SampleError, SpecError
from lt_eval.generator.codec import CausalCodec, create_codec
from lt_eval.generator.codec_config import MiniCodecConfig
from lt_eval.generator.mini_codec import MiniCodec
from lt_eval.store import only_writer
from lt_eval.synthetic.talker import perform
from tests.distill.nano import CONFIG, batch, denoiser

PEOPLE = TalkerOptions(first_seed=5, people=3, held_out=1, windows=2, frames=9, size=64)


def codec() -> CausalCodec:
    return create_codec(CONFIG.codec).requires_grad_(False)


# Talkers -------------------------------------------------------------------------------------------------------------


def test_windows_are_consecutive_pieces_of_one_performance_with_their_own_audio() -> None:
    show = perform(6, 18 / 25, 64, 25.0)
    for number in range(2):
        window, start = draw(PEOPLE, 1, number), 9 * number
        np.testing.assert_array_equal(window.frames, [show.draw(start + index) for index in range(9)])
        np.testing.assert_array_equal(window.audio, show.audio[640 * start : 640 * (start + 9)])
        assert window.boxes == tuple(show.box(start + index) for index in range(9))


def test_calm_people_begin_as_others_and_move_by_the_stated_share() -> None:
    calm = replace(PEOPLE, motion=0.25)
    for number in range(2):
        natural, calmer = draw(PEOPLE, 1, number), draw(calm, 1, number)
        np.testing.assert_array_equal(natural.frames[0], calmer.frames[0])  # the portrait is the same
        np.testing.assert_array_equal(natural.audio, calmer.audio)
    whole, quarter = (talkers._performance(options, 1, 18 / 25) for options in (PEOPLE, calm))
    poses, calmed = np.array(whole.poses), np.array(quarter.poses)
    np.testing.assert_allclose(calmed[9:] - calmed[9], 0.25 * (poses[9:] - poses[9]), atol=1e-12)
    np.testing.assert_array_equal(whole.mouth, quarter.mouth)
    still = talkers._performance(replace(PEOPLE, motion=0.0), 1, 18 / 25)
    assert len({tuple(pose) for pose in still.poses[:9]}) == 1


@pytest.mark.parametrize(("person", "window"), [(3, 0), (-1, 0), (0, 2)])
def test_a_window_that_nobody_has_is_refused(person: int, window: int) -> None:
    with pytest.raises(ValueError, match="there is no window"):
        draw(PEOPLE, person, window)


def test_pieces_are_made_once_and_again_when_the_drawing_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    for _ in range(2):
        found = pieces(PEOPLE, PieceOptions(5, 2), tmp_path, lambda done, total: told.append(done))
    assert told == [1, 2, 3] and found.shape == (3, 2, 5, 64, 64, 3)
    assert not np.array_equal(found[0, 0], found[0, 1]) and not np.array_equal(found[0], found[1])
    monkeypatch.setattr(talkers, "drawing", lambda: "another")
    pieces(PEOPLE, PieceOptions(5, 2), tmp_path, lambda done, total: told.append(done))
    assert told == [1, 2, 3, 1, 2, 3]


# Material ------------------------------------------------------------------------------------------------------------


def test_material_is_what_networks_would_be_given_and_is_resumed(tmp_path: Path) -> None:
    net = codec()

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_material(PEOPLE, CONFIG, net, "x", tmp_path, stop)
    (home,) = tmp_path.iterdir()
    with (home / "done.jsonl").open("a") as file:
        file.write('"A person wh')  # the third was being noted
    told: list[int] = []
    found = make_material(PEOPLE, CONFIG, net, "x", tmp_path, lambda done, total: told.append(done))
    assert told == [3]
    window = draw(PEOPLE, 2, 1)
    clip = found.batch([2], [1])
    near = 0.5 / GRID + 2e-3  # kept on a grid, in half precision
    with torch.autocast("cpu", torch.bfloat16):
        video = to_video(window.frames[None])
        whole, first = net.encode(video).float(), net.encode(video[:, :, :1]).float()
    torch.testing.assert_close(clip.latents, whole, atol=near, rtol=1e-3)
    torch.testing.assert_close(clip.reference, first, atol=near, rtol=1e-3)
    error = whole - net.encode(video)
    assert float(error.square().mean().sqrt()) < 0.3 / GRID / 12**0.5  # small beside what the grid rounds
    torch.testing.assert_close(clip.audio[0], audio_of(CONFIG, window.audio, 3), atol=near, rtol=1e-3)
    assert all(torch.equal(part * GRID, (part * GRID).round()) for part in clip[:3])
    assert found.prompts == tuple(draw(PEOPLE, person, 0).prompt for person in range(3))


def test_other_material_lies_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = replace(PEOPLE, people=2, windows=1)
    make_material(few, CONFIG, codec(), "x", tmp_path)
    make_material(few, CONFIG, codec(), "y", tmp_path)
    make_material(few, replace(CONFIG, fps=24.0), codec(), "x", tmp_path)
    monkeypatch.setattr("lt_eval.distill.material.drawing", lambda: "another")
    make_material(few, CONFIG, codec(), "x", tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_held_out_people_are_the_last_and_never_drawn_for_training() -> None:
    latents = np.arange(6, dtype=np.float16)[:, None, None, None, None, None] * np.ones((6, 1, 1, 2, 1, 1), np.float16)
    audio = np.zeros((6, 1, 2, 1), np.float16)
    options = TalkerOptions(people=6, held_out=2, windows=1)
    held = Material(torch.from_numpy(latents), torch.from_numpy(audio), tuple("abcdef"), options)
    assert held.held_out().prompts == ("e", "f") and held.held_out(1).prompts == ("e",)
    assert set(held.random(200, np.random.default_rng(0)).prompts) == set("abcd")


def test_a_window_has_a_latent_frame_for_its_first_frame_and_one_for_each_four_more() -> None:
    assert [latent_frames(replace(PEOPLE, frames=frames)) for frames in (1, 5, 81)] == [1, 2, 21]
    assert longer(PEOPLE, 5.0).frames == 125 and longer(PEOPLE, 5.0).windows == 1


def test_pixels_survive_the_way_to_a_codec_and_back() -> None:
    frames = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 1, 16, 16, 3)
    np.testing.assert_array_equal(to_frames(to_video(frames)), frames)


# Codec ---------------------------------------------------------------------------------------------------------------


def shades(people: int, held_out: int) -> tuple[torch.Tensor, CodecOptions]:
    """People who are each of one grey."""
    data = (
        np.zeros((people, 1, 5, 64, 64, 3), np.uint8)
        + (10 * np.arange(people, dtype=np.uint8))[:, None, None, None, None, None]
    )
    return torch.from_numpy(data), CodecOptions(
        people=TalkerOptions(people=people, held_out=held_out), batch=64, crop=32
    )


def test_crops_are_of_trained_people_and_depend_on_the_step_alone() -> None:
    data, options = shades(6, 2)
    found = crops(data, options, 3, 0).video
    assert found.shape == (64, 3, 5, 32, 32)
    greys = set((to_frames(found)[:, 0, 0, 0, 0] // 10).tolist())
    assert greys == {0, 1, 2, 3}
    again, other = crops(data, options, 3, 0).video, crops(data, options, 4, 0).video
    assert torch.equal(found, again) and not torch.equal(found, other)


class Grey:
    """A codec that gives everything back brighter by a tenth of the range [-1, 1]."""

    def encode(self, video: torch.Tensor) -> torch.Tensor:
        return video

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents + 0.2

    def posterior(self, video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return video, video


def test_quality_is_in_decibels_of_the_range_and_in_grey_levels() -> None:
    data, _ = shades(6, 2)
    codec: Any = Grey()
    found = measure_codec(codec, data, 2)
    assert found["psnr_db"] == pytest.approx(20.0, abs=1e-4)  # a tenth of the range
    assert found["l1"] == pytest.approx(25.5, abs=1e-3) and found["changes_l1"] == pytest.approx(0.0, abs=1e-3)


def test_statistics_are_of_trained_people_alone() -> None:
    data, options = shades(6, 2)
    codec: Any = Grey()
    mean, _ = statistics(codec, data, options)
    torch.testing.assert_close(mean, torch.full((3,), 15 / 127.5 - 1))


def test_statistics_leave_what_is_seen_of_changes_in_proportion_and_mouths_near_one() -> None:
    """All three cosines of a component are divided by one number of grey levels, of the slowest's deviation."""
    people = TalkerOptions(people=4, held_out=2, size=16)
    model = MiniCodecConfig(
        latent_channels=7, change_components=1, widths=(8, 8), decoder_blocks=(1, 1), encoder_blocks=(1, 1), patch=2
    )
    codec = create_codec(model, seed=1)
    assert isinstance(codec, MiniCodec)
    codec.encode_net.changes.spread.copy_(torch.tensor([[2.0], [1.0], [0.25]]))
    data = torch.randint(0, 256, (4, 1, 9, 16, 16, 3), dtype=torch.uint8, generator=generator_of(0, "noise", 0))
    plain = codec.posterior(torch.cat([of_levels(person[:1]) for person in data[:2]]))[0].std((0, 2, 3, 4))
    _, std = statistics(codec, data, CodecOptions(people=people, model=model, change_scale=5.0))
    torch.testing.assert_close(std[:4], plain[:4])
    seen = std[4:] * codec.encode_net.changes.spread.flatten()
    torch.testing.assert_close(seen, (5.0 * 2.0 * plain[4]).expand(3))


def test_what_is_given_back_exactly_has_no_loss_and_a_frozen_mouth_costs_changes() -> None:
    video = torch.rand(1, 3, 5, 16, 16, generator=generator_of(0, "v", 0))
    weight = torch.ones(1, 1, 1, 16, 16)
    assert all(float(value) == 0 for value in reconstruction_terms(video, video, weight).values())
    frozen = reconstruction_terms(video[:, :, :1].expand_as(video), video, weight)
    assert float(frozen["changes"]) > 0.2


# Teacher -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["drop_both", "drop_text", "drop_audio"])
def test_each_share_of_dropped_conditions_drops_what_it_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from lt_eval.distill import teacher_stage

    seen: list[Any] = []

    def noting(model: Any, clips: Any, *_: Any) -> torch.Tensor:
        seen.append(clips)
        return torch.zeros(())

    monkeypatch.setattr(teacher_stage, "flow_loss_at", noting)
    shares = {"drop_both": 0.0, "drop_text": 0.0, "drop_audio": 0.0} | {name: 0.5}
    options = TeacherOptions(
        drop_both=shares["drop_both"], drop_text=shares["drop_text"], drop_audio=shares["drop_audio"]
    )
    clips = batch(64, frames=2)
    teacher_loss(denoiser(), clips, options, generator_of(0, "drop", 0))
    silent = [not sound.any() for sound in seen[0].audio]
    mute = [prompt == "" for prompt in seen[0].prompts]
    wanted = {"drop_both": (True, True), "drop_text": (False, True), "drop_audio": (True, False)}[name]
    for gone, expected in zip((silent, mute), wanted, strict=True):
        assert 16 < sum(gone) < 48 if expected else not any(gone)
    assert name != "drop_both" or silent == mute


# Choosing a student --------------------------------------------------------------------------------------------------


def test_clips_without_sync_count_as_frozen_faces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Sync-C 1.95 of one clip and none of the other: (1.95 + 0.05) / 2 = 1 divides the FVD."""
    from types import SimpleNamespace

    from lt_eval.distill import held_out

    class Metric:
        def __init__(self, name: str) -> None:
            self.name = name

        def features(self, clip: object) -> object:
            return clip

        def distance(self, generated: object, reference: object) -> dict[str, float]:
            return {"FID (builtin)": 7.0} if self.name == "fid" else {"FVD (builtin)": 30.0}

        def score(self, sample: Any) -> dict[str, float]:
            if sample.dialogue.id == "b":
                raise SampleError("no face")
            return {"Sync-C (builtin)": 1.95, "Sync-D (builtin)": 9.0, "Sync offset": 2.0}

    monkeypatch.setattr(held_out, "create", lambda kind, name, options: Metric(name))
    monkeypatch.setattr(held_out, "MediaClip", lambda path: nullcontext(path))
    turn = SimpleNamespace(reference="x")
    people: Any = SimpleNamespace(dialogues=tuple(SimpleNamespace(id=name, turns=(turn,)) for name in "ab"))
    found = measure_clips([tmp_path / "a.mp4", tmp_path / "b.mp4"], people)
    assert found == {
        "FID": 7.0,
        "FVD": 30.0,
        "Sync-C": 1.95,
        "Sync-D": 9.0,
        "in time": 0.0,
        "without Sync": 1.0,
        "loss": pytest.approx(30.0),
    }


# Conditions of trajectories ------------------------------------------------------------------------------------------


def workshop(folder: Path, **conditions: object) -> Workshop:
    tables: dict[str, Any] = {
        "preset": "nano",
        "material": {"size": 64},
        "codec": {"people": {"size": 64}, "crop": 32},
        "ode": {"held_out": 2},
        "conditions": {"people": {"size": 64}, "pairs": 9, **conditions},
    }
    for kept, names in (("kept", "abcde"), ("found", "abcdefgh")):
        home = folder / "conditions" / kept
        for name in names:
            write_picture(home / "portraits" / f"{name}.png", np.zeros((8, 8, 3), np.uint8))
        write_conditions(home, [Condition(name, home / "portraits" / f"{name}.png", name, seed=1) for name in names])
    return Workshop(build(tables), folder, lambda *_: None)


def test_held_out_trajectories_have_conditions_of_their_own(tmp_path: Path) -> None:
    names = [condition.id for condition in chosen_conditions(workshop(tmp_path))]
    assert names == [*"abcabca", *"de"]
    names = [condition.id for condition in chosen_conditions(workshop(tmp_path, curated=False))]
    assert names == [*"abcdefa", *"gh"]


def test_too_few_conditions_are_refused(tmp_path: Path) -> None:
    shop = workshop(tmp_path)
    shop = replace(shop, recipe=replace(shop.recipe, ode=replace(shop.recipe.ode, held_out=5)))
    with pytest.raises(SpecError, match="5 conditions, and 5 of them are held out"):
        chosen_conditions(shop)


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"material": {"size": 128}}, "material is drawn at 128 pixels"),
        ({"conditions": {"people": {"fps": 16.0}}}, "conditions.people is drawn at 256 pixels and 16 fps"),
        ({"conditions": {"pairs": 16}}, "conditions.pairs is 16; .* at least 17"),
        ({"material": {"frames": 80}}, r"4 k \+ 1"),
        ({"codec": {"crop": 100}}, "multiple of 32 up to 256"),
        ({"pairs": {"trajectory_steps": 50}}, "multiple of the student's 4 steps"),
        ({"material": {"people": 16}}, "material.people is 16"),
        ({"dmd": {"ratio": 0}}, "dmd.ratio is 0"),
    ],
)
def test_recipes_that_would_fail_after_hours_are_refused_at_once(tables: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        build(tables)


def test_the_papers_recipe_draws_at_its_generators_size_and_rate() -> None:
    recipe = build({"base": "livetalk"})
    assert (recipe.material.size, recipe.material.fps) == (recipe.config().size, recipe.config().fps) == (512, 16.0)


# Folders -------------------------------------------------------------------------------------------------------------


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    with (
        only_writer(tmp_path / "a"),
        pytest.raises(RunBusyError, match="another lt-eval process"),
        only_writer(tmp_path / "a"),
    ):
        pass
    shop = workshop(tmp_path / "b")
    with only_writer(tmp_path / "b"), pytest.raises(RunBusyError):
        run_stage("curate", shop)


def test_a_journal_forgets_a_torn_line_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "done.jsonl"
    assert journal(path) == []
    note(path, ["one", ["two"]])
    with path.open("a") as file:
        file.write(json.dumps("three")[:3])
    assert journal(path) == ["one", ["two"]]
    note(path, [3])
    assert journal(path) == ["one", ["two"], 3]


# Several processes ----------------------------------------------------------------------------------------------------


def test_what_several_processes_draw_is_what_one_does(tmp_path: Path) -> None:
    one, two = (
        make_material(PEOPLE, CONFIG, codec(), "x", tmp_path / str(workers), workers=workers) for workers in (1, 2)
    )
    assert torch.equal(one.latents, two.latents) and torch.equal(one.audio, two.audio) and one.prompts == two.prompts
    alone, together = (pieces(PEOPLE, PieceOptions(5, 2), tmp_path / str(n), workers=n) for n in (1, 2))
    np.testing.assert_array_equal(alone, together)
