"""On-policy distribution matching: the student's own clips, judged by a frozen teacher and a critic that follows it.

LiveTalk section 3.1, equations 2 and 3, and Table 4. A step is a critic update; every `ratio`-th, after a warm-up of
the critic, the student is updated too, as the paper's step counts are read (its code counts so). In such a step the
critic learns from the clips that the student was just updated with; released code makes new ones, at twice the cost.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lt_eval.distill import losses
from lt_eval.distill.denoiser import Denoiser, after_first, without_words
from lt_eval.distill.graphs import Repeated, numbers
from lt_eval.distill.material import Batch
from lt_eval.distill.ranks import ALONE, Ranks
from lt_eval.distill.rollout import rollout
from lt_eval.distill.training import Average, LoopOptions, Optimiser, OptimiserOptions, Progressed, generator_of, train
from lt_eval.generator.config import TIMESTEPS
from lt_eval.generator.sampler import Guidance, anchor, guided_velocity


@dataclass(frozen=True)
class DmdOptions:
    """How the student is distilled. The defaults keep the ratios of Table 4 at the learning rates of a small model.

    Attributes:
        loop: steps (critic updates), measurements.
        student: AdamW of the student; the paper's is (0, 0.999), weight decay 0.01, 4e-6.
        critic: AdamW of the critic; the paper's rate is a fifth of the student's.
        ratio: critic updates for one of the student.
        critic_warmup: critic updates before the first of the student.
        teacher_guidance: scale of the teacher's score, in the convention where 1 is none.
        critic_loss: "flow", as the released code and Self Forcing have it, or "x0", as equation 3 is written.
        ema: decay of the student's average.
        ema_from: step from which it is averaged.
        before: whether the student that is begun with is measured, and comes out where no later one is better.
        batch: clips a step.
        bf16: products in bfloat16.
    """

    loop: LoopOptions = field(default_factory=lambda: LoopOptions(1000, evaluate_every=100, checkpoint_every=50))
    student: OptimiserOptions = field(
        default_factory=lambda: OptimiserOptions(4e-5, beta1=0.0, weight_decay=0.01, clip_norm=10.0)
    )
    critic: OptimiserOptions = field(
        default_factory=lambda: OptimiserOptions(8e-6, beta1=0.0, weight_decay=0.01, clip_norm=10.0)
    )
    ratio: int = 5
    critic_warmup: int = 20
    teacher_guidance: float = 6.0
    critic_loss: Literal["flow", "x0"] = "flow"
    ema: float = 0.99
    ema_from: int = 200
    before: bool = True
    batch: int = 8
    bf16: bool = True

    def updates_student(self, step: int) -> bool:
        """Return whether step `step`, counted from 0, updates the student."""
        return step >= self.critic_warmup and (step - self.critic_warmup) % self.ratio == 0

    def student_updates(self, step: int) -> int:
        """Return how many updates of the student come before step `step`."""
        return max(0, -(-(step - self.critic_warmup) // self.ratio))


def noised(
    generated: Tensor, shift: float, generator: torch.Generator, ranks: Ranks = ALONE
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (noisy clips, noise, sigma [B, F]) at a noise level drawn for each clip."""
    size, frames = generated.shape[0], generated.shape[2]
    sigma = losses.dmd_sigmas(ranks.uniform((size, 1), generator), shift).expand(size, frames)
    noise = ranks.normal(generated.shape, generator)
    return losses.add_noise(generated, noise, sigma), noise, sigma


def critic_loss(
    critic: Denoiser,
    batch: Batch,
    generated: Tensor,
    options: DmdOptions,
    generator: torch.Generator,
    ranks: Ranks = ALONE,
    weight: Tensor | None = None,
) -> Tensor:
    """Return the critic's loss on clips of the student, [B, C, F, h, w] without gradients."""
    noisy, noise, sigma = noised(generated, critic.config.stream.shift, generator, ranks)
    velocity = critic.velocity(noisy, sigma, critic.conditions(batch))
    mask = after_first(sigma)
    if options.critic_loss == "flow":
        return losses.flow_loss(velocity, generated, noise, mask, weight)
    return losses.critic_x0_loss(losses.clean_of(noisy, velocity, sigma), generated, mask, weight)


def student_loss(
    teacher: Denoiser,
    critic: Denoiser,
    batch: Batch,
    generated: Tensor,
    options: DmdOptions,
    generator: torch.Generator,
    ranks: Ranks = ALONE,
    weight: Tensor | None = None,
) -> Tensor:
    """Return the loss whose gradient is equation 2's, on clips of the student with gradients."""
    noisy, _, sigma = noised(generated.detach(), teacher.config.stream.shift, generator, ranks)
    with torch.no_grad():
        fake = losses.clean_of(noisy, critic.velocity(noisy, sigma, critic.conditions(batch)), sigma)
        real = losses.clean_of(noisy, teacher_velocity(teacher, noisy, sigma, batch, options.teacher_guidance), sigma)
    mask = after_first(sigma)
    return losses.dmd_loss(generated, losses.dmd_gradient(generated, fake, real, mask), mask, weight)


