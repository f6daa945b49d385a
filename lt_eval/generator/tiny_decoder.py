"""TAEHV: a small codec for the latents of a large one, about 25 times fewer operations; quality is near, not the same.

Layout and arithmetic are those of madebyollin/taehv `taehv.py` (MIT), the plain variant, with time 4x and space 8x:
taew2_1 for the latents of Wan2.1 (normalised, as `WanVae` returns them), taehv for Hunyuan's. Each block sees its own
frame and the one before. What upstream's graph traversal yields frame by frame comes here a piece at a time, with a
fifth of the operations spared where pixels are repeated.

The encoder is not causal as the large one is: every latent is of four frames, the first too, so a clip is lengthened at
its end by copies of its last frame, and latent k has seen frames 4k .. 4k+3. A picture is coded as four equal frames.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lt_eval.generator.codec import CausalCodec
from lt_eval.generator.codec_memory import Memory, Walk, lengthen
from lt_eval.generator.codec_upsample import convolve_upsampled

if TYPE_CHECKING:
    from lt_eval.generator.codec_config import TinyCodecConfig

_MEMORY_BLOCKS = 3
"""At each resolution."""


def _conv(width: int, outputs: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(width, outputs, 3, stride=stride, padding=1, bias=bias)


class Clamp(nn.Module):
    """3 tanh(x / 3): latents far out do no harm."""

    def forward(self, x: Tensor) -> Tensor:
        """Return values in (-3, 3)."""
        return 3 * torch.tanh(x / 3)


class MemoryBlock(nn.Module):
    """relu(x + f(x, the frame before))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _conv(2 * width, width), nn.ReLU(), _conv(width, width), nn.ReLU(), _conv(width, width)
        )
        self.conv[4].ends_branch = True  # type: ignore[assignment]  # read by `seeded_init`

    def forward(self, x: Tensor, batch: int, walk: Walk) -> Tensor:
        """Return [B*T, C, H, W] of the same shape."""
        video = x.permute(0, 2, 3, 1).reshape(batch, -1, *x.shape[2:], x.shape[1])  # [B, T, H, W, C]
        longer = lengthen(video, 1, walk, dim=1)
        pair = torch.cat([video, longer[:, :-1]], 4).flatten(0, 1).permute(0, 3, 1, 2)
        y: Tensor = self.conv(pair)
        return F.relu(x + y)


class Pool(nn.Module):
    """One frame of `stride` frames, by a 1x1 convolution of all their channels."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(width * stride, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B*T/stride, C, H, W]; channels of the earlier frame come first."""
        if self.stride > 1:
            x = x.reshape(-1, self.stride * x.shape[1], *x.shape[2:]).contiguous(memory_format=torch.channels_last)
        y: Tensor = self.conv(x)
        return y


class Grow(nn.Module):
    """`stride` frames of one."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(width, width * stride, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B*T*stride, C, H, W]."""
        y: Tensor = self.conv(x)
        if self.stride == 1:
            return y
        return y.reshape(-1, x.shape[1], *x.shape[2:]).contiguous(memory_format=torch.channels_last)


def _encoder(config: TinyCodecConfig) -> nn.Sequential:
    width = config.encoder_width
    layers: list[nn.Module] = [_conv(3 * config.patch**2, width), nn.ReLU()]
    for stride in (2, 2, 1):
        layers += [Pool(width, stride), _conv(width, width, stride=2, bias=False)]
        layers += [MemoryBlock(width) for _ in range(_MEMORY_BLOCKS)]
    return nn.Sequential(*layers, _conv(width, config.latent_channels))


def _decoder(config: TinyCodecConfig) -> nn.Sequential:
    layers: list[nn.Module] = [Clamp(), _conv(config.latent_channels, config.widths[0]), nn.ReLU()]
    for (width, after), stride in zip(itertools.pairwise(config.widths), (1, 2, 2), strict=True):
        layers += [MemoryBlock(width) for _ in range(_MEMORY_BLOCKS)]
        layers += [nn.Upsample(scale_factor=2), Grow(width, stride), _conv(width, after, bias=False)]
    return nn.Sequential(*layers, nn.ReLU(), _conv(config.widths[-1], 3 * config.patch**2))


class TinyNetwork(nn.Module):
    """The weights under their public names: encoder, decoder."""

    def __init__(self, config: TinyCodecConfig) -> None:
        super().__init__()
        self.encoder = _encoder(config)
        self.decoder = _decoder(config)


class TinyCodec(CausalCodec):
    """TAEHV as a codec: [-1, 1] outside, [0, 1] within."""

    latents_at_once = 3

    def __init__(self, config: TinyCodecConfig) -> None:
        super().__init__(config)
        self.patch = config.patch
        self.network = TinyNetwork(config)

    @property
    def published(self) -> nn.Module:
        """The module whose state dict is laid out as the public files are."""
        return self.network

    def encode(self, video: Tensor) -> Tensor:
        """Return the latents of a clip of any length, lengthened at its end to a multiple of four by its last frame.

        Args:
            video: [B, 3, T, H, W] in [-1, 1].

        Returns:
            [B, C, ceil(T / 4), H / spatial, W / spatial].

        Raises:
            ValueError: the shape is another.
        """
        missing = -video.shape[2] % self.temporal if video.ndim == 5 else 0
        if missing:
            video = torch.cat([video, video[:, :, -1:].expand(-1, -1, missing, -1, -1)], 2)
        return self.encode_piece(self.checked_video(video, cold=False), Memory())[0]

    def checked_video(self, video: Tensor, *, cold: bool) -> Tensor:
        """Return a video in the weights' type: 4k frames, at the start of a stream as later.

        Raises:
            ValueError: it has another shape.
        """
        return super().checked_video(video, cold=False)

    def encode_piece(self, video: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Return the latents and the memory after them."""
        walk = Walk(memory)
        x = (video.transpose(1, 2).flatten(0, 1) + 1) / 2
        x = F.pixel_unshuffle(x, self.patch) if self.patch > 1 else x
        x = _through(self.network.encoder, x, video.shape[0], walk)
        return x.reshape(video.shape[0], -1, *x.shape[1:]).transpose(1, 2), walk.memory()

    def decode_piece(self, latents: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Return the frames and the memory after them."""
        walk = Walk(memory)
        x = _through(self.network.decoder, latents.transpose(1, 2).flatten(0, 1), latents.shape[0], walk)
        x = F.pixel_shuffle(x, self.patch) if self.patch > 1 else x
        video = x.reshape(latents.shape[0], -1, *x.shape[1:]).transpose(1, 2)
        video = video[:, :, self.temporal - 1 :] if memory.cold else video
        return video.clamp(0, 1) * 2 - 1, walk.memory()


def _through(layers: nn.Sequential, x: Tensor, batch: int, walk: Walk) -> Tensor:
    """Return [B*T', C', H', W'] after all layers of [B*T, C, H, W].

    Growing in time is a 1x1 convolution: it is done before the repetition of pixels that precedes it, on a quarter of
    them, and the repetition together with the convolution that follows.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    upsampled = False
    for layer in layers:
        if isinstance(layer, nn.Upsample):
            upsampled = True
        elif isinstance(layer, MemoryBlock):
            x = layer(x, batch, walk)
        elif isinstance(layer, nn.Conv2d) and upsampled:
            x = convolve_upsampled(layer, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            upsampled = False
        else:
            x = layer(x)
    return x
