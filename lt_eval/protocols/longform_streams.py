"""The clips of a run over minutes: true ones drawn, the others streamed, written window by window as they come.

    people/person-SEED/      portrait.png with its face box, speech.wav, window-KK.faces.json
    clips/METHOD/person-SEED/window-KK.mp4

One file a window: a metric opens one at a time, and nobody ever holds minutes of frames. A stream that is stopped has
no row, and is made again from its beginning; a finished one is known by the hashes of its files.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lt_eval import fingerprint
from lt_eval.bench.timing import AUDIO_CHUNK_S, ChunkCheck, Feed
from lt_eval.errors import SampleError, UnscorableError, reason_of
from lt_eval.records import GROUND_TRUTH, SAMPLE_RATE_HZ, Dialogue, Failure, Row, Turn
from lt_eval.store import atomic_write, key_of, write_json

if TYPE_CHECKING:
    from lt_eval.bench.host import Host
    from lt_eval.interfaces import Generator
    from lt_eval.media.encode import VideoWriter
    from lt_eval.records import Audio, Frames
    from lt_eval.store import RunStore
    from lt_eval.synthetic.talker import Performance

METRIC = "stream"
"""Of the rows that say how a stream went."""

DATASET = "longform"

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Person:
    """Somebody who talks for minutes.

    Attributes:
        seed: of person, voice and words.
        folder: of portrait, speech and face boxes.
        prompt: who is seen and how they move.
        bounds: the first frame of each window, and the one behind the last.
        fps: of clips.
    """

    seed: int
    folder: Path
    prompt: str
    bounds: tuple[int, ...]
    fps: float

    @property
    def name(self) -> str:
        """What rows and folders call them."""
        return f"person-{self.seed}"

    @property
    def portrait(self) -> Path:
        """Frame 0 of the true clip."""
        return self.folder / "portrait.png"

    @property
    def speech(self) -> Path:
        """All that they say."""
        return self.folder / "speech.wav"

    def window(self, folder: Path, place: int) -> Path:
        """Return the file of one window below a folder of clips."""
        return folder / self.name / f"window-{place:02d}.mp4"

    def faces(self, place: int) -> Path:
        """Return the file of the face boxes of one window."""
        return self.folder / f"window-{place:02d}.faces.json"

    def dialogue(self, truth: Path, place: int) -> Dialogue:
        """Return one window as an item of a data set, with its true clip and face boxes."""
        turn = Turn(reference=self.window(truth, place), faces=self.faces(place))
        return Dialogue(f"{self.name}/window-{place:02d}", (turn,), self.portrait, self.prompt)


class WindowWriter:
    """Writes a stream into one file a window; use as a context manager.

    Args:
        paths: of each window.
        bounds: the first frame of each window, and the one behind the last; what comes later is left out.
        fps: of the frames.
        audio: float32 [T] mono at 16 kHz, of the whole stream.
    """

    def __init__(self, paths: Sequence[Path], bounds: Sequence[int], fps: float, audio: Audio) -> None:
        self._paths, self._bounds, self._fps, self._audio = paths, bounds, fps, audio
        self._writer: VideoWriter | None = None
        self.frames = 0

    def __enter__(self) -> WindowWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            # told of an error in any case, for a window that is not whole must not appear
            self._writer.__exit__(kind or EOFError, error, trace)

    @property
    def whole(self) -> bool:
        """Whether every window is written."""
        return self.frames == self._bounds[-1]

    def write(self, frames: Frames) -> None:
        """Append uint8 RGB [T, H, W, 3]."""
        while len(frames) and not self.whole:
            place = next(k for k in range(len(self._paths)) if self.frames < self._bounds[k + 1])
            writer = self._writer = self._writer or self._opened(place)
            part = frames[: self._bounds[place + 1] - self.frames]
            writer.write(part)
            self.frames += len(part)
            frames = frames[len(part) :]
            if self.frames == self._bounds[place + 1]:
                self._writer = None
                writer.__exit__(None, None, None)

    def _opened(self, place: int) -> VideoWriter:
        from lt_eval.media.encode import VideoWriter

        writer = VideoWriter(self._paths[place], self._fps, sample_rate_hz=SAMPLE_RATE_HZ)
        first, last = (round(bound / self._fps * SAMPLE_RATE_HZ) for bound in self._bounds[place : place + 2])
        writer.write_audio(self._audio[first:last])
        return writer


# True clips -----------------------------------------------------------------------------------------------------------


def draw_person(
    store: RunStore, seed: int, bounds: tuple[int, ...], seconds: float, size: int, fps: float, tell: Tell
) -> Person:
    """Draw a person's true clips, portrait, boxes and speech, unless they lie there; return them."""
    from lt_eval import synthetic
    from lt_eval.synthetic.talker import describe, make_spec, perform

    code = [fingerprint.of_file(file) for file in sorted(Path(synthetic.__file__).parent.glob("*.py"))]
    person = Person(seed, store.root.absolute() / "people" / f"person-{seed}", describe(make_spec(seed)), bounds, fps)
    key = key_of("longform-truth-1", seed, bounds, seconds, size, fps, code)
    windows = [person.window(_folder(store, GROUND_TRUTH), place) for place in range(len(bounds) - 1)]
    kept = [*windows, person.portrait, person.speech, *map(person.faces, range(len(windows)))]
    kept.append(person.folder / "portrait.faces.json")
    if _is_there(store.rows().get(key), kept):
        return person
    for folder in (person.folder, windows[0].parent):  # of another length
        shutil.rmtree(folder, ignore_errors=True)
    show = perform(seed, seconds, size, fps)
    _conditions(person, show)
    with WindowWriter(windows, bounds, fps, show.audio) as writer:
        for number, frame in enumerate(show.frames(), 1):
            writer.write(frame[None])
            if number % 25 == 0:
                tell(f"{person.name}, frame {number} of {bounds[-1]}")
    store.append([_row(GROUND_TRUTH, person, key, {"sha256": [fingerprint.of_file(path) for path in kept]})], {})
    return person


