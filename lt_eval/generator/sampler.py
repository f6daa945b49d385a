"""Flow matching as plain functions: the few-step block sampler of the student, the guided Euler sampler of the teacher.

A noisy latent is x = (1 - sigma) clean + sigma noise; the model predicts the velocity v = noise - clean at timestep
1000 sigma. Hence clean = x - sigma v, computed in float64: at sigma 1 in bfloat16 the difference loses two digits.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lt_eval.errors import SpecError
from lt_eval.generator.cache import KVCache
from lt_eval.generator.conditions import Conditions, Modulation
from lt_eval.generator.config import TIMESTEPS, StreamConfig
from lt_eval.generator.model import Transformer


def shifted_sigmas(steps: int, shift: float) -> list[float]:
    """Return the noise levels of a schedule, from 1 downwards, without the final 0.

    Evenly spaced levels 1, 1 - 1/steps ... are warped by shift sigma / (1 + (shift - 1) sigma). Four steps at shift 5
    are 1, 0.9375, 0.8333, 0.625.
    """
    even = [1 - step / steps for step in range(steps)]
    return [shift * sigma / (1 + (shift - 1) * sigma) for sigma in even]


def round_to_bfloat16(value: float) -> float:
    """Return the nearest bfloat16, which has eight significant bits: 937.5 becomes 936 and 833.33 becomes 832."""
    return float(torch.tensor(value, dtype=torch.bfloat16, device="cpu"))


def timestep_of(sigma: float, stream: StreamConfig) -> float:
    """Return the timestep that the model is told for a noise level, rounded as the stream says."""
    timestep = sigma * TIMESTEPS
    return round_to_bfloat16(timestep) if stream.timestep_rounding == "bfloat16" else timestep


def clean_from_velocity(noisy: Tensor, velocity: Tensor, sigma: float | Tensor) -> Tensor:
    """Return the predicted clean latent noisy - sigma velocity, computed in float64, in the dtype of `noisy`."""
    return (noisy.double() - sigma * velocity.double()).to(noisy.dtype)


def add_noise(clean: Tensor, noise: Tensor, sigma: float | Tensor) -> Tensor:
    """Return (1 - sigma) clean + sigma noise in the dtype of `clean`."""
    return (clean.double() * (1 - sigma) + noise.double() * sigma).to(clean.dtype)


class Schedule(NamedTuple):
    """A stream's noise levels, embedded once: they are the same for every block.

    Attributes:
        sigmas: of the denoising steps.
        levels: what the model is given at each of them.
        context: of the pass that writes keys and values.
    """

    sigmas: tuple[float, ...]
    levels: tuple[Modulation, ...]
    context: Modulation


def schedule(model: Transformer, stream: StreamConfig, *, batch: int = 1) -> Schedule:
    """Embed a stream's noise levels."""

    def embed(timestep: float) -> Modulation:
        return model.modulation(torch.full((batch, 1), timestep, dtype=torch.float32, device=model.device))

    sigmas = tuple(shifted_sigmas(stream.steps, stream.shift))
    levels = tuple(embed(timestep_of(sigma, stream)) for sigma in sigmas)
    return Schedule(sigmas, levels, embed(stream.context_noise))


Noise = Sequence[torch.Generator] | Callable[[Sequence[int]], Tensor]
"""Generators, one an item or one for all; or what returns noise of a shape, where items of other processes share it."""


def draw_noise(shape: Sequence[int], generators: Noise, device: torch.device) -> Tensor:
    """Return Gaussian noise [B, ...] float32, each item from its own generator: it does not depend on its neighbours.

    One generator for several items draws all at once, faster on a GPU; an item's noise then depends on its place.

    Args:
        shape: of all items together.
        generators: one an item, or one for all; or what draws.
        device: of the result. The generators may live elsewhere: noise drawn on the CPU is the same for every device.

    Raises:
        SpecError: the numbers of items and generators differ.
    """
    if callable(generators):
        return generators(shape).to(device)
    if len(generators) == 1:
        return torch.randn(tuple(shape), generator=generators[0], device=generators[0].device).to(device)
    if len(generators) != shape[0]:
        raise SpecError(
            f"There are {shape[0]} items and {len(generators)} generators of noise; give one an item, or one for all."
        )
    drawn = [torch.randn(tuple(shape[1:]), generator=generator, device=generator.device) for generator in generators]
    return torch.stack(drawn).to(device, non_blocking=True)


def anchor(latents: Tensor, reference: Tensor, stream: StreamConfig, block: int) -> Tensor:
    """Return latents [B, C, F, h, w] whose frame 0 is the reference, where this is the first block of the stream."""
    if block or not stream.anchor_first_latent:
        return latents
    return torch.cat([reference.to(latents), latents[:, :, 1:]], dim=2)


