"""The teacher as a generator: the interface of every other, a schedule of its own, and no streaming."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lt_eval.bench.timing import listen
from lt_eval.distill.denoiser import Denoiser
from lt_eval.distill.material import Batch, audio_of
from lt_eval.distill.ode_stage import PairOptions, make_pairs
from lt_eval.distill.pictures import to_frames, to_video
from lt_eval.errors import ConditionError, LtEvalError, SpecError, UsageError, WeightsError
from lt_eval.generator import sampler
from lt_eval.generator.many_step import ManyStepGenerator
from lt_eval.generator.model import Transformer
from lt_eval.generator.networks import save_bundle, seeded_parts
from lt_eval.generator.stream import block_generator
from lt_eval.records import Audio, Frames
from lt_eval.registry import create
from lt_eval.testing import check_generator
from lt_eval.testing.fakes import toy_portrait, toy_speech

NANO = ManyStepGenerator(preset="nano", device="cpu", steps=4)
SPEECH = toy_speech(1.0)


def say(
    *turns: Audio, generator: ManyStepGenerator = NANO, seed: int = 0, prompt: str = "", portrait: int = 0
) -> list[Frames]:
    with generator.session(toy_portrait(80, portrait), prompt=prompt, seed=seed) as session:
        return [np.concatenate(list(session.speak([speech]))) for speech in turns]


def test_it_keeps_the_contract_of_generators_and_does_not_stream() -> None:
    streaming = check_generator(partial(ManyStepGenerator, preset="nano", device="cpu", steps=3))
    assert not streaming.streams
    assert streaming.video_s == pytest.approx(streaming.audio_s, abs=0.02)
    timeline = listen(NANO, toy_portrait(64), SPEECH, chunk_s=0.1)
    assert not timeline.streams and timeline.frames == 25 and len(timeline.arrivals) == 1
    assert timeline.arrivals[0].heard_s == 1.0


def test_it_is_registered_as_the_teacher() -> None:
    made = create("generators", "teacher", {"preset": "nano", "steps": 2, "guidance": 3}, offered={"device": "cpu"})
    assert isinstance(made, ManyStepGenerator) and (made.steps, made.guidance, made.device) == (2, 3.0, "cpu")
    assert (ManyStepGenerator().steps, ManyStepGenerator().guidance) == (48, 4.5)


def test_a_turn_shows_the_rounded_number_of_frames_of_its_audio() -> None:
    turns = say(SPEECH[:1], SPEECH[: 640 * 2], SPEECH[: 640 * 9], SPEECH[: 640 * 21 + 100], SPEECH)
    assert [turn.shape for turn in turns] == [(n, 64, 64, 3) for n in (1, 2, 9, 21, 25)]
    assert all(turn.dtype == np.uint8 for turn in turns)


def test_the_same_seed_gives_the_same_bytes_however_the_audio_comes() -> None:
    (once,), (again,) = say(SPEECH), say(SPEECH, generator=replace(NANO))
    with NANO.session(toy_portrait(80), seed=0) as session:
        chunked = np.concatenate(list(session.speak(np.array_split(SPEECH, 7))))
    assert np.array_equal(once, again) and np.array_equal(once, chunked)


@pytest.mark.parametrize("other", ["seed", "speech", "prompt", "portrait", "weights", "steps", "guidance"])
def test_everything_that_goes_in_is_seen_in_what_comes_out(other: str) -> None:
    (frames,) = say(SPEECH)
    (changed,) = {
        "seed": partial(say, SPEECH, seed=1),
        "speech": partial(say, -0.5 * SPEECH[::-1].copy()),
        "prompt": partial(say, SPEECH, prompt="She smiles and nods."),
        "portrait": partial(say, SPEECH, portrait=1),
        "weights": partial(say, SPEECH, generator=replace(NANO, weights_seed=1)),
        "steps": partial(say, SPEECH, generator=replace(NANO, steps=5)),
        "guidance": partial(say, SPEECH, generator=replace(NANO, guidance=1.0)),
    }[other]()
    assert frames.shape == changed.shape and not np.array_equal(frames, changed)


def test_turns_do_not_know_of_each_other_and_have_noise_of_their_own() -> None:
    first, second = say(SPEECH, SPEECH)
    assert np.array_equal(first[0], second[0])  # the portrait, through the codec
    assert not np.array_equal(first[1:], second[1:])


def test_its_clip_is_the_end_of_a_trajectory_that_distillation_stores(tmp_path: Path) -> None:
    """The same sampler, schedule, guidance and audio as ODE pairs; decoded as the stages decode."""
    config, frames = NANO.settings, 9
    parts = seeded_parts(config, 0)
    teacher = Denoiser.of_parts(config, parts).frozen()
    codec = parts.codec.requires_grad_(False)
    speech, portrait = toy_speech(33 / 25), toy_portrait(64)
    reference = codec.encode(to_video(portrait[None, None]))
    heard = audio_of(config, speech, frames)[None]
    batch = Batch(torch.zeros(1, *reference.shape[1:2], frames, *reference.shape[3:]), reference, heard, ("nods",))
    options = PairOptions(trajectory_steps=4, guidance=3.0, batch=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lt_eval.distill.ode_stage.generator_of", lambda *_: block_generator(7, 0))
        pairs = make_pairs(teacher, options, lambda first, many: batch, 1, tmp_path)
    ends, _ = pairs.batch([0])
    expected = to_frames(codec.decode(ends[:, -1]))[0]
    generator = replace(NANO, guidance=3.0)
    with generator.session(portrait, prompt="nods", seed=7) as session:
        (made,) = session.speak([speech])
    assert np.abs(made.astype(int) - expected.astype(int)).max() <= 1  # pairs are stored in float16


@pytest.mark.parametrize(("guidance", "forwards"), [(4.5, 2), (1.0, 1)])
def test_steps_are_counted_and_no_guidance_costs_half(
    guidance: float, forwards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, bool]] = []
    whole = Transformer.forward

    def counting(self: Transformer, noisy: torch.Tensor, *given: Any, **more: Any) -> torch.Tensor:
        calls.append((noisy.shape[2], bool(more.get("block_causal"))))
        return whole(self, noisy, *given, **more)

    monkeypatch.setattr(Transformer, "forward", counting)
    say(SPEECH, generator=replace(NANO, steps=6, guidance=guidance))
    assert calls == [(7, False)] * 6 * forwards  # 25 frames are 7 latents


def test_guidance_1_is_no_guidance(monkeypatch: pytest.MonkeyPatch) -> None:
    (expected,) = say(SPEECH, generator=replace(NANO, guidance=1.0))

    def plain(model: Transformer, noisy: torch.Tensor, timestep: torch.Tensor, told: Any, *_: object) -> torch.Tensor:
        return model(noisy, timestep, told)  # type: ignore[no-any-return]

    monkeypatch.setattr(sampler, "guided_velocity", plain)
    for guidance in (1.0, 4.5):
        assert np.array_equal(say(SPEECH, generator=replace(NANO, guidance=guidance))[0], expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "steps is 0; the teacher needs at least 1"),
        ({"guidance": -1.0}, "guidance is -1.0; it must be 0 or more"),
        ({"guidance": float("nan")}, "guidance"),
        ({"guidance": float("inf")}, "guidance = inf"),
        ({"preset": "mine"}, "No generator is called 'mine'"),
        ({"size": 100}, "size is 100"),
        ({"threads": 0}, "threads is 0"),
        ({"dtype": "float8"}, "dtype is 'float8'"),
        ({"rope": "relative"}, "has no option 'rope'"),
        ({"weights": "builtin"}, "no teacher comes with the package"),
        ({"weights": "official"}, "no teacher comes with the package"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(LtEvalError, match=words):
        create("generators", "teacher", options)


def test_weights_that_are_not_there_are_named() -> None:
    with pytest.raises(WeightsError, match="no weights at none"):
        replace(NANO, weights="none").networks()


def test_it_takes_the_bundle_of_a_teacher(tmp_path: Path) -> None:
    path = tmp_path / "teacher.safetensors"
    save_bundle(seeded_parts(NANO.settings, 1), path, dtype=torch.float32)
    bundled = replace(NANO, weights=str(path))
    assert np.array_equal(say(SPEECH, generator=bundled)[0], say(SPEECH, generator=replace(NANO, weights_seed=1))[0])
    assert any("noise" in note for note in NANO.footnotes) and not any("noise" in note for note in bundled.footnotes)


def test_the_fingerprint_follows_options() -> None:
    made = [NANO, replace(NANO, steps=2), replace(NANO, guidance=1.0), replace(NANO, weights_seed=1)]
    assert len({generator.fingerprint for generator in made}) == 4
    assert replace(NANO).fingerprint == NANO.fingerprint


@pytest.mark.parametrize("speech", [[], [np.zeros(0, np.float32)], [np.zeros((2, 4), np.float32)], [np.float32(0)]])
def test_audio_that_is_none_is_refused_and_the_session_goes_on(speech: list[Any]) -> None:
    with NANO.session(toy_portrait(64)) as session:
        with pytest.raises(ConditionError):
            next(session.speak(speech))
        assert len(next(session.speak([SPEECH]))) == 25


def test_conditions_that_are_none_are_refused() -> None:
    with pytest.raises(ConditionError, match="portrait"):
        NANO.session(np.zeros((64, 64), np.uint8))
    with pytest.raises(ConditionError, match="prompt"):
        NANO.session(toy_portrait(64), prompt=3)  # type: ignore[arg-type]
    with NANO.session(toy_portrait(64)) as session:
        pass
    with pytest.raises(UsageError, match="closed"):
        next(session.speak([SPEECH]))


def test_the_callers_threads_stay_as_they_are() -> None:
    before = torch.get_num_threads()
    say(SPEECH, generator=replace(NANO, threads=before + 1))
    assert torch.get_num_threads() == before


def test_unknown_presets_are_the_specs_errors() -> None:
    with pytest.raises(SpecError):
        ManyStepGenerator(preset="mine")
