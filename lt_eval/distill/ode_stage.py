"""ODE initialisation: trajectories of the guided teacher, and a causal student that jumps to their ends. Equation 1.

The teacher walks `trajectory_steps` Euler steps; the states at the student's noise levels and the end are kept. The
student gets, for every block, one of the kept states drawn at random, and predicts the end with the causal window of
its stream.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lt_eval.distill import losses
from lt_eval.distill.denoiser import Denoiser, after_first
from lt_eval.distill.folders import journal, note
from lt_eval.distill.graphs import Repeated, numbers
from lt_eval.distill.material import Batch
from lt_eval.distill.ranks import ALONE, Ranks
from lt_eval.distill.training import Average, LoopOptions, Optimiser, OptimiserOptions, Progressed, generator_of, train
from lt_eval.errors import StoreError
from lt_eval.generator.sampler import Guidance, sample_sequence, shifted_sigmas
from lt_eval.store import read_json, write_json


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

    states: Tensor
    reference: Tensor
    audio: Tensor
    prompts: tuple[str, ...]
    sigmas: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.states)

    def batch(self, which: Sequence[int]) -> tuple[Tensor, Batch]:
        """Return states [B, k + 1, C, F, h, w], and a batch whose latents are the ends."""
        chosen = list(which)
        states, reference, audio = (part[chosen].float() for part in (self.states, self.reference, self.audio))
        return states, Batch(states[:, -1], reference, audio, tuple(self.prompts[n] for n in chosen))

    def to(self, device: torch.device) -> Pairs:
        """Return them on a device; on the CPU they stay a map of the files."""
        return dataclasses.replace(
            self, states=self.states.to(device), reference=self.reference.to(device), audio=self.audio.to(device)
        )


def make_pairs(
    teacher: Denoiser,
    options: PairOptions,
    batches: Callable[[int, int], Batch],
    count: int,
    folder: Path,
    *,
    seed: int = 0,
    identity: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
    ranks: Ranks = ALONE,
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
        identity: hash of teacher, conditions and options; trajectories of another are neither continued nor returned.
        progress: told (done, in all).
        ranks: processes that share each batch; the teacher is then `sharded`, and the first one writes.

    Raises:
        ValueError: the teacher's steps do not meet the student's noise levels.
        StoreError: the folder holds trajectories of another teacher or of other conditions.
    """
    stream = teacher.config.stream
    if options.trajectory_steps % stream.steps:
        raise ValueError(
            f"{options.trajectory_steps} trajectory steps are no multiple of the student's {stream.steps}."
        )
    if ranks.first_only(_claim, folder, {"identity": identity, "count": count}):
        prompts = _fill(teacher, options, batches, count, folder, seed, progress, ranks)
        sigmas = (*shifted_sigmas(stream.steps, stream.shift), 0.0)
        facts = {"prompts": prompts, "sigmas": sigmas, "options": dataclasses.asdict(options)}
        ranks.first_only(write_json, folder / "pairs.json", facts)
    return _read(folder)


def known_pairs(folder: Path, count: int, identity: str) -> Pairs | None:
    """Return finished trajectories of this teacher and these conditions, or None where some are still to be made.

    Raises:
        StoreError: the folder holds trajectories of another teacher or of other conditions.
    """
    return None if _claim(folder, {"identity": identity, "count": count}) else _read(folder)


def _read(folder: Path) -> Pairs:
    kept = read_json(folder / "pairs.json")
    states, reference, audio = (
        torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c")) for name in ("states", "reference", "audio")
    )
    return Pairs(states, reference, audio, tuple(kept["prompts"]), tuple(kept["sigmas"]))


def _claim(folder: Path, mine: dict[str, Any]) -> bool:
    """Say in the folder what its trajectories are made from; return whether any are still to be made."""
    folder.mkdir(parents=True, exist_ok=True)
    made_from = folder / "made_from.json"
    if made_from.is_file() and read_json(made_from) != mine:
        raise StoreError(
            f"{folder}: holds trajectories of another teacher or of other conditions. Delete that folder to make new "
            "ones, and ode/ and dmd/ beside it, which came from them."
        )
    finished = (folder / "pairs.json").is_file()
    if not finished and not made_from.is_file():
        write_json(made_from, mine)
    return not finished


