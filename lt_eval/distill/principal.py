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
from torch.nn import functional as F

from lt_eval.distill.pictures import to_video
from lt_eval.generator.mini_codec import Changes, squares

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
        change_pool: side in pixels of the finest detail of what changes within four frames. Lips are seen by where they
            are open rather than by their edges, which have far more variance.
    """

    squares: int = 12_000
    face_share: float = 0.5
    face_spread: float = 0.1
    motion: float = 1.5
    iterations: int = 4
    change_pool: int = 8


class Principal(NamedTuple):
    """A linear codec, as `MiniCodec.set_principal` takes it."""

    mean: Tensor
    reading: Tensor
    writing: Tensor
    basis: Tensor | None = None
    spread: Tensor | None = None


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
def with_changes(
    x: Tensor, channels: int, components: int, frames: int, options: PrincipalOptions, seed: int
) -> Principal:
    """Return the linear codec of squares [N, D] whose changes within the frames have components of their own.

    The components are principal among the changes at the coarseness of `options.change_pool`; the `channels` others are
    those of what is left of the squares.
    """
    side = round((x.shape[1] / frames / 3) ** 0.5)
    each = x.reshape(x.shape[0], frames, side, side, 3)
    apart = (each - each.mean(1, keepdim=True)).flatten(0, 1).permute(0, 3, 1, 2)  # [N * frames, 3, side, side]
    coarse = F.avg_pool2d(apart, min(options.change_pool, side))
    flat = coarse.flatten(1)
    found = torch.linalg.eigh(flat.T @ flat)[1].flip(1)[:, :components].T  # [K, 3 * coarse side squared]
    smooth = F.interpolate(found.reshape(components, *coarse.shape[1:]), size=(side, side), mode="bilinear")
    basis = torch.linalg.qr(smooth.permute(0, 2, 3, 1).flatten(1).T)[0].T.contiguous()  # [K, D / frames]
    changes = Changes(components, side, frames)
    changes.basis.copy_(basis)
    values = changes.read(x)
    left = changes.written(x, torch.zeros_like(values))
    spread = values.reshape(-1, frames - 1, components).std(0).clamp_min(1e-3)
    return principal(left, channels, frames, options, seed)._replace(basis=basis, spread=spread)


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
