"""Dialogue -> generator session -> clip file, with the arrival time of every chunk.

The clock is that of `lt_eval.bench.timing`. Chunks are taken as fast as they come and put aside; the file is encoded
when all are there, so that no generator works on, uncounted, while its frames are encoded.
"""

from __future__ import annotations

import glob
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from lt_eval import fingerprint
from lt_eval.bench.host import FAILED
from lt_eval.bench.timing import AUDIO_CHUNK_S, Timeline, listen
from lt_eval.bench.viewing import first_frame_s, throughput_fps
from lt_eval.errors import DatasetError, StoreError, UnscorableError
from lt_eval.records import Column, Dialogue, Failure, Row
from lt_eval.store import key_of, storage_error

if TYPE_CHECKING:
    from types import TracebackType

    from lt_eval.bench.host import Host
    from lt_eval.interfaces import Generator
    from lt_eval.records import Audio, Frames

COLUMNS = {
    "Throughput": Column("higher", unit="FPS", minimum=0.0),
    "Latency": Column("lower", unit="s", minimum=0.0),
}
"""Frames over wall time, and conditions in memory to first frame on the host: the paper's section 5.2."""

METRIC = "render"

_IN_MEMORY_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Rendered:
    """What one generation cost."""

    timeline: Timeline

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.timeline.frames

    @property
    def arrivals(self) -> tuple[tuple[float, int], ...]:
        """Of each chunk, (seconds since the conditions were in memory, its frames)."""
        return tuple((arrival.at_s, arrival.frames) for arrival in self.timeline.arrivals)

    @property
    def throughput_fps(self) -> float:
        """Frames over the whole wall time."""
        return throughput_fps(self.timeline)

    @property
    def first_frame_s(self) -> float:
        """Latency; for a generator that does not stream this is its whole time."""
        return first_frame_s(self.timeline)


class Shelf:
    """Where chunks are put aside while the clock runs: in memory, and beyond `limit_bytes` in a file without a name.

    Use as a context manager; iterate over it once, when all chunks are there.
    """

    def __init__(self, limit_bytes: int = _IN_MEMORY_BYTES) -> None:
        self._room = limit_bytes
        self._held: list[Frames] = []
        self._shapes: list[tuple[int, ...]] = []
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Shelf:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.clear()
        if self._file is not None:
            self._file.close()

    def put(self, frames: Frames) -> None:
        """Copy a chunk, uint8 [T, H, W, 3].

        Raises:
            StorageFullError: the temporary folder has no room.
        """
        if self._file is None and frames.nbytes <= self._room:
            self._room -= frames.nbytes
            self._held.append(frames.copy())
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed on exit
            self._file.write(frames.tobytes())
        except OSError as cause:
            raise storage_error(Path(tempfile.gettempdir()), cause) from cause
        self._shapes.append(frames.shape)

    def __iter__(self) -> Iterator[Frames]:
        import numpy as np

        yield from self._held
        if self._file is not None:
            self._file.seek(0)
            for shape in self._shapes:
                yield np.frombuffer(self._file.read(math.prod(shape)), np.uint8).reshape(shape)


def load_conditions(dialogue: Dialogue, sample_rate: int) -> tuple[Frames, Audio]:
    """Return the portrait, uint8 RGB [H, W, 3], and the driving audio, float32 mono at `sample_rate` Hz.

    Raises:
        DatasetError: the item has no portrait or no speech: a generator cannot be driven with it.
        MediaError: one of the files cannot be read.
    """
    from lt_eval.media.decode import read_audio
    from lt_eval.media.still import read_image

    turn = dialogue.turns[0]
    if dialogue.portrait is None or turn.speech is None:
        raise DatasetError(
            f"sample {dialogue.id!r} has no {'portrait' if dialogue.portrait is None else 'speech'}, which a generator "
            "needs. A folder of your own gets them by --set dataset.portraits=FOLDER and --set dataset.speech=FOLDER, "
            "files named by id; or give finished clips with --clips NAME=FOLDER."
        )
    return read_image(dialogue.portrait), read_audio(turn.speech, sample_rate)


