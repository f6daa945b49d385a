r"""`external-command`: somebody else's model, run as a command and timed from outside. Nothing of it is touched.

    lt-eval bench --generator external-command --set fps=25 \
        --set 'command=python theirs/infer.py --image {image} --audio {audio} --out {out}'

With {out} the command writes a file; it does not stream, and its latency is the time until the file is complete and
read. Without {out} it writes video to its standard output, and every frame counts when it has come out of the pipe: a
container (fragmented mp4, mpegts, matroska), or raw pixels with format=rgb24, width and height. Every turn starts the
command anew: its start, the loading of its weights included, is in the time.

The command is split as a shell would split it and started without one; what is put for {image}, {audio}, {out},
{prompt}, {text} and {seed} is never split again.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np

from lt_eval.bench.adapters.wire import container_frames, png_of, reader_of, wav_of
from lt_eval.bench.host import FAILED, TIMEOUT
from lt_eval.errors import UnscorableError

if TYPE_CHECKING:
    from lt_eval.records import Audio, Frames

_LAST_LINES = 5
_END_S = 10.0


@dataclass(frozen=True)
class ExternalCommand:
    """A Generator that is a command.

    Attributes:
        command: with {image} (PNG), {audio} (WAV), and {out} unless it writes to standard output.
        fps: frames a second of what it makes.
        sample_rate: of the WAV, in Hz.
        format: of its standard output: "container", or "rgb24".
        width: of raw frames.
        height: of raw frames.
        block: frames of one block, where its frames come in blocks.
        timeout_s: it is ended after so many seconds.
    """

    command: str
    fps: float = 25.0
    sample_rate: int = 16_000
    format: Literal["container", "rgb24"] = "container"
    width: int = 0
    height: int = 0
    block: int = 0
    timeout_s: float = 1800.0

    def __post_init__(self) -> None:
        if not isinstance(self.command, str):
            raise ValueError(f"command is {self.command!r}; it must be one text, quoted as for a shell")
        words = shlex.split(self.command)
        if not words or shutil.which(words[0]) is None:
            raise ValueError(f"the command {words[0] if words else ''!r} is not found; give its path")
        if self.format not in ("container", "rgb24"):
            raise ValueError(f"format is {self.format!r}; it must be 'container' or 'rgb24'")
        if not (self.timeout_s > 0 and self.fps > 0 and self.sample_rate > 0):
            raise ValueError("timeout_s, fps and sample_rate must be above 0")
        reader_of(self.format if self.streams else "container", self.width, self.height)

    @property
    def streams(self) -> bool:
        """False where it writes a file."""
        return "{out}" not in self.command

    @property
    def block_frames(self) -> tuple[int, ...]:
        """Frames of each block; empty where it is not known."""
        return (self.block,) if self.block else ()

    @property
    def description(self) -> Mapping[str, Any]:
        """What its numbers hold."""
        return {"clock": "includes the command's start", "output": "pipe" if self.streams else "file"}

    @contextmanager
    def session(self, portrait: Frames, *, prompt: str = "", seed: int = 0) -> Iterator[_Session]:
        """Open a conversation; it remembers nothing, since every turn is a command of its own."""
        with tempfile.TemporaryDirectory(prefix="lt-eval-") as folder:
            (Path(folder) / "image.png").write_bytes(png_of(portrait))
            yield _Session(self, Path(folder), prompt, seed)


class _Session:
    def __init__(self, made_by: ExternalCommand, folder: Path, prompt: str, seed: int) -> None:
        self._by, self._folder, self._prompt, self._seed = made_by, folder, prompt, seed

    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        """Yield frames as they come out; a command that reads files needs all of its audio first."""
        heard = list(speech)
        audio = np.concatenate(heard) if heard else np.zeros(0, np.float32)
        names = {name: str(self._folder / file) for name, file in _FILES.items()}
        Path(names["audio"]).write_bytes(wav_of(audio, self._by.sample_rate))
        Path(names["out"]).unlink(missing_ok=True)
        values = {**names, "prompt": self._prompt, "text": text, "seed": str(self._seed)}
        words = [_filled(word, values) for word in shlex.split(self._by.command)]
        if self._by.streams:
            yield from _piped(words, self._by)
        else:
            yield from _written(words, Path(names["out"]), self._by.timeout_s)


_FILES = {"image": "image.png", "audio": "audio.wav", "out": "out.mp4"}


def _filled(word: str, values: Mapping[str, str]) -> str:
    """Replace what is known in one pass: a prompt that says {out} stays as it is, and so do other braces."""
    parts = []
    while word:
        starts = [(at, name) for name in values if (at := word.find("{" + name + "}")) >= 0]
        if not starts:
            break
        at, name = min(starts)
        parts += [word[:at], values[name]]
        word = word[at + len(name) + 2 :]
    return "".join([*parts, word])


class _Command:
    """A running command with its deadline. Use as a context manager: it does not outlive the block."""

    def __init__(self, words: list[str], timeout_s: float, *, pipe: bool) -> None:
        self._words, self._timeout_s = words, timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed on exit
        try:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipe else self._errors,
                stderr=self._errors,
                bufsize=0,
            )
        except OSError as cause:
            self._errors.close()
            raise UnscorableError(FAILED, f"{words[0]} cannot be started ({cause}).") from cause

    def __enter__(self) -> _Command:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        self._errors.close()

    def read(self, size: int = -1, /) -> bytes:
        """Return what has come out of its pipe, at most `size` bytes; b"" when it is closed.

        Raises:
            UnscorableError: nothing came until the deadline.
        """
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        if not select.select([descriptor], [], [], max(0.0, self._deadline - time.monotonic()))[0]:
            raise self._late()
        return os.read(descriptor, 65536 if size < 0 else size)

    def finish(self) -> None:
        """Wait for its end.

        Raises:
            UnscorableError: it took too long, or ended with another status than 0.
        """
        try:
            status = self._process.wait(max(0.0, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise self._late() from None
        if status != 0:
            raise UnscorableError(FAILED, f"{self._words[0]} ended with exit status {status}. {self.last_lines()}")

    def _late(self) -> UnscorableError:
        return UnscorableError(
            TIMEOUT,
            f"{self._words[0]} was not done after {self._timeout_s:g} s and was ended; a longer wait: "
            f"--set timeout_s=SECONDS. {self.last_lines()}",
        )

    def last_lines(self) -> str:
        """Return the last lines that it wrote to standard error."""
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 4096))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()[-_LAST_LINES:]
        return "Its last lines: " + " | ".join(lines) if lines else "It wrote nothing to standard error."


def _piped(words: list[str], by: ExternalCommand) -> Iterator[Frames]:
    read_frames = reader_of(by.format, by.width, by.height)
    with _Command(words, by.timeout_s, pipe=True) as command:
        try:
            yield from read_frames(command)
        except UnscorableError as error:
            if error.code != TIMEOUT:
                command.finish()  # a bad exit status says more than the broken video that follows from it
                raise UnscorableError(error.code, f"{words[0]}: {error} {command.last_lines()}") from error
            raise
        command.finish()


def _written(words: list[str], out: Path, timeout_s: float) -> Iterator[Frames]:
    with _Command(words, timeout_s, pipe=False) as command:
        command.finish()
        if not out.is_file() or out.stat().st_size == 0:
            raise UnscorableError(
                FAILED, f"{words[0]} ended well and wrote no file to {{out}}, {out}. {command.last_lines()}"
            )
    with out.open("rb") as file:
        yield from container_frames(file)