@torch.no_grad()
def teacher_velocity(teacher: Denoiser, noisy: Tensor, sigma: Tensor, batch: Batch, guidance: float) -> Tensor:
    """Return the guided velocity of the teacher, float32; latent frame 0 is the reference."""
    noisy = anchor(noisy, batch.reference, teacher.config.stream, block=0)
    with teacher.precision():
        found = guided_velocity(
            teacher.transformer,
            noisy,
            sigma * TIMESTEPS,
            teacher.conditions(batch),
            teacher.read(without_words(batch)),
            Guidance(guidance, guidance),
        )
    return found.float()


def train_dmd(
    student: Denoiser,
    teacher: Denoiser,
    critic: Denoiser,
    options: DmdOptions,
    batches: Callable[[int], Batch],
    folder: Path,
    *,
    evaluate: Callable[[Denoiser], Mapping[str, float]],
    keep: Callable[[Denoiser, int], None] = lambda student, step: None,
    weight: Tensor | None = None,
    seed: int = 0,
    identity: str = "",
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
    ranks: Ranks = ALONE,
) -> tuple[Denoiser, Progressed]:
    """Distil, or continue; return the last averaged student.

    Args:
        student: initialised by ODE pairs.
        teacher: frozen.
        critic: begins as the teacher or a smaller one of its kind.
        options: of the stage.
        batches: step to the conditions of that step, for all processes together; only the shape of its latents is used.
        folder: of this stage.
        evaluate: measures a student on held-out people; its "loss" decides which checkpoint is best. Asked before the
            first step it shows what distillation adds.
        keep: given the best student so far and its step.
        weight: what each element of a latent counts in both losses, [C, h, w]; None counts all alike.
        seed: of everything random.
        identity: of the recipe.
        progress: told (done, in all, what is new).
        ranks: processes that train together; student, teacher and critic are then `sharded`. The first one evaluates,
            keeps, and returns the weights.
    """
    followers = {
        "student": Optimiser(student.parameters(), options.student, options.loop.steps),
        "critic": Optimiser(critic.parameters(), options.critic, options.loop.steps),
    }
    average = Average(student, options.ema, start=options.student_updates(options.ema_from) + 1)

    def update(exit_step: int, both: bool, batch: Batch, draws: Ranks, generator: torch.Generator) -> dict[str, Tensor]:
        logged = {}
        with torch.set_grad_enabled(both):
            generated = rollout(student, batch, [generator], exit_step=exit_step, ranks=draws)
        if both:
            loss = student_loss(teacher, critic, batch, generated, options, generator, draws, weight)
            logged = {"student_loss": loss.detach(), "student_norm": followers["student"].follow(loss)}
            generated = generated.detach()
        loss = critic_loss(critic, batch, generated, options, generator, draws, weight)
        logged |= {"critic_loss": loss.detach(), "critic_norm": followers["critic"].follow(loss)}
        return logged | {"generated": generated}

    repeated = {
        (exit_step, both): Repeated(functools.partial(update, exit_step, both), ranks, student.device)
        for exit_step in range(student.config.stream.steps)
        for both in (False, True)
    }

    def step(number: int) -> dict[str, float]:
        both, generator = options.updates_student(number), generator_of(seed, "dmd", number, student.device)
        exit_step = int(torch.randint(student.config.stream.steps, (), generator=generator_of(seed, "exit", number)))
        for follower in followers.values():
            follower.begin(number)
        batch = student.in_numbers(ranks.share(batches(number)))
        values = dict(repeated[exit_step, both](batch, generator))
        spread = ranks.deviation(values.pop("generated"))  # a collapse to one picture shows here first
        if both:
            average.update()
        return numbers(values) | {"spread": spread}

    now = train(
        folder,
        options.loop,
        {
            "student": student,
            "critic": critic,
            **{f"adam {name}": part for name, part in followers.items()},
            "average": average,
        },
        step,
        evaluate=lambda number: ranks.first_only(evaluate, student.with_weights(average.weights())),
        before=options.before,
        better=lambda number: ranks.first_only(keep, student.with_weights(average.weights()), number),
        identity=identity,
        progress=progress,
        ranks=ranks,
    )
    return student.with_weights(average.weights()), now


def random_batches(pool: Batch, size: int, seed: int) -> Callable[[int], Batch]:
    """Return what draws the conditions of a step from a pool in memory."""

    def draw(step: int) -> Batch:
        rng = np.random.Generator(np.random.PCG64([seed, step, 53]))
        return pool.part(rng.integers(len(pool.prompts), size=size).tolist())

    return draw