def _conditions(person: Person, show: Performance) -> None:
    """Write what a generator is given, and where the face is."""
    import cv2
    import numpy as np

    from lt_eval.media.waves import wav_bytes

    boxes = [[round(edge, 5) for edge in show.box(index)] for index in range(len(show))]
    for place, (first, last) in enumerate(zip(person.bounds, person.bounds[1:], strict=False)):
        write_json(person.faces(place), {"fps": person.fps, "faces": boxes[first:last]})
    write_json(person.folder / "portrait.faces.json", {"fps": person.fps, "faces": boxes[:1]})
    picture = cv2.imencode(".png", np.ascontiguousarray(show.draw(0)[:, :, ::-1]))[1]
    for path, data in ((person.portrait, picture.tobytes()), (person.speech, wav_bytes(show.audio))):
        with atomic_write(path, "wb") as file:
            file.write(data)


# Streams --------------------------------------------------------------------------------------------------------------


def stream_person(
    store: RunStore, host: Host, identity: str, method: str, person: Person, seed: int, tell: Tell
) -> Row:
    """Stream a person's speech through a generator, unless that was done; return the row that says how it went.

    Args:
        store: of the run.
        host: of the generator.
        identity: of the generator: its options, code and weights.
        method: name of the configuration.
        person: who is streamed.
        seed: of the session.
        tell: told how far it is.

    Raises:
        UsageError: nobody could be streamed like that.
    """
    conditions = (fingerprint.of_file(person.portrait), fingerprint.of_file(person.speech), person.prompt)
    key = key_of("longform-1", identity, method, person.name, person.bounds, person.fps, *conditions, seed)
    folder = _folder(store, method)
    windows = [person.window(folder, place) for place in range(len(person.bounds) - 1)]
    row = store.rows().get(key)
    if row is not None and _is_there(row, windows):
        return row  # one that failed is tried again
    shutil.rmtree(folder / person.name, ignore_errors=True)
    try:
        host.call(_stream_there, person, windows, seed, tell=tell, what=f"was streaming {person.name}")
    except SampleError as error:
        row = _row(method, person, key, {}, Failure(reason_of(error), f"{person.name}: {error}"))
    else:
        row = _row(method, person, key, {"sha256": [fingerprint.of_file(path) for path in windows]})
    store.append([row], {})
    return row


def _stream_there(generator: Generator, tell: Tell, person: Person, windows: Sequence[Path], seed: int) -> None:
    """Run in the generator's process: its frames go to the disk and not through the pipe."""
    from lt_eval.media.decode import read_audio
    from lt_eval.media.still import read_image

    portrait, heard = read_image(person.portrait), read_audio(person.speech, SAMPLE_RATE_HZ)
    same = generator.sample_rate == SAMPLE_RATE_HZ
    feed = Feed(
        heard if same else read_audio(person.speech, generator.sample_rate), generator.sample_rate, AUDIO_CHUNK_S
    )
    check = ChunkCheck(person.bounds[-1] + 10 * generator.fps)
    with (
        WindowWriter(windows, person.bounds, generator.fps, heard) as writer,
        generator.session(portrait, prompt=person.prompt, seed=seed) as session,
    ):
        for chunk in session.speak(feed):
            writer.write(check(chunk))
            feed.pulls.clear()  # arrival times of minutes are nobody's here
            tell(f"{person.name}, frame {writer.frames} of {person.bounds[-1]}")
        if not writer.whole:
            raise UnscorableError(
                "too_few_frames",
                f"the generator gave {writer.frames} frames for speech of {person.bounds[-1]}, "
                f"{person.bounds[-1] / generator.fps:g} s at {generator.fps:g} a second.",
            )


def _folder(store: RunStore, method: str) -> Path:
    return store.root.absolute() / "clips" / method


def _row(
    method: str,
    person: Person,
    key: str,
    details: dict[str, Any],
    failure: Failure | None = None,
) -> Row:
    return Row(DATASET, method, person.name, 0, METRIC, key, {}, failure, details=details)


def _is_there(row: Row | None, files: Sequence[Path]) -> bool:
    """Return whether these files still are what a finished row says."""
    return row is not None and row.failure is None and row.details["sha256"] == [fingerprint.of_file(p) for p in files]
