"""What every command shares: how it speaks to a person, stops on Ctrl-C and tells given flags from absent ones."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")

RESULTS = Path("results")
"""Where run folders go unless --out says otherwise."""


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


def given(flags: dict[str, Any]) -> dict[str, Any]:
    """Drop what was not given, so that the specification's own value stays."""
    kept = {}
    for key, value in flags.items():
        value = given(value) if isinstance(value, dict) else value
        if value not in (None, {}):
            kept[key] = value
    return kept
