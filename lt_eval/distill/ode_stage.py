"""ODE initialisation: trajectories of the guided teacher, and a causal student that jumps to their ends. Equation 1.

The teacher walks `trajectory_steps` Euler steps; the states at the student's noise levels and the end are kept. The
student gets, for every block, one of the kept states drawn at random, and predicts the end with the causal window of
its stream.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lt_eval.distill import losses
from lt_eval.distill.denoiser import Denoiser, after_first
from lt_eval.distill.material import Batch
from lt_eval.distill.training import Average, LoopOptions, Optimiser, OptimiserOptions, Progressed, generator_of, train
from lt_eval.generator.sampler import Guidance, sample_sequence, shifted_sigmas
from lt_eval.store import read_json, write_json

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class PairOptions:
    """How trajectories are made. Table 4: 48 steps, guidance 4.5.

    Attributes:
        trajectory_steps: Euler steps of the teacher; a multiple of the student's steps.
        guidance: scale over text and audio, in the convention where 1 is none.
        batch: trajectories at a time.
    """

    trajectory_steps: int = 48
    guidance: float = 4.5
    batch: int = 16


@dataclass(frozen=True)
class OdeOptions:
    """How the student is initialised. Table 4: AdamW (0.9, 0.999), no weight decay.

    Attributes:
        loop: steps, and the criterion of convergence on held-out trajectories.
        adam: of the student.
        batch: trajectories a step.
        held_out: trajectories, the last ones, that are only measured on.
        ema: decay of the averaged weights, which are what comes out.
        bf16: products in bfloat16.
    """

    loop: LoopOptions = field(
        default_factory=lambda: LoopOptions(2000, evaluate_every=100, checkpoint_every=100, patience=4, tolerance=0.005)
    )
    adam: OptimiserOptions = field(
        default_factory=lambda: OptimiserOptions(4e-4, clip_norm=1.0, warmup_steps=50, decay_to=0.1)
    )
    batch: int = 16
    held_out: int = 16
    ema: float = 0.99
    bf16: bool = True


@dataclass(frozen=True)
class Pairs:
    """Trajectories with their conditions, on disk.

    Attributes:
        states: float16 [N, k + 1, C, F, h, w]; the last of the second axis is the end.
        reference: float16 [N, C, 1, h, w].
        audio: float16 [N, F, audio_dim].
        prompts: N of them.
        sigmas: noise level of each state; the last is 0.
    """

    states: NDArray[np.float16]
    reference: NDArray[np.float16]
    audio: NDArray[np.float16]
    prompts: tuple[str, ...]
    sigmas: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.states)

    def batch(self, which: Sequence[int]) -> tuple[Tensor, Batch]:
        """Return states [B, k + 1, C, F, h, w], and a batch whose latents are the ends."""
        states = torch.from_numpy(np.stack([self.states[n] for n in which])).float()
        reference = torch.from_numpy(np.stack([self.reference[n] for n in which])).float()
        audio = torch.from_numpy(np.stack([self.audio[n] for n in which])).float()
        return states, Batch(states[:, -1], reference, audio, tuple(self.prompts[n] for n in which))


def make_pairs(
    teacher: Denoiser,
    options: PairOptions,
    batches: Callable[[int, int], Batch],
    count: int,
    folder: Path,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Pairs:
    """Make trajectories, or continue, or return what is there.

    Args:
        teacher: guided.
        options: steps and scale.
        batches: (first, how many) to the conditions of trajectories first .. first + how many; their latents give the
            shape alone.
        count: how many in all.
        folder: of these pairs alone.
        seed: of the starting noise, which depends on the trajectory's number.
        progress: told (done, in all).

    Raises:
        ValueError: the teacher's steps do not meet the student's noise levels.
    """
    stream = teacher.config.stream
    if options.trajectory_steps % stream.steps:
        raise ValueError(
            f"{options.trajectory_steps} trajectory steps are no multiple of the student's {stream.steps}."
        )
    every = options.trajectory_steps // stream.steps
    keep = [every * step for step in range(stream.steps)]
    sigmas = (*shifted_sigmas(stream.steps, stream.shift), 0.0)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "pairs.json").is_file():
        done_file = folder / "done.jsonl"
        done = [json.loads(line) for line in done_file.read_text().splitlines()] if done_file.is_file() else []
        example = batches(0, 1)
        shapes = {
            "states": (count, len(keep) + 1, *example.latents.shape[1:]),
            "reference": (count, *example.reference.shape[1:]),
            "audio": (count, *example.audio.shape[1:]),
        }
        maps = {
            name: np.lib.format.open_memmap(folder / f"{name}.npy", "r+" if done else "w+", np.float16, shape)
            for name, shape in shapes.items()
        }
        while len(done) < count:
            first = len(done)
            batch = batches(first, min(options.batch, count - first))
            states = _walk(
                teacher,
                options,
                batch,
                keep,
                [generator_of(seed, "pair", first + n) for n in range(len(batch.prompts))],
            )
            stop = first + len(batch.prompts)
            maps["states"][first:stop] = states.transpose(0, 1).numpy()
            maps["reference"][first:stop], maps["audio"][first:stop] = batch.reference.numpy(), batch.audio.numpy()
            for part in maps.values():
                part.flush()
            with done_file.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(prompt) + "\n" for prompt in batch.prompts)
            done += batch.prompts
            progress(stop, count)
        write_json(folder / "pairs.json", {"prompts": done, "sigmas": sigmas, "options": dataclasses.asdict(options)})
    kept = read_json(folder / "pairs.json")
    states, reference, audio = (
        np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("states", "reference", "audio")
    )
    return Pairs(states, reference, audio, tuple(kept["prompts"]), tuple(kept["sigmas"]))


@torch.no_grad()
def _walk(
    teacher: Denoiser, options: PairOptions, batch: Batch, keep: Sequence[int], generators: Sequence[torch.Generator]
) -> Tensor:
    """Return the kept states and the end, [k + 1, B, C, F, h, w]."""
    conditions = teacher.conditions(batch)
    with teacher.precision():
        found = sample_sequence(
            teacher.transformer,
            conditions,
            batch.latents.shape[2],
            generators,
            steps=options.trajectory_steps,
            shift=teacher.config.stream.shift,
            negative_text=teacher.read([""] * len(batch.prompts)),
            guidance=Guidance(options.guidance, options.guidance),
            anchor_first_latent=teacher.config.stream.anchor_first_latent,
            keep=keep,
        )
    return found.states.float()


def ode_batch_loss(student: Denoiser, states: Tensor, batch: Batch, sigmas: Sequence[float], index: Tensor) -> Tensor:
    """Return equation 1 for one batch.

    Args:
        student: causal.
        states: [B, k + 1, C, F, h, w].
        batch: their conditions; latents are the ends.
        sigmas: of the states.
        index: int [B, blocks], which state each block is given; below k.
    """
    frames = states.shape[3]
    size = student.config.stream.block_frames
    each = index.repeat_interleave(size, dim=1)[:, :frames]  # [B, F]
    chosen = torch.gather(
        states, 1, each[:, None, None, :, None, None].expand(-1, 1, states.shape[2], -1, *states.shape[4:])
    )[:, 0]  # [B, C, F, h, w]
    level = torch.tensor(sigmas, dtype=torch.float32)[each]
    velocity = student.velocity(chosen, level, student.conditions(batch), block_causal=True)
    predicted = losses.clean_of(chosen, velocity, level)
    return losses.ode_loss(predicted, batch.latents, after_first(*each.shape))


@torch.no_grad()
def held_out_ode_loss(student: Denoiser, pairs: Pairs, which: Sequence[int]) -> float:
    """Return the mean loss over the kept noise levels, each given to all blocks at once."""
    states, batch = pairs.batch(which)
    blocks = -(-states.shape[3] // student.config.stream.block_frames)
    levels = range(len(pairs.sigmas) - 1)
    index = [torch.full((len(which), blocks), level) for level in levels]
    return float(np.mean([float(ode_batch_loss(student, states, batch, pairs.sigmas, each)) for each in index]))


def train_ode(
    student: Denoiser,
    options: OdeOptions,
    pairs: Pairs,
    folder: Path,
    *,
    seed: int = 0,
    identity: str = "",
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> tuple[Denoiser, Progressed]:
    """Train the student until its held-out loss has converged or the steps are used up; return averaged weights."""
    optimiser = Optimiser(student.parameters(), options.adam, options.loop.steps)
    average = Average(student, options.ema, start=max(1, options.loop.steps // 20))
    trained = len(pairs) - options.held_out
    held_out = range(trained, len(pairs))

    def step(number: int) -> dict[str, float]:
        generator = generator_of(seed, "ode", number)
        which = torch.randint(trained, (options.batch,), generator=generator).tolist()
        states, batch = pairs.batch(which)
        blocks = -(-states.shape[3] // student.config.stream.block_frames)
        index = torch.randint(len(pairs.sigmas) - 1, (len(which), blocks), generator=generator)
        loss = ode_batch_loss(student, states, batch, pairs.sigmas, index)
        norm = optimiser.step(loss, number)
        average.update()
        return {"loss": float(loss.detach()), "norm": norm}

    now = train(
        folder,
        options.loop,
        {"student": student, "optimiser": optimiser, "average": average},
        step,
        evaluate=lambda number: {"loss": held_out_ode_loss(student.with_weights(average.weights()), pairs, held_out)},
        identity=identity,
        progress=progress,
    )
    return student.with_weights(average.weights()), now
