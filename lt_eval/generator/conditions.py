"""What steers the transformer: reference image, text, audio and the noise level, each raw or prepared once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class CrossKV(NamedTuple):
    """A prompt's keys and values for every layer's cross-attention, each [layers, B, L, heads, head_dim]."""

    keys: Tensor
    values: Tensor


class AudioBias(NamedTuple):
    """What audio adds before each of the audio layers, [audio layers, B, F, dim]."""

    biases: Tensor


class Modulation(NamedTuple):
    """A noise level, embedded.

    Attributes:
        time: [B, F, dim]; F may be 1 where all frames share their noise level.
        projected: [B, F, 6, dim].
        sigma: [B, F] float32, 0..1: the level itself.
    """

    time: Tensor
    projected: Tensor
    sigma: Tensor


class Conditions(NamedTuple):
    """Everything but the noise that decides a video.

    Attributes:
        reference: latent of the portrait, [B, C, 1, h, w].
        text: tokens of the text encoder [B, L, text_dim], or `CrossKV`.
        audio: raw features, those of four video frames a latent frame [B, F, audio_dim], or `AudioBias`. Latent frame
            k carries the video frames 4 k - 3 to 4 k; frame 0 carries video frame 0 four times. None for a model
            without audio.
    """

    reference: Tensor
    text: Tensor | CrossKV
    audio: Tensor | AudioBias | None


class AudioPack(nn.Module):
    """The features of a latent frame's four video frames as one small vector (OmniAvatar `models/audio_pack.py`)."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(features, hidden)
        self.norm_out = nn.LayerNorm(hidden)

    def forward(self, audio: Tensor) -> Tensor:
        """Return [B, F, hidden] for [B, F, features]."""
        packed: Tensor = self.norm_out(self.proj(audio))
        return packed


def pack_frames(features: Tensor, frames: int = 4) -> Tensor:
    """Group features of video frames by latent frame, from the start of a stream.

    Args:
        features: [B, 4 F - 3, A]; the first video frame is repeated, as it is the whole of the first latent frame.
        frames: video frames a latent frame.

    Returns:
        [B, F, 4 A].
    """
    first = features[:, :1].expand(-1, frames - 1, -1)  # [B, 3, A]
    return torch.unflatten(torch.cat([first, features], dim=1), 1, (-1, frames)).flatten(2)


def sinusoid(timestep: Tensor, width: int) -> Tensor:
    """Return cosines and sines of a timestep at geometric frequencies, computed in float64: [..., width]."""
    half = width // 2
    exponents = torch.arange(half, dtype=torch.float64, device=timestep.device) / half
    angles = timestep.to(torch.float64)[..., None] * torch.pow(10_000.0, -exponents)  # [..., width / 2]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
