"""Seeded random-weight networks: FID and FVD with nothing to download.

The same kind of network as the official ones, small: a stem, Inception blocks (parallel 1x1, 3x3, double 3x3 and pooled
branches, concatenated), global pooling. Features of untrained convolutions order distortions well when five things
hold, and each is built in here:

    most of the stem's filters sum to zero over space   a picture's mean brightness would drown its detail otherwise
    responses are rectified by their absolute value     behind a ReLU a random channel is often dead, its variance zero
    every stage is pooled, not only the last            blur and blocking show in the first stages, layout in the last
    the logarithm of the pooled response is a feature   channels of very different strength weigh the same
    and so is its unevenness over the picture           coarse blocks restore the energy that lost grain took away

The numbers order methods on one data set. They are not comparable with published FID or FVD.

Shapes: N frames or windows, C channels, T frames of a window, H = W = side of the input.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import convert_conv2d_weight_memory_format

_NOISE_FLOOR = 1.0 / 255
"""Added before the logarithm: a response of one grey level counts as none."""


def uniform_weights(seed: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return float64 weights in -1..1 that are the same bits on every platform and NumPy version.

    The raw output of PCG64 is fixed for ever, unlike NumPy's distributions; 24 of its bits convert without rounding.
    """
    raw = np.random.PCG64(seed).random_raw(math.prod(shape))
    return (np.asarray(raw >> np.uint64(40), dtype=np.float64) * 2.0**-23 - 1.0).reshape(shape)


def kernel(seed: int, shape: tuple[int, ...], *, zero_sum: int = 0) -> NDArray[np.float32]:
    """Return float32 convolution weights [C_out, C_in, *kernel] that double the variance of white noise.

    Args:
        seed: chooses the draw.
        shape: of the weights.
        zero_sum: the first `zero_sum` filters have no response to a constant picture.
    """
    weights = uniform_weights(seed, shape)
    space = tuple(range(2, len(shape)))
    weights[:zero_sum] -= weights[:zero_sum].mean(axis=space, keepdims=True)
    fan_in = math.prod(shape[1:])
    return (weights * math.sqrt(2.0 * 3.0 / fan_in)).astype(np.float32)  # a uniform draw has the variance 1/3


def _set(convolution: nn.Conv2d | nn.Conv3d, seed: int, zero_sum: int = 0) -> None:
    weights = kernel(seed, tuple(convolution.weight.shape), zero_sum=zero_sum)
    convolution.weight = nn.Parameter(torch.from_numpy(weights), requires_grad=False)


def _log_energy(x: Tensor) -> Tensor:
    """Return [N, C]: the logarithm of each channel's mean over everything behind it."""
    return torch.log(x.flatten(2).mean(dim=2) + _NOISE_FLOOR)


def _log_unevenness(x: Tensor) -> Tensor:
    """Return [N, C]: the logarithm of each channel's deviation over everything behind it, relative to its mean."""
    return torch.log(x.flatten(2).std(dim=2) + _NOISE_FLOOR) - _log_energy(x)


class _Block(nn.Module):
    """Inception block in 2 or 3 dimensions: 1x1 | 3x3 | 3x3 3x3 | pool 1x1, each a quarter of the outputs."""

    def __init__(self, channels: int, outputs: int, seed: int, *, dimensions: int) -> None:
        super().__init__()
        convolution = nn.Conv2d if dimensions == 2 else nn.Conv3d
        pool = nn.AvgPool2d if dimensions == 2 else nn.AvgPool3d
        quarter = outputs // 4
        self.point = convolution(channels, quarter, 1, bias=False)
        self.reduce = convolution(channels, quarter, 1, bias=False)
        self.middle = convolution(quarter, quarter, 3, padding=1, bias=False)
        self.wide = convolution(quarter, quarter, 3, padding=1, bias=False)
        self.pooled = convolution(channels, quarter, 1, bias=False)
        self.pool = pool(3, stride=1, padding=1, count_include_pad=False)
        for offset, layer in enumerate((self.point, self.reduce, self.middle, self.wide, self.pooled)):
            # zero-sum 3x3 filters keep every stage sensitive to detail; 1x1 ones have no space to sum over
            _set(layer, seed + offset, zero_sum=quarter // 2 if layer.kernel_size[0] == 3 else 0)

    def forward(self, x: Tensor) -> Tensor:
        middle: Tensor = self.middle(self.reduce(x).abs()).abs()
        return torch.cat((self.point(x), middle, self.wide(middle), self.pooled(self.pool(x))), dim=1).abs()


class BuiltinInception(nn.Module):
    """float32 [N, 3, 128, 128] in -1..1 to float32 [N, 192]."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        base = 1_000 * (seed + 1)
        self.stem = nn.Conv2d(3, 16, 5, stride=2, padding=2, padding_mode="replicate", bias=False)
        _set(self.stem, base, zero_sum=12)
        self.blocks = nn.ModuleList(
            _Block(channels, outputs, base + 100 * (place + 1), dimensions=2)
            for place, (channels, outputs) in enumerate(((16, 32), (32, 48)))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of each frame."""
        x = self.stem(x).abs()  # [N, 16, 64, 64]
        features = [_log_energy(x), _log_unevenness(x)]
        for block in self.blocks:
            x = block(F.max_pool2d(x, 2))  # [N, 32, 32, 32], [N, 48, 16, 16]
            features += [_log_energy(x), _log_unevenness(x)]
        return torch.cat(features, dim=1)


class BuiltinI3D(nn.Module):
    """float32 [N, 3, 16, 64, 64] in -1..1 to float32 [N, 64].

    The change from frame to frame is an input of its own beside the picture: random filters over time would find it
    only as a small part of a large response.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        base = 1_000_000 + 1_000 * (seed + 1)
        self.picture = nn.Conv3d(
            3, 8, (1, 5, 5), stride=(1, 2, 2), padding=(0, 2, 2), padding_mode="replicate", bias=False
        )
        self.motion = nn.Conv3d(
            3, 8, (1, 5, 5), stride=(1, 2, 2), padding=(0, 2, 2), padding_mode="replicate", bias=False
        )
        _set(self.picture, base, zero_sum=8)
        _set(self.motion, base + 1, zero_sum=4)
        self.block = _Block(16, 32, base + 100, dimensions=3)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of each window."""
        motion = self.motion(x[:, :, 1:] - x[:, :, :-1]).abs()  # [N, 8, 15, 32, 32]
        picture = self.picture(x[:, :, 1:]).abs()  # [N, 8, 15, 32, 32]
        stem = torch.cat((picture, motion), dim=1)
        mixed = self.block(F.max_pool3d(stem, (1, 2, 2)))  # [N, 32, 15, 16, 16]
        return torch.cat((_log_energy(stem), _log_unevenness(stem), _log_energy(mixed)), dim=1)


@functools.cache
def builtin_inception(device: str, seed: int = 0) -> BuiltinInception:
    """Return the frame network in eval mode on a device, one a process."""
    network = BuiltinInception(seed).eval().to(device)
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    return network


@functools.cache
def builtin_i3d(device: str, seed: int = 0) -> BuiltinI3D:
    """Return the window network in eval mode on a device, one a process."""
    return BuiltinI3D(seed).eval().to(device)
