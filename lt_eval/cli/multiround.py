"""`lt-eval multiround`: flags to a RoundsSpec, the RoundsSpec to the multi-round protocol."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lt_eval.cli.base import RESULTS, given, resumable, say
from lt_eval.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lt_eval.protocols.multiround import RoundsOutcome


@resumable
def multiround(
    spec: Annotated[Path | None, typer.Argument(help='A specification with protocol = "multiround".')] = None,
    system: Annotated[
        list[str] | None, typer.Option(metavar="[NAME=]SYSTEM", help="reference, module:Class, or a folder of results.")
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Four scenarios on a fresh machine: nothing to download.")
    ] = False,
    scenarios: Annotated[Path | None, typer.Option(help="Scenarios file; default the set of lt-eval.")] = None,
    talker: Annotated[str | None, typer.Option(help="Of the reference system: scripted, openai, qwen-omni ...")] = None,
    generator: Annotated[str | None, typer.Option(help="Of the reference system; default reference.")] = None,
    speaker: Annotated[
        str | None, typer.Option(help="Says lines without sound: auto, espeak, formant, command.")
    ] = None,
    transcriber: Annotated[str | None, typer.Option(help="given, funasr, openai ...")] = None,
    judge: Annotated[str | None, typer.Option(metavar="URL|none", help="Judge's server, or none.")] = None,
    repeats: Annotated[int | None, typer.Option(help="Judgments of each conversation and dimension.")] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Verdicts that the judge failed to give.")
    ] = False,
    metric: Annotated[list[str] | None, typer.Option(help="Signal-level metrics: sync, motion, likeness ...")] = None,
    weights: Annotated[str | None, typer.Option(help="official or builtin networks of the metrics.")] = None,
    turn_timeout: Annotated[float | None, typer.Option(help="Seconds after which a turn has failed.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many scenarios.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the systems, the judge and the bootstrap.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda ...")] = None,
    workers: Annotated[int | None, typer.Option(help="Clips measured at a time.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of a specification.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default results/multiround.")] = None,
) -> None:
    """Multi-round protocol: conversations with interactive systems, judged on nine dimensions, timed and measured.

    Run the same command again to continue a run that was stopped.
    """
    from lt_eval.cli.report_rounds import Choices, publish_rounds
    from lt_eval.progress import Progress
    from lt_eval.protocols.multiround import run_rounds
    from lt_eval.protocols.rounds_spec import build_rounds
    from lt_eval.spec import merge, parse_setting, read_toml

    tables = read_toml(spec) if spec else {}
    flags: dict[str, Any] = {
        "demo": demo or None,
        "scenarios": str(scenarios) if scenarios else None,
        "speaker": speaker,
        "transcriber": transcriber,
        "metrics": metric,
        "weights": weights,
        "turn_timeout_s": turn_timeout,
        "limit": limit,
        "seed": seed,
        "device": device,
        "execution": {"workers": workers},
        "system": _systems(system or (["reference"] if _needs_reference(demo, tables) else [])),
    }
    tables = merge(tables, given(flags))
    tables = _with_judge(tables, judge, repeats, seed)
    for text in setting or []:
        tables = merge(tables, parse_setting(text))
    _reference_options(tables, {"talker": talker, "generator": generator})
    rounds_spec = build_rounds(tables)
    folder = out or RESULTS / ("multiround-demo" if rounds_spec.demo else "multiround")
    with Progress() as progress:
        outcome = run_rounds(rounds_spec, folder, progress=progress, say=progress.say)
    if _is_judged_enough(outcome, allow_missing=allow_missing):
        publish_rounds(folder, Choices(allow_missing=allow_missing))
    else:
        say(f"{folder}: no table is made of it.")
        raise typer.Exit(1)
    _finish(outcome)


def _needs_reference(demo: bool, tables: dict[str, Any]) -> bool:
    return (demo or tables.get("demo") is True) and not tables.get("system")


def _systems(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    systems: dict[str, dict[str, str]] = {}
    for text in texts:
        name, equals, target = text.partition("=")
        if not equals:
            name, target = Path(text).name.rpartition(":")[2], text
        if name in systems:
            raise SpecError(f"system {name!r} is given twice; name them apart, as --system NAME={target}.")
        if "/" in target and ":" not in target and not Path(target).is_dir():
            raise SpecError(f"--system {text}: there is no folder {target}. Give the one that holds manifest.jsonl.")
        systems[name] = {"results": target} if Path(target).is_dir() else {"system": target}
    return systems


def _with_judge(tables: dict[str, Any], judge: str | None, repeats: int | None, seed: int | None) -> dict[str, Any]:
    """Lay the flags of the judge over the table of the specification."""
    table = tables.get("judge", "none")
    table = {"name": table} if isinstance(table, str) else dict(table)
    if judge is not None and "://" in judge:
        table = {**table, "name": "vlm", "servers": judge}
    elif judge is not None:
        table = {"name": judge}
    if repeats is not None:
        if table.get("name") == "none":
            raise SpecError(f"--repeats {repeats} repeats judgments, and no judge is named. Add --judge URL.")
        table["repeats"] = repeats
    if seed is not None and table.get("name", "vlm") == "vlm":
        table.setdefault("seed", seed)
    return {**tables, "judge": table}


def _reference_options(tables: dict[str, Any], options: dict[str, str | None]) -> None:
    """Give the flags of the reference system to the systems that are it."""
    options = {key: value for key, value in options.items() if value is not None}
    systems = [table for table in dict(tables.get("system", {})).values() if table.get("system") == "reference"]
    if options and not systems:
        raise SpecError(f"--{next(iter(options))} is of the reference system, and none runs. Add --system reference.")
    for table in systems:
        table["options"] = {**table.get("options", {}), **options}


def _is_judged_enough(outcome: RoundsOutcome, *, allow_missing: bool) -> bool:
    """Say which verdicts the judge failed to give, and return whether a table may be made."""
    from lt_eval.judge.coverage import unresolved

    missing = unresolved(outcome.verdicts)
    if not missing:
        return True
    counts = ", ".join(f"{count} {status}" for status, count in sorted(Counter(v.status for v in missing).items()))
    say(f"{len(missing)} of {len(outcome.verdicts)} verdicts are missing because of the judge ({counts}).")
    if not allow_missing:
        say("The same command asks for these alone; --allow-missing reports without them and prints the coverage.")
    return allow_missing


def _finish(outcome: RoundsOutcome) -> None:
    """Say what is missing and why; the exit code is 1 where a conversation or a transcript failed."""
    for conversation in outcome.failures:
        why = conversation.failure
        assert why is not None
        say(f"{conversation.method}/{conversation.scenario}: {why.reason}: {why.message}")
    if outcome.failures:
        count, total = len(outcome.failures), len(outcome.conversations)
        say(f"{count} of {total} conversations failed; the same command tries them again.")
    for problem in outcome.problems:
        say(problem)
    if outcome.manifest.judge is None:
        say(f"The nine judged dimensions are empty: {outcome.manifest.no_judge}.")
    if outcome.failures or outcome.problems:
        say("Exit code 1.")
        raise typer.Exit(1)
