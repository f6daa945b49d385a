"""`lt-eval data prepare`: from raw videos and published annotations to clips that any run can use.

Candidates are tried in the order that the seed gives them (`select`) until enough have become clips (`make`). A
candidate that cannot be used is recorded with its reason, and the next one takes its place. Every outcome is written
down and synced before the next candidate is tried: a killed preparation loses the clip in flight, goes on when the same
command runs again, and ends with the same manifest.
"""

from __future__ import annotations

import dataclasses
import gc
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lt_eval.datasets import avspeech, celebvhq, hdtf, manifest
from lt_eval.datasets.candidates import Candidate, Listing
from lt_eval.datasets.folder import read_prompts
from lt_eval.datasets.manifest import Manifest, PreparedClip, Skipped
from lt_eval.datasets.outcomes import Records
from lt_eval.datasets.prepared import ORIGINS
from lt_eval.datasets.select import choose, ranked
from lt_eval.errors import DatasetError, SampleError, SpecError, reason_of
from lt_eval.registry import suggestion
from lt_eval.store import only_writer

READERS: Mapping[str, Callable[[Path, Path, Path | None], Listing]] = {
    "hdtf": hdtf.candidates,
    "avspeech": avspeech.candidates,
    "celebvhq": celebvhq.candidates,
}

METHOD = 1
"""Raised whenever the same candidate would give another clip; a folder begun under another number is not continued."""

PROMPT = (
    "A person faces the camera and talks. The lips follow the speech closely, the head moves a little, the eyes blink, "
    "and the expression changes naturally with what is said."
)
"""The text prompt of a clip that has none of its own: motion only, since the portrait shows who and where."""


@dataclass(frozen=True)
class PrepareOptions:
    """What is made.

    Attributes:
        clips: how many.
        seconds: length of each.
        seed: of the choice of clips and of their starts.
        fit: "face", a square crop around it, or "letterbox", the whole frame between black bars.
        size: side of the square frame in pixels.
        split: file with the names that may be used; HDTF cannot do without.
        prompts: CSV `id,prompt` or JSON, for clips that shall not have the default prompt.
        spread: take a second clip of a person only when every person has one.
    """

    clips: int = 100
    seconds: float = 5.0
    seed: int = 0
    fit: Literal["face", "letterbox"] = "face"
    size: int = 512
    split: Path | None = None
    prompts: Path | None = None
    spread: bool = True

    def __post_init__(self) -> None:
        rules = (
            (self.clips >= 1, f"clips is {self.clips}; at least 1 is needed."),
            (self.seconds * 25 >= 1, f"seconds is {self.seconds}; at least one frame (0.04) is needed."),
            (self.fit in ("face", "letterbox"), f"fit is {self.fit!r}; it is face or letterbox."),
            (self.size >= 16 and self.size % 2 == 0, f"size is {self.size}; an even number from 16 is needed."),
        )
        for holds, rule in rules:
            if not holds:
                raise SpecError(rule)