def _fill(
    teacher: Denoiser,
    options: PairOptions,
    batches: Callable[[int, int], Batch],
    count: int,
    folder: Path,
    seed: int,
    progress: Callable[[int, int], None],
    ranks: Ranks,
) -> list[str]:
    """Write trajectories into files of their final size, a batch at a time; return the prompts of all.

    A batch counts once its prompts are a line of the journal, after its numbers. One that was cut off is made again
    whole: products of a batch of another size may round otherwise.
    """
    every = options.trajectory_steps // teacher.config.stream.steps
    keep = [every * step for step in range(teacher.config.stream.steps)]
    done: list[str] = [prompt for line in ranks.first_only(journal, folder / "done.jsonl") for prompt in line]
    maps = _maps(folder, batches(0, 1), len(keep) + 1, count, new=not done) if ranks.first else {}
    while len(done) < count:
        first = len(done)
        batch = batches(first, min(options.batch, count - first))
        stop = first + len(batch.prompts)
        own = -(-len(batch.prompts) // ranks.world)  # where they do not divide, the last trajectory is made more often
        mine = [min(first + ranks.rank * own + place, stop - 1) for place in range(own)]
        noise = [generator_of(seed, "pair", number) for number in mine]
        part = batch.part([number - first for number in mine]).to(teacher.device)
        states = ranks.gathered(_walk(teacher, options, part, keep, noise), dim=1)  # [k + 1, B, C, F, h, w]
        if ranks.first:
            maps["states"][first:stop] = states[:, : stop - first].transpose(0, 1).numpy()
            maps["reference"][first:stop] = batch.reference.cpu().numpy()
            maps["audio"][first:stop] = batch.audio.cpu().numpy()
            for each in maps.values():
                each.flush()
            note(folder / "done.jsonl", [batch.prompts])
        done += batch.prompts
        progress(stop, count)
    return done


def _maps(
    folder: Path, example: Batch, states: int, count: int, *, new: bool
) -> dict[str, np.memmap[Any, np.dtype[np.float16]]]:
    """Return the files of trajectories like an example, of their final size."""
    shapes = {
        "states": (count, states, *example.latents.shape[1:]),
        "reference": (count, *example.reference.shape[1:]),
        "audio": (count, *example.audio.shape[1:]),
    }
    return {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+" if new else "r+", np.float16, shape)
        for name, shape in shapes.items()
    }


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


class Shown(NamedTuple):
    """What a step looks at: trajectories [B, k + 1, C, F, h, w], which state each block is given, and conditions."""

    states: Tensor
    given: Tensor
    reference: Tensor
    audio: Tensor
    prompts: tuple[str, ...] | Tensor


def ode_batch_loss(
    student: Denoiser, states: Tensor, batch: Batch, sigmas: Tensor, index: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Return equation 1 for one batch.

    Args:
        student: causal.
        states: [B, k + 1, C, F, h, w].
        batch: their conditions; latents are the ends.
        sigmas: of the states, float32 [k + 1].
        index: int [B, blocks], which state each block is given; below k.
        weight: what each element of a latent counts, [C, h, w]; None counts all alike.
    """
    frames = states.shape[3]
    size = student.config.stream.block_frames
    each = index.repeat_interleave(size, dim=1)[:, :frames]  # [B, F]
    chosen = torch.gather(
        states, 1, each[:, None, None, :, None, None].expand(-1, 1, states.shape[2], -1, *states.shape[4:])
    )[:, 0]  # [B, C, F, h, w]
    level = sigmas[each]
    velocity = student.velocity(chosen, level, student.conditions(batch), block_causal=True)
    predicted = losses.clean_of(chosen, velocity, level)
    return losses.ode_loss(predicted, batch.latents, after_first(each), weight)


@torch.no_grad()
def held_out_ode_loss(student: Denoiser, pairs: Pairs, which: Sequence[int]) -> float:
    """Return the mean loss over the kept noise levels, each given to all blocks at once."""
    states, batch = pairs.batch(which)
    blocks = -(-states.shape[3] // student.config.stream.block_frames)
    levels = range(len(pairs.sigmas) - 1)
    index = [torch.full((len(which), blocks), level, device=states.device) for level in levels]
    sigmas = torch.tensor(pairs.sigmas, dtype=torch.float32, device=states.device)
    return float(np.mean([float(ode_batch_loss(student, states, batch, sigmas, each)) for each in index]))


def train_ode(
    student: Denoiser,
    options: OdeOptions,
    pairs: Pairs,
    folder: Path,
    *,
    weight: Tensor | None = None,
    seed: int = 0,
    identity: str = "",
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
    ranks: Ranks = ALONE,
) -> tuple[Denoiser, Progressed]:
    """Train the student until its held-out loss has converged or the steps are used up; return averaged weights.

    `weight` [C, h, w] is what each element of a latent counts, in training alone. Of several processes each takes its
    part of a step, of a student that is `sharded`; the first returns the weights.
    """
    optimiser = Optimiser(student.parameters(), options.adam, options.loop.steps)
    average = Average(student, options.ema, start=max(1, options.loop.steps // 20))
    pairs = pairs.to(student.device)
    trained = len(pairs) - options.held_out
    held_out = range(trained, len(pairs))
    sigmas = torch.tensor(pairs.sigmas, dtype=torch.float32, device=student.device)

    def update(shown: Shown, draws: Ranks, generator: torch.Generator) -> dict[str, Tensor]:
        batch = Batch(shown.states[:, -1], shown.reference, shown.audio, shown.prompts)
        loss = ode_batch_loss(student, shown.states, batch, sigmas, shown.given, weight)
        return {"loss": loss.detach(), "norm": optimiser.follow(loss)}

    repeated = Repeated(update, ranks, student.device)

    def step(number: int) -> dict[str, float]:
        generator = generator_of(seed, "ode", number)
        which = torch.randint(trained, (options.batch,), generator=generator).tolist()
        mine = ranks.part(len(which))
        states, batch = pairs.batch([which[place] for place in mine])
        blocks = -(-states.shape[3] // student.config.stream.block_frames)
        index = torch.randint(len(pairs.sigmas) - 1, (len(which), blocks), generator=generator)[list(mine)]
        optimiser.begin(number)
        shown = Shown(states, index.to(states.device), *student.in_numbers(batch)[1:])
        values = repeated(shown, generator)
        average.update()
        return numbers(values)

    def measured(shown: Denoiser) -> dict[str, float]:
        return {"loss": held_out_ode_loss(shown, pairs, held_out)}

    now = train(
        folder,
        options.loop,
        {"student": student, "optimiser": optimiser, "average": average},
        step,
        evaluate=lambda number: ranks.first_only(measured, student.with_weights(average.weights())),
        identity=identity,
        progress=progress,
        ranks=ranks,
    )
    return student.with_weights(average.weights()), now
