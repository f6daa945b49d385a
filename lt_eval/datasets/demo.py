"""The demo data set: eight people who do not exist, and six "methods" whose order in a table one can check.

    ROOT/
        clips/ID.mp4  speech/ID.wav  portraits/ID.png       the reference, what drives it, its first frame
        portraits/ID.faces.json                             the face in it
        methods/NAME/ID.mp4                                 made from the same frames and samples, encoded the same way
        items/ID.json                                       written last: an item with its record is whole
        manifest.json                                       all records; written when all items are

Made on first use, nothing is downloaded. Every file appears under its name only when it is complete, so that a killed
preparation goes on where it stopped, and a second process waits for the first and then finds everything done.
"""

from __future__ import annotations

import dataclasses
import fcntl
import io
import os
import wave
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lt_eval.datasets.folder import sha256_of
from lt_eval.errors import DatasetError, SpecError, StoreError
from lt_eval.paths import data_dir, faces_sidecar
from lt_eval.records import SAMPLE_RATE_HZ, Dialogue, Turn
from lt_eval.store import atomic_write, read_json, storage_error, write_json

if TYPE_CHECKING:
    from lt_eval.records import Audio, Frames
    from lt_eval.synthetic.talker import ClipSpec, SyntheticClip

    Report = Callable[[str, int, int, str], None]
    """Called with (stage, done, in all, what was done last)."""

VERSION = "1"
"""Raised whenever a pixel or a sample of any clip changes."""

FPS = 25.0
CRF = 18
COMPRESSED_CRF = 40
PRESET = "veryfast"
SHIFT_S = 0.2
"""Five frames: beyond what a viewer forgives, well within what SyncNet searches (15 frames)."""

METHODS = ("mild-blur", "strong-blur", "compression", "audio-shift", "other-audio", "frozen-portrait")
"""In the order of the table's rows."""

_ITEMS = (
    ("anna", 17, 0),
    ("bela", 15, 17),
    ("cleo", 22, 3),
    ("dario", 29, 27),
    ("edda", 28, 4),
    ("femi", 6, 21),
    ("gita", 14, 1),
    ("hugo", 38, 13),
)
"""Name, seed of the person, and which sentence they say; further clips go round with other seeds and sentences."""

_RATE = 0.88
"""Slow enough that one sentence fills five seconds."""


def spec_of(index: int) -> tuple[str, ClipSpec]:
    """Return the id and the recipe of one item."""
    from lt_eval.synthetic.lexicon import SENTENCES, utterance
    from lt_eval.synthetic.talker import make_spec

    round_, place = divmod(index, len(_ITEMS))
    name, seed, sentence = _ITEMS[place]
    spec = make_spec(seed + 1000 * round_)
    script = tuple(utterance(SENTENCES[(sentence + round_ + k) % len(SENTENCES)]) for k in range(len(SENTENCES)))
    voice = dataclasses.replace(spec.voice, rate=_RATE)
    return f"{name}{round_ + 1}" if round_ else name, dataclasses.replace(spec, voice=voice, script=script)


