"""`lt-eval weights`: fetch, verify and locate the official network weights."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated

import typer

from lt_eval.cli.base import say

if TYPE_CHECKING:
    from lt_eval.progress import Progress

weights_app = typer.Typer(help="Official network weights: fetch, verify, locate.", no_args_is_help=True)


@weights_app.command("list")
def weights_list() -> None:
    """Print the official files: name, whether it is here, size, licence, what uses it, where from."""
    from lt_eval.weights import TABLE, path_of

    for line in TABLE:
        size = f"{line.size / 1e6:.1f} MB" if line.size else "size unknown"
        print(
            f"{line.name}\n    file     {path_of(line.name)} ({'here' if path_of(line.name).is_file() else 'not here'})"
        )
        print(f"    size     {size}\n    sha256   {line.sha256 or 'not published; recorded on first use'}")
        print(f"    licence  {line.licence}\n    used by  {line.used_by}\n    from     {line.urls[0]}")


@weights_app.command("fetch")
def weights_fetch(
    names: Annotated[list[str], typer.Argument(help="Names of `lt-eval weights list`, or metrics: fid, qalign.")],
) -> None:
    """Download official files, resuming what was cut; checksums are always compared."""
    from lt_eval.progress import Progress
    from lt_eval.weights import expand, fetch

    names = list(dict.fromkeys(file for name in names for file in expand(name)))
    with Progress() as progress:
        for name in names:
            path = fetch(name, functools.partial(_bytes_fetched, progress, name))
            progress.say(f"{name}: {path}")


def _bytes_fetched(progress: Progress, name: str, done: int, total: int | None) -> None:
    progress(name, done, total or done)


@weights_app.command("verify")
def weights_verify(
    names: Annotated[list[str] | None, typer.Argument(help="Default: every file that is here.")] = None,
) -> None:
    """Read official files whole and compare their checksums."""
    from lt_eval.weights import TABLE, path_of, verify

    here = names or [line.name for line in TABLE if path_of(line.name).is_file()]
    if not here:
        say("No official file is here yet: see `lt-eval weights list` and `lt-eval weights fetch NAME`.")
    for name in here:
        print(f"{name}: ok, sha256 {verify(name, rehash=True)}")


@weights_app.command("path")
def weights_path(name: Annotated[str | None, typer.Argument(help="A file; default the folder.")] = None) -> None:
    """Print where official files lie or would lie."""
    from lt_eval.paths import weights_dir
    from lt_eval.weights import path_of

    print(path_of(name) if name else weights_dir())
