"""The mini codec: a small causal autoencoder that decodes a 256 x 256 frame in milliseconds of one processor core.

Where the arithmetic is: the first stage runs on the latent grid once a latent frame, with kernels over three of them.
One 1x1 convolution then makes four frames at twice the side, and the rest is per frame, two 3x3 convolutions a stage,
on 32 x 32 and 64 x 64 positions for 256 x 256 pixels; the last convolution gives each position its 4 x 4 pixels. Every
3x3 convolution of the default sizes is about 0.3 GFLOP a frame. Frames mix in time without arithmetic: some channels
of a block are those of the frame before (Lin et al., TSM, arXiv 1811.08383, the causal form).

Beside each network lies one matrix. `analysis` takes the pixels of a latent position, four frames of a square, to its
channels; `synthesis` takes the channels back to a first picture, which the last stages of the decoder see and correct.
Begun at the principal components of the training pictures (`set_principal`), they are the best linear codec before the
first step, and the networks learn what is left. What changes within four frames, as lips do, is a small part of that
and the first to be lost: `Changes` gives a few smooth components of it channels of their own. Nothing but the residual
blocks has a rectifier, so that gradients of everything else pass the resampling as they are (the purpose of the
shortcuts of DC-AE, Chen et al., arXiv 2410.10733).

What is normalised are the channels of one position of one frame, nothing over positions or frames, so a crop of a clip
is coded as the clip is (away from the borders) and a stream as a whole. Train on crops: cost is proportional to pixels.

Inside, everything is [B, T, H, W, C], contiguous: frames of pictures as they are written. Seen as [B*T, C, H, W] that
is channels-last order, which oneDNN and cuDNN take fastest, and time is joined and cut without moving values about.
"""

from __future__ import annotations

import itertools
import math
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

_FIRST_LOG_VARIANCE = -7.0
"""Of an untrained posterior: its noise is then 3 % of the means, which are of unit size, and buries nothing."""

_SMALL = 0.1
"""Of what a network adds to the linear codec; a likely remedy that was not tried by itself. Adam moves every weight
alike: one step at 1e-3 of a head that sums five hundred values moves a pixel by half the range, and what corrects
errors of a twentieth may learn to be silent instead."""


class Conv(nn.Conv2d):
    """A convolution of each frame of [B, T, H, W, C]; positions outside of the picture are zero.

    Attributes:
        ends_branch: begin small, see `seeded_init`.
        linear: no rectifier comes before it, see there too.
    """

    def __init__(
        self,
        width: int,
        outputs: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        ends_branch: bool = False,
        linear: bool = False,
    ) -> None:
        super().__init__(width, outputs, kernel, stride=stride, padding=kernel // 2)
        self.ends_branch, self.linear = ends_branch, linear

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, T, H / stride, W / stride, outputs]."""
        batch, frames, height, width, _ = x.shape
        if self.kernel_size == (1, 1):
            # rows as the batch: on one thread torch leaves 1x1 convolutions of fewer than 16 pictures to a matrix
            # product that takes twice as long as oneDNN's
            pictures = x.reshape(-1, 1, width, x.shape[4])
        else:
            pictures = x.reshape(-1, height, width, x.shape[4])
        y = super().forward(pictures.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        step = self.stride[0]
        return y.reshape(batch, frames, -(-height // step), -(-width // step), self.out_channels)


def depth_to_space(x: Tensor, side: int) -> Tensor:
    """Return [B, T, H*side, W*side, C] of [B, T, H, W, side*side*C].

    The channels are (row, column, C): unlike those of `pixel_shuffle` they lie together before and after, so that runs
    are moved and not single values.
    """
    batch, frames, height, width, channels = x.shape
    x = x.reshape(batch, frames, height, width, side, side, channels // side**2).transpose(3, 4)
    return x.reshape(batch, frames, height * side, width * side, -1)


def space_to_depth(x: Tensor, side: int) -> Tensor:
    """Return [B, T, H, W, side*side*C] of [B, T, H*side, W*side, C]: the inverse of `depth_to_space`."""
    batch, frames, height, width, channels = x.shape
    x = x.reshape(batch, frames, height // side, side, width // side, side, channels).transpose(3, 4)
    return x.reshape(batch, frames, height // side, width // side, -1)


def depth_to_time(x: Tensor, count: int) -> Tensor:
    """Return [B, F*count, H*2, W*2, C] of [B, F, H, W, count*4*C], channels being (frame, row, column, C)."""
    batch, frames, height, width, channels = x.shape
    x = x.reshape(batch, frames, height, width, count, 2, 2, channels // (4 * count))
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(batch, frames * count, height * 2, width * 2, -1)


def squares(video: Tensor, side: int, count: int) -> Tensor:
    """Return [B, F, H/side, W/side, count*side*side*C] of [B, F*count, H, W, C]: (frame, row, column, C)."""
    batch, frames, height, width, channels = video.shape
    x = video.reshape(batch, frames // count, count, height // side, side, width // side, side, channels)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(batch, frames // count, height // side, width // side, -1)


def joined(x: Tensor, side: int, count: int) -> Tensor:
    """Return [B, F*count, h*side, w*side, C]: the inverse of `squares`."""
    batch, frames, height, width, channels = x.shape
    x = x.reshape(batch, frames, height, width, count, side, side, channels // (count * side**2))
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(batch, frames * count, height * side, width * side, -1)


def bent(x: Tensor) -> Tensor:
    """Return x with its negative values at a tenth, in its own place."""
    return F.leaky_relu_(x, 0.1)


def scaled(x: Tensor) -> Tensor:
    """Return x with the channels of every position at a mean square of one.

    It looks at one position of one frame, so crops and streams stay exact. It has no gain: a convolution follows, and a
    rectifier lets positive factors through. Whatever the residual sum grows to, convolutions see values of one size.
    """
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)


class LatentBlock(nn.Module):
    """x + conv3x3(bent(mix(bent(scaled(x))))): mixing takes this position of this frame and the two before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = Conv((_REACH + 1) * width, width, 1)
        self.conv = Conv(width, width, ends_branch=True)

    def forward(self, x: Tensor, walk: Walk) -> Tensor:
        """Return [B, F, h, w, width]."""
        longer = lengthen(scaled(x), _REACH, walk, dim=1)
        taps = torch.cat([longer[:, back : back + x.shape[1]] for back in range(_REACH + 1)], 4)
        y: Tensor = self.conv(bent(self.mix(bent(taps))))
        return x + y