@dataclass(frozen=True)
class Demo:
    """Synthetic talkers with their own ground truth and methods.

    Args:
        root: where the files lie; by default demo-VERSION-SIZE in `paths.data_dir`.
        size: side of the square frames in pixels, even.
        clips: how many.
        seconds: length of each.

    Raises:
        SpecError: an option that cannot be.
        DatasetError: `root` holds a demo set made with other options.
    """

    root: str | None = None
    size: int = 256
    clips: int = 8
    seconds: float = 5.0

    def __post_init__(self) -> None:
        rules = (
            (self.size >= 32 and self.size % 2 == 0, f"demo.size is {self.size}; an even number from 32 is needed."),
            (self.clips >= 1, f"demo.clips is {self.clips}; at least 1 is needed."),
            (self.seconds >= 0.5, f"demo.seconds is {self.seconds}; at least 0.5 is needed."),
        )
        for holds, rule in rules:
            if not holds:
                raise SpecError(rule)

    @staticmethod
    def overview() -> tuple[str, str, int, Path]:
        """Return name, status ("ready", "unfinished", "absent"), clips and folder of the default set; makes none."""
        demo = Demo()
        done = sum(demo._is_whole(index) for index in range(demo.clips))
        status = "ready" if done == demo.clips else "unfinished" if done else "absent"
        return "demo", status, done, demo.folder

    @cached_property
    def folder(self) -> Path:
        """Where the set lies."""
        if self.root is not None:
            return Path(self.root).expanduser()
        length = "" if self.seconds == 5.0 else f"-{self.seconds:g}s"
        return data_dir() / f"demo-{VERSION}-{self.size}{length}"

    @property
    def version(self) -> str:
        """The version of the talker and every option that changes an item."""
        return f"{VERSION}-{self.size}-{self.seconds:g}s"

    @property
    def methods(self) -> Mapping[str, Path]:
        """Method name -> folder of clips named by dialogue id; makes what is missing."""
        self._ensure()
        return {name: self.folder / "methods" / name for name in METHODS}

    def __len__(self) -> int:
        return self.clips

    def __getitem__(self, index: int, /) -> Dialogue:
        if not -self.clips <= index < self.clips:
            raise IndexError(index)
        self._ensure()
        record = read_json(self._record(index % self.clips))
        name = record["id"]
        turn = Turn(
            speech=self.folder / "speech" / f"{name}.wav",
            text=record["transcript"],
            reference=self.folder / "clips" / f"{name}.mp4",
            faces=self._record(index % self.clips),
        )
        portrait = self.folder / "portraits" / f"{name}.png"
        return Dialogue(id=name, turns=(turn,), portrait=portrait, prompt=record["prompt"])

    def prepare(self, progress: Report | None = None) -> None:
        """Make what is missing or has changed, one item after the other.

        Raises:
            DatasetError: the folder holds a set made with other options.
            StorageFullError: no room.
            StoreError: not writable.
        """
        with _locked(self.folder):
            for index in range(self.clips):
                name, spec = spec_of(index)
                if not self._is_whole(index) or self._problems(index):
                    _sweep(self.folder)
                    self._make(index, name, spec)
                if progress is not None:
                    progress("demo", index + 1, self.clips, name)
            records = [read_json(self._record(index)) for index in range(self.clips)]
            written = self.folder / "manifest.json"
            known = read_json(written)["clips"] if written.is_file() else []
            if known[: self.clips] != records:
                write_json(written, self._header() | {"methods": list(METHODS), "clips": records})

    def check(self) -> list[str]:
        """Return what is missing or changed, one sentence a finding. Every file is hashed."""
        return [problem for index in range(self.clips) for problem in self._problems(index)]

    def _problems(self, index: int) -> list[str]:
        record = self._read(index)
        if record is None:
            return [f"items/{self._record(index).name} is missing or damaged. `lt-eval data prepare demo` makes it."]
        problems = []
        for file, expected in record["files"].items():
            if not (self.folder / file).is_file():
                problems.append(f"{file} is missing. `lt-eval data prepare demo` makes it again.")
            elif sha256_of(self.folder / file) != expected:
                problems.append(f"{file} has changed. `lt-eval data prepare demo` makes it again.")
        return problems

    def _header(self) -> dict[str, Any]:
        return {"dataset": "demo", "version": VERSION, "size": self.size, "seconds": self.seconds, "fps": FPS}

    def _record(self, index: int) -> Path:
        return self.folder / "items" / f"{spec_of(index)[0]}.json"

    def _read(self, index: int) -> dict[str, Any] | None:
        """The record of an item, or None where there is none that can be read."""
        path = self._record(index)
        try:
            record = read_json(path) if path.is_file() else {}
        except StoreError:
            return None
        return record if "files" in record else None

    def _is_whole(self, index: int) -> bool:
        record = self._read(index)
        if record is None:
            return False
        found = {key: record.get(key) for key in self._header()}
        if found != self._header():
            raise DatasetError(
                f"{self.folder}: holds a demo set made with {found}, and {self._header()} is asked for. "
                "Give another demo.root, or leave it out: then each set has a folder of its own."
            )
        files = set(record["files"]) | {_portrait_face(record["id"])}
        return all((self.folder / file).is_file() for file in files)

    def _ensure(self) -> None:
        if all(self._is_whole(index) for index in range(self.clips)):
            return
        from lt_eval.progress import Progress

        with Progress() as progress:
            progress.say(f"The demo set is made once, in {self.folder}.")
            self.prepare(progress)

    def _make(self, index: int, name: str, spec: ClipSpec) -> None:
        from lt_eval.synthetic.talker import content_sha256, make_clip, perform

        clip = make_clip(spec, self.seconds, self.size, FPS)
        other = perform(spec_of(index ^ 1)[1], self.seconds, self.size, FPS).audio
        files = _write_item(self.folder, name, clip, other)
        median = np.median(clip.boxes, axis=0)
        record = self._header() | {
            "id": name,
            "transcript": clip.transcript,
            "prompt": clip.prompt,
            "content_sha256": content_sha256(clip.frames, clip.audio),
            "face": [round(float(edge), 5) for edge in median],
            "faces": [[round(float(edge), 5) for edge in box] for box in clip.boxes],
            "segments": [list(segment) for segment in clip.segments],
            "files": {file: sha256_of(self.folder / file) for file in files},
        }
        write_json(self._record(index), record)


