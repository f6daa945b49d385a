"""The child's side of `lt_eval.bench.host`: make one generator, then do what is asked with it until the pipe closes."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from lt_eval import fingerprint
from lt_eval.bench.host import FAILED, Loaded
from lt_eval.errors import SampleError, UsageError, reason_of
from lt_eval.interfaces import HasBlocks, HasDescription, HasFootnotes, HasStages, MayNotStream
from lt_eval.registry import create, load, parameters
from lt_eval.store import key_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from lt_eval.interfaces import Generator

_LOOK_EVERY_S = 1.0


def main(descriptor: int) -> NoReturn:
    """Serve one parent over an open pipe, and leave without waiting for threads that a generator left behind."""
    threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        _serve(Connection(descriptor))
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)


def _leave_with_parent(parent: int) -> None:
    """A parent killed outright closes nothing that a hanging generator would notice."""
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    os._exit(1)


def _serve(pipe: Connection[Any, Any]) -> None:
    made: list[Generator] = []
    name, options, offered = pipe.recv()
    if not _answer(pipe, lambda _: _make(made, name, options, offered)):
        return
    while True:
        function, arguments = pipe.recv()
        _answer(pipe, lambda tell: function(made[0], tell, *arguments))  # noqa: B023 - called before the next turn


def _answer(pipe: Connection[Any, Any], work: Callable[[Callable[[str], None]], object]) -> bool:
    """Do the work and send its result, or why there is none; return whether there is one."""
    try:
        result = work(lambda what: pipe.send(("alive", what)))
    except UsageError as error:
        pipe.send(("unusable", type(error).__module__, type(error).__name__, str(error), ""))
        return False
    except SampleError as error:
        pipe.send(("failed", "", "", str(error), reason_of(error)))
        return False
    except (Exception, SystemExit) as error:
        pipe.send(("failed", "", "", _describe(error), FAILED))
        return False
    pipe.send(("done", result))
    return True


def _describe(error: BaseException) -> str:
    at = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(at.filename).name}, line {at.lineno})"


def _resolved(name: str, offered: dict[str, Any]) -> dict[str, Any]:
    """Find out what "auto" is, which takes torch seconds to say, only for a generator that asks for a device."""
    if offered.get("device") != "auto" or "device" not in parameters(load("generators", name)):
        return offered
    from lt_eval.metrics.nets.inference import resolve_device

    return {**offered, "device": resolve_device("auto")}


def _made_on(name: str, options: dict[str, Any], offered: dict[str, Any]) -> str:
    takes = "device" in parameters(load("generators", name))
    return str(options.get("device", offered.get("device", ""))) if takes else ""


def _make(made: list[Generator], name: str, options: dict[str, Any], offered: dict[str, Any]) -> Loaded:
    started = time.perf_counter()
    offered = _resolved(name, offered)
    generator = cast("Generator", create("generators", name, options, offered=offered))
    load_s = time.perf_counter() - started
    made.append(generator)
    device = _made_on(name, options, offered)  # decides the speed, which is kept with the clips
    return Loaded(
        load_s,
        key_of(fingerprint.of_plugin(generator, name, options), device),
        float(generator.fps),
        int(generator.sample_rate),
        dict(generator.description) if isinstance(generator, HasDescription) else {},
        tuple(generator.block_frames) if isinstance(generator, HasBlocks) else (),
        isinstance(generator, HasStages),
        generator.streams if isinstance(generator, MayNotStream) else True,
        device,
        tuple(generator.footnotes) if isinstance(generator, HasFootnotes) else (),
    )
