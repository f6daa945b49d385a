"""Teacher, ODE initialisation and DMD at nano size: they learn, they resume, their pieces mean what they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lt_eval.distill import losses
from lt_eval.distill.denoiser import Denoiser, after_first, dropped
from lt_eval.distill.dmd_stage import (
    DmdOptions,
    critic_loss,
    random_batches,
    student_loss,
    teacher_velocity,
    train_dmd,
)
from lt_eval.distill.material import Batch, Material
from lt_eval.distill.ode_stage import OdeOptions, PairOptions, Pairs, make_pairs, ode_batch_loss, train_ode
from lt_eval.distill.rollout import rollout
from lt_eval.distill.talkers import TalkerOptions
from lt_eval.distill.teacher_stage import TeacherOptions, held_out_loss, train_teacher
from lt_eval.distill.training import LoopOptions, OptimiserOptions, generator_of, read_log
from lt_eval.errors import StoreError
from tests.distill.nano import CONFIG, batch, denoiser

FEW = LoopOptions(6, log_every=1, checkpoint_every=2, evaluate_every=3)
ADAM = OptimiserOptions(3e-3, clip_norm=1.0)


def test_the_ema_begins_with_the_first_update_of_the_student_from_its_step_on() -> None:
    """Table 4: from step 200. The student is updated at steps 20, 25 ... (from 0): at 200 for the 37th time."""
    options = DmdOptions()
    updates = [step for step in range(301) if options.updates_student(step)]
    assert options.student_updates(200) == sum(step < 200 for step in updates) == 36
    assert updates[options.student_updates(options.ema_from)] == 200
    assert replace(options, critic_warmup=300).student_updates(200) == 0


def test_dmd_averages_from_that_update_on(tmp_path: Path) -> None:
    """Updates at steps 1, 3, 5: an average from step 3 on is one of the students after the second and the third."""
    loop = LoopOptions(6, evaluate_every=1, checkpoint_every=2)
    options = DmdOptions(loop, ADAM, ADAM, ratio=2, critic_warmup=1, ema_from=3, ema=0.5, batch=1, bf16=False)
    student, own, shown = denoiser(2), [], []
    name = "transformer.head.head.weight"

    def evaluate(model: Denoiser) -> dict[str, float]:
        own.append(weights(student)[name])
        shown.append(weights(model)[name])
        return {"loss": 1.0}

    pool = random_batches(batch(2, frames=3), 1, 0)
    train_dmd(student, denoiser(1).frozen(), denoiser(1), options, pool, tmp_path, evaluate=evaluate)
    assert all(torch.equal(shown[step], own[step]) for step in range(6))  # steps done; no average, or its beginning
    torch.testing.assert_close(shown[6], (own[4] + own[6]) / 2)


def test_dmd_exits_at_every_step_and_keeps_averaged_students(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lt_eval.distill import dmd_stage

    exits: list[int] = []

    def noting(*given: Any, exit_step: int, **more: Any) -> torch.Tensor:
        exits.append(exit_step)
        return rollout(*given, exit_step=exit_step, **more)

    monkeypatch.setattr(dmd_stage, "rollout", noting)
    loop = LoopOptions(12, evaluate_every=12)
    options = DmdOptions(loop, ADAM, ADAM, ratio=1, critic_warmup=0, ema_from=0, ema=0.9, batch=1, bf16=False)
    student, kept, loss = denoiser(2), [], iter((2.0, 1.0))
    last, _ = train_dmd(
        student,
        denoiser(1).frozen(),
        denoiser(1),
        options,
        random_batches(batch(2, frames=3), 1, 0),
        tmp_path,
        evaluate=lambda model: {"loss": next(loss)},
        keep=lambda model, step: kept.append(weights(model)),
    )
    assert set(exits) == {0, 1, 2, 3}
    assert all(torch.equal(kept[-1][name], value) for name, value in weights(last).items())
    assert not torch.equal(kept[-1]["transformer.head.head.weight"], student.transformer.head.head.weight)


@pytest.mark.parametrize("before", [True, False])
def test_what_is_begun_with_comes_out_only_where_that_is_wanted(tmp_path: Path, before: bool) -> None:
    """Every later student is worse."""
    loop = LoopOptions(2, evaluate_every=1)
    options = DmdOptions(loop, ADAM, ADAM, ratio=1, critic_warmup=0, before=before, batch=1, bf16=False)
    kept: list[int] = []
    losses = iter(range(3))
    _, now = train_dmd(
        denoiser(2),
        denoiser(1).frozen(),
        denoiser(1),
        options,
        random_batches(batch(2, frames=3), 1, 0),
        tmp_path,
        evaluate=lambda model: {"loss": next(losses)},
        keep=lambda model, step: kept.append(step),
    )
    assert kept == ([0] if before else [1])
    assert [step for step, _ in now.held_out] == ([0, 1, 2] if before else [1, 2])


def test_held_out_trajectories_are_never_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, asked = pairs(tmp_path / "pairs"), set[int]()
    whole = Pairs.batch

    def noting(self: Pairs, which: Any) -> Any:
        asked.update(which)
        return whole(self, which)

    monkeypatch.setattr(Pairs, "batch", noting)
    options = OdeOptions(LoopOptions(6, evaluate_every=0), ADAM, batch=8, held_out=3, bf16=False)
    train_ode(denoiser(2), options, found, tmp_path / "ode")
    assert {5, 6, 7} <= asked
    asked.clear()
    monkeypatch.setattr("lt_eval.distill.ode_stage.held_out_ode_loss", lambda *_: 0.0)
    train_ode(denoiser(2), options, found, tmp_path / "again")
    assert asked and asked <= set(range(5))


def material(people: int = 6) -> Material:
    """People who look alike and never move: what a handful of them teaches holds for the others."""
    clips = batch(people, frames=9)
    latents, audio = clips.reference[:1].expand_as(clips.latents)[:, None].half(), clips.audio[:, None].half()
    return Material(latents, audio, tuple(clips.prompts), TalkerOptions(people=people, held_out=2, windows=1))


def pairs(folder: Path, count: int = 8) -> Pairs:
    pool = batch(count, frames=9)

    def some(first: int, many: int) -> Batch:
        return pool.part(range(first, first + many))

    options = PairOptions(trajectory_steps=8, guidance=2.0, batch=3)
    return make_pairs(denoiser(5).frozen(), options, some, count, folder)


def weights(model: Denoiser) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_the_teacher_learns_and_its_log_says_so(tmp_path: Path) -> None:
    options = TeacherOptions(LoopOptions(60, log_every=5, evaluate_every=30), ADAM, batch=4, ema=0.8, bf16=False)
    fresh = Denoiser.fresh(CONFIG, 0)
    before = held_out_loss(fresh, material(), options.shift)
    teacher, now = train_teacher(fresh, options, material(), tmp_path)
    assert now.step == 60 and held_out_loss(teacher, material(), options.shift) < 0.9 * before
    assert [line["step"] for line in read_log(tmp_path) if "held_out" in line] == [30, 60]


def test_a_fresh_teacher_has_the_loss_of_predicting_nothing() -> None:
    loss = held_out_loss(Denoiser.fresh(CONFIG, 0), material(), 3.0)
    assert loss == pytest.approx(2.0, rel=0.1)  # noise and latents of variance one


def test_dropped_conditions_are_empty_and_others_stay() -> None:
    clips = batch(3)
    found = dropped(clips, torch.tensor([True, False, False]), torch.tensor([False, True, False]))
    assert found.prompts == ("", *clips.prompts[1:])
    assert not found.audio[1].any() and torch.equal(found.audio[[0, 2]], clips.audio[[0, 2]])


def test_trajectories_end_where_they_should_and_do_not_depend_on_interruption(tmp_path: Path) -> None:
    whole = pairs(tmp_path / "a")
    assert whole.sigmas == pytest.approx((1.0, 0.9375, 5 / 6, 0.625, 0.0))
    assert whole.states.shape[:2] == (8, 5)
    torch.testing.assert_close(whole.states[:, 1:, :, :1], whole.reference[:, None].expand(-1, 4, -1, -1, -1, -1))
    pool, calls = batch(8, frames=9), 0

    def some(first: int, many: int) -> Batch:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return pool.part(range(first, first + many))

    options = PairOptions(trajectory_steps=8, guidance=2.0, batch=3)
    with pytest.raises(KeyboardInterrupt):
        make_pairs(denoiser(5).frozen(), options, some, 8, tmp_path / "b")
    again = make_pairs(denoiser(5).frozen(), options, some, 8, tmp_path / "b")
    assert torch.equal(again.states, whole.states)
    assert again.prompts == whole.prompts


def test_trajectories_cut_off_in_the_journal_are_made_again(tmp_path: Path) -> None:
    whole = pairs(tmp_path / "a")
    broken = tmp_path / "b"
    pairs(broken)
    (broken / "pairs.json").unlink()
    lines = (broken / "done.jsonl").read_bytes()
    (broken / "done.jsonl").write_bytes(lines[: lines.index(b"\n") + 5])  # the second batch was being written
    states = np.load(broken / "states.npy", mmap_mode="r+")
    states[3:] = 0.0
    states.flush()
    again = pairs(broken)
    assert torch.equal(again.states, whole.states)
    assert again.prompts == whole.prompts and (broken / "done.jsonl").read_bytes() == lines


def test_trajectories_of_another_teacher_or_other_conditions_are_not_taken_for_these(tmp_path: Path) -> None:
    pool, options = batch(3, frames=9), PairOptions(trajectory_steps=4, batch=3)

    def make(identity: str, count: int = 3) -> Pairs:
        teacher = denoiser(5).frozen()
        return make_pairs(teacher, options, lambda a, n: pool.part(range(a, a + n)), count, tmp_path, identity=identity)

    assert len(make("one")) == len(make("one")) == 3
    for identity, count in (("another", 3), ("one", 2)):
        with pytest.raises(StoreError, match="of another teacher or of other conditions"):
            make(identity, count)
    (tmp_path / "pairs.json").unlink()
    with pytest.raises(StoreError, match="of another teacher"):  # nor continued
        make("another")


def test_trajectories_follow_the_guided_teacher(tmp_path: Path) -> None:
    pool = batch(2, frames=6)

    def ends(guidance: float) -> np.ndarray[Any, Any]:
        options = PairOptions(trajectory_steps=4, guidance=guidance, batch=2)
        folder = tmp_path / f"{guidance}"
        return np.asarray(
            make_pairs(denoiser(5).frozen(), options, lambda a, n: pool.part(range(a, a + n)), 2, folder).states[:, -1]
        )

    assert np.abs(ends(1.0) - ends(4.0)).max() > 1e-3


def test_the_teachers_guidance_moves_prompt_and_audio_alike() -> None:
    clips, teacher = batch(2, frames=6), denoiser(1).frozen()
    sigma, noisy = torch.full((2, 6), 0.5), torch.randn(clips.latents.shape, generator=generator_of(0, "n", 0))
    noisy[:, :, :1] = clips.reference
    told = teacher.conditions(clips)
    nothing = told._replace(text=teacher.read(["", ""]), audio=torch.zeros_like(clips.audio))
    with_, without = (teacher.velocity(noisy, sigma, conditions) for conditions in (told, nothing))
    torch.testing.assert_close(
        teacher_velocity(teacher, noisy, sigma, clips, 6.0), losses.guided(with_, without, 6.0), rtol=1e-4, atol=1e-5
    )


def test_steps_that_miss_the_students_levels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no multiple"):
        make_pairs(denoiser(), PairOptions(trajectory_steps=7), lambda first, many: batch(many), 2, tmp_path)


def test_each_block_is_given_the_state_that_was_drawn_for_it(tmp_path: Path) -> None:
    """A student that predicts velocity 0 says that what it was given is clean: its loss is known."""
    found = pairs(tmp_path)
    states, clips = found.batch([0, 1])
    index = torch.tensor([[0, 1, 2], [3, 0, 1]])
    loss = ode_batch_loss(Denoiser.fresh(CONFIG, 0), states, clips, torch.tensor(found.sigmas), index)
    errors = [
        (states[item, index[item, frame // 3], :, frame] - states[item, -1, :, frame]).square().mean()
        for item in range(2)
        for frame in range(1, 9)
    ]
    torch.testing.assert_close(loss.detach(), torch.stack(errors).mean())


def test_the_student_learns_the_ends_and_resumes_exactly(tmp_path: Path) -> None:
    found = pairs(tmp_path / "pairs")
    options = OdeOptions(
        LoopOptions(40, log_every=5, evaluate_every=20), ADAM, batch=4, held_out=2, ema=0.8, bf16=False
    )
    student, now = train_ode(denoiser(2), options, found, tmp_path / "whole")
    first, last = (line["loss"] for line in (read_log(tmp_path / "whole")[at] for at in (0, -2)))
    assert now.step == 40 and last < 0.8 * first
    short = replace(options, loop=replace(options.loop, checkpoint_every=10))
    model = denoiser(2)

    def stop(done: int, total: int, what: str) -> None:
        if done == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_ode(model, short, found, tmp_path / "broken", progress=stop)
    again, _ = train_ode(denoiser(2), short, found, tmp_path / "broken")
    for name, value in weights(student).items():
        torch.testing.assert_close(weights(again)[name], value, rtol=0, atol=0)


def test_dmd_updates_the_student_on_its_schedule_and_leaves_the_teacher(tmp_path: Path) -> None:
    options = DmdOptions(FEW, ADAM, ADAM, ratio=2, critic_warmup=1, ema_from=0, ema=0.5, batch=2, bf16=False)
    teacher = denoiser(1).frozen()
    before = weights(teacher)
    student, critic = denoiser(2), denoiser(1)
    kept: list[int] = []
    _, now = train_dmd(
        student,
        teacher,
        critic,
        options,
        random_batches(batch(4, frames=6), 2, 0),
        tmp_path,
        evaluate=lambda model: {"loss": float(sum(value.abs().sum() for value in weights(model).values()))},
        keep=lambda model, step: kept.append(step),
    )
    assert now.step == 6 and [step for step, _ in now.held_out] == [0, 3, 6] and kept[0] == 0
    updated = [line["step"] for line in read_log(tmp_path) if "student_loss" in line]
    assert updated == [2, 4, 6] and options.student_updates(6) == 3
    assert all(torch.equal(value, before[name]) for name, value in weights(teacher).items())
    assert not torch.equal(student.transformer.head.head.weight, denoiser(2).transformer.head.head.weight)
    assert not torch.equal(critic.transformer.head.head.weight, before["transformer.head.head.weight"])


def test_the_students_gradient_is_equation_2s() -> None:
    """The gradient is (critic - teacher) / mean |x - teacher| over the elements, at the noise drawn."""
    clips, options = batch(2, frames=6), DmdOptions(teacher_guidance=1.0, bf16=False)
    teacher, critic = denoiser(1).frozen(), denoiser(2).frozen()
    generated = rollout(denoiser(3).frozen(), clips, [generator_of(0, "x", n) for n in range(2)]).requires_grad_()
    torch.autograd.backward(student_loss(teacher, critic, clips, generated, options, generator_of(0, "y", 0)))
    generator = generator_of(0, "y", 0)
    sigma = losses.dmd_sigmas(torch.rand(2, 1, generator=generator), 5.0).expand(2, 6)
    noisy = losses.add_noise(generated.detach(), torch.randn(generated.shape, generator=generator), sigma)
    real, fake = (
        losses.clean_of(noisy, model.velocity(noisy, sigma, model.conditions(clips)), sigma).detach()
        for model in (teacher, critic)
    )
    scale = (generated.detach() - real)[:, :, 1:].abs().mean(dim=(1, 2, 3, 4), keepdim=True)  # frame 0 is given
    mask = after_first(sigma)[:, None, :, None, None].expand_as(real)
    assert generated.grad is not None
    torch.testing.assert_close(generated.grad, (fake - real) / scale * mask / mask.sum(), rtol=1e-4, atol=1e-9)


def test_the_critics_two_losses_share_their_zero_and_differ_by_sigma() -> None:
    clips, critic = batch(1, frames=6), denoiser(2).frozen()
    flow, x0 = (
        critic_loss(critic, clips, clips.latents, DmdOptions(critic_loss=kind), generator_of(0, "z", 0))
        for kind in ("flow", "x0")
    )
    sigma = float(losses.dmd_sigmas(torch.rand(1, 1, generator=generator_of(0, "z", 0)), 5.0))
    assert float(x0) == pytest.approx(sigma**2 * float(flow), rel=1e-5)