@dataclass(frozen=True)
class PrepareReport:
    """What came out.

    Attributes:
        root: the prepared folder.
        manifest: what it holds.
        notes: what a user should know.
    """

    root: Path
    manifest: Manifest
    notes: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether as many clips were made as were asked for."""
        return len(self.manifest.clips) == self.manifest.wanted

    def describe(self) -> str:
        """Return the report as lines for a reader."""
        made = self.manifest
        persons = len({clip.person for clip in made.clips})
        how = Counter(clip.cropped_by for clip in made.clips)
        lines = [
            f"{self.root}: {len(made.clips)} of {made.wanted} clips, of {persons} persons or source videos.",
            f"Videos were present for {made.present} of {made.annotated} annotated clips.",
            f"Cropped by: {_counts(how)}.",
        ]
        if made.skipped:
            lines.append(f"Passed over: {_counts(Counter(skip.reason for skip in made.skipped))}.")
        if not self.complete:
            lines.append("Fewer clips than asked for: fetch more of the annotated videos and run the command again.")
        return "\n".join([*lines, *self.notes])


def prepare(
    name: str, source: Path, root: Path, options: PrepareOptions, progress: Callable[[int, int, str], None]
) -> PrepareReport:
    """Make a prepared set in `root` from what the user holds in `source`; goes on where an earlier call stopped.

    Args:
        name: "hdtf", "avspeech" or "celebvhq".
        source: folder with the videos and the published annotation files, in any subfolders.
        root: folder to make.
        options: what to make.
        progress: called with clips done, clips wanted and what was just done.

    Raises:
        DatasetError: the source lacks something, or `root` holds a set made with other settings.
        RunBusyError: another process prepares into `root`.
        StorageFullError: no room; what is finished is kept.
        StoreError: not writable.
    """
    if name not in READERS:
        raise DatasetError(f"There is nothing to prepare for {name!r}.{suggestion(name, list(READERS))}")
    if root.resolve() == source.resolve():
        raise DatasetError(f"{root}: source and prepared folder are the same. Give another --root.")
    listing = READERS[name](source, root, options.split)
    if not listing.candidates:
        raise DatasetError(
            f"{source}: none of the {listing.annotated} annotated clips has its video there. "
            f"It should hold:\n{ORIGINS[name].layout}"
        )
    prompts = read_prompts(options.prompts) if options.prompts else {}
    order = ranked(listing.candidates, options.seed)
    _check_prompts(options.prompts, prompts, order)
    with (
        only_writer(root, "preparing into this folder", "choose another --root"),
        Records(root, name, _settings(options, listing), options.clips) as records,
    ):
        outcomes = _try_in_order(order, source, root, options, records, progress)
        clips = tuple(
            dataclasses.replace(outcome, prompt=prompts.get(outcome.id, PROMPT))
            for outcome in outcomes
            if isinstance(outcome, PreparedClip)
        )
        skipped = tuple(outcome for outcome in outcomes if isinstance(outcome, Skipped))
        if not clips:
            examples = "; ".join(f"{skip.id}: {skip.message}" for skip in skipped[:3])
            raise DatasetError(f"{source}: none of the {len(skipped)} candidates could be used. {examples}")
        made = Manifest(
            name, records.settings, options.clips, listing.annotated, len(listing.candidates), clips, skipped
        )
        manifest.write(root, made)
        _remove_unchosen(root, order, clips)
        records.close_and_remove()
    return PrepareReport(root, made, listing.notes)


def _try_in_order(
    order: list[Candidate],
    source: Path,
    root: Path,
    options: PrepareOptions,
    records: Records,
    progress: Callable[[int, int, str], None],
) -> list[PreparedClip | Skipped]:
    """The outcome of every candidate that was tried, clips in rank order."""
    from lt_eval.datasets.make import ClipOptions, make_clip

    how = ClipOptions(options.seconds, options.seed, options.size, options.fit)
    outcomes: list[PreparedClip | Skipped] = []
    done = 0

    def accept(candidate: Candidate) -> bool:
        nonlocal done
        outcome = records.outcome_of(candidate, _bytes(candidate))
        if outcome is None:
            try:
                outcome = make_clip(candidate, source, root, how)
            except SampleError as cause:
                outcome = Skipped(candidate.id, reason_of(cause), _relative(cause, source), _bytes(candidate))
            records.append(outcome)
            # PyAV's containers are reference cycles that keep their decoders' pictures, 100 MB and more at 1080p
            gc.collect()
        outcomes.append(outcome)
        done += isinstance(outcome, PreparedClip)
        what = candidate.id if isinstance(outcome, PreparedClip) else f"{candidate.id} passed over: {outcome.reason}"
        progress(done, options.clips, what)
        return isinstance(outcome, PreparedClip)

    progress(0, options.clips, "")
    choose(order, options.clips, accept, spread=options.spread)
    return outcomes


def _settings(options: PrepareOptions, listing: Listing) -> dict[str, Any]:
    """Everything that decides which clips come out and how, as JSON types; their number and prompts are not in it."""
    return {
        "method": METHOD,
        "seed": options.seed,
        "seconds": options.seconds,
        "fit": options.fit,
        "size": options.size,
        "spread": options.spread,
        "annotations": dict(listing.files),
    }


def _remove_unchosen(root: Path, order: list[Candidate], clips: tuple[PreparedClip, ...]) -> None:
    """Videos that appeared since an earlier call may have displaced clips that were made then."""
    kept = {clip.id for clip in clips}
    for candidate in order:
        if candidate.id not in kept:
            for name in manifest.file_names(candidate.id):
                (root / name).unlink(missing_ok=True)


def _check_prompts(path: Path | None, prompts: Mapping[str, str], order: list[Candidate]) -> None:
    if path is not None and not any(candidate.id in prompts for candidate in order):
        raise DatasetError(
            f"{path}: has a prompt for none of the clips. It holds for example {next(iter(prompts), '')!r}, "
            f"and a clip is called {order[0].id!r}."
        )


def _relative(cause: SampleError, source: Path) -> str:
    """The message without the place on this machine: manifests of two machines shall be equal."""
    return str(cause).replace(f"{source}{os.sep}", "")


def _bytes(candidate: Candidate) -> int:
    try:
        return candidate.video.stat().st_size
    except OSError:
        return -1


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{key} {count}" for key, count in counter.most_common())
