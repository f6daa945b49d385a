"""A generator in a process of its own: one that hangs, crashes or eats all memory costs its process and nothing else.

A thread cannot be ended, a process can. The parent waits for a sign of life at most so long, and then ends the process
with everything that it started; the next call starts a fresh one. Only small records cross the pipe: frames stay where
they are made, and so do the clocks. What the generator prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_eval.errors import UnscorableError, UsageError

if TYPE_CHECKING:
    from types import TracebackType

DEFAULT_TIMEOUT_S = 1800.0
"""Longest wait for a sign of life. The slowest method of the paper's Table 1 needs 590 s for a clip of five seconds."""

TIMEOUT = "generation_timeout"
FAILED = "generation_failed"

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from lt_eval.bench.worker import main; main(int(sys.argv[2]))"
)
_CLOSE_S = 5.0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Loaded:
    """What a process says of the generator it has made.

    Attributes:
        load_s: seconds to import and make it.
        identity: hash of everything that its frames depend on.
        fps: frames a second.
        sample_rate: of the audio it wants, in Hz.
        settings: what it says decides its speed, as JSON types.
        block_frames: frames of its first, second ... block; empty where it does not say.
        has_stages: whether denoising and decoding can be timed apart.
        streams: False where it says that it does not.
        device: that it was given; empty where it takes none.
        footnotes: what a reader of its numbers must know, one sentence each.
    """

    load_s: float
    identity: str
    fps: float
    sample_rate: int
    settings: Mapping[str, Any]
    block_frames: tuple[int, ...]
    has_stages: bool
    streams: bool
    device: str
    footnotes: tuple[str, ...]


class Host:
    """The parent's side. Use as a context manager; the process starts with the first call.

    Args:
        name: of the generator, registered or module:Class.
        options: its keyword arguments.
        offered: what the run offers (device); passed where the factory has such a parameter.
        timeout_s: longest wait for a sign of life: loading, opening a session, a chunk.
    """

    def __init__(
        self, name: str, options: Mapping[str, Any], offered: Mapping[str, Any], *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        self.name, self.timeout_s = name, timeout_s
        self._made_from = (name, dict(options), dict(offered))
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection[Any, Any] | None = None
        self._loaded: Loaded | None = None

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def load(self) -> Loaded:
        """Start the process, if it does not run, and return what it says of its generator.

        Raises:
            UsageError: there is no such generator, or it cannot be made: no turn would fare better.
        """
        if self._loaded is not None and self._process is not None:
            return self._loaded
        self._start()
        try:
            loaded: Loaded = self._answer(lambda _: None, "was being made", self.timeout_s)
        except UnscorableError as error:
            raise UsageError(f"generator {self.name!r} cannot be made: {error}") from error
        self._loaded = loaded
        return loaded

    def call(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        tell: Tell = lambda _: None,
        what: str = "was generating",
        timeout_s: float | None = None,
    ) -> Any:
        """Return `function(generator, tell, *arguments)`, run in the process.

        Args:
            function: of a module; sent by name. It must call its `tell` as a sign of life.
            arguments: small picklable records.
            tell: is told here what the function tells there.
            what: what the generator was doing, for the message of a time-out.
            timeout_s: another longest wait than the host's.

        Raises:
            UnscorableError: no sign of life in time, the process died, or the function raised.
            UsageError: the function found the input unusable, or the generator cannot be made again.
        """
        self.load()
        assert self._pipe is not None
        with contextlib.suppress(OSError):  # it has died since: seen when its answer is waited for
            self._pipe.send((function, arguments))
        return self._answer(tell, what, self.timeout_s if timeout_s is None else timeout_s)

    def close(self) -> None:
        """End the process and all that it started; never waits long."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if pipe is not None:
            pipe.close()
        if process is not None:
            _end(process)

    def _start(self) -> None:
        self.close()
        ours, theirs = Pipe()
        here = str(Path.cwd())
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, json.dumps([entry or here for entry in sys.path]), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        finally:
            theirs.close()
        self._pipe = ours
        with contextlib.suppress(OSError):
            ours.send(self._made_from)

    def _answer(self, tell: Tell, what: str, timeout_s: float) -> Any:
        """Wait for the result of what was asked, as long as there are signs of life."""
        assert self._pipe is not None and self._process is not None
        try:
            while self._pipe.poll(timeout_s):
                kind, *said = self._pipe.recv()
                if kind == "alive":
                    tell(said[0])
                elif kind == "done":
                    return said[0]
                else:
                    raise _error(kind, *said)
        except (EOFError, OSError):
            process = self._process
            self.close()
            raise UnscorableError(FAILED, f"its process {_ended(process.returncode)} while it {what}.") from None
        except BaseException as error:
            if not isinstance(error, (UnscorableError, UsageError)):
                self.close()  # Ctrl-C: what is still generated is wanted by nobody
            raise
        self.close()
        raise UnscorableError(
            TIMEOUT,
            f"no sign of life for {timeout_s:g} s while it {what}; its process was ended. A longer wait: "
            "--generator-timeout SECONDS (generator_timeout_s in a specification).",
        )


def _error(kind: str, module: str, name: str, message: str, code: str) -> Exception:
    """Make the exception again that was raised there; only kinds of ours come by their class."""
    if kind == "failed":
        return UnscorableError(code, message)
    import lt_eval.errors

    found = getattr(lt_eval.errors, name, UsageError) if module == "lt_eval.errors" else UsageError
    error: Exception = found.__new__(found)
    error.args = (message,)
    return error


def _ended(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            why = " (out of memory, perhaps)" if -code == signal.SIGKILL else ""
            return f"was ended by {signal.Signals(-code).name}{why}"
    return f"ended with exit status {code}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """An idle process leaves when its pipe closes; whatever is left of its session is killed."""
    deadline = time.monotonic() + 0.2
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_CLOSE_S)
