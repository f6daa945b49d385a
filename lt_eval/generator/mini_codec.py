"""The mini codec: a small causal autoencoder that decodes a 256 x 256 frame in milliseconds of one processor core.

Where the arithmetic is: the first stage runs on the latent grid once a latent frame, with kernels over three of them.
One 1x1 convolution then makes four frames at twice the side, and the rest is per frame, two 3x3 convolutions a stage,
on 32 x 32 and 64 x 64 positions for 256 x 256 pixels; the last convolution gives each position its 4 x 4 pixels. Every
3x3 convolution of the default sizes is about 0.3 GFLOP a frame. Frames mix in time without arithmetic: some channels
of a block are those of the frame before (Lin et al., TSM, arXiv 1811.08383, the causal form).

No layer normalises over positions or frames, so a crop of a clip is coded as the clip is (away from the borders) and a
stream as a whole. Train on crops: cost is proportional to pixels.

Frames are folded into the batch, [B*T, C, H, W] in channels-last order, which is what oneDNN and cuDNN take fastest.
The video that comes out has that order too: as [B, T, H, W, 3] it is contiguous, as pictures are written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lt_eval.generator.codec import CausalCodec
from lt_eval.generator.codec_memory import Memory, Walk, lengthen

if TYPE_CHECKING:
    from lt_eval.generator.codec_config import MiniCodecConfig

_REACH = 2
"""Latent frames back that a convolution in time sees."""


def pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Return a 1x1 convolution of [N, C, H, W] in channels-last order.

    Rows become the batch: on one thread torch leaves 1x1 convolutions of fewer than 16 pictures to a matrix product that
    takes twice as long as oneDNN's.
    """
    count, _, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(count * height, 1, width, -1).permute(0, 3, 1, 2)
    return conv(rows).permute(0, 2, 3, 1).reshape(count, height, width, -1).permute(0, 3, 1, 2)


def depth_to_space(x: Tensor, side: int) -> Tensor:
    """Return [N, C, H*side, W*side] of [N, side*side*C, H, W], both channels-last.

    The channels are (row, column, C): unlike those of `pixel_shuffle` they lie together before and after, so that runs
    are moved and not single values.
    """
    x = x.permute(0, 2, 3, 1).unflatten(3, (side, side, -1))  # [N, H, W, side, side, C]
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def space_to_depth(x: Tensor, side: int) -> Tensor:
    """Return [N, side*side*C, H, W] of [N, C, H*side, W*side]: the inverse of `depth_to_space`."""
    x = x.permute(0, 2, 3, 1).unflatten(2, (-1, side)).unflatten(1, (-1, side))  # [N, H, side, W, side, C]
    return x.transpose(2, 3).flatten(3, 5).permute(0, 3, 1, 2)


def _ends_branch(conv: nn.Conv2d) -> nn.Conv2d:
    conv.ends_branch = True  # type: ignore[assignment]  # read by `seeded_init`
    return conv


def _fold(x: Tensor) -> Tensor:
    """Return [B*T, C, H, W], channels-last, of [B, T, C, H, W]."""
    return x.permute(0, 1, 3, 4, 2).flatten(0, 1).permute(0, 3, 1, 2)


