"""One scenario with one system: every turn asked, timed and written as a clip.

A conversation is the unit of work: it is kept when all its turns are on disk, and made again from the start otherwise.

    results/RUN/conversations/METHOD/SCENARIO.json    the finished conversation, written last
    results/RUN/clips/METHOD/SCENARIO/turn-1.mp4      its answers
    results/RUN/user/SCENARIO/turn-1.wav              the user's lines
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lt_eval import fingerprint
from lt_eval.conversations import conversation_from_json, conversation_to_json
from lt_eval.errors import SampleError, StoreError, UnscorableError, UsageError, reason_of
from lt_eval.protocols.rounds_host import Host
from lt_eval.records import AnsweredTurn, Conversation, Failure
from lt_eval.render import Shelf
from lt_eval.store import atomic_write, key_of, read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lt_eval.datasets.scenarios import Scenario
    from lt_eval.interfaces import Piece, System
    from lt_eval.records import Audio, Frames
    from lt_eval.systems.speakers import Voice


@dataclass(frozen=True)
class Stage:
    """A scenario made ready: the user's spoken lines and the portrait, the same for every system.

    Attributes:
        scenario: what is asked.
        lines: WAV or other sound files, one a turn.
        portrait: uint8 RGB [H, W, 3].
        seed: of the system.
    """

    scenario: Scenario
    lines: tuple[Path, ...]
    portrait: Frames
    seed: int

    def key(self, method: str, identity: str) -> str:
        """Return the key of this conversation with a system of that fingerprint."""
        lines = [fingerprint.of_file(line) for line in self.lines]
        portrait = key_of(self.portrait.shape, self.portrait.tobytes().hex())
        asked = [(turn.user_text, turn.emotion) for turn in self.scenario.turns]
        persona = self.scenario.persona
        return key_of(
            *("conversation-1", method, identity, self.scenario.id, asked, (persona.name, persona.description)),
            *(lines, portrait, self.seed),
        )


def persona_of(scenario: Scenario) -> str:
    """Return who answers, in words."""
    return f"You are {scenario.persona.name}. {scenario.persona.description}".strip()


def spoken_lines(scenario: Scenario, voice: Voice, root: Path) -> tuple[Path, ...]:
    """Put the user's lines into the run folder, spoken where the scenario supplies no sound, and return their files.

    Raises:
        UnscorableError: the speaker failed.
        StoreError: the folder cannot be written.
    """
    found = []
    for number, turn in enumerate(scenario.turns, 1):
        source = turn.user_audio or voice.keep(turn.user_text, turn.phonemes)
        path = root / "user" / scenario.id / f"turn-{number}{source.suffix or '.wav'}"
        if fingerprint.of_file(path) != (wanted := fingerprint.of_file(source)) or not wanted:
            try:
                with source.open("rb") as file, atomic_write(path, "wb") as out:
                    shutil.copyfileobj(file, out)
            except FileNotFoundError as cause:
                raise UnscorableError("missing_user_audio", f"{source}: there is no such file.") from cause
        found.append(path)
    return tuple(found)


def portrait_of(scenario: Scenario, size_px: int) -> Frames:
    """Return the scenario's portrait, or a drawn one that is its own: uint8 RGB [H, W, 3]."""
    if scenario.persona.portrait is not None:
        from lt_eval.media.still import read_image

        return read_image(scenario.persona.portrait)
    from lt_eval.synthetic.face import Face
    from lt_eval.synthetic.identity import make_identity

    digest = int(key_of("portrait-1", scenario.id), 16)
    return Face(make_identity(np.random.default_rng(digest)), size_px).draw()


