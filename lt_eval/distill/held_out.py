"""What a student is worth while it is trained: clips of people nobody trains on, scored by lt-eval's metrics.

The metrics are the builtin ones, found through the registry as for any other clip. People here choose the checkpoint,
so a published figure needs others.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lt_eval.distill.material import Batch, audio_of, latent_frames
from lt_eval.distill.pictures import to_frames, to_video
from lt_eval.distill.rollout import rollout
from lt_eval.distill.talkers import TalkerOptions, Window, draw
from lt_eval.distill.training import generator_of
from lt_eval.errors import SampleError
from lt_eval.media.clip import MediaClip
from lt_eval.media.encode import encode
from lt_eval.records import Dialogue, Sample, Score, Turn
from lt_eval.registry import create
from lt_eval.store import write_json

if TYPE_CHECKING:
    from lt_eval.distill.denoiser import Denoiser
    from lt_eval.generator.codec import CausalCodec
    from lt_eval.records import Audio, Frames

SYNC = {"weights": "builtin", "faces": "manifest", "min_track": 50}
"""Options of Sync: clips of training are shorter than the four seconds that it asks for by itself."""


@dataclass(frozen=True)
class HeldOut:
    """People to measure on, with their true clips on disk.

    Attributes:
        batch: conditions of all of them.
        audio: of each, float32 [S].
        dialogues: their true clips and face boxes.
        fps: frames a second.
    """

    batch: Batch
    audio: tuple[Audio, ...]
    dialogues: tuple[Dialogue, ...]
    fps: float

    @property
    def frames(self) -> int:
        """Latent frames of a clip."""
        return self.batch.audio.shape[1]


@torch.no_grad()
def prepare_held_out(
    options: TalkerOptions,
    denoiser: Denoiser,
    codec: CausalCodec,
    folder: Path,
    people: Sequence[int],
    audio_weights: Path | None = None,
) -> HeldOut:
    """Draw the true clips of some people and encode what a generator is given of them.

    Args:
        options: who, and how long; the first window of each is taken.
        denoiser: gives the configuration.
        codec: encodes the portrait, which is the first frame.
        folder: for true clips and boxes; what is there is drawn again.
        people: numbers within `options`.
        audio_weights: of wav2vec2, where the generator hears with it.
    """
    config = denoiser.config
    windows = [draw(options, person, 0) for person in people]
    frames = latent_frames(options)
    at = denoiser.device
    reference = torch.cat([codec.encode(to_video(window.frames[None, :1]).to(at)) for window in windows])
    audio = torch.stack([audio_of(config, window.audio, frames, audio_weights) for window in windows])
    shape = (len(people), codec.latent_channels, frames, *reference.shape[3:])
    batch = Batch(torch.zeros(shape, device=at), reference, audio.to(at), tuple(window.prompt for window in windows))
    dialogues = tuple(
        _true_clip(options, window, folder, f"person-{person}") for person, window in zip(people, windows, strict=True)
    )
    return HeldOut(batch, tuple(window.audio for window in windows), dialogues, options.fps)


def _true_clip(options: TalkerOptions, window: Window, folder: Path, name: str) -> Dialogue:
    clip = encode(folder / f"{name}.mp4", window.frames, options.fps, window.audio)
    faces = folder / f"{name}.faces.json"
    write_json(faces, {"fps": options.fps, "faces": [list(map(float, box)) for box in window.boxes]})
    return Dialogue(name, (Turn(reference=clip, faces=faces),), prompt=window.prompt)


@torch.no_grad()
def stream_clips(student: Denoiser, codec: CausalCodec, people: HeldOut, seed: int) -> Iterator[Frames]:
    """Yield what the student makes of everybody, as streamed: uint8 RGB [T, H, W, 3]."""
    generators = [generator_of(seed, f"held out {number}", 0) for number in range(len(people.audio))]
    latents = rollout(student, people.batch, generators)
    for one in latents:
        yield to_frames(codec.decode(one[None]))[0]


def measure_student(
    student: Denoiser, codec: CausalCodec, people: HeldOut, folder: Path, *, seed: int = 0
) -> dict[str, float]:
    """Return FID, FVD, Sync-C, Sync-D, share of clips in time, and `loss`, FVD over Sync-C, which chooses checkpoints.

    What no clip has a value of is left out.

    A clip without a value of Sync counts as Sync-C 0.05 in `loss`, about that of a frozen face, and is counted.
    """
    made = [
        encode(folder / f"{dialogue.id}.mp4", frames, people.fps, audio)
        for dialogue, frames, audio in zip(
            people.dialogues, stream_clips(student, codec, people, seed), people.audio, strict=True
        )
    ]
    return measure_clips(made, people)


def measure_clips(made: Sequence[Path], people: HeldOut) -> dict[str, float]:
    """Score finished clips of these people, as `measure_student` does."""
    found: dict[str, float] = {}
    with ExitStack() as stack:
        clips = [stack.enter_context(MediaClip(path)) for path in made]
        true = tuple(str(dialogue.turns[0].reference) for dialogue in people.dialogues)
        for name in ("fid", "fvd"):
            metric: Any = create("metrics", name, {"weights": "builtin"})
            generated = [metric.features(clip) for clip in clips]
            found |= _plain(metric.distance(generated, _true_features(name, true)), (name.upper(),))
        sync: Any = create("metrics", "sync", SYNC)
        values = []
        for clip, dialogue in zip(clips, people.dialogues, strict=True):
            try:
                score = sync.score(Sample("student", dialogue, 0, clip))
            except SampleError:
                continue
            values.append(
                _plain(score.values if isinstance(score, Score) else score, ("Sync-C", "Sync-D", "Sync offset"))
            )
    if values:
        found["Sync-C"], found["Sync-D"] = (_mean([value[name] for value in values]) for name in ("Sync-C", "Sync-D"))
        found["in time"] = _mean([float(abs(value["Sync offset"]) <= 1) for value in values])
    found["without Sync"] = float(len(made) - len(values))
    scored = [value["Sync-C"] for value in values] + [0.05] * (len(made) - len(values))
    found["loss"] = found["FVD"] / max(0.05, float(np.mean(scored)))
    return found


@functools.lru_cache(maxsize=4)
def _true_features(name: str, paths: tuple[str, ...]) -> list[Any]:
    """Return a set metric's features of true clips, which do not change while a student is trained."""
    metric: Any = create("metrics", name, {"weights": "builtin"})
    with ExitStack() as stack:
        return [metric.features(stack.enter_context(MediaClip(Path(path)))) for path in paths]


def _plain(values: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """Return some columns without what their names say of weights and mode."""
    return {name: next(value for key, value in values.items() if key.split(" (")[0] == name) for name in names}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def longer(options: TalkerOptions, seconds: float) -> TalkerOptions:
    """Return the same people in one window of about so many seconds, 4 k + 1 frames."""
    frames = 4 * round(seconds * options.fps / 4) + 1
    return replace(options, windows=1, frames=frames)
