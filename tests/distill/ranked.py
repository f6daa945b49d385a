"""Three stages of training at nano size, by one process or by those that torchrun started.

python -m torch.distributed.run --standalone --nproc-per-node 2 -m tests.distill.ranked FOLDER [STEPS]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from lt_eval.distill.denoiser import Denoiser
from lt_eval.distill.dmd_stage import DmdOptions, random_batches, train_dmd
from lt_eval.distill.material import Batch, Material
from lt_eval.distill.ode_stage import OdeOptions, PairOptions, make_pairs, train_ode
from lt_eval.distill.ranks import Ranks, joined, sharded
from lt_eval.distill.talkers import TalkerOptions
from lt_eval.distill.teacher_stage import TeacherOptions, train_teacher
from lt_eval.distill.training import LoopOptions, OptimiserOptions
from tests.distill.nano import CONFIG, batch, denoiser

STEPS = 6
ADAM = OptimiserOptions(1e-3, clip_norm=0.2)
"""Gradients here are larger, so that clipping is at work."""


def model(seed: int, ranks: Ranks) -> Denoiser:
    return sharded(denoiser(seed) if ranks.first else Denoiser.empty(CONFIG), ranks)


def run(folder: Path, ranks: Ranks, steps: int = STEPS) -> None:
    """Train a teacher, make trajectories, train on them, and distil; write what came out."""
    loop = LoopOptions(steps, log_every=1, checkpoint_every=2, evaluate_every=3)
    clips = batch(6, frames=9)
    material = Material(
        clips.latents[:, None].half(),
        clips.audio[:, None].half(),
        clips.prompts,
        TalkerOptions(people=6, held_out=2, windows=1),
    )
    made = {}
    made["teacher"], _ = train_teacher(
        model(1, ranks),
        TeacherOptions(loop, ADAM, batch=4, ema=0.5, bf16=False),
        material,
        folder / "teacher",
        ranks=ranks,
    )

    def some(first: int, many: int) -> Batch:
        return clips.part(range(first, first + many))

    pairs = make_pairs(
        model(5, ranks).frozen(),
        PairOptions(trajectory_steps=8, guidance=2.0, batch=3),
        some,
        6,
        folder / "pairs",
        ranks=ranks,
    )
    made["ode"], _ = train_ode(
        model(2, ranks),
        OdeOptions(loop, ADAM, batch=4, held_out=2, ema=0.5, bf16=False),
        pairs,
        folder / "ode",
        ranks=ranks,
    )
    made["dmd"], _ = train_dmd(
        model(2, ranks),
        model(1, ranks).frozen(),
        model(1, ranks),
        DmdOptions(loop, ADAM, ADAM, ratio=2, critic_warmup=1, ema_from=0, ema=0.5, batch=2, bf16=False),
        random_batches(batch(4, frames=6), 2, 0),
        folder / "dmd",
        evaluate=lambda shown: {"loss": float(shown.transformer.head.head.weight.square().sum())},
        ranks=ranks,
    )
    if ranks.first:
        for name, found in made.items():
            save_file(found.state_dict(), folder / f"{name}.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined("cpu") as here:
        run(Path(sys.argv[1]), here, *map(int, sys.argv[2:]))
