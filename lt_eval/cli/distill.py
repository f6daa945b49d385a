"""`lt-eval distill`: the recipe that makes a streaming generator, stage by stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lt_eval.cli.base import RESULTS, resumable, say


@resumable
def distill(
    stage: Annotated[
        str, typer.Argument(help="curate, codec, teacher, ode-pairs, ode-init, dmd, or all in order; plots.")
    ],
    recipe: Annotated[Path | None, typer.Option(help="A recipe such as benchmarks/distill/mini-cpu.toml.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of a recipe: dmd.ratio=5.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; default results/distill-NAME.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda: where networks are trained.")] = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Processes that draw people.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="Numerical threads; default all cores.")] = None,
) -> None:
    """Make a few-step causal generator from drawn people: conditions, codec, teacher, trajectories, student, DMD.

    Run the same command again to continue after an interruption; `plots` draws the logs so far, and trains nothing.
    Started by torchrun, several processes train together: torchrun --nproc-per-node 8 -m lt_eval distill all --recipe
    FILE.
    """
    from lt_eval.distill.recipe import build, check_shares
    from lt_eval.spec import merge, parse_setting, read_toml

    tables = read_toml(recipe) if recipe else {}
    for text in setting or []:
        tables = merge(tables, parse_setting(text))
    chosen = build(tables)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    from lt_eval.distill.ranks import joined
    from lt_eval.distill.stages import STAGES, Workshop, run_stage
    from lt_eval.progress import Progress

    folder = out or RESULTS / f"distill-{chosen.name}"
    if stage == "plots":
        from lt_eval.distill.plots import write_plots

        print(write_plots(folder))
        return
    stages = STAGES if stage == "all" else (stage,)
    with joined(device) as ranks, Progress() as progress:
        check_shares(chosen, stages, ranks)
        report = progress if ranks.first else _silent
        shop = Workshop(chosen, folder, report, ranks.device, workers, ranks)
        for name in stages:
            said = run_stage(name, shop)
            if ranks.first:
                say(said)
    if ranks.first:
        print(folder)


def _silent(stage: str, done: int, total: int, what: str) -> None:
    """Report nothing: the first process does."""