class FrameBlock(nn.Module):
    """x + conv3x3(bent(conv3x3(bent(x')))), where x' is scaled(x) with some channels of the frame before."""

    def __init__(self, width: int, shift: int) -> None:
        super().__init__()
        self.moved = width // shift
        self.first = Conv(width, width)
        self.second = Conv(width, width, ends_branch=True)

    def forward(self, x: Tensor, walk: Walk) -> Tensor:
        """Return [B, T, H, W, width]."""
        y = scaled(x)
        before = lengthen(y[..., : self.moved], 1, walk, dim=1)[:, : x.shape[1]]
        y = bent(torch.cat([before, y[..., self.moved :]], 4))
        y = bent(self.first(y))
        branch: Tensor = self.second(y)
        return x + branch


class Changes(nn.Module):
    """What changes within the frames of a latent, along a few components of its squares.

    A component is a picture of one square; how it comes and goes over the four frames are three numbers, the cosines of
    its course. `read` and `written` are exact inverses: what is written is read again, and nothing else of a square is
    touched.

    Attributes:
        basis: [K, side * side * 3], orthonormal, in the order of `squares`.
        spread: [3, K], by which what is read is divided.
    """

    basis: Tensor
    spread: Tensor

    def __init__(self, components: int, side: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.register_buffer("basis", torch.eye(components, 3 * side**2))
        self.register_buffer("spread", torch.ones(frames - 1, components))

    def _cosines(self, like: Tensor) -> Tensor:
        """Return the orthonormal cosines without the constant one, [frames - 1, frames]."""
        at = (torch.arange(self.frames) + 0.5) * math.pi / self.frames
        waves = torch.cos(torch.arange(1, self.frames)[:, None] * at) * math.sqrt(2 / self.frames)
        return waves.to(like)

    def _read(self, x: Tensor) -> Tensor:
        each = x.reshape(*x.shape[:-1], self.frames, -1)
        apart = each - each.mean(-2, keepdim=True)  # what stays is large, and would be what is rounded
        along = apart @ self.basis.T.to(x.dtype)  # [..., frames, K]
        return self._cosines(along) @ along

    def read(self, x: Tensor) -> Tensor:
        """Return [..., 3 K] of squares [..., frames * side * side * 3]."""
        return (self._read(x) / self.spread.to(x.dtype)).flatten(-2)

    def written(self, x: Tensor, values: Tensor) -> Tensor:
        """Return squares with these values, [..., 3 K], in place of their own."""
        lacking = values.reshape(*values.shape[:-1], self.frames - 1, -1) * self.spread.to(x.dtype) - self._read(x)
        return x + (self._cosines(x).T @ lacking @ self.basis.to(x.dtype)).flatten(-2)


class Stage(nn.ModuleList):
    """Blocks one after another."""

    def forward(self, x: Tensor, walk: Walk) -> Tensor:
        """Return what the last block returns, or x where there are none."""
        for block in self:
            x = block(x, walk)
        return x


class MiniEncoder(nn.Module):
    """Pixels to the mean and log variance of latents."""

    def __init__(self, config: MiniCodecConfig) -> None:
        super().__init__()
        widths, blocks = config.widths[::-1], config.encoder_blocks[::-1]
        self.patch, self.temporal, self.spatial = config.patch, config.temporal, config.spatial
        self.linear, self.components = config.linear_channels, config.change_components
        self.analysis = Conv(3 * config.temporal * config.spatial**2, self.linear, 1, linear=True)
        self.stem = Conv(3 * config.patch**2, widths[0], linear=True)
        self.stages = nn.ModuleList(
            Stage(FrameBlock(width, config.shift) for _ in range(count))
            for width, count in zip(widths[:-1], blocks[:-1], strict=True)
        )
        self.down = nn.ModuleList(
            Conv(width, after, stride=2, linear=True) for width, after in itertools.pairwise(widths)
        )
        self.pack = Conv(config.temporal * widths[-1], widths[-1], 1, linear=True)
        self.latent = Stage(LatentBlock(widths[-1]) for _ in range(blocks[-1]))
        self.head = Conv(widths[-1], 2 * self.linear, ends_branch=True)
        if self.components:
            self.changes = Changes(config.change_components, config.spatial, config.temporal)

    def forward(self, video: Tensor, walk: Walk) -> Tensor:
        """Return [B, 2C, F, h, w] of [B, 3, T, H, W]."""
        pixels = video.permute(0, 2, 3, 4, 1)
        x = self.stem(space_to_depth(pixels, self.patch))
        for stage, down in zip(self.stages, self.down, strict=True):
            x = down(stage(x, walk))
        if walk.cold:  # the first frame stands for four
            x, pixels = self._filled(x), self._filled(pixels)
        together = self.latent(self.pack(squares(x, 1, self.temporal)), walk)
        mean, spread = (_SMALL * self.head(bent(scaled(together)))).chunk(2, 4)
        pixels = squares(pixels, self.spatial, self.temporal)
        mean = mean + self.analysis(pixels)
        if not self.components:
            return torch.cat([mean, spread], 4).permute(0, 4, 1, 2, 3)
        changes = self.changes.read(pixels)
        return torch.cat([mean, changes, spread, torch.zeros_like(changes)], 4).permute(0, 4, 1, 2, 3)

    @property
    def change_shapes(self) -> tuple[torch.Size, ...]:
        """Shapes of the basis and the spread of changes; none where the codec has no channels of them."""
        return (self.changes.basis.shape, self.changes.spread.shape) if self.components else ()

    def _filled(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :1].expand(-1, self.temporal - 1, -1, -1, -1), x], 1)