def render_clip(
    generator: Generator,
    dialogue: Dialogue,
    out: Path,
    *,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> Rendered:
    """Generate one clip into `out`, muxed with its driving audio; the file appears only when it is complete.

    Args:
        generator: any.
        dialogue: its first turn is spoken.
        out: the file to make.
        seed: of the session.
        tell: is told what is happening, at least once a chunk.

    Raises:
        UnscorableError: the generator gave no frame, or chunks that no generator may give.
        DatasetError: the item cannot drive a generator.
    """
    from lt_eval.media.decode import read_audio
    from lt_eval.media.encode import VideoWriter
    from lt_eval.records import SAMPLE_RATE_HZ

    portrait, audio = load_conditions(dialogue, generator.sample_rate)
    turn = dialogue.turns[0]
    with Shelf() as shelf:
        try:
            timeline = listen(
                generator,
                portrait,
                audio,
                prompt=dialogue.prompt,
                text=turn.text,
                seed=seed,
                chunk_s=AUDIO_CHUNK_S,
                keep=shelf.put,
                tell=tell,
            )
        except UnscorableError as error:
            raise UnscorableError(error.code, f"{dialogue.id}: {error}") from error
        with VideoWriter(out, generator.fps, sample_rate_hz=SAMPLE_RATE_HZ) as writer:
            for chunk in shelf:
                writer.write(chunk)
                tell("encoding")
            if turn.speech is not None:
                writer.write_audio(read_audio(turn.speech, SAMPLE_RATE_HZ))
    return Rendered(timeline)


def render_in(host: Host, identity: str, dataset: str, method: str, dialogue: Dialogue, out: Path, *, seed: int) -> Row:
    """As `render_row`, by the generator of a process of its own: one that hangs or crashes is a failed row too."""
    empty = _empty_row(identity, dataset, method, dialogue, out, seed)
    what = f"was generating {dialogue.id}"
    try:
        row: Row = host.call(_render_row_there, identity, dataset, method, dialogue, out, seed, what=what)
    except UnscorableError as error:
        row = _failed(empty, out, error.code, f"{dialogue.id}: {error}")
    if row.failure is not None:
        for partial in out.parent.glob(f".{glob.escape(out.name)}.*.partial"):  # left by a process that was ended
            partial.unlink(missing_ok=True)
    return row


def warm_up_in(host: Host, dialogue: Dialogue, out: Path, *, seed: int) -> None:
    """Generate without a row, so that compilation and first allocations are not timed.

    Raises:
        UnscorableError: what fails here fails again when it counts.
    """
    host.call(_warm_up_there, dialogue, out, seed, what="was warming up")


def _render_row_there(
    generator: Generator,
    tell: Callable[[str], None],
    identity: str,
    dataset: str,
    method: str,
    dialogue: Dialogue,
    out: Path,
    seed: int,
) -> Row:
    return render_row(generator, identity, dataset, method, dialogue, out, seed=seed, tell=tell)


def _warm_up_there(generator: Generator, tell: Callable[[str], None], dialogue: Dialogue, out: Path, seed: int) -> None:
    try:
        render_clip(generator, dialogue, out, seed=seed, tell=tell)
    finally:
        out.unlink(missing_ok=True)


def _empty_row(identity: str, dataset: str, method: str, dialogue: Dialogue, out: Path, seed: int) -> Row:
    key = render_key(identity, method, dialogue, seed)
    return Row(dataset, method, dialogue.id, 0, METRIC, key, clip=str(out))


def _failed(row: Row, out: Path, reason: str, message: str) -> Row:
    out.unlink(missing_ok=True)
    return replace(row, clip="", failure=Failure(reason, message))


def render_row(
    generator: Generator,
    identity: str,
    dataset: str,
    method: str,
    dialogue: Dialogue,
    out: Path,
    *,
    seed: int,
    tell: Callable[[str], None] = lambda _: None,
) -> Row:
    """Render one clip in this process and return its row of measured times, or of the failure.

    Raises:
        DatasetError: the item cannot drive a generator, and so no other will.
        StoreError: the clip cannot be written, the disk being full among other reasons.
    """
    row = _empty_row(identity, dataset, method, dialogue, out, seed)
    try:
        rendered = render_clip(generator, dialogue, out, seed=seed, tell=tell)
    except (DatasetError, StoreError):
        raise
    except UnscorableError as error:
        return _failed(row, out, error.code if error.code != "no_frames" else FAILED, str(error))
    except (Exception, SystemExit) as error:  # one failed generation must not cost the others
        return _failed(row, out, FAILED, f"{type(error).__name__}: {error}")
    timeline = rendered.timeline
    details = {
        "frames": rendered.frames,
        "sha256": fingerprint.of_file(out),
        "arrivals_s": [round(arrival.at_s, 6) for arrival in timeline.arrivals],
        "opened_s": round(timeline.opened_s, 6),
        "streams": timeline.streams,
    }
    return replace(
        row, values={"Throughput": rendered.throughput_fps, "Latency": rendered.first_frame_s}, details=details
    )


def render_key(identity: str, method: str, dialogue: Dialogue, seed: int) -> str:
    """Return the key of a rendered clip: the generator with its options and code, all of the item, the seed."""
    turn = dialogue.turns[0]
    conditions = (fingerprint.of_file(turn.speech), fingerprint.of_file(dialogue.portrait), turn.text, dialogue.prompt)
    return key_of("render-3", identity, method, dialogue.id, *conditions, seed)


def is_rendered(row: Row | None, path: Path) -> bool:
    """Return whether `path` still is the clip that this row timed; other options may have written over it since."""
    return row is not None and row.failure is None and row.details.get("sha256") == fingerprint.of_file(path)
