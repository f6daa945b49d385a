"""Audio as it arrives, features as soon as a block has what it may hear.

Windows overlap: for every block the encoder gets the samples from its left context to the block's end plus the
look-ahead, and only the block's own frames are kept of what it says. The first windows of a stream are shorter; silence
never stands in for a past that does not exist where the encoder looks at all of its window (wav2vec2).

What the look-ahead costs: block b can begin when `Timeline.frames(b).stop + look_ahead_frames` frames of audio are
there, so the first frame waits for (9 + look_ahead_frames) / fps seconds of speech.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from lt_eval.errors import ConditionError
from lt_eval.generator.audio_config import FRAMES_PER_LATENT
from lt_eval.generator.logmel import LogMel
from lt_eval.generator.timeline import video_frames
from lt_eval.generator.wav2vec2 import RECEPTIVE_FIELD, STEP, Wav2Vec2, normalise
from lt_eval.generator.wav2vec2_weights import load_wav2vec2, seeded_wav2vec2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from lt_eval.generator.audio_config import AudioConfig
    from lt_eval.generator.timeline import Timeline
    from lt_eval.records import Audio


class AudioEncoder(Protocol):
    """Samples to the features of video frames. Stateless: one serves all streams."""

    @property
    def config(self) -> AudioConfig:
        """What it hears."""
        ...

    def first_sample(self, frame: int, timeline: Timeline) -> int:
        """Return the first sample that a block starting at video frame `frame` needs, its own at the latest."""
        ...

    def encode(self, samples: Audio, start: int, frames: Sequence[int], timeline: Timeline) -> Tensor:
        """Return float32 [len(frames), frame_dim]: `samples` begin at stream position `start`."""
        ...


class WindowedWav2Vec2:
    """The features of `AudioConfig(kind="wav2vec2")`: every window is normalised and encoded on its own."""

    def __init__(self, config: AudioConfig, network: Wav2Vec2, device: str = "cpu") -> None:
        self.config = config
        self._network = network.to(device)
        self._device = device

    def first_sample(self, frame: int, timeline: Timeline) -> int:
        """Return where the left context begins, at the earliest where the stream does."""
        return self._first_sample(self._first_frame(frame, timeline), timeline)

    def encode(self, samples: Audio, start: int, frames: Sequence[int], timeline: Timeline) -> Tensor:
        """Return float32 [len(frames), (layers + 2) * hidden] of ascending video frames."""
        first, stop = self._first_frame(frames[0], timeline), frames[-1] + 1 + self.config.look_ahead_frames
        begin, end = self._first_sample(first, timeline), timeline.sample(stop)
        window = np.zeros(max(end - begin, RECEPTIVE_FIELD), np.float32)
        known = samples[begin - start : end - start]
        window[: len(known)] = known
        heard = normalise(torch.from_numpy(window)[None].to(self._device))
        places: int | Tensor = stop - first
        if self.config.resample == "centre":
            middles = [(timeline.sample(frame) + timeline.sample(frame + 1)) / 2 for frame in range(first, stop)]
            places = (torch.tensor(middles, device=self._device) - begin - RECEPTIVE_FIELD / 2) / STEP
        states: Tensor = self._network(heard, places)[0]
        return states[torch.as_tensor(frames, device=states.device) - first]

    def _first_sample(self, frame: int, timeline: Timeline) -> int:
        """Return a frame's first sample or, for "centre", the last step before it: steps then lie as in the clip."""
        sample = timeline.sample(frame)
        return sample - sample % STEP if self.config.resample == "centre" else sample

    def _first_frame(self, frame: int, timeline: Timeline) -> int:
        return max(0, frame - round(self.config.left_context_s * timeline.fps))


def create_audio_encoder(
    config: AudioConfig, *, weights: Path | None = None, seed: int = 0, device: str = "cpu"
) -> AudioEncoder:
    """Return the encoder that `config` names; wav2vec2 without `weights` is seeded, and hears nothing sensible.

    Raises:
        WeightsError: the weights cannot be used.
    """
    if config.kind == "logmel":
        return LogMel(config)
    network = load_wav2vec2(weights, config) if weights else seeded_wav2vec2(config, seed)
    return WindowedWav2Vec2(config, network, device)


