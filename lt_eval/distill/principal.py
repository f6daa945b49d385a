"""The best linear codec of training pieces: principal components of squares of four frames, found without training.

Components are ordered by what they explain of a weighted error: changes within the four frames count more than what
stays, and squares of the face are drawn more often, since neither is much of the variance and both are what is looked
at. A randomised range finder with power iterations (Halko, Martinsson and Tropp, arXiv 0909.4061, algorithm 4.4) needs
no matrix of the squares' size squared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lt_eval.distill.pictures import to_video
from lt_eval.generator.mini_codec import squares

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lt_eval.generator.codec_config import MiniCodecConfig


@dataclass(frozen=True)
class PrincipalOptions:
    """How components are found.

    Attributes:
        squares: how many are looked at; each has 48 kB at 32 x 32 pixels.
        motion: how much more than a mistake of what stays one of a change within four frames counts, in amplitude.
        face_share: share of them that are drawn about the middle of faces, the others evenly.
        face_spread: standard deviation of their places, in sides of the picture.
        iterations: of the power method.
    """

    squares: int = 12_000
    face_share: float = 0.5
    face_spread: float = 0.1
    motion: float = 1.5
    iterations: int = 4


class Principal(NamedTuple):
    """A linear codec, as `MiniCodec.set_principal` takes it."""

    mean: Tensor
    reading: Tensor
    writing: Tensor


def sampled_squares(data: NDArray[np.uint8], config: MiniCodecConfig, options: PrincipalOptions, seed: int) -> Tensor:
    """Return squares of random people, pieces, latent frames and places, float32 [options.squares, D]."""
    rng = np.random.Generator(np.random.PCG64([seed, 37]))
    side, length = config.spatial, config.temporal
    size, latents = data.shape[3], (data.shape[2] - 1) // length + 1
    count = options.squares
    found = np.empty((count, length, side, side, 3), np.uint8)
    for number in range(count):
        person, piece, latent = (int(rng.integers(limit)) for limit in (data.shape[0], data.shape[1], latents))
        left, top = (int(at) for at in rng.integers(size - side + 1, size=2))
        if rng.random() < options.face_share:
            middle = size * (np.array([0.5, 0.56]) + options.face_spread * rng.standard_normal(2)) - side / 2
            left, top = (int(np.clip(at, 0, size - side)) for at in middle)
        frames = np.arange(latent * length - length + 1, latent * length + 1).clip(0)  # the first stands for four
        found[number] = data[person, piece, frames, top : top + side, left : left + side]
    return squares(to_video(found).permute(0, 2, 3, 4, 1), side, length).reshape(count, -1)


def emphasised(x: Tensor, frames: int, gain: float) -> Tensor:
    """Return squares [N, D] whose deviations from their mean over the frames are multiplied by `gain`."""
    apart = x.reshape(x.shape[0], frames, -1)
    mean = apart.mean(1, keepdim=True)
    return (mean + gain * (apart - mean)).reshape(x.shape)


@torch.no_grad()
def principal(x: Tensor, channels: int, frames: int, options: PrincipalOptions, seed: int) -> Principal:
    """Return the linear codec of `channels` channels that fits squares [N, D] best.

    Raises:
        ValueError: there are fewer squares than channels.
    """
    if x.shape[0] <= channels:
        raise ValueError(f"{x.shape[0]} squares for {channels} components: more squares than components are needed.")
    mean = x.mean(0)
    centred = emphasised(x - mean, frames, options.motion)
    generator = torch.Generator().manual_seed(seed)
    width = min(channels + 16, *x.shape)
    basis = torch.linalg.qr(torch.randn(x.shape[1], width, generator=generator))[0]
    for _ in range(options.iterations):
        basis = torch.linalg.qr(centred.T @ (centred @ basis))[0]
    inner = centred @ basis
    _, values, turn = torch.linalg.svd(inner, full_matrices=False)
    components = (basis @ turn.T)[:, :channels]  # [D, C], orthonormal
    spread = (values[:channels] / (x.shape[0] - 1) ** 0.5).clamp_min(1e-3)
    reading = emphasised(components.T, frames, options.motion) / spread[:, None]
    writing = emphasised(components.T, frames, 1 / options.motion).T * spread
    return Principal(mean, reading, writing.contiguous())
