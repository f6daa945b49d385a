"""`lt-eval single`: flags to a RunSpec, the RunSpec to the single-round protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lt_eval.cli.base import RESULTS, given, resumable, say
from lt_eval.cli.report import publish
from lt_eval.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lt_eval.records import Row


@resumable
def single(
    spec: Annotated[Path | None, typer.Argument(help="A specification such as benchmarks/table1_hdtf.toml.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set: demo, hdtf, avspeech, celebvhq, folder ...")] = None,
    reference: Annotated[Path | None, typer.Option(help="Folder of reference clips, as data set `folder`.")] = None,
    clips: Annotated[list[str] | None, typer.Option(metavar="NAME=FOLDER", help="A method's finished clips.")] = None,
    generator: Annotated[
        list[str] | None, typer.Option(metavar="[NAME=]GENERATOR", help="A generator by name or module:Class.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            "--metrics",
            help="A metric by name or module:Class; default fid, fvd, sync, qalign. "
            "speed: throughput and latency, nothing else.",
        ),
    ] = None,
    sync_mode: Annotated[str | None, typer.Option(help="Of sync: reference (with codecs) or direct.")] = None,
    qalign_frames: Annotated[int | None, typer.Option(help="Frames a clip for IQA and ASE; 0 is all.")] = None,
    generator_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Longest wait for a sign of life of a generator; 1800.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="official or builtin.")] = None,
    fps: Annotated[str | None, typer.Option(help="Frames a second that clips are resampled to, or native.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many samples.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of bootstrap and generation.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda ...")] = None,
    baseline: Annotated[str | None, typer.Option(help="The method that others are compared with.")] = None,
    decoder: Annotated[str | None, typer.Option(help="pyav or decord.")] = None,
    executor: Annotated[str | None, typer.Option(help="local or ray.")] = None,
    workers: Annotated[int | None, typer.Option(help="Clips measured at a time.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of each worker.")] = None,
    ray_address: Annotated[str | None, typer.Option(help="An existing Ray cluster.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of a specification.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default results/DATASET.")] = None,
) -> None:
    """Single-round protocol: FID, KID, FVD, lip-sync, IQA and ASE of clips or generators, throughput and latency.

    Run the same command again to continue a run that was stopped.
    """
    from lt_eval.progress import Progress
    from lt_eval.protocols.single import run
    from lt_eval.spec import build, merge, parse_setting, read_toml

    flags: dict[str, Any] = {
        "dataset": {"name": "folder", "root": str(reference)} if reference else {"name": dataset},
        "metrics": [name for names in metric or [] for name in names.split(",")] or None,
        "generator_timeout_s": generator_timeout,
        "metric": {"sync": {"mode": sync_mode}, "qalign": {"frames": qalign_frames}},
        "weights": weights,
        "limit": limit,
        "seed": seed,
        "device": device,
        "baseline": baseline,
        "media": {"fps": _fps(fps), "decoder": decoder},
        "execution": {"executor": executor, "workers": workers, "threads": threads, "ray_address": ray_address},
        "method": _methods(clips or [], generator or []),
    }
    if reference and dataset not in (None, "folder"):
        raise SpecError(f"--reference makes the data set `folder`; it cannot be joined with --dataset {dataset}.")
    tables = read_toml(spec) if spec else {}
    for text in setting or []:
        tables = merge(tables, parse_setting(text))
    run_spec = build(merge(tables, given(flags)))
    folder = out or RESULTS / (run_spec.dataset.name.replace(":", "-") or "run")
    with Progress() as progress:
        outcome = run(run_spec, folder, progress=progress, say=progress.say)
    publish(folder)
    if outcome.failures:
        _say_failures(outcome.failures)
    elif outcome.lacking:
        names = ", ".join(dict.fromkeys(f"{cell.column} of {cell.method}" for cell in outcome.lacking))
        say(f"Cells without a value: {names}; the notes under the table say why. Exit code 1.")
    if outcome.failures or outcome.lacking:
        raise typer.Exit(1)


def _say_failures(failures: Sequence[Row]) -> None:
    """Name the clips that failed, once each, by reason; the report has the whole messages."""
    clips: dict[str, dict[str, None]] = {}
    for row in failures:
        if row.failure:
            clips.setdefault(row.failure.reason, {})[f"{row.method}/{row.sample}"] = None
    for reason, names in sorted(clips.items()):
        shown = list(names)[:6]
        more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
        say(f"{reason}: {', '.join(shown)}{more}")
    say("These clips have no value in some columns; the report has each one's message. Exit code 1.")


def _fps(text: str | None) -> float | str | None:
    if text is None or text == "native":
        return text
    try:
        return float(text)
    except ValueError:
        raise SpecError(f"--fps {text}: a number of frames a second, or native.") from None


def _methods(clips: Sequence[str], generators: Sequence[str]) -> dict[str, dict[str, str]]:
    methods: dict[str, dict[str, str]] = {}
    for text in clips:
        name, equals, folder = text.partition("=")
        if not equals:
            name, folder = Path(text).name, text
        if not folder:
            raise SpecError(f"--clips {text}: no folder is named. Write it as NAME=FOLDER.")
        _add(methods, name, {"clips": folder})
    for text in generators:
        name, equals, target = text.partition("=")
        if not equals:
            name, target = text.rpartition(":")[2], text
        _add(methods, name, {"generator": target})
    return methods


def _add(methods: dict[str, dict[str, str]], name: str, table: dict[str, str]) -> None:
    if name in methods:
        raise SpecError(f"method {name!r} is given twice; name them apart, as --clips NAME=FOLDER.")
    methods[name] = table