class AudioStream:
    """The audio of one stream: takes chunks, gives the features of block after block.

    Holds no more than the left context and what has not been used yet.
    """

    def __init__(self, encoder: AudioEncoder, timeline: Timeline) -> None:
        self._encoder, self._timeline = encoder, timeline
        self._start = 0  # stream position of _held[0]
        self._held: Audio = np.zeros(0, np.float32)
        self._chunks: list[Audio] = []
        self._end = 0

    @property
    def end(self) -> int:
        """Samples of the stream that have come."""
        return self._end

    def push(self, samples: Audio) -> None:
        """Append samples, float [T]; checked by `checked_audio` before."""
        self._chunks.append(samples)
        self._end += len(samples)

    def lacking(self, block: int) -> int:
        """Return how many samples must still come before the block can begin."""
        stop = self._timeline.frames(block).stop + self._encoder.config.look_ahead_frames
        return max(0, self._timeline.sample(stop) - self._end)

    def align(self, block: int) -> None:
        """End the turn where a block begins, which will be the first of the next turn.

        Silence fills up what is missing until there, and stands for what the last blocks may hear beyond. What is too
        much is dropped: less than half a video frame, so that picture and sound do not drift apart from turn to turn,
        or all that a cancelled turn has not said.
        """
        end = self._timeline.sample(self._timeline.frames(block).start)
        if end > self._end:
            self.push(np.zeros(end - self._end, np.float32))
        elif end < self._end:
            self._gather(self._start)
            self._held, self._end = self._held[: end - self._start], end

    def features(self, block: int) -> Tensor:
        """Return float32 [latent frames, latent_dim] of a block; blocks are asked for in ascending order."""
        self._gather(self._encoder.first_sample(self._timeline.frames(block).start, self._timeline))
        return latent_features(self._encoder, self._held, self._start, self._timeline.latents(block), self._timeline)

    def _gather(self, needed: int) -> None:
        """Join what came, and forget what lies before `needed`."""
        self._held = np.concatenate([self._held, *self._chunks]) if self._chunks else self._held
        self._chunks.clear()
        past = min(max(needed - self._start, 0), len(self._held))
        if past:
            self._held = self._held[past:].copy()
            self._start += past


def latent_features(encoder: AudioEncoder, samples: Audio, start: int, latents: range, timeline: Timeline) -> Tensor:
    """Return float32 [len(latents), latent_dim]: for each latent frame the features of its four video frames.

    With all latent frames of a clip in one call this is the whole-clip encoding: every frame hears everything that
    the encoder lets it hear.
    """
    frames = range(video_frames(latents.start), video_frames(latents.stop))
    padded = [0] * (FRAMES_PER_LATENT - 1) + list(frames) if latents.start == 0 else list(frames)
    return encoder.encode(samples, start, padded, timeline).reshape(len(latents), -1)


def checked_audio(samples: object) -> Audio:
    """Return a chunk as float32 [T].

    Raises:
        ConditionError: it is not one-dimensional, not of real numbers, or not finite.
    """
    given = np.asarray(samples)
    if given.ndim == 0 and given.dtype.kind in "fiu":
        raise ConditionError("the audio came as single samples. Give it in chunks, such as [audio].")
    if given.ndim != 1 or given.dtype.kind not in "fiu":
        raise ConditionError(
            f"audio is {given.dtype} {list(given.shape)}. It must be float32 mono [T] in -1..1: average the channels."
        )
    if given.dtype.kind in "iu":
        raise ConditionError(f"audio is {given.dtype}. It must be float32 in -1..1: divide 16-bit samples by 32768.")
    with np.errstate(over="ignore"):
        samples = given.astype(np.float32, copy=True)
    if not np.isfinite(samples).all():
        bad = int(np.flatnonzero(~np.isfinite(samples))[0])
        raise ConditionError(f"audio sample {bad} of a chunk is {given[bad]}. Every sample must be a finite number.")
    return samples
