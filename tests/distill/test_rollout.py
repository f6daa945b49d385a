"""The clips that distillation trains on are those that the stream would show, and gradients go where they should."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch

from lt_eval.distill.rollout import rollout
from lt_eval.distill.training import generator_of
from lt_eval.generator.sampler import clean_pass, denoise_block, schedule
from tests.distill.nano import CONFIG, FRAMES, batch, denoiser


def noise(count: int) -> list[torch.Generator]:
    return [generator_of(3, f"item {item}", 0) for item in range(count)]


def test_a_whole_rollout_is_what_the_sampler_streams() -> None:
    student, clips = denoiser().frozen(), batch()
    made = rollout(student, clips, noise(2))
    model, stream = student.transformer, CONFIG.stream
    cache = model.new_cache(stream, batch=2, height=CONFIG.latent_side, width=CONFIG.latent_side)
    plan, generators, found = schedule(model, stream, batch=2), noise(2), []
    audio = torch.cat([clips.audio, clips.audio[:, -1:]], dim=1)  # the last block is filled up
    for block in range(5):
        told = student.conditions(clips._replace(audio=audio[:, 3 * block : 3 * block + 3]))
        clean = denoise_block(model, cache, told, plan, generators)
        clean_pass(model, cache, told, clean, plan, generators)
        found.append(clean)
    torch.testing.assert_close(made, torch.cat(found, dim=2)[:, :, :FRAMES])


@pytest.mark.parametrize("rounding", [None, "bfloat16"])
def test_gradients_do_not_change_what_is_made(rounding: Literal["bfloat16"] | None) -> None:
    """Rounded timesteps (936 for 937.5) are told in the step that has gradients as in all others."""
    student, clips = denoiser(), batch()
    student.config = replace(CONFIG, stream=replace(CONFIG.stream, timestep_rounding=rounding))
    with torch.no_grad():
        without = rollout(student, clips, noise(2), exit_step=1)
    made = rollout(student, clips, noise(2), exit_step=1).detach()
    torch.testing.assert_close(made, without, rtol=0, atol=1e-6)


def test_items_of_a_batch_do_not_know_each_other() -> None:
    student, clips = denoiser().frozen(), batch(3)
    together = rollout(student, clips, noise(3))
    alone = rollout(
        student, clips._replace(**{name: value[1:2] for name, value in clips._asdict().items()}), noise(3)[1:2]
    )
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-4)


def test_the_first_latent_is_the_portrait_and_carries_no_gradient() -> None:
    student, clips = denoiser(), batch()
    made = rollout(student, clips, noise(2), exit_step=1)
    torch.testing.assert_close(made[:, :, :1].detach(), clips.reference)
    grads = torch.autograd.grad(made[:, :, 0].sum(), list(student.parameters()), allow_unused=True, retain_graph=True)
    assert all(grad is None or not grad.any() for grad in grads)


def test_every_block_alone_reaches_the_parameters_but_not_the_blocks_before() -> None:
    student, clips = denoiser(), batch()
    made = rollout(student, clips, noise(2), exit_step=0)
    for block in range(5):
        own = made[:, :, 3 * block : 3 * block + 3]
        grads = torch.autograd.grad(own.square().sum(), student.transformer.head.head.weight, retain_graph=True)
        assert grads[0].abs().max() > 0
    prompts = student.prompts
    assert prompts is not None
    torch.autograd.backward(made.square().sum())
    assert prompts.weight.grad is not None and prompts.weight.grad.abs().max() > 0
    assert student.transformer.audio_proj.proj.weight.grad is not None


def test_audio_of_later_blocks_changes_nothing_before_them() -> None:
    student, clips = denoiser().frozen(), batch()
    other = clips.audio.clone()
    other[:, 6:] += 1.0
    one, two = rollout(student, clips, noise(2)), rollout(student, clips._replace(audio=other), noise(2))
    assert torch.equal(one[:, :, :6], two[:, :, :6]) and not torch.equal(one[:, :, 6:9], two[:, :, 6:9])


def test_a_causal_pass_is_told_the_rounded_timestep_and_the_teachers_the_exact_one() -> None:
    """937.5 becomes 936 where the stream rounds, and only in the student."""
    model, clips = denoiser().frozen(), batch()
    model.config = replace(CONFIG, stream=replace(CONFIG.stream, timestep_rounding="bfloat16"))
    told = model.conditions(clips)
    for causal in (True, False):
        exact, rounded = (
            model.velocity(clips.latents, torch.full((2, 1), sigma), told, block_causal=causal)
            for sigma in (0.9375, 0.936)
        )
        assert torch.equal(exact, rounded) == causal