class LatentBlock(nn.Module):
    """x + conv3x3(relu(mix(relu(x)))): the mixing takes this position of this latent frame and the two before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d((_REACH + 1) * width, width, 1)
        self.conv = _ends_branch(nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Tensor, frames: int, walk: Walk) -> Tensor:
        """Return [B*F, width, h, w]."""
        pieces = lengthen(x.unflatten(0, (-1, frames)), _REACH, walk, dim=1)  # [B, F + 2, width, h, w]
        taps = [pieces[:, back : back + frames] for back in range(_REACH + 1)]
        y = pointwise(self.mix, F.relu(_fold(torch.cat(taps, 2)), inplace=True))
        return x + self.conv(F.relu(y, inplace=True))


class FrameBlock(nn.Module):
    """x + conv3x3(relu(conv3x3(relu(x')))), where x' has some channels of the frame before."""

    def __init__(self, width: int, shift: int) -> None:
        super().__init__()
        self.moved = width // shift
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = _ends_branch(nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Tensor, frames: int, walk: Walk) -> Tensor:
        """Return [B*T, width, H, W]."""
        moved, kept = x[:, : self.moved], x[:, self.moved :]
        before = _fold(lengthen(moved.unflatten(0, (-1, frames)), 1, walk, dim=1)[:, :frames])
        y = F.relu(torch.cat([before, kept], 1), inplace=True)
        return x + self.second(F.relu(self.first(y), inplace=True))


class MiniEncoder(nn.Module):
    """Pixels to the mean and log variance of latents."""

    def __init__(self, config: MiniCodecConfig) -> None:
        super().__init__()
        widths, blocks = config.widths[::-1], config.encoder_blocks[::-1]
        self.patch, self.temporal = config.patch, config.temporal
        self.stem = nn.Conv2d(3 * config.patch**2, widths[0], 3, padding=1)
        self.stages = nn.ModuleList(
            nn.ModuleList(FrameBlock(width, config.shift) for _ in range(count))
            for width, count in zip(widths[:-1], blocks[:-1], strict=True)
        )
        self.down = nn.ModuleList(
            nn.Conv2d(width, after, 3, stride=2, padding=1)
            for width, after in zip(widths[:-1], widths[1:], strict=True)
        )
        self.pack = nn.Conv2d(config.temporal * widths[-1], widths[-1], 1)
        self.latent = nn.ModuleList(LatentBlock(widths[-1]) for _ in range(blocks[-1]))
        self.head = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, video: Tensor, walk: Walk) -> Tensor:
        """Return [B, 2C, F, h, w] of [B, 3, T, H, W]."""
        batch, frames = video.shape[0], video.shape[2]
        x = self.stem(space_to_depth(_fold(video.transpose(1, 2)), self.patch))
        for stage, down in zip(self.stages, self.down, strict=True):
            for block in stage:  # type: ignore[union-attr]
                x = block(x, frames, walk)
            x = down(F.relu(x))
        x = x.unflatten(0, (batch, frames))
        if walk.cold:  # the first frame stands for four
            x = torch.cat([x[:, :1].expand(-1, self.temporal - 1, -1, -1, -1), x], 1)
        latent_frames = x.shape[1] // self.temporal
        x = _fold(x.unflatten(1, (latent_frames, self.temporal)).flatten(2, 3))  # [B*F, 4 widths, h, w]
        x = pointwise(self.pack, F.relu(x))
        for block in self.latent:
            x = block(x, latent_frames, walk)
        return self.head(F.relu(x)).unflatten(0, (batch, latent_frames)).transpose(1, 2)


class MiniDecoder(nn.Module):
    """Latents to pixels."""

    def __init__(self, config: MiniCodecConfig) -> None:
        super().__init__()
        widths, blocks = config.widths, config.decoder_blocks
        self.patch, self.temporal = config.patch, config.temporal
        self.stem = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.latent = nn.ModuleList(LatentBlock(widths[0]) for _ in range(blocks[0]))
        outputs = (config.temporal * 4 * widths[1], *(4 * width for width in widths[2:]))
        self.up = nn.ModuleList(nn.Conv2d(width, out, 1) for width, out in zip(widths[:-1], outputs, strict=True))
        self.stages = nn.ModuleList(
            nn.ModuleList(FrameBlock(width, config.shift) for _ in range(count))
            for width, count in zip(widths[1:], blocks[1:], strict=True)
        )
        self.head = nn.Conv2d(widths[-1], 3 * config.patch**2, 3, padding=1)

    def forward(self, latents: Tensor, walk: Walk) -> Tensor:
        """Return [B, 3, T, H, W], not clamped, of [B, C, F, h, w]."""
        batch, frames = latents.shape[0], latents.shape[2]
        x = self.stem(_fold(latents.transpose(1, 2)).contiguous(memory_format=torch.channels_last))
        for block in self.latent:
            x = block(x, frames, walk)
        for index, (up, stage) in enumerate(zip(self.up, self.stages, strict=True)):
            x = pointwise(up, F.relu(x))
            if index == 0:
                x, frames = self._in_time(x, batch, cold=walk.cold)
            else:
                x = depth_to_space(x, 2)
            for block in stage:  # type: ignore[union-attr]
                x = block(x, frames, walk)
        x = depth_to_space(self.head(F.relu(x)), self.patch)
        return x.unflatten(0, (batch, frames)).transpose(1, 2)

    def _in_time(self, x: Tensor, batch: int, *, cold: bool) -> tuple[Tensor, int]:
        """Return four frames, at twice the side, of the channels of each latent frame, and how many there are.

        Of the very first latent frame it is the last one only, the frame that the four would end with.
        """
        x = x.permute(0, 2, 3, 1).unflatten(3, (self.temporal, 2, 2, -1))  # [B*F, h, w, 4, 2, 2, C]
        x = x.permute(0, 3, 1, 4, 2, 5, 6).flatten(4, 5).flatten(2, 3)  # [B*F, 4, 2h, 2w, C]
        x = x.unflatten(0, (batch, -1)).flatten(1, 2)
        x = x[:, self.temporal - 1 :] if cold else x
        return x.flatten(0, 1).permute(0, 3, 1, 2), x.shape[1]


class MiniCodec(CausalCodec):
    """The mini codec. `posterior` and `reconstruct` are for training; `set_statistics` ends it.

    Attributes:
        latent_mean: [C] of raw latents, subtracted by `encode`; zeros until set.
        latent_std: [C], divided by; ones until set. Both are part of the state dict.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: MiniCodecConfig) -> None:
        super().__init__(config)
        self.config = config
        self.encode_net = MiniEncoder(config)
        self.decode_net = MiniDecoder(config)
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_std", torch.ones(config.latent_channels))

    def encode_piece(self, video: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Return the normalised means and the memory after them."""
        walk = Walk(memory)
        mean = self.encode_net(video, walk).chunk(2, 1)[0]
        return (mean - self._of_channel(self.latent_mean)) / self._of_channel(self.latent_std), walk.memory()

    def decode_piece(self, latents: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Return the frames and the memory after them."""
        walk = Walk(memory)
        raw = latents * self._of_channel(self.latent_std) + self._of_channel(self.latent_mean)
        return self.decode_net(raw, walk).clamp(-1, 1), walk.memory()

    def posterior(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, each [B, C, F, h, w], of the raw latents of a clip; with gradients.

        Raises:
            ValueError: the video's shape is not that of `encode`.
        """
        mean, log_variance = self.encode_net(self.checked_video(video, cold=True), Walk(Memory())).chunk(2, 1)
        return mean, log_variance.clamp(-20, 10)

    def reconstruct(self, raw: Tensor) -> Tensor:
        """Return the frames of raw latents, not clamped, so that gradients pass everywhere.

        Raises:
            ValueError: they are not [B, C, F, h, w].
        """
        frames: Tensor = self.decode_net(self.checked_latents(raw), Walk(Memory()))
        return frames

    @torch.no_grad()
    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set what `encode` normalises by: mean and standard deviation, [C], of raw latents over training clips.

        Raises:
            ValueError: the shapes are others, or a deviation is not positive.
        """
        if mean.shape != self.latent_mean.shape or std.shape != self.latent_std.shape or not bool((std > 0).all()):
            raise ValueError(f"statistics of {mean.shape} and {std.shape}: give [{self.latent_channels}], std positive")
        self.latent_mean.copy_(mean)
        self.latent_std.copy_(std)

    def _of_channel(self, value: Tensor) -> Tensor:
        return value[:, None, None, None]
