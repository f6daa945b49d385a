"""Dialogue -> generator session -> clip file, with the arrival time of every chunk.

A chunk counts when its pixels are on the host, so timing needs no CUDA calls and works for any generator. Writing the
file happens outside the timed intervals.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lt_eval import fingerprint
from lt_eval.errors import DatasetError, StoreError, UnscorableError
from lt_eval.records import Column, Dialogue, Failure, Row
from lt_eval.store import key_of

if TYPE_CHECKING:
    from lt_eval.interfaces import Generator
    from lt_eval.records import Audio, Frames

COLUMNS = {
    "Throughput": Column("higher", unit="FPS", minimum=0.0),
    "Latency": Column("lower", unit="s", minimum=0.0),
}
"""Frames over wall time, and conditions in memory to first frame on the host: the paper's section 5.2."""

METRIC = "render"


@dataclass(frozen=True)
class Rendered:
    """What one generation cost.

    Attributes:
        frames: number of frames.
        arrivals: of each chunk, (seconds since the start, its frames); time spent outside the generator is excluded.
    """

    frames: int
    arrivals: tuple[tuple[float, int], ...]

    @property
    def throughput_fps(self) -> float:
        """Frames over the whole wall time."""
        return self.frames / self.arrivals[-1][0]

    @property
    def first_frame_s(self) -> float:
        """Latency; for a generator that does not stream this is its whole time."""
        return self.arrivals[0][0]


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


def generate(generator: Generator, dialogue: Dialogue, seed: int) -> Iterator[tuple[float, Frames]]:
    """Yield (seconds since the start, frames) of each chunk; only the generator's own time counts.

    Raises:
        DatasetError: see `load_conditions`.
    """
    portrait, audio = load_conditions(dialogue, generator.sample_rate)
    spent = 0.0
    mark = time.perf_counter()
    with generator.session(portrait, prompt=dialogue.prompt, seed=seed) as session:
        for chunk in session.speak(iter([audio]), text=dialogue.turns[0].text):
            spent += time.perf_counter() - mark
            if len(chunk):  # a chunk without pixels shows a viewer nothing: what it took counts for the next one
                yield spent, chunk
            mark = time.perf_counter()


def render_clip(generator: Generator, dialogue: Dialogue, out: Path, *, seed: int = 0) -> Rendered:
    """Generate one clip into `out`, muxed with its driving audio; the file appears only when it is complete.

    Raises:
        UnscorableError: the generator gave no frame.
        DatasetError: the item cannot drive a generator.
    """
    from lt_eval.media.decode import read_audio
    from lt_eval.media.encode import VideoWriter
    from lt_eval.records import SAMPLE_RATE_HZ

    arrivals: list[tuple[float, int]] = []
    speech = dialogue.turns[0].speech
    chunks = generate(generator, dialogue, seed)
    first = next(chunks, None)
    if first is None or speech is None:
        raise UnscorableError("no_frames", f"{dialogue.id}: the generator gave no frame.")
    with VideoWriter(out, generator.fps, sample_rate_hz=SAMPLE_RATE_HZ) as writer:
        chunk: tuple[float, Frames] | None = first
        while chunk is not None:
            arrivals.append((chunk[0], len(chunk[1])))
            writer.write(chunk[1])
            chunk = next(chunks, None)
        writer.write_audio(read_audio(speech, SAMPLE_RATE_HZ))
    return Rendered(sum(count for _, count in arrivals), tuple(arrivals))


def render_row(
    generator: Generator, identity: str, dataset: str, method: str, dialogue: Dialogue, out: Path, *, seed: int
) -> Row:
    """Render one clip and return its row of measured times, or of the failure.

    Raises:
        DatasetError: the item cannot drive a generator, and so no other will.
        StoreError: the clip cannot be written, the disk being full among other reasons.
    """
    key = render_key(identity, method, dialogue, seed)
    row = Row(dataset, method, dialogue.id, 0, METRIC, key, clip=str(out))
    try:
        rendered = render_clip(generator, dialogue, out, seed=seed)
    except (DatasetError, StoreError):
        raise
    except Exception as error:  # one failed generation must not cost the others
        message = str(error) if isinstance(error, UnscorableError) else f"{type(error).__name__}: {error}"
        out.unlink(missing_ok=True)
        return Row(**{**row.__dict__, "clip": "", "failure": Failure("generation_failed", message)})
    values = {"Throughput": rendered.throughput_fps, "Latency": rendered.first_frame_s}
    details = {
        "frames": rendered.frames,
        "sha256": fingerprint.of_file(out),
        "arrivals_s": [round(seconds, 6) for seconds, _ in rendered.arrivals],
    }
    return Row(**{**row.__dict__, "values": values, "details": details})


def render_key(identity: str, method: str, dialogue: Dialogue, seed: int) -> str:
    """Return the key of a rendered clip: the generator with its options and code, all of the item, the seed."""
    turn = dialogue.turns[0]
    conditions = (fingerprint.of_file(turn.speech), fingerprint.of_file(dialogue.portrait), turn.text, dialogue.prompt)
    return key_of("render-1", identity, method, dialogue.id, *conditions, seed)


def is_rendered(row: Row | None, path: Path) -> bool:
    """Return whether `path` still is the clip that this row timed; other options may have written over it since."""
    return row is not None and row.failure is None and row.details.get("sha256") == fingerprint.of_file(path)
