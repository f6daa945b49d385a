"""`lt-eval validate`: is a folder of finished turns complete and readable, and if not, everything that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lt_eval.cli.base import say


def validate(
    folder: Annotated[Path, typer.Argument(help="Folder with manifest.jsonl; docs/multiround.md has its layout.")],
    scenarios: Annotated[Path | None, typer.Option(help="Scenarios file; default the set of lt-eval.")] = None,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every picture, not only the first.")] = False,
) -> None:
    """Check the finished turns of a closed system before a run. Exit code 1 where something is wrong."""
    from lt_eval.datasets.scenarios import load_scenarios
    from lt_eval.systems.results import MANIFEST, problems_of

    problems, notes = problems_of(folder, load_scenarios(scenarios), decode=decode)
    for problem in problems:
        print(f"{folder / MANIFEST}: {problem}")
    for note in notes:
        say(note)
    if problems:
        say(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}. Exit code 1.")
        raise typer.Exit(1)
    say("Everything is in order.")