class MiniDecoder(nn.Module):
    """Latents to pixels."""

    def __init__(self, config: MiniCodecConfig) -> None:
        super().__init__()
        widths, blocks = config.widths, config.decoder_blocks
        self.patch, self.temporal, self.spatial = config.patch, config.temporal, config.spatial
        # the branches begin small, so that untrained frames are nearly grey
        self.linear, self.components = config.linear_channels, config.change_components
        self.synthesis = Conv(self.linear, 3 * config.temporal * config.spatial**2, 1, ends_branch=True, linear=True)
        self.stem = Conv(config.latent_channels, widths[0], linear=True)
        self.latent = Stage(LatentBlock(widths[0]) for _ in range(blocks[0]))
        self.to_frames = Conv(widths[0], config.temporal * 4 * widths[1], 1, linear=True)
        if self.components:
            self.changes = Changes(config.change_components, config.spatial, config.temporal)
        self.up = nn.ModuleList(
            Conv(width, 4 * after, 1, linear=True) for width, after in itertools.pairwise(widths[1:])
        )
        self.stages = nn.ModuleList(
            Stage(FrameBlock(width, config.shift) for _ in range(count))
            for width, count in zip(widths[1:], blocks[1:], strict=True)
        )
        # the last two stages see the first picture: a position of either is one of its squares
        self.sides = tuple(config.spatial // 2**number for number in range(1, len(widths)))
        self.look = nn.ModuleList(
            Conv(3 * side**2, width, 1, linear=True)
            for side, width in zip(self.sides[-2:], widths[1:][-2:], strict=True)
        )
        self.head = Conv(widths[-1], 3 * config.patch**2, ends_branch=True)

    def forward(self, latents: Tensor, walk: Walk) -> Tensor:
        """Return [B, 3, T, H, W], not clamped, of [B, C, F, h, w]."""
        latents = latents.permute(0, 2, 3, 4, 1)
        first = self.synthesis(latents[..., : self.linear])
        if self.components:
            first = self.changes.written(first, latents[..., self.linear :])
        first = joined(first, self.spatial, self.temporal)
        x = depth_to_time(self.to_frames(self.latent(self.stem(latents), walk)), self.temporal)
        if walk.cold:  # of the first four frames only the last one is shown
            x, first = x[:, self.temporal - 1 :], first[:, self.temporal - 1 :]
        unseen = len(self.stages) - len(self.look)
        for index, stage in enumerate(self.stages):
            if index > 0:
                x = depth_to_space(self.up[index - 1](x), 2)
            if index >= unseen:
                x = x + self.look[index - unseen](space_to_depth(first, self.sides[index]))
            x = stage(x, walk)
        correction = _SMALL * self.head(bent(scaled(x)))
        return (first + depth_to_space(correction, self.patch)).permute(0, 4, 1, 2, 3)


class MiniCodec(CausalCodec):
    """The mini codec. `posterior` and `reconstruct` are for training; `set_statistics` ends it.

    Attributes:
        latent_mean: [C] of raw latents, subtracted by `encode`; zeros until set.
        latent_std: [C], divided by; ones until set. Both are part of the state dict.
        latents_at_once: pieces that stay in a processor's cache; 81 frames are encoded in two thirds of the time.
    """

    latents_at_once = 3
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: MiniCodecConfig) -> None:
        super().__init__(config)

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
        return mean, (log_variance + _FIRST_LOG_VARIANCE).clamp(-20, 10)

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

    @torch.no_grad()
    def set_principal(
        self, mean: Tensor, reading: Tensor, writing: Tensor, basis: Tensor | None = None, spread: Tensor | None = None
    ) -> None:
        """Begin as a linear codec: a latent is `reading` of its square less the mean, a square is `writing` of it.

        Args:
            mean: [D] of squares of four frames, D = 4 * spatial * spatial * 3, in the order of `squares`.
            reading: [C, D], C the linear channels alone; latents of unit variance are expected of it.
            writing: [D, C].
            basis: [K, D / 4] of `Changes`; needed where the codec has it, and nowhere else.
            spread: [3, K] of it.

        Raises:
            ValueError: the shapes are others.
        """
        analysis, synthesis = self.encode_net.analysis, self.decode_net.synthesis
        size, channels = synthesis.out_channels, analysis.out_channels
        if mean.shape != (size,) or reading.shape != (channels, size) or writing.shape != (size, channels):
            raise ValueError(
                f"a mean of {tuple(mean.shape)}, reading of {tuple(reading.shape)} and writing of "
                f"{tuple(writing.shape)}: give [{size}], [{channels}, {size}] and [{size}, {channels}]"
            )
        found = () if basis is None or spread is None else (basis.shape, spread.shape)
        if found != self.encode_net.change_shapes:
            raise ValueError(f"changes of {found}: give a basis and a spread of {self.encode_net.change_shapes}")
        assert analysis.bias is not None and synthesis.bias is not None
        analysis.weight.copy_(reading[:, :, None, None])
        analysis.bias.copy_(-reading @ mean)
        synthesis.weight.copy_(writing[:, :, None, None])
        synthesis.bias.copy_(mean)
        if basis is not None and spread is not None:
            for changes in (self.encode_net.changes, self.decode_net.changes):
                changes.basis.copy_(basis)
                changes.spread.copy_(spread)
        for head in (self.encode_net.head, self.decode_net.head):  # the networks add nothing yet
            head.weight.zero_()

    def _of_channel(self, value: Tensor) -> Tensor:
        return value[:, None, None, None]
