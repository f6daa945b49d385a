"""`lt-eval data`: what is here, how to prepare it, whether it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lt_eval.cli.base import given, resumable, say
from lt_eval.errors import SpecError

data_app = typer.Typer(help="Data sets: what is here, how to prepare it, whether it is whole.", no_args_is_help=True)


@data_app.command("list")
def data_list() -> None:
    """Print which data sets are prepared here, and where they lie."""
    from lt_eval.datasets.demo import Demo
    from lt_eval.datasets.prepared import overview

    for name, status, where, clips in [_demo_line(Demo.overview()), *overview()]:
        print(f"{name:<10} {status:<11} {clips:>4} clips  {where}")


def _demo_line(line: tuple[str, str, int, Path]) -> tuple[str, str, Path, int]:
    name, status, clips, where = line
    return name, status, where, clips


@data_app.command("prepare")
@resumable
def data_prepare(
    name: Annotated[str, typer.Argument(help="hdtf, avspeech, celebvhq or demo.")],
    source: Annotated[Path | None, typer.Option(help="Folder of raw videos and published annotation files.")] = None,
    root: Annotated[Path | None, typer.Option(help="Where the prepared set goes.")] = None,
    split: Annotated[
        Path | None, typer.Option(help="Names of the split's videos, one a line; needed for hdtf.")
    ] = None,
    clips: Annotated[int | None, typer.Option(help="How many; 100 by default (demo: 8).")] = None,
    seconds: Annotated[float | None, typer.Option(help="Length of each; 5 by default.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of a frame in pixels; 512 by default (demo: 256).")] = None,
    fit: Annotated[str, typer.Option(help="face (a crop around it) or letterbox.")] = "face",
    prompts: Annotated[Path | None, typer.Option(help="CSV id,prompt, for prompts of your own.")] = None,
    seed: Annotated[int, typer.Option(help="Of the choice of clips.")] = 0,
) -> None:
    """Make a data set from what you hold. Run it again to continue after an interruption."""
    from lt_eval.datasets.prepare import READERS, PrepareOptions, prepare
    from lt_eval.datasets.prepared import data_root
    from lt_eval.progress import Progress
    from lt_eval.registry import suggestion

    with Progress() as progress:
        if name == "demo":
            from lt_eval.datasets.demo import Demo

            demo = Demo(str(root) if root else None, **given({"size": size, "clips": clips, "seconds": seconds}))
            demo.prepare(progress)
            print(demo.folder)
            return
        if name not in READERS:
            known = ["demo", *READERS]
            raise SpecError(f"There is nothing to prepare for {name!r}.{suggestion(name, known)}")
        if source is None:
            raise SpecError(
                f"--source is missing: the folder that holds the raw videos and the published annotations of {name}. "
                "docs/datasets.md shows its layout."
            )
        chosen = given({"clips": clips, "seconds": seconds, "size": size})
        options = PrepareOptions(seed=seed, fit=_fit(fit), split=split, prompts=prompts, **chosen)
        folder = root or data_root(name)
        report = prepare(name, source, folder, options, lambda done, total, what: progress(name, done, total, what))
    print(report.describe())
    if not report.complete:
        raise typer.Exit(1)


def _fit(text: str) -> Literal["face", "letterbox"]:
    if text == "face":
        return "face"
    if text == "letterbox":
        return "letterbox"
    raise SpecError(f"--fit {text}: it is face or letterbox.")


@data_app.command("check")
def data_check(
    name: Annotated[str, typer.Argument(help="hdtf, avspeech, celebvhq or demo.")],
    root: Annotated[Path | None, typer.Option(help="Where the prepared set lies.")] = None,
) -> None:
    """Compare every file of a prepared set with its manifest; exit code 1 where something is missing or changed."""
    from lt_eval.datasets.demo import Demo
    from lt_eval.datasets.prepared import ORIGINS, check, data_root
    from lt_eval.registry import suggestion

    if name != "demo" and name not in ORIGINS:
        raise SpecError(f"There is no prepared data set {name!r}.{suggestion(name, ['demo', *ORIGINS])}")
    problems = Demo(root=str(root) if root else None).check() if name == "demo" else check(root or data_root(name))
    for problem in problems:
        print(problem)
    if problems:
        raise typer.Exit(1)
    say(f"{name}: every file is as it was prepared.")
