"""`lt-eval bench`: how fast a generator is, on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lt_eval.cli.base import RESULTS, resumable, say
from lt_eval.errors import SpecError

if TYPE_CHECKING:
    from lt_eval.bench.run import LoadSpec


@resumable
def bench(
    generator: Annotated[str, typer.Option(help="A generator by name or module:Class.")],
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the generator.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Audio of each run.")] = 5.0,
    runs: Annotated[int, typer.Option(help="Timed runs.")] = 10,
    warmup: Annotated[int, typer.Option(help="Runs before them; each reaches the sixth block.")] = 1,
    size: Annotated[int, typer.Option(help="Side of the portrait in pixels.")] = 512,
    conditions: Annotated[str, typer.Option(help="talker (a drawn person and speech) or noise.")] = "talker",
    seed: Annotated[int, typer.Option(help="Of the random conditions.")] = 0,
    pace: Annotated[str, typer.Option(help="instant, or realtime: audio as fast as it is spoken.")] = "instant",
    audio_chunk: Annotated[float, typer.Option(metavar="SECONDS", help="Length of the pieces of audio.")] = 0.04,
    playback_fps: Annotated[float | None, typer.Option(help="Of the viewer; the generator's own by default.")] = None,
    buffer: Annotated[float, typer.Option(metavar="SECONDS", help="Video a viewer waits for before playing.")] = 0.0,
    stages: Annotated[bool, typer.Option(help="Also time denoising and decoding apart.")] = True,
    load: Annotated[
        str | None, typer.Option(metavar="search|RATE", help="Many sessions: the most at once, or RATE a second.")
    ] = None,
    arrivals: Annotated[str, typer.Option(help="Of sessions at a RATE: poisson or fixed.")] = "poisson",
    load_seconds: Annotated[float, typer.Option(help="How long sessions arrive, or a search goes on.")] = 60.0,
    load_buffer: Annotated[float, typer.Option(metavar="SECONDS", help="The buffer of each session's viewer.")] = 0.5,
    most_sessions: Annotated[int, typer.Option(help="A search asks for no more at once.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda ...")] = "auto",
    generator_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Longest wait for a sign of life of the generator.")
    ] = 1800.0,
    out: Annotated[Path | None, typer.Option(help="Folder; default results/bench-GENERATOR.")] = None,
) -> None:
    """Throughput, latency, gaps, freezes, memory and energy of a generator: a table, and JSON as the last line.

    The table goes to standard error, the JSON to standard output. A run that fails or hangs is a row with a reason.
    """
    from lt_eval.bench.page import page
    from lt_eval.bench.run import BenchSpec, run
    from lt_eval.bench.work import Drive
    from lt_eval.progress import Progress

    drive = Drive(
        seconds, size, _one_of("--conditions", conditions, "talker", "noise"), audio_chunk,
        _one_of("--pace", pace, "instant", "realtime"), seed,
    )  # fmt: skip
    spec = BenchSpec(
        generator,
        _options(setting or []),
        drive,
        runs,
        warmup,
        playback_fps,
        buffer,
        stages,
        _load(load, arrivals, load_seconds, most_sessions, load_buffer),
        device,
        generator_timeout,
    )
    folder = out or RESULTS / f"bench-{generator.rpartition(':')[2]}"
    with Progress() as progress:
        outcome = run(spec, folder, progress=progress, say=progress.say)
    for line in page(outcome.result):
        say(line)
    print(json.dumps(outcome.result, allow_nan=False))
    if outcome.failed:
        say(f"{outcome.failed} of {runs} runs failed; {folder / 'rows.jsonl'} has each one's reason. Exit code 1.")
        raise typer.Exit(1)


def _one_of(flag: str, value: str, *known: str) -> Any:
    from lt_eval.registry import suggestion

    if value not in known:
        raise SpecError(f"{flag} {value}: it must be one of {', '.join(known)}.{suggestion(value, list(known))}")
    return value


def _options(settings: list[str]) -> dict[str, Any]:
    from lt_eval.spec import merge, parse_setting

    options: dict[str, Any] = {}
    for text in settings:
        options = merge(options, parse_setting(text.removeprefix("generator.")))
    return options


def _load(load: str | None, arrivals: str, seconds: float, most: int, buffer_s: float) -> LoadSpec | None:
    from lt_eval.bench.run import LoadSpec

    if load is None:
        return None
    rate = None
    if load != "search":
        try:
            rate = float(load)
        except ValueError:
            raise SpecError(f"--load {load}: the word search, or sessions a second such as 0.5.") from None
    return LoadSpec(rate, _one_of("--arrivals", arrivals, "poisson", "fixed"), seconds, most, buffer_s)
