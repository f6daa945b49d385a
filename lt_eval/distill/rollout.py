"""Self-rollout: the student makes a clip as it will in use, with its cache and its sampler, and gradients in one step.

Self Forcing (arXiv 2506.08009), algorithm 1, as LiveTalk section 3.1 takes it over: one exit step is drawn for an
iteration; each block is denoised up to it without gradients, the exit step is taken with them, and its prediction is
the block. It is run once more, clean and without gradients, to write keys and values.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from lt_eval.distill.denoiser import Denoiser
from lt_eval.distill.material import Batch
from lt_eval.distill.ranks import ALONE, Ranks
from lt_eval.generator.conditions import Conditions
from lt_eval.generator.sampler import (
    Noise,
    add_noise,
    anchor,
    clean_from_velocity,
    clean_pass,
    draw_noise,
    schedule,
    timestep_of,
)


def rollout(
    student: Denoiser,
    batch: Batch,
    generators: Sequence[torch.Generator],
    *,
    exit_step: int | None = None,
    frames: int | None = None,
    ranks: Ranks = ALONE,
) -> Tensor:
    """Return what the student makes of a batch's conditions, float32 [B, C, F, h, w].

    Args:
        student: causal.
        batch: conditions; the latents give the number of frames.
        generators: of the noise, one an item, drawn from in the order in which the stream draws; or one for all items.
        exit_step: the denoising step whose prediction is taken, from 0; gradients flow through this one where they are
            enabled. None takes the last, as in use.
        frames: latent frames; None makes as many as the batch has.
        ranks: processes of which this one's clips are the batch; one generator draws the noise of all clips.
    """
    stream, model = student.config.stream, student.transformer
    height, width = batch.reference.shape[3:]
    exit_step = stream.steps - 1 if exit_step is None else exit_step
    frames = batch.audio.shape[1] if frames is None else frames
    with torch.no_grad(), student.precision():
        settled = model.prepare(student.conditions(batch)._replace(audio=None))
        plan = schedule(model, stream, batch=len(batch.prompts))
    noise: Noise = functools.partial(ranks.normal, generator=generators[0]) if len(generators) == 1 else generators
    cache = model.new_cache(stream, batch=len(batch.prompts), height=height, width=width)
    made = []
    for block in range(-(-frames // stream.block_frames)):
        heard = _padded(batch.audio[:, block * stream.block_frames :], stream.block_frames)
        shape = (*batch.reference.shape[:2], stream.block_frames, height, width)
        x = draw_noise(shape, noise, model.device)
        with torch.no_grad(), student.precision():
            known = model.prepare(settled._replace(audio=heard))
            for step in range(exit_step):
                x = anchor(x, batch.reference, stream, block)
                velocity = model.step(x, plan.levels[step], known, cache).float()
                clean = anchor(clean_from_velocity(x, velocity, plan.sigmas[step]), batch.reference, stream, block)
                x = add_noise(clean, draw_noise(shape, noise, model.device), plan.sigmas[step + 1])
        x = anchor(x, batch.reference, stream, block)
        sigma = plan.sigmas[exit_step]
        with student.precision():
            if torch.is_grad_enabled():  # projected here, so that gradients reach what projects
                timestep = torch.full((len(batch.prompts), 1), timestep_of(sigma, stream), device=model.device)
                told = Conditions(batch.reference, student.read(batch.prompts), heard)
                velocity = model.step(x, timestep, told, cache).float()
            else:
                velocity = model.step(x, plan.levels[exit_step], known, cache).float()
        clean = anchor(clean_from_velocity(x, velocity, sigma), batch.reference, stream, block)
        made.append(clean)
        with student.precision():
            clean_pass(model, cache, known, clean.detach(), plan, noise)
    return torch.cat(made, dim=2)[:, :, :frames]


def _padded(audio: Tensor, frames: int) -> Tensor:
    """Return the next `frames` of the audio, the last one repeated where a clip ends within a block."""
    piece = audio[:, :frames]
    lacking = frames - piece.shape[1]
    return torch.cat([piece, piece[:, -1:].expand(-1, lacking, -1)], dim=1) if lacking else piece