def altered(clip: SyntheticClip, other_audio: Audio) -> Iterator[tuple[str, Frames, Audio, int]]:
    """Yield (method, frames, audio, crf) of every demo method made from one clip."""
    import cv2

    scale = clip.frames.shape[1] / 256.0

    def blurred(spread: float) -> Frames:
        return np.stack([np.asarray(cv2.GaussianBlur(f, (0, 0), spread * scale), np.uint8) for f in clip.frames])

    delay = round(SHIFT_S * SAMPLE_RATE_HZ)
    shifted = np.concatenate([np.zeros(delay, np.float32), clip.audio])[: len(clip.audio)]
    yield "mild-blur", blurred(1.2), clip.audio, CRF
    yield "strong-blur", blurred(4.0), clip.audio, CRF
    yield "compression", clip.frames, clip.audio, COMPRESSED_CRF
    yield "audio-shift", clip.frames, shifted, CRF
    yield "other-audio", clip.frames, other_audio, CRF
    yield "frozen-portrait", np.repeat(clip.frames[:1], len(clip.frames), axis=0), clip.audio, CRF


def _write_item(root: Path, name: str, clip: SyntheticClip, other_audio: Audio) -> list[str]:
    """Write all files of one item; return their paths below `root`."""
    import cv2

    from lt_eval.media.encode import encode

    files = [f"clips/{name}.mp4", f"speech/{name}.wav", f"portraits/{name}.png", _portrait_face(name)]
    encode(root / files[0], clip.frames, FPS, clip.audio, crf=CRF, preset=PRESET)
    with atomic_write(root / files[1], "wb") as out:
        out.write(_wav(clip.audio))
    with atomic_write(root / files[2], "wb") as out:
        out.write(cv2.imencode(".png", np.ascontiguousarray(clip.frames[0, :, :, ::-1]))[1].tobytes())
    write_json(root / files[3], {"fps": FPS, "faces": clip.boxes[:1].tolist()})
    for method, frames, audio, crf in altered(clip, other_audio):
        files.append(f"methods/{method}/{name}.mp4")
        encode(root / files[-1], frames, FPS, audio, crf=crf, preset=PRESET)
    return files


def _portrait_face(name: str) -> str:
    """Return the file with the box of the face in a portrait, where metrics look for it."""
    return str(faces_sidecar(Path("portraits") / f"{name}.png"))


def _wav(audio: Audio) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(np.rint(np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the folder: a second process waits here. The lock goes with its process, however that ends."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(root / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as cause:
        raise storage_error(root, cause) from cause
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sweep(root: Path) -> None:
    """Remove what a killed process left half written; call it under the lock."""
    for half_written in [*root.glob("*/.*"), *root.glob("methods/*/.*")]:
        half_written.unlink(missing_ok=True)
