"""The command line: flags to a RunSpec, a RunSpec to a protocol. No logic of its own.

Standard output is data, standard error is progress and messages. Exit codes: 0 everything scored, 1 some rows failed,
2 unusable input, 130 interrupted.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, ParamSpec

import typer

from lt_eval import __version__
from lt_eval.errors import LtEvalError, SpecError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lt_eval.progress import Progress
    from lt_eval.records import Row

P = ParamSpec("P")

app = typer.Typer(
    name="lt-eval",
    help="Evaluation and benchmarks for real-time talking-avatar video generation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Data sets: what is here, how to prepare it, whether it is whole.", no_args_is_help=True)
weights_app = typer.Typer(help="Official network weights: fetch, verify, locate.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(weights_app, name="weights")

RESULTS = Path("results")


def say(message: str) -> None:
    """Print one message for a person to standard error."""
    print(message, file=sys.stderr, flush=True)


def resumable(command: Callable[P, None]) -> Callable[P, None]:
    """Say on Ctrl-C that nothing is lost, and exit as a shell expects."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            say("interrupted: what was finished is kept; the same command continues from there.")
            raise typer.Exit(130) from None

    return run


@app.command()
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
        list[str] | None, typer.Option(help="A metric by name or module:Class; default fid, fvd, sync, qalign.")
    ] = None,
    sync_mode: Annotated[str | None, typer.Option(help="Of sync: reference (with codecs) or direct.")] = None,
    qalign_frames: Annotated[int | None, typer.Option(help="Frames a clip for IQA and ASE; 0 is all.")] = None,
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
        "metrics": metric,
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
    run_spec = build(merge(tables, _given(flags)))
    folder = out or RESULTS / (run_spec.dataset.name.replace(":", "-") or "run")
    with Progress() as progress:
        outcome = run(run_spec, folder, progress=progress, say=progress.say)
    _publish(folder)
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


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    """Drop what was not given, so that the specification's own value stays."""
    kept = {}
    for key, value in flags.items():
        value = _given(value) if isinstance(value, dict) else value
        if value not in (None, {}):
            kept[key] = value
    return kept


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


def _publish(folder: Path) -> None:
    """Write every form of the table into the run folder, and print it."""
    from lt_eval import report
    from lt_eval.report import html
    from lt_eval.report.runs import read_run
    from lt_eval.store import read_summary

    summaries = [read_summary(folder)]
    tables = folder / "tables"
    for name, format, tidy in _TABLE_FILES:
        report.write_text(tables / name, report.render(format, summaries, tidy=tidy))
    index = html.write([read_run(folder)], folder / "report")
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        sys.stdout.write(report.render("text", summaries, width=width, color=True))
    else:
        sys.stdout.write(report.render("markdown", summaries))
    say(f"Report: {index}\nTables: {tables}{os.sep}")


_TABLE_FILES = (
    ("table.md", "markdown", False),
    ("table.csv", "csv", False),
    ("table.tex", "latex", False),
    ("tidy.csv", "csv", True),
)