@torch.no_grad()
def denoise_block(
    model: Transformer,
    cache: KVCache,
    conditions: Conditions,
    plan: Schedule,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Denoise the stream's current block from fresh noise; the cache still stands at this block afterwards.

    Between steps the prediction is mixed with fresh noise, as a consistency model is sampled. In the first block
    latent frame 0 is the reference before every step and in the result.

    Args:
        model: the student.
        cache: of the stream.
        conditions: the reference, the prompt and this block's audio; prepared or not.
        plan: the noise levels (`schedule`).
        generators: of the noise, one an item of the batch.

    Returns:
        The clean latents [B, C, block frames, h, w] float32. Pass them to `clean_pass` before the next block.
    """
    stream = cache.stream
    reference = conditions.reference.float()
    shape = (*reference.shape[:2], stream.block_frames, *reference.shape[3:])
    conditions = model.prepare(conditions)
    x = draw_noise(shape, generators, model.device)  # [B, C, F, h, w]
    clean = x
    for step, (sigma, level) in enumerate(zip(plan.sigmas, plan.levels, strict=True)):
        if step:
            x = add_noise(clean, draw_noise(shape, generators, model.device), sigma)  # [B, C, F, h, w]
        x = anchor(x, reference, stream, cache.block)  # [B, C, F, h, w]
        velocity = model.step(x, level, conditions, cache)  # [B, C, F, h, w]
        clean = anchor(clean_from_velocity(x, velocity, sigma), reference, stream, cache.block)
    return clean


@torch.no_grad()
def clean_pass(
    model: Transformer,
    cache: KVCache,
    conditions: Conditions,
    clean: Tensor,
    plan: Schedule,
    generators: Noise = (),
) -> None:
    """Write the keys and values of a finished block, at the context noise level, and go on to the next block.

    Args:
        model: the student.
        cache: of the stream.
        conditions: those of `denoise_block`.
        clean: its result.
        plan: the noise levels.
        generators: of the noise; used only where the stream's context noise is above 0.
    """
    sigma = cache.stream.context_noise / TIMESTEPS
    if sigma:
        clean = add_noise(clean, draw_noise(clean.shape, generators, model.device), sigma)
    model.prefill(clean, plan.context, conditions, cache)


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance in the convention velocity = without + scale (with - without).

    Scale 1 is no guidance. The other convention, with + s (with - without), is scale = s + 1: a scale of 6 here is what
    LiveTalk's configuration calls 5.

    Attributes:
        text: scale of the prompt against the negative prompt.
        audio: scale of the audio against silence (features of zero, as OmniAvatar's). Equal to `text`, one pass without
            both does, as upstream; unequal, a third pass parts the two.
    """

    text: float = 1.0
    audio: float = 1.0


def guided_velocity(
    model: Transformer,
    noisy: Tensor,
    timestep: Tensor,
    conditions: Conditions,
    negative_text: Tensor | None = None,
    guidance: Guidance = Guidance(),
) -> Tensor:
    """Return the bidirectional velocity under guidance; gradients flow.

    Args:
        model: the teacher.
        noisy: [B, C, F, h, w].
        timestep: [B, F or 1], 0..1000.
        conditions: with raw audio, since silence is an input of it.
        negative_text: tokens of the negative prompt, [B, L, text_dim]; needed where a scale is not 1.
        guidance: the scales.

    Raises:
        SpecError: guidance is asked for without a negative prompt or with projected audio.
    """
    full: Tensor = model(noisy, timestep, conditions)
    if guidance.text == guidance.audio == 1:
        return full
    if negative_text is None or not isinstance(conditions.audio, Tensor):
        raise SpecError("Guidance needs negative_text and raw audio features; give both, or scales of 1.")
    silence = torch.zeros_like(conditions.audio)
    neither = model(noisy, timestep, Conditions(conditions.reference, negative_text, silence))
    if guidance.text == guidance.audio:
        return torch.lerp(neither, full, guidance.text)
    text_only = model(noisy, timestep, conditions._replace(audio=silence))
    guided: Tensor = neither + guidance.text * (text_only - neither) + guidance.audio * (full - text_only)
    return guided


class Trajectory(NamedTuple):
    """What a many-step sampler went through.

    Attributes:
        sigmas: noise level of each kept state; the last is 0.
        states: [kept, B, C, F, h, w]; the last is the sample.
    """

    sigmas: tuple[float, ...]
    states: Tensor


@torch.no_grad()
def sample_sequence(
    model: Transformer,
    conditions: Conditions,
    frames: int,
    generators: Sequence[torch.Generator],
    *,
    steps: int = 50,
    shift: float = 5.0,
    negative_text: Tensor | None = None,
    guidance: Guidance = Guidance(),
    anchor_first_latent: bool = True,
    keep: Sequence[int] = (),
) -> Trajectory:
    """Sample a whole sequence with Euler steps of dx = v dsigma, bidirectional: the teacher, and the ODE pairs' source.

    Args:
        model: the teacher.
        conditions: of all frames.
        frames: F, latent frames.
        generators: of the starting noise, one an item.
        steps: of the schedule.
        shift: of the schedule.
        negative_text: tokens of the negative prompt, for guidance.
        guidance: the scales.
        anchor_first_latent: whether latent frame 0 is overwritten by the reference before every step and at the end.
        keep: indices of steps whose state, before the step, is returned besides the sample.

    Returns:
        The kept states in order of sampling and the sample, float32.
    """
    reference = conditions.reference.float()
    stream = StreamConfig(anchor_first_latent=anchor_first_latent)
    x = draw_noise((*reference.shape[:2], frames, *reference.shape[3:]), generators, model.device)  # [B, C, F, h, w]
    sigmas = [*shifted_sigmas(steps, shift), 0.0]
    kept: list[tuple[float, Tensor]] = []
    for step, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
        x = anchor(x, reference, stream, block=0)
        if step in keep:
            kept.append((sigma, x))
        timestep = torch.full((x.shape[0], 1), sigma * TIMESTEPS, device=x.device)
        velocity = guided_velocity(model, x, timestep, conditions, negative_text, guidance)  # [B, C, F, h, w]
        x = clean_from_velocity(x, velocity, sigma - following)
    kept.append((0.0, anchor(x, reference, stream, block=0)))
    return Trajectory(tuple(sigma for sigma, _ in kept), torch.stack([state for _, state in kept]))
