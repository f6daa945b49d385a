"""`lt-eval generate`: one portrait and one audio to one clip, into a file or, while it is made, into a pipe."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Generator as Running
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from lt_eval.cli.base import say
from lt_eval.errors import LtEvalError, SpecError, UnscorableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lt_eval.interfaces import Generator
    from lt_eval.media.live import Source
    from lt_eval.records import Audio, Frames


def generate(
    image: Annotated[Path, typer.Option(help="The portrait, PNG or JPEG.")],
    audio: Annotated[str, typer.Option(help="The speech: wav, mp3, mp4 ... or - for a sound file on standard input.")],
    out: Annotated[str, typer.Option(help="The clip, mp4; or - for Matroska on standard output while it is made.")],
    prompt: Annotated[str, typer.Option(help="How the person moves.")] = "",
    text: Annotated[str, typer.Option(help="What is said, for generators that use it.")] = "",
    generator: Annotated[str, typer.Option(help="A generator by name or module:Class.")] = "reference",
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the generator.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda ...")] = "auto",
) -> None:
    """One clip: a portrait speaks an audio.

    Standard output ends with one line of JSON, unless the clip goes there: lt-eval generate ... --out - | ffplay -
    """
    from lt_eval.interfaces import HasFootnotes
    from lt_eval.media.still import read_image
    from lt_eval.registry import create
    from lt_eval.spec import merge, parse_setting

    if out == "-" and sys.stdout.isatty():
        raise SpecError("--out - writes a video to standard output, and that is a terminal. Pipe it: ... | ffplay -")
    if out != "-" and Path(out).suffix.lower() != ".mp4":
        raise SpecError(f"--out {out}: an mp4 is written. Name it with .mp4, or give - for Matroska in a pipe.")
    portrait = read_image(image)  # before the generator, which may take minutes to make
    options: dict[str, Any] = {}
    for entry in setting or []:
        options = merge(options, parse_setting(entry))
    made = cast("Generator", create("generators", generator, options, offered={"device": device}))
    for note in made.footnotes if isinstance(made, HasFootnotes) else ():
        say(f"note: {note}")
    try:
        speech, total = _speech(audio, made)
        with contextlib.closing(_chunks(made, portrait, speech, prompt=prompt, text=text, seed=seed)) as chunks:
            live = out == "-"
            report = _into_pipe(chunks, made, speech) if live else _into_file(chunks, made, Path(out), speech, total)
    except KeyboardInterrupt:
        say("interrupted." if out == "-" else f"interrupted: nothing was left under {out}.")
        raise typer.Exit(130) from None
    except LtEvalError:
        raise
    except BrokenPipeError:
        say("whoever watched has gone.")
        raise typer.Exit(1) from None
    except Exception as error:  # a generator of somebody else's may fail in any way
        raise UnscorableError(
            "generation_failed", f"generator {generator!r} failed: {type(error).__name__}: {error}."
        ) from error
    say(
        f"{report['frames']} frames, {report['frames'] / made.fps:.2f} s at {made.fps:g} fps; the first after "
        f"{report['first_frame_s']:.2f} s, {report['frames_per_second']:.1f} frames a second."
    )
    if out != "-":
        print(json.dumps({"out": out, **report}))


class _Heard:
    """Speech on its way to the generator, of which a copy is kept for the clip's own track."""

    def __init__(self, source: Iterable[Audio]) -> None:
        self._source = source
        self._kept: list[Audio] = []

    def __iter__(self) -> Iterator[Audio]:
        for chunk in self._source:
            self._kept.append(chunk)
            yield chunk

    def take(self, samples: int | None = None) -> Audio:
        """Return the next samples, as many as there are at most; all of them for None."""
        import numpy as np

        count = len(self._kept)
        joined = np.concatenate([np.zeros(0, np.float32), *self._kept[:count]])
        wanted = joined[:samples]
        self._kept[:count] = [joined[len(wanted) :]]
        return wanted


def _speech(audio: str, generator: Generator) -> tuple[_Heard, int]:
    """Return the speech and how many frames it will have; 0 while nobody knows."""
    from lt_eval.media.decode import read_audio
    from lt_eval.media.live import audio_from

    if audio == "-":
        return _Heard(audio_from(cast("Source", sys.stdin.buffer), generator.sample_rate, "standard input")), 0
    samples = read_audio(Path(audio), generator.sample_rate)
    return _Heard([samples]), round(len(samples) / generator.sample_rate * generator.fps)


def _chunks(
    generator: Generator, portrait: Frames, speech: _Heard, *, prompt: str, text: str, seed: int
) -> Running[tuple[float, Frames], None, None]:
    """Yield (seconds since the session was asked for, frames)."""
    begin = time.perf_counter()
    with generator.session(portrait, prompt=prompt, seed=seed) as session:
        for frames in session.speak(speech, text=text):
            if len(frames):
                yield time.perf_counter() - begin, frames


def _into_file(
    chunks: Iterator[tuple[float, Frames]], generator: Generator, out: Path, speech: _Heard, total: int
) -> dict[str, float]:
    from lt_eval.media.encode import VideoWriter
    from lt_eval.progress import Progress

    with Progress() as progress, VideoWriter(out, generator.fps, sample_rate_hz=generator.sample_rate) as writer:

        def write(frames: Frames, so_far: int, seconds: float) -> None:
            writer.write(frames)
            progress("generate", so_far, total or so_far + 1, f"{so_far / seconds:.1f} frames a second")

        report = _written(chunks, write)
        writer.write_audio(speech.take())
    return report


def _into_pipe(chunks: Iterator[tuple[float, Frames]], generator: Generator, speech: _Heard) -> dict[str, float]:
    from lt_eval.media.live import LiveWriter

    heard = 0
    with LiveWriter(sys.stdout.buffer, generator.fps, sample_rate_hz=generator.sample_rate) as writer:

        def write(frames: Frames, so_far: int, seconds: float) -> None:
            nonlocal heard
            samples = speech.take(round(so_far / generator.fps * generator.sample_rate) - heard)
            heard += len(samples)
            writer.write(frames, samples)

        return _written(chunks, write)


def _written(chunks: Iterator[tuple[float, Frames]], write: Callable[[Frames, int, float], None]) -> dict[str, float]:
    """Write all chunks and return what they took.

    Raises:
        UnscorableError: there is none.
    """
    frames, first_s, seconds = 0, 0.0, 0.0
    for seconds, chunk in chunks:
        first_s = first_s if frames else seconds
        frames += len(chunk)
        write(chunk, frames, seconds)
    if not frames:
        raise UnscorableError("no_frames", "the generator gave no frame for this audio. Give it some that is longer.")
    return {
        "frames": frames,
        "first_frame_s": round(first_s, 4),
        "seconds": round(seconds, 4),
        "frames_per_second": round(frames / seconds, 2),
    }
