"""Drawn people as a transformer meets them: latents, audio features, prompts; made once for a codec and kept.

    FOLDER/
        latents.npy      float16 [people, windows, C, F, h, w]
        audio.npy        float16 [people, windows, F, audio_dim]
        people.json      prompts, face boxes, what it was made from; written last

The codec is causal, so the latent of a window's first frame is that of a portrait: the reference.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lt_eval.distill.folders import journal, note, of_path
from lt_eval.distill.pictures import of_levels
from lt_eval.distill.talkers import DrawWindows, TalkerOptions, by_processes, drawing
from lt_eval.generator.audio_config import AudioConfig
from lt_eval.generator.audio_windows import AudioEncoder, create_audio_encoder, latent_features
from lt_eval.generator.config import VIDEO_FRAMES_PER_LATENT, GeneratorConfig
from lt_eval.generator.timeline import Timeline
from lt_eval.store import key_of, only_writer, read_json, write_json

GRID = 32
"""Steps in one standard deviation of latents: their rounding is a fifth of the noise that a codec is trained with."""

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
        prompts: B of them; or their averages, float32 [B, L, rows], see `text.averages`.
    """

    latents: Tensor
    reference: Tensor
    audio: Tensor
    prompts: tuple[str, ...] | Tensor

    def part(self, which: Sequence[int]) -> Batch:
        """Return some of the clips."""
        chosen = list(which)
        prompts = self.prompts
        some = prompts[chosen] if isinstance(prompts, Tensor) else tuple(prompts[number] for number in chosen)
        return Batch(self.latents[chosen], self.reference[chosen], self.audio[chosen], some)

    def to(self, device: torch.device) -> Batch:
        """Return the clips on a device."""
        latents, reference, audio = (part.to(device) for part in self[:3])
        prompts = self.prompts.to(device) if isinstance(self.prompts, Tensor) else self.prompts
        return Batch(latents, reference, audio, prompts)


@dataclass(frozen=True)
class Material:
    """Windows of all people, a map of files on disk.

    Attributes:
        latents: float16 [people, windows, C, F, h, w].
        audio: float16 [people, windows, F, audio_dim].
        prompts: one a person.
        options: who they are.
    """

    latents: Tensor
    audio: Tensor
    prompts: tuple[str, ...]
    options: TalkerOptions

    def to(self, device: torch.device) -> Material:
        """Return it on a device; on the CPU it stays a map."""
        return dataclasses.replace(self, latents=self.latents.to(device), audio=self.audio.to(device))

    def batch(self, people: Sequence[int], windows: Sequence[int]) -> Batch:
        """Return the windows of some people."""
        latents, audio = (part[list(people), list(windows)].float() for part in (self.latents, self.audio))
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


def audio_of(config: GeneratorConfig, audio: Audio, frames: int, weights: Path | None = None) -> Tensor:
    """Return the features of a clip's first `frames` latent frames, float32 [F, audio_dim], as the stream hears it.

    Args:
        config: of the generator.
        audio: the clip's.
        frames: latent frames.
        weights: of wav2vec2, where the generator hears with it; seeded without.
    """
    encoder = _audio_encoder(config.audio, weights)
    timeline = Timeline(config.fps, config.audio.sample_rate_hz, config.stream.block_frames)
    return latent_features(encoder, audio, 0, range(frames), timeline)


def rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return values to the nearest 1 / GRID: their files pack to a fifth, and can be taken to another machine."""
    return (np.round(values * GRID) / GRID).astype(np.float32)


@functools.lru_cache(maxsize=2)
def _audio_encoder(config: AudioConfig, weights: Path | None) -> AudioEncoder:
    """Return an encoder; wav2vec2 takes longer to read than to hear a clip."""
    return create_audio_encoder(config, weights=weights)


@torch.no_grad()
def make_material(
    options: TalkerOptions,
    config: GeneratorConfig,
    codec: CausalCodec,
    codec_hash: str,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    workers: int = 1,
    audio_weights: Path | None = None,
) -> Material:
    """Draw, encode and keep the windows of everybody, or return what is there.

    Args:
        options: who, and how much of each.
        config: gives audio features and latent shape.
        codec: trained.
        codec_hash: of its weights; material of another codec lies elsewhere.
        folder: below which it is kept.
        progress: told (people done, people in all).
        workers: processes that draw. Encoding is done here, on the codec's device.
        audio_weights: of wav2vec2, where the generator hears with it.

    Raises:
        RunBusyError: another process is making it.
    """
    key = key_of(
        "material-4", drawing(), dataclasses.asdict(options), dataclasses.asdict(config.audio), config.fps, codec_hash
    )
    if audio_weights is not None:
        key = key_of(key, of_path(audio_weights))
    home = folder / f"material-{key[:12]}"
    if not (home / "people.json").is_file():
        with only_writer(home):
            _fill(options, config, codec, home, progress, workers, audio_weights)
            prompts = [prompt for _, prompt in sorted(journal(home / "done.jsonl"))]
            write_json(home / "people.json", {"prompts": prompts, "codec": codec_hash})
    return Material(
        torch.from_numpy(np.load(home / "latents.npy", mmap_mode="c")),
        torch.from_numpy(np.load(home / "audio.npy", mmap_mode="c")),
        tuple(read_json(home / "people.json")["prompts"]),
        options,
    )


def _fill(
    options: TalkerOptions,
    config: GeneratorConfig,
    codec: CausalCodec,
    home: Path,
    progress: Callable[[int, int], None],
    workers: int,
    audio_weights: Path | None,
) -> None:
    """Write everybody into files of their final size; a person counts once their prompt is in the journal."""
    frames, side = latent_frames(options), options.size // codec.spatial
    shapes = {
        "latents": (options.people, options.windows, codec.latent_channels, frames, side, side),
        "audio": (options.people, options.windows, frames, config.audio.latent_dim),
    }
    finished = {person for person, _ in journal(home / "done.jsonl")}
    maps = {
        name: np.lib.format.open_memmap(home / f"{name}.npy", "r+" if finished else "w+", np.float16, shape)
        for name, shape in shapes.items()
    }
    device = next(codec.parameters()).device
    left = [person for person in range(options.people) if person not in finished]
    for index, windows in by_processes(DrawWindows(options), left, workers):
        person = left[index]
        for number, window in enumerate(windows):
            video = of_levels(torch.from_numpy(window.frames[None]).to(device))
            with torch.autocast(device.type, torch.bfloat16):  # its error squared is an eighth of the grid's
                latents = codec.encode(video)[0].float()
            maps["latents"][person, number] = rounded(latents.cpu().numpy())
            maps["audio"][person, number] = rounded(audio_of(config, window.audio, frames, audio_weights).numpy())
        for part in maps.values():
            part.flush()
        note(home / "done.jsonl", [(person, windows[0].prompt)])
        finished.add(person)
        progress(len(finished), options.people)
