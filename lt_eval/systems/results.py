"""Finished turns of a system that cannot be run here (Sora2, Veo3, a colleague's demo): a folder with a manifest.

    FOLDER/manifest.jsonl     one conversation a line:
        {"method": "sora2", "scenario_id": "...", "status": "ok", "turns": [
            {"video": "sora2/x/1.mp4", "transcript": "...", "latency_s": 121.8, "first_frame_s": 121.8,
             "fps": 30, "frames": 240}, ...]}

`transcript`, the times, `fps` and `frames` may be left out of a turn; `status` may be "failed", with `error` and fewer
turns. A path is relative to the folder and cannot leave it, not through a link either.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_eval import fingerprint
from lt_eval.datasets.scenarios import load_scenarios
from lt_eval.errors import MediaError, SpecError, StoreError
from lt_eval.records import AnsweredTurn, Conversation, Failure
from lt_eval.registry import suggestion
from lt_eval.spec import check_method_name
from lt_eval.store import key_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lt_eval.datasets.scenarios import Scenario

MANIFEST = "manifest.jsonl"
STATUSES = ("ok", "failed")

_ROW_KEYS = ("method", "scenario_id", "turns", "status", "error")
_TURN_KEYS = ("video", "transcript", "latency_s", "first_frame_s", "fps", "frames")


@dataclass(frozen=True)
class FinishedTurn:
    """One turn of a manifest.

    Attributes:
        video: path below the folder, as written.
        transcript: the words of the answer; None leaves them to a transcriber.
        latency_s: from the end of the user's speech until the whole answer is there.
        first_frame_s: until its first frame is there; None where only whole files come.
        fps: frames a second.
        frames: their number.
    """

    video: str
    transcript: str | None = None
    latency_s: float | None = None
    first_frame_s: float | None = None
    fps: float | None = None
    frames: int | None = None


@dataclass(frozen=True)
class Finished:
    """One line of a manifest."""

    method: str
    scenario: str
    turns: tuple[FinishedTurn, ...]
    error: str | None
    line: int


@dataclass
class Manifest:
    """A manifest as far as it can be read, and everything wrong with its lines."""

    rows: list[Finished] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_manifest(folder: Path) -> Manifest:
    """Read manifest.jsonl without looking at the videos.

    Raises:
        StoreError: the folder or its manifest is absent or cannot be read.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise StoreError(f"{folder}: there is no such folder. Name the one that holds {MANIFEST}.")
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise StoreError(
            f"{path}: there is no such file. Write one line for each conversation; docs/multiround.md has the layout."
        ) from None
    except OSError as cause:
        raise StoreError(f"{path}: cannot be read ({cause.strerror}).") from cause
    except UnicodeDecodeError as cause:
        raise StoreError(f"{path}: not UTF-8 text ({cause.reason} at byte {cause.start}). Save it as UTF-8.") from cause
    manifest = Manifest()
    seen: dict[tuple[str, str], int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        problems: list[str] = []
        row = _row(line, number, problems)
        manifest.problems += [f"line {number}: {problem}" for problem in problems]
        if row is None:
            continue
        key = (row.method, row.scenario)
        if key in seen:
            manifest.problems.append(
                f"line {number}: method {row.method!r} has scenario {row.scenario!r} already in line {seen[key]}."
            )
            continue
        seen[key] = number
        manifest.rows.append(row)
    if not manifest.rows and not manifest.problems:
        manifest.problems.append("the manifest is empty: it needs one line for each conversation.")
    return manifest


def _row(line: str, number: int, problems: list[str]) -> Finished | None:
    try:
        data = json.loads(line)
    except json.JSONDecodeError as cause:
        problems.append(f"not JSON: {cause.msg} at column {cause.colno}.")
        return None
    if not isinstance(data, dict):
        problems.append("a JSON object is needed, {...}.")
        return None
    _refuse_unknown(data, _ROW_KEYS, problems)
    method, scenario, turns = data.get("method"), data.get("scenario_id"), data.get("turns")
    status, error = data.get("status", "ok"), data.get("error")
    for name, value in (("method", method), ("scenario_id", scenario)):
        if not isinstance(value, str) or not value:
            problems.append(f"{name} = {value!r}: a text is needed.")
    if isinstance(method, str) and method:
        try:
            check_method_name(method)
        except SpecError as cause:
            problems.append(str(cause))
    if status not in STATUSES:
        problems.append(f"status = {status!r}: it must be {' or '.join(map(repr, STATUSES))}.")
    if error is not None and not isinstance(error, str):
        problems.append(f"error = {error!r}: a text is needed.")
    if not isinstance(turns, list):
        problems.append(f"turns = {turns!r}: a list of turns is needed.")
    if problems or not isinstance(method, str) or not isinstance(scenario, str) or not isinstance(turns, list):
        return None
    found = [_turn(turn, f"turn {index}", problems) for index, turn in enumerate(turns, 1)]
    whole = tuple(turn for turn in found if turn is not None)
    if len(whole) < len(found):
        return None
    failed = (error or "no reason was given") if status == "failed" else None
    return Finished(method, scenario, whole, failed, number)


def _turn(data: Any, where: str, problems: list[str]) -> FinishedTurn | None:
    if not isinstance(data, dict):
        problems.append(f"{where} = {data!r}: an object is needed.")
        return None
    before = len(problems)
    _refuse_unknown(data, _TURN_KEYS, problems, f"{where}: ")
    if not isinstance(data.get("video"), str) or not data["video"]:
        problems.append(f"{where}: video = {data.get('video')!r}: a path below the folder is needed.")
    if not isinstance(data.get("transcript"), str | None):
        problems.append(f"{where}: transcript = {data['transcript']!r}: a text is needed.")
    for name in ("latency_s", "first_frame_s", "fps"):
        value = data.get(name)
        if value is not None and not (_is_number(value) and value >= 0 and (name != "fps" or value > 0)):
            least = "above 0" if name == "fps" else "of at least 0"
            problems.append(f"{where}: {name} = {value!r}: a number {least} is needed.")
    frames = data.get("frames")
    if frames is not None and (not isinstance(frames, int) or isinstance(frames, bool) or frames < 1):
        problems.append(f"{where}: frames = {frames!r}: a whole number of at least 1 is needed.")
    if len(problems) > before:
        return None
    turn = FinishedTurn(**{key: value for key, value in data.items() if key in _TURN_KEYS})
    if turn.first_frame_s is not None and turn.latency_s is not None and turn.first_frame_s > turn.latency_s:
        problems.append(
            f"{where}: first_frame_s = {turn.first_frame_s:g} is later than latency_s = {turn.latency_s:g}, when the "
            "whole answer is there."
        )
        return None
    return turn


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _refuse_unknown(data: Mapping[str, Any], known: Sequence[str], problems: list[str], where: str = "") -> None:
    problems += [f"{where}unknown key {key!r}.{suggestion(key, list(known))}" for key in data if key not in known]


def inside(folder: Path, written: str) -> Path:
    """Return the file that a manifest names.

    Raises:
        ValueError: the path is absolute or leaves the folder, directly or through a link; or there is no such file.
    """
    if "\0" in written or Path(written).is_absolute() or ".." in Path(written).parts:
        raise ValueError(f"the path {written!r} leaves the folder. Put the file below it, and write a relative path.")
    path = folder / written
    try:
        real, root = path.resolve(strict=True), folder.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        raise ValueError(f"there is no file {written!r}.") from None
    if not real.is_relative_to(root):
        raise ValueError(f"{written!r} is a link that leaves the folder. Copy the file instead.")
    if not real.is_file():
        raise ValueError(f"{written!r} is not a file.")
    return path


def problems_of(folder: Path, scenarios: Iterable[Scenario], *, decode: bool = False) -> tuple[list[str], list[str]]:
    """Return everything wrong with a results folder, and notes that are no errors; one sentence each.

    Args:
        folder: holds manifest.jsonl.
        scenarios: what the methods were to answer.
        decode: decode every picture instead of the first of each file.

    Raises:
        StoreError: there is no manifest to check.
    """
    manifest = read_manifest(folder)
    problems = list(manifest.problems)
    known = {scenario.id: scenario for scenario in scenarios}
    for row in manifest.rows:
        problems += [f"line {row.line}: {problem}" for problem in _problems_of_row(row, folder, known, decode)]
    notes = []
    for method, count in Counter(row.method for row in manifest.rows).items():
        own = {row.scenario for row in manifest.rows if row.method == method}
        absent = [name for name in known if name not in own]
        notes.append(f"{method}: {count} conversations, {len(own & known.keys())} of {len(known)} scenarios.")
        if absent and len(absent) < len(known):
            more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
            notes.append(f"{method}: no conversation for {', '.join(absent[:5])}{more}.")
    return problems, notes


def _problems_of_row(row: Finished, folder: Path, known: Mapping[str, Scenario], decode: bool) -> list[str]:
    found = []
    scenario = known.get(row.scenario)
    if scenario is None:
        found.append(f"there is no scenario {row.scenario!r}.{suggestion(row.scenario, list(known)[:200])}")
    elif row.error is None and len(row.turns) != len(scenario.turns):
        found.append(
            f"scenario {row.scenario!r} has {len(scenario.turns)} turns, and {len(row.turns)} are given. Give one for "
            'each, or set status to "failed".'
        )
    elif len(row.turns) > len(scenario.turns):
        found.append(f"scenario {row.scenario!r} has {len(scenario.turns)} turns, and {len(row.turns)} are given.")
    for index, turn in enumerate(row.turns, 1):
        found += [f"turn {index}: {problem}" for problem in _problems_of_turn(turn, folder, decode)]
    return found


def _problems_of_turn(turn: FinishedTurn, folder: Path, decode: bool) -> list[str]:
    try:
        path = inside(folder, turn.video)
    except ValueError as cause:
        return [str(cause)]
    from lt_eval.media.clip import MediaClip
    from lt_eval.media.probe import lacks_bytes, probe
    from lt_eval.records import MediaPolicy

    try:
        if decode:
            with MediaClip(path, MediaPolicy(fps=None, size=64)) as clip:
                info = clip.info
        else:
            info = probe(path)
        if lacks_bytes(path):
            return [f"{turn.video}: is shorter than it says; it was probably cut off while it was copied."]
    except MediaError as cause:
        return [f"{turn.video}: {cause.finding}. {cause.remedy}"]
    found = []
    if not info.has_audio and turn.transcript is None:
        found.append(f"{turn.video}: has no sound, and no transcript says what was answered.")
    if turn.frames is not None and turn.frames != info.frames:
        found.append(f"{turn.video}: frames = {turn.frames}, and the file has {info.frames}.")
    if turn.fps is not None and abs(turn.fps - info.fps) > 0.02 * info.fps:
        found.append(f"{turn.video}: fps = {turn.fps:g}, and the file has {info.fps:.4g}.")
    return found


@dataclass(frozen=True)
class ResultsFolder:
    """Finished turns as a system: it answers with what lies in the folder.

    Attributes:
        root: the folder with manifest.jsonl.
        method: which of the manifest's methods; "" is the only one.
        scenarios: file of scenarios; "" is the set that comes with lt-eval.
    """

    root: str
    method: str = ""
    scenarios: str = ""

    def __post_init__(self) -> None:
        self._rows  # noqa: B018  a manifest that cannot be used is reported before the first conversation

    @cached_property
    def _rows(self) -> dict[str, Finished]:
        folder = Path(self.root)
        manifest = read_manifest(folder)
        if manifest.problems:
            more = f" ({len(manifest.problems)} findings in all)" if len(manifest.problems) > 1 else ""
            raise SpecError(
                f"{folder / MANIFEST}: {manifest.problems[0]}{more} See all of them: lt-eval validate {folder}"
            )
        methods = list(dict.fromkeys(row.method for row in manifest.rows))
        method = self.method or (methods[0] if len(methods) == 1 else "")
        if method not in methods:
            hint = suggestion(self.method, methods) if self.method else f" Known: {', '.join(methods)}."
            raise SpecError(
                f"{folder / MANIFEST} holds several methods; name the one that is meant.{hint}"
                if not self.method
                else f"{folder / MANIFEST} has no method {self.method!r}.{hint}"
            )
        return {row.scenario: row for row in manifest.rows if row.method == method}

    @property
    def fingerprint(self) -> str:
        """Changes with the manifest; the videos are hashed with each conversation."""
        return key_of("results-1", os.fspath(self.root), fingerprint.of_file(Path(self.root) / MANIFEST), self.method)

    def conversation(self, scenario: Scenario, method: str) -> Conversation:
        """Return the finished turns of a scenario under the name of the table's row; what is missing is its failure."""
        row = self._rows.get(scenario.id)
        if row is None:
            message = f"{Path(self.root) / MANIFEST} has no conversation for scenario {scenario.id!r}."
            return Conversation(method, scenario.id, (), Failure("missing_conversation", message))
        turns: list[AnsweredTurn] = []
        for number, (asked, turn) in enumerate(zip(scenario.turns, row.turns, strict=False), 1):
            found = _problems_of_turn(turn, Path(self.root), decode=False)
            if found:
                message = f"line {row.line}, turn {number}: {found[0]}"
                return Conversation(method, scenario.id, tuple(turns), Failure("bad_result", message))
            turns.append(_answered(asked.user_text, turn, inside(Path(self.root), turn.video)))
        failure = None
        if row.error is not None:
            failure = Failure("generation_failed", row.error)
        elif len(row.turns) != len(scenario.turns):
            failure = Failure(
                "bad_result", f"line {row.line}: {len(row.turns)} turns, and the scenario has {len(scenario.turns)}."
            )
        return Conversation(method, scenario.id, tuple(turns), failure)


def _answered(user_text: str, turn: FinishedTurn, video: Path) -> AnsweredTurn:
    from lt_eval.media.probe import probe

    info = probe(video)
    return AnsweredTurn(
        user_text=user_text,
        video=video.absolute(),
        transcript=turn.transcript,
        latency_s=turn.first_frame_s if turn.first_frame_s is not None else turn.latency_s,
        wall_s=turn.latency_s,
        frames=turn.frames or info.frames,
        fps=turn.fps or info.fps,
    )


def scenarios_of(path: str) -> tuple[Scenario, ...]:
    """Return the scenarios of a file; "" is the set that comes with lt-eval."""
    return load_scenarios(Path(path) if path else None)