@app.command("report")
def report_(
    runs: Annotated[list[Path] | None, typer.Argument(help="Run folders; default the newest below results/.")] = None,
    format: Annotated[
        str | None,
        typer.Option("--format", help="markdown, csv, latex, text or html; default text in a terminal, else markdown."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write; for html a folder, by default report/ in the run.")
    ] = None,
    tidy: Annotated[bool, typer.Option("--tidy", help="Long form, a line per method and column (csv).")] = False,
    with_paper: Annotated[bool, typer.Option("--with-paper", help="The paper's published rows beside ours.")] = False,
    paper: Annotated[
        str | None, typer.Option(help="Only one published table: table1, table2 or table3; default those that fit.")
    ] = None,
) -> None:
    """Write the table of finished runs. Needs neither torch nor the clips."""
    from lt_eval import report
    from lt_eval.store import read_summary

    chosen = format or ("text" if out is None and sys.stdout.isatty() else "markdown")
    report.check(chosen, tidy=tidy)
    folders = runs or [_newest_run()]
    beside = paper or ("all" if with_paper else None)
    if chosen == "html":
        _write_html(folders, out, beside)
        return
    names = [run.absolute().name for run in folders]
    summaries = [read_summary(run) for run in folders]
    width = shutil.get_terminal_size().columns if chosen == "text" and out is None and sys.stdout.isatty() else None
    text = report.render(chosen, summaries, tidy=tidy, names=names, with_paper=beside, width=width)
    if out is None:
        sys.stdout.write(text)
    else:
        report.write_text(out, text)
        say(f"Wrote {out}")


def _write_html(folders: Sequence[Path], out: Path | None, with_paper: str | None) -> None:
    from lt_eval.report import html
    from lt_eval.report.runs import read_run

    if out is None and len(folders) > 1:
        raise SpecError("--out is missing: several runs make one report, and it belongs to none of their folders.")
    print(html.write([read_run(run) for run in folders], out or folders[0] / "report", with_paper=with_paper))


def _newest_run() -> Path:
    found = sorted(RESULTS.glob("*/summary.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise StoreError(
            "No finished run lies below results/. Name a run folder, or make one: lt-eval single --dataset demo"
        )
    say(f"Newest run: {found[-1].parent}")
    return found[-1].parent


@app.command("list")
def list_() -> None:
    """Print what can be named: metrics, data sets, generators and the rest, installed plugins included."""
    from lt_eval.registry import KINDS, targets

    for kind in KINDS:
        for name, target in targets(kind).items():
            print(f"{kind:<13} {name:<20} {target}")


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

            demo = Demo(str(root) if root else None, **_given({"size": size, "clips": clips, "seconds": seconds}))
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
        given = _given({"clips": clips, "seconds": seconds, "size": size})
        options = PrepareOptions(seed=seed, fit=_fit(fit), split=split, prompts=prompts, **given)
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


@weights_app.command("list")
def weights_list() -> None:
    """Print the official files: name, whether it is here, size, licence, what uses it, where from."""
    from lt_eval.weights import TABLE, path_of

    for line in TABLE:
        size = f"{line.size / 1e6:.1f} MB" if line.size else "size unknown"
        print(
            f"{line.name}\n    file     {path_of(line.name)} ({'here' if path_of(line.name).is_file() else 'not here'})"
        )
        print(f"    size     {size}\n    sha256   {line.sha256 or 'not published; recorded on first use'}")
        print(f"    licence  {line.licence}\n    used by  {line.used_by}\n    from     {line.urls[0]}")


@weights_app.command("fetch")
def weights_fetch(
    names: Annotated[list[str], typer.Argument(help="Names of `lt-eval weights list`, or metrics: fid, qalign.")],
) -> None:
    """Download official files, resuming what was cut; checksums are always compared."""
    from lt_eval.progress import Progress
    from lt_eval.weights import expand, fetch

    names = list(dict.fromkeys(file for name in names for file in expand(name)))
    with Progress() as progress:
        for name in names:
            path = fetch(name, functools.partial(_bytes_fetched, progress, name))
            progress.say(f"{name}: {path}")


def _bytes_fetched(progress: Progress, name: str, done: int, total: int | None) -> None:
    progress(name, done, total or done)


@weights_app.command("verify")
def weights_verify(
    names: Annotated[list[str] | None, typer.Argument(help="Default: every file that is here.")] = None,
) -> None:
    """Read official files whole and compare their checksums."""
    from lt_eval.weights import TABLE, path_of, verify

    here = names or [line.name for line in TABLE if path_of(line.name).is_file()]
    if not here:
        say("No official file is here yet: see `lt-eval weights list` and `lt-eval weights fetch NAME`.")
    for name in here:
        print(f"{name}: ok, sha256 {verify(name, rehash=True)}")


@weights_app.command("path")
def weights_path(name: Annotated[str | None, typer.Argument(help="A file; default the folder.")] = None) -> None:
    """Print where official files lie or would lie."""
    from lt_eval.paths import weights_dir
    from lt_eval.weights import path_of

    print(path_of(name) if name else weights_dir())


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Evaluation and benchmarks for real-time talking-avatar video generation."""


def main() -> NoReturn:
    """Run the command line; a user's mistake is a message, never a traceback."""
    try:
        app()
    except LtEvalError as error:
        say(f"error: {error}")
        sys.exit(2)
    sys.exit(0)


if __name__ == "__main__":
    main()
