"""The teacher: bidirectional, many steps, classifier-free guidance over text and audio. Flow matching on latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lt_eval.distill import losses
from lt_eval.distill.denoiser import Denoiser, after_first, dropped
from lt_eval.distill.graphs import Repeated, numbers
from lt_eval.distill.linear import fit_prior
from lt_eval.distill.material import Batch, Material
from lt_eval.distill.ranks import ALONE, Ranks
from lt_eval.distill.training import Average, LoopOptions, Optimiser, OptimiserOptions, Progressed, generator_of, train


@dataclass(frozen=True)
class TeacherOptions:
    """How the teacher is trained.

    Attributes:
        loop: steps and measurements.
        adam: of transformer and prompt table.
        batch: clips a step.
        shift: of the noise levels that are drawn: uniform, then warped.
        drop_both: share of clips without prompt and audio, which guidance leads away from.
        drop_text: share without prompt alone.
        drop_audio: share without audio alone.
        ema: decay of the averaged weights, which are what comes out.
        bf16: products in bfloat16.
    """

    loop: LoopOptions = field(default_factory=lambda: LoopOptions(2400, evaluate_every=200, checkpoint_every=100))
    adam: OptimiserOptions = field(
        default_factory=lambda: OptimiserOptions(8e-4, beta2=0.99, clip_norm=1.0, warmup_steps=100, decay_to=0.05)
    )
    batch: int = 16
    shift: float = 3.0
    drop_both: float = 0.1
    drop_text: float = 0.05
    drop_audio: float = 0.05
    ema: float = 0.995
    bf16: bool = True


def teacher_loss(
    model: Denoiser,
    batch: Batch,
    options: TeacherOptions,
    generator: torch.Generator,
    ranks: Ranks = ALONE,
    weight: Tensor | None = None,
) -> Tensor:
    """Return the flow loss of one batch at random noise levels, one a clip, with conditions dropped at random."""
    size, frames = batch.latents.shape[0], batch.latents.shape[2]
    chance = ranks.uniform((size,), generator)
    both = chance < options.drop_both
    text = both | ((chance >= options.drop_both) & (chance < options.drop_both + options.drop_text))
    audio = both | (chance > 1 - options.drop_audio)
    sigma = losses.warp(ranks.uniform((size, 1), generator), options.shift)
    return flow_loss_at(model, dropped(batch, text, audio), sigma.expand(size, frames), generator, ranks, weight)


def flow_loss_at(
    model: Denoiser,
    batch: Batch,
    sigma: Tensor,
    generator: torch.Generator,
    ranks: Ranks = ALONE,
    weight: Tensor | None = None,
) -> Tensor:
    """Return the flow loss of a batch at noise levels [B, F]; `weight` [C, h, w] is what each element counts."""
    noise = ranks.normal(batch.latents.shape, generator)
    noisy = losses.add_noise(batch.latents, noise, sigma)
    velocity = model.velocity(noisy, sigma, model.conditions(batch))
    return losses.flow_loss(velocity, batch.latents, noise, after_first(sigma), weight)


@torch.no_grad()
def held_out_loss(model: Denoiser, material: Material, shift: float, levels: int = 4) -> float:
    """Return the mean flow loss on held-out people at fixed noise and evenly spread noise levels."""
    batch = material.held_out().to(model.device)
    found = []
    for level in range(levels):
        time = torch.full((batch.latents.shape[0], 1), (level + 0.5) / levels, device=model.device)
        sigma = losses.warp(time, shift).expand(-1, batch.latents.shape[2])
        found.append(float(flow_loss_at(model, batch, sigma, generator_of(0, "held out", level, model.device))))
    return float(np.mean(found))


def train_teacher(
    model: Denoiser,
    options: TeacherOptions,
    material: Material,
    folder: Path,
    *,
    weight: Tensor | None = None,
    seed: int = 0,
    identity: str = "",
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
    ranks: Ranks = ALONE,
) -> tuple[Denoiser, Progressed]:
    """Train the teacher, or continue; return it with averaged weights.

    Its prior, where it has one, is fitted to the material first. `weight` [C, h, w] is what each element of a latent
    counts in training; held-out losses count all alike. Of several processes each takes its part of a step, of a model
    that is `sharded`; the first returns the weights.
    """
    if model.transformer.prior is not None:
        fit_prior(model.transformer.prior, material)
    optimiser = Optimiser(model.parameters(), options.adam, options.loop.steps)
    average = Average(model, options.ema, start=options.loop.steps // 10)

    def update(batch: Batch, draws: Ranks, generator: torch.Generator) -> dict[str, Tensor]:
        loss = teacher_loss(model, batch, options, generator, draws, weight)
        return {"loss": loss.detach(), "norm": optimiser.follow(loss)}

    repeated = Repeated(update, ranks, model.device)

    def step(number: int) -> dict[str, float]:
        drawn = material.random(options.batch, np.random.Generator(np.random.PCG64([seed, number, 41])))
        optimiser.begin(number)
        generator = generator_of(seed, "teacher", number, model.device)
        values = repeated(model.in_numbers(ranks.share(drawn)), generator)
        average.update()
        return numbers(values)

    def measured(shown: Denoiser) -> dict[str, float]:
        return {"loss": held_out_loss(shown, material, options.shift)}

    now = train(
        folder,
        options.loop,
        {"model": model, "optimiser": optimiser, "average": average},
        step,
        evaluate=lambda number: ranks.first_only(measured, model.with_weights(average.weights())),
        identity=identity,
        progress=progress,
        ranks=ranks,
    )
    return model.with_weights(average.weights()), now
