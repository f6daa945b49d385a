"""Drawn people as a transformer meets them: latents, audio features, prompts; made once for a codec and kept.

    FOLDER/
        latents.npy      float16 [people, windows, C, F, h, w]
        audio.npy        float16 [people, windows, F, audio_dim]
        people.json      prompts, face boxes, what it was made from; written last

The codec is causal, so the latent of a window's first frame is that of a portrait: the reference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lt_eval.distill.folders import journal, note
from lt_eval.distill.pictures import to_video
from lt_eval.distill.talkers import TalkerOptions, draw, drawing
from lt_eval.generator.audio_windows import create_audio_encoder, latent_features
from lt_eval.generator.config import VIDEO_FRAMES_PER_LATENT, GeneratorConfig
from lt_eval.generator.timeline import Timeline
from lt_eval.store import key_of, only_writer, read_json, write_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lt_eval.generator.codec import CausalCodec
    from lt_eval.records import Audio


class Batch(NamedTuple):
    """Clips of one step.

    Attributes:
        latents: float32 [B, C, F, h, w].
        reference: float32 [B, C, 1, h, w].
        audio: float32 [B, F, audio_dim].
        prompts: B of them.
    """

    latents: Tensor
    reference: Tensor
    audio: Tensor
    prompts: tuple[str, ...]

    def part(self, which: Sequence[int]) -> Batch:
        """Return some of the clips."""
        chosen = list(which)
        prompts = tuple(self.prompts[number] for number in chosen)
        return Batch(self.latents[chosen], self.reference[chosen], self.audio[chosen], prompts)


@dataclass(frozen=True)
class Material:
    """Windows of all people, on disk."""

    latents: NDArray[np.float16]
    audio: NDArray[np.float16]
    prompts: tuple[str, ...]
    options: TalkerOptions

    def batch(self, people: Sequence[int], windows: Sequence[int]) -> Batch:
        """Return the windows of some people."""
        latents = torch.from_numpy(np.stack([self.latents[p, w] for p, w in zip(people, windows, strict=True)])).float()
        audio = torch.from_numpy(np.stack([self.audio[p, w] for p, w in zip(people, windows, strict=True)])).float()
        return Batch(latents, latents[:, :, :1], audio, tuple(self.prompts[p] for p in people))

    def random(self, size: int, rng: np.random.Generator) -> Batch:
        """Return windows of people that are trained on."""
        people = rng.integers(self.options.trained, size=size)
        return self.batch(people.tolist(), rng.integers(self.options.windows, size=size).tolist())

    def held_out(self, size: int | None = None) -> Batch:
        """Return the first window of each held-out person, or of the first `size`."""
        people = list(range(self.options.trained, self.options.people))[:size]
        return self.batch(people, [0] * len(people))


def latent_frames(options: TalkerOptions) -> int:
    """Return how many latent frames a window has."""
    return (options.frames - 1) // VIDEO_FRAMES_PER_LATENT + 1


def audio_of(config: GeneratorConfig, audio: Audio, frames: int) -> Tensor:
    """Return the features of a clip's first `frames` latent frames, float32 [F, audio_dim], as the stream hears it."""
    encoder = create_audio_encoder(config.audio)
    timeline = Timeline(config.fps, config.audio.sample_rate_hz, config.stream.block_frames)
    return latent_features(encoder, audio, 0, range(frames), timeline)


@torch.no_grad()
def make_material(
    options: TalkerOptions,
    config: GeneratorConfig,
    codec: CausalCodec,
    codec_hash: str,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Material:
    """Draw, encode and keep the windows of everybody, or return what is there.

    Args:
        options: who, and how much of each.
        config: gives audio features and latent shape.
        codec: trained.
        codec_hash: of its weights; material of another codec lies elsewhere.
        folder: below which it is kept.
        progress: told (people done, people in all).

    Raises:
        RunBusyError: another process is making it.
    """
    key = key_of(
        "material-2", drawing(), dataclasses.asdict(options), dataclasses.asdict(config.audio), config.fps, codec_hash
    )
    home = folder / f"material-{key[:12]}"
    if not (home / "people.json").is_file():
        with only_writer(home):
            _fill(options, config, codec, home, progress)
            prompts = journal(home / "done.jsonl")
            write_json(home / "people.json", {"prompts": prompts, "codec": codec_hash})
    return Material(
        np.load(home / "latents.npy", mmap_mode="r"),
        np.load(home / "audio.npy", mmap_mode="r"),
        tuple(read_json(home / "people.json")["prompts"]),
        options,
    )


def _fill(
    options: TalkerOptions,
    config: GeneratorConfig,
    codec: CausalCodec,
    home: Path,
    progress: Callable[[int, int], None],
) -> None:
    """Write everybody into files of their final size; a person counts once their prompt is in the journal."""
    frames, side = latent_frames(options), options.size // codec.spatial
    shapes = {
        "latents": (options.people, options.windows, codec.latent_channels, frames, side, side),
        "audio": (options.people, options.windows, frames, config.audio.latent_dim),
    }
    finished = len(journal(home / "done.jsonl"))
    maps = {
        name: np.lib.format.open_memmap(home / f"{name}.npy", "r+" if finished else "w+", np.float16, shape)
        for name, shape in shapes.items()
    }
    for person in range(finished, options.people):
        for number in range(options.windows):
            window = draw(options, person, number)
            maps["latents"][person, number] = codec.encode(to_video(window.frames[None]))[0].numpy()
            maps["audio"][person, number] = audio_of(config, window.audio, frames).numpy()
            prompt = window.prompt
        for part in maps.values():
            part.flush()
        note(home / "done.jsonl", [prompt])
        progress(person + 1, options.people)