class Units:
    """The finished conversations of a run folder, one file each."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, method: str, scenario: str) -> Path:
        """Return the file of a conversation."""
        return self.root / "conversations" / method / f"{scenario}.json"

    def read(self, method: str, scenario: str, key: str) -> Conversation | None:
        """Return a finished conversation of this key whose files are as they were written; None where there is none.

        One that failed is not finished: it is tried again.
        """
        path = self.path(method, scenario)
        if not path.is_file():
            return None
        try:
            data = read_json(path)
            conversation = conversation_from_json(data["conversation"], self.root)
        except (StoreError, TypeError, KeyError):
            return None
        whole = all(fingerprint.of_file(self.root / name) == digest for name, digest in data["files"].items())
        return conversation if data["key"] == key and whole and conversation.failure is None else None

    def write(self, conversation: Conversation, key: str, arrivals_s: Sequence[Sequence[float]]) -> None:
        """Keep a conversation; when this returns it survives a crash."""
        videos = [turn.video for turn in conversation.turns if turn.video is not None]
        own = [video for video in videos if video.absolute().is_relative_to(self.root.absolute())]
        data: dict[str, Any] = {
            "key": key,
            "conversation": conversation_to_json(conversation, self.root),
            "files": {
                str(video.absolute().relative_to(self.root.absolute())): fingerprint.of_file(video) for video in own
            },
            "arrivals_s": [[round(at, 6) for at in turn] for turn in arrivals_s],
        }
        write_json(self.path(conversation.method, conversation.scenario), data)


@dataclass(frozen=True)
class Held:
    """What came of one conversation, and whether the system can be used again."""

    conversation: Conversation
    arrivals_s: tuple[tuple[float, ...], ...]
    is_stuck: bool


def hold(system: System, method: str, stage: Stage, root: Path, limit_s: float, *, turns: int | None = None) -> Held:
    """Hold a conversation with a system and write its clips. What goes wrong is the conversation's failure.

    Args:
        system: what answers.
        method: the row of the table.
        stage: what is asked.
        root: the run folder.
        limit_s: longest time of one turn.
        turns: only the first so many.

    Raises:
        UsageError: no other conversation would fare better (a full disk, missing weights).
    """
    folder = root / "clips" / method / stage.scenario.id
    done: list[AnsweredTurn] = []
    arrivals: list[tuple[float, ...]] = []
    number = 0

    def open_session() -> Any:
        return system.session(stage.portrait, persona=persona_of(stage.scenario), seed=stage.seed)

    host = Host(open_session, limit_s)
    failure = None
    try:
        with host:
            for number, (turn, line) in enumerate(zip(stage.scenario.turns[:turns], stage.lines, strict=False), 1):
                answered, times = _answer(host, system, turn.user_text, line, folder / f"turn-{number}.mp4")
                done.append(answered)
                arrivals.append(times)
    except UsageError:
        raise
    except SampleError as error:
        failure = Failure(reason_of(error), _where(number, str(error)))
    except Exception as error:  # one failed conversation must not cost the others
        failure = Failure("generation_failed", _where(number, f"{type(error).__name__}: {error}"))
    return Held(Conversation(method, stage.scenario.id, tuple(done), failure), tuple(arrivals), host.is_stuck)


def take_in(conversation: Conversation, root: Path) -> Conversation:
    """Return a conversation whose videos lie in the run folder, linked or copied, so that the folder can be moved.

    Raises:
        StoreError: the folder cannot be written.
    """
    turns = []
    for number, turn in enumerate(conversation.turns, 1):
        if turn.video is not None:
            name = f"turn-{number}{turn.video.suffix}"
            path = root / "clips" / conversation.method / conversation.scenario / name
            if fingerprint.of_file(path) != fingerprint.of_file(turn.video):
                _link_or_copy(turn.video, path)
            turn = replace(turn, video=path)
        turns.append(turn)
    return replace(conversation, turns=tuple(turns))


def _link_or_copy(source: Path, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.hardlink_to(source.resolve())
    except OSError:  # another file system, or one without links
        with source.open("rb") as file, atomic_write(path, "wb") as out:
            shutil.copyfileobj(file, out)


def _where(number: int, message: str) -> str:
    return f"Turn {number}: {message}" if number else f"Opening the conversation: {message}"


def _size_of(piece: Piece, size: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Return the size of a turn's frames, and refuse what no clip can hold.

    Raises:
        UnscorableError: text, sound or frames are not of the form that `Piece` asks for.
    """
    text, audio, frames = piece
    if not isinstance(text, str):
        raise UnscorableError("bad_text", f"The system gave a {type(text).__name__} for text.")
    if audio is not None and (audio.ndim != 1 or audio.dtype.kind != "f" or not np.isfinite(audio).all()):
        raise UnscorableError(
            "bad_sound", f"Sound must be finite float [T]; the system gave {audio.dtype} {list(audio.shape)}."
        )
    if frames is None:
        return size
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise UnscorableError(
            "bad_frames",
            f"Frames must be uint8 RGB [T, H, W, 3]; the system gave {frames.dtype} {list(frames.shape)}.",
        )
    height, width = frames.shape[1:3]
    if not len(frames):
        return size
    if height % 2 or width % 2 or not height or not width:
        raise UnscorableError("bad_frames", f"Frames are {width}x{height}, and H.264 needs even sides.")
    if size is not None and size != (height, width):
        raise UnscorableError(
            "bad_frames", f"Frames change within a turn from {size[1]}x{size[0]} to {width}x{height}."
        )
    return height, width


def _answer(host: Host, system: System, text: str, line: Path, video: Path) -> tuple[AnsweredTurn, tuple[float, ...]]:
    """Ask one turn; return it with the seconds at which each chunk of frames came."""
    from lt_eval.media.decode import read_audio
    from lt_eval.media.encode import VideoWriter

    said: list[str] = []
    sounds: list[Audio] = []
    arrivals: list[float] = []
    frames = 0
    talker_s: float | None = None
    whole_s = 0.0
    size: tuple[int, ...] | None = None
    with Shelf() as shelf:
        for whole_s, piece in host.answer(text, read_audio(line)):
            if piece is None:
                break
            size = _size_of(piece, size)
            said.append(piece.text)
            if piece.audio is not None and len(piece.audio):
                talker_s = whole_s if talker_s is None else talker_s
                sounds.append(piece.audio)
            if piece.frames is not None and len(piece.frames):
                arrivals.append(whole_s)
                frames += len(piece.frames)
                shelf.put(piece.frames)
        if not frames:
            raise UnscorableError("no_frames", "The system gave no frame.")
        with VideoWriter(video, system.fps, sample_rate_hz=system.sample_rate) as writer:
            for chunk in shelf:
                writer.write(chunk)
            for sound in sounds:
                writer.write_audio(sound)
    first_s = arrivals[0]
    answered = AnsweredTurn(
        user_text=text,
        user_audio=line,
        video=video,
        transcript="".join(said).strip() or None,
        latency_s=first_s,
        talker_s=None if talker_s is None else min(talker_s, first_s),
        wall_s=whole_s,
        frames=frames,
        fps=system.fps,
    )
    return answered, tuple(arrivals)
