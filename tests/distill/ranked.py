"""Three stages of training at nano size, by one process or by those that torchrun started.

python -m torch.distributed.run --standalone --nproc-per-node 2 -m tests.distill.ranked FOLDER [DIE_AT]
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from lt_eval.distill.denoiser import Denoiser
from lt_eval.distill.dmd_stage import DmdOptions, random_batches, train_dmd
from lt_eval.distill.material import Batch, Material
from lt_eval.distill.ode_stage import OdeOptions, PairOptions, make_pairs, train_ode
from lt_eval.distill.ranks import Ranks, joined, local, sharded
from lt_eval.distill.talkers import TalkerOptions
from lt_eval.distill.teacher_stage import TeacherOptions, train_teacher
from lt_eval.distill.training import LoopOptions, OptimiserOptions
from lt_eval.generator.networks import seeded_parts
from lt_eval.store import write_json
from tests.distill.nano import CONFIG, batch, denoiser

STEPS = 6
ADAM = OptimiserOptions(1e-3, clip_norm=0.2)
"""Gradients here are larger, so that clipping is at work."""


LARGER = replace(CONFIG, model=replace(CONFIG.model, dim=48, layers=3))
"""The shape of the frozen teacher of DMD, as 14 billion parameters teach 1.3."""


def model(seed: int, ranks: Ranks) -> Denoiser:
    return sharded(denoiser(seed) if ranks.first else Denoiser.empty(CONFIG), ranks)


def large_teacher(ranks: Ranks) -> Denoiser:
    made = Denoiser.empty(LARGER)
    if ranks.first:
        made = Denoiser.of_parts(LARGER, seeded_parts(LARGER, 7))
    return sharded(made, ranks).frozen()


def run(folder: Path, ranks: Ranks, die_at: int = -1) -> None:
    """Train a teacher, make trajectories, train on them, and distil; write what came out.

    Args:
        folder: of all of it; what is there is continued.
        ranks: who works.
        die_at: step of DMD after which the last process kills itself; -1 for none.
    """
    loop = LoopOptions(STEPS, log_every=1, checkpoint_every=2, evaluate_every=3)
    clips = batch(6, frames=9)
    fresh = model(1, ranks)
    fresh.transformer.recompute = ranks.world > 1  # which changes memory alone
    teacher, _ = train_teacher(
        fresh,
        TeacherOptions(loop, ADAM, batch=4, ema=0.5, bf16=False),
        material(clips),
        folder / "teacher",
        ranks=ranks,
    )
    pairs = make_pairs(
        model(5, ranks).frozen(),
        PairOptions(trajectory_steps=8, guidance=2.0, batch=3),
        lambda first, many: clips.part(range(first, first + many)),
        6,
        folder / "pairs",
        ranks=ranks,
    )
    initialised, _ = train_ode(
        model(2, ranks),
        OdeOptions(loop, ADAM, batch=4, held_out=2, ema=0.5, bf16=False),
        pairs,
        folder / "ode",
        ranks=ranks,
    )
    if ranks.first:
        save_file(teacher.state_dict(), folder / "teacher.safetensors")
        save_file(initialised.state_dict(), folder / "ode.safetensors")
    distil(folder, ranks, die_at)


def material(clips: Batch) -> Material:
    """Return people of one window each, the last two held out."""
    who = TalkerOptions(people=6, held_out=2, windows=1)
    return Material(clips.latents[:, None].half(), clips.audio[:, None].half(), tuple(clips.prompts), who)


def distil(folder: Path, ranks: Ranks, die_at: int = -1) -> None:
    """Carry out the last stage alone; say how many of the student's parameters this process holds."""
    loop = LoopOptions(STEPS, log_every=1, checkpoint_every=2, evaluate_every=3)

    def told(done: int, total: int, what: str) -> None:
        if done == die_at and ranks.rank == ranks.world - 1:
            os.kill(os.getpid(), signal.SIGKILL)

    student = model(2, ranks)
    held = sum(local(parameter).numel() for parameter in student.parameters())
    write_json(folder / f"rank-{ranks.rank}.json", {"held": held})
    found, _ = train_dmd(
        student,
        large_teacher(ranks),
        model(1, ranks),
        DmdOptions(loop, ADAM, ADAM, ratio=2, critic_warmup=1, ema_from=0, ema=0.5, batch=2, bf16=False),
        random_batches(batch(4, frames=6), 2, 0),
        folder / "dmd",
        evaluate=lambda shown: {"loss": float(shown.transformer.head.head.weight.square().sum())},
        progress=told,
        ranks=ranks,
    )
    if ranks.first:
        save_file(found.state_dict(), folder / "dmd.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined("cpu") as here:
        run(Path(sys.argv[1]), here, *map(int, sys.argv[2:]))
