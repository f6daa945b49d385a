"""What a worker answers: pickled (result, None), or (exception, its traceback as text)."""

from __future__ import annotations

import functools
import pickle
import traceback
from collections.abc import Callable
from typing import Any


class RemoteTraceback(Exception):
    """The cause of an exception that came from a worker: the traceback there, as text."""

    def __str__(self) -> str:
        return f"\n\n{self.args[0]}"


def answer(function: bytes, task: bytes | None) -> bytes:
    """Return the function's result for a pickled task, or what it raised; with None, only load the function."""
    try:
        loaded = _load(function)
        return pickle.dumps((None if task is None else loaded(pickle.loads(task)), None))
    except BaseException as error:
        return pickle.dumps((_portable(error), traceback.format_exc()))


def _portable(error: BaseException) -> BaseException:
    """Return the exception if it survives pickling, which many with arguments of their own do not."""
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error if type(copy) is type(error) else RuntimeError(f"{type(error).__name__}: {error}")


@functools.lru_cache(maxsize=1)
def _load(function: bytes) -> Callable[[object], object]:
    loaded: Callable[[object], object] = pickle.loads(function)
    return loaded


def result(message: bytes) -> Any:
    """Return what a worker's answer holds, or raise it."""
    value, trace = pickle.loads(message)
    if trace is not None:
        raise value from RemoteTraceback(trace)
    return value
