"""Progress of long work on standard error: a live bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

LINE_EVERY_S = 15.0


class Progress:
    """Use as a context manager; call it with (stage, done, in all, what was done last)."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last_line = 0.0
        self._started: dict[str, float] = {}

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[what]}"),
                console=Console(stderr=True),
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, stage: str, done: int, total: int, what: str = "") -> None:
        """Show that `done` of `total` are done in `stage`, `what` last."""
        if self._bar is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bar.add_task(stage, total=total, what="")
            self._bar.update(self._tasks[stage], completed=done, total=total, what=what)
            return
        now = time.monotonic()
        started = self._started.setdefault(stage, now)
        if done < total and now - self._last_line < LINE_EVERY_S:
            return
        self._last_line = now
        print(f"{stage} {done}/{total} ({now - started:.0f} s) {what}".rstrip(), file=sys.stderr, flush=True)

    def say(self, message: str) -> None:
        """Print a message for a person without tearing the bar."""
        if self._bar is not None:
            self._bar.console.print(message, markup=False, highlight=False, soft_wrap=True)
        else:
            print(message, file=sys.stderr, flush=True)
