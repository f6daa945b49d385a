"""The causal video VAE of Wan2.1: 8x in space, 4x in time, 16 channels, under the names of its published weights.

Layout and arithmetic are those of Wan-Video/Wan2.1 `wan/modules/vae.py` (Apache-2.0), whose chunked passes this repeats
as one function of a piece and a memory. What differs is how, not what:

- Everything is [B, T, H, W, C], contiguous. Seen as [B, C, T, H, W] that is channels_last_3d: convolutions need
  no transposition, time is joined and cut without moving values about, a norm over channels reads neighbours.
- The first frame of a stream has nothing but zeros before it: only the last tap of a kernel over time is computed, a
  third of the work of a portrait, or of the first frame of a clip.
- A picture is convolved at twice its side without being made (`codec_upsample`).
- Of the encoder's output only the mean is computed.

Temporal rules, exactly: the first frame passes time-halving and time-doubling layers as it is. Halving then takes three
frames, two new ones and the one before; doubling sees zeros, not the first frame, before its first.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lt_eval.generator.codec import CausalCodec
from lt_eval.generator.codec_memory import Memory, Walk, lengthen
from lt_eval.generator.codec_upsample import convolve_upsampled

if TYPE_CHECKING:
    from lt_eval.generator.codec_config import WanCodecConfig


def _frames(layer: nn.Module, x: Tensor, *, pad: tuple[int, ...] = ()) -> Tensor:
    """Return what a layer of 2D convolutions makes of each frame of [B, T, H, W, C]."""
    pictures = x.flatten(0, 1).permute(0, 3, 1, 2)
    y: Tensor = layer(F.pad(pictures, pad) if pad else pictures).permute(0, 2, 3, 1)
    return y.reshape(x.shape[0], x.shape[1], *y.shape[1:])


class CausalConv3d(nn.Conv3d):
    """A convolution of [B, T, H, W, C] over space and over the frames up to each, `kernel` a side, `depth` in time."""

    def __init__(
        self, width: int, outputs: int, kernel: int = 3, depth: int = 3, *, step: int = 1, ends_branch: bool = False
    ) -> None:
        edge = kernel // 2
        super().__init__(width, outputs, (depth, kernel, kernel), stride=(step, 1, 1), padding=(0, edge, edge))
        self.reach = depth - 1
        self.ends_branch = ends_branch

    def forward(self, x: Tensor, walk: Walk) -> Tensor:  # type: ignore[override]
        """Return [B, T, H, W, outputs]."""
        if self.reach == 0:
            return self.of(x)
        alone = walk.cold and x.shape[1] == 1
        longer = lengthen(x, self.reach, walk, dim=1)
        return self.of(x, self.weight[:, :, -1:]) if alone else self.of(longer)

    def of(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the convolution of the frames given, nothing put before them."""
        weight = self.weight if weight is None else weight
        y = F.conv3d(x.permute(0, 4, 1, 2, 3), weight, self.bias, self.stride, self.padding)
        return y.permute(0, 2, 3, 4, 1)


class RmsNorm(nn.Module):
    """x / rms(x) * gamma over the channels of [..., C]; a position of zeros stays zero."""

    def __init__(self, width: int, trailing: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width, *(1,) * trailing))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised values."""
        return F.rms_norm(x, x.shape[-1:], self.gamma.flatten(), eps=1e-24)


class ResidualBlock(nn.Module):
    """x or its 1x1x1 convolution, plus two rounds of norm, SiLU and convolution."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            RmsNorm(width, 3),
            nn.SiLU(),
            CausalConv3d(width, outputs),
            RmsNorm(outputs, 3),
            nn.SiLU(),
            nn.Dropout(0.0),  # keeps its place in the names
            CausalConv3d(outputs, outputs, ends_branch=True),
        )
        self.shortcut = CausalConv3d(width, outputs, 1, 1) if width != outputs else None

    def forward(self, x: Tensor, walk: Walk) -> Tensor:
        """Return [B, T, H, W, outputs]."""
        norm_1, _, conv_1, norm_2, _, _, conv_2 = self.residual
        y: Tensor = conv_1(F.silu(norm_1(x)), walk)
        y = conv_2(F.silu(norm_2(y)), walk)
        return y + (x if self.shortcut is None else self.shortcut.of(x))


class AttentionBlock(nn.Module):
    """Self-attention of one head over the positions of each frame."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = RmsNorm(width, 2)
        self.to_qkv = nn.Conv2d(width, 3 * width, 1)
        self.proj = nn.Conv2d(width, width, 1)
        self.proj.ends_branch = True  # type: ignore[assignment]  # read by `seeded_init`

    def forward(self, x: Tensor, walk: Walk) -> Tensor:
        """Return [B, T, H, W, C]."""
        positions = self.norm(x).flatten(2, 3).flatten(0, 1)[:, None]  # [B*T, 1, H*W, C]
        q, k, v = F.linear(positions, self.to_qkv.weight.flatten(1), self.to_qkv.bias).chunk(3, -1)
        y = F.linear(F.scaled_dot_product_attention(q, k, v), self.proj.weight.flatten(1), self.proj.bias)
        return x + y.reshape(x.shape)


class Downsample(nn.Module):
    """Half the side, and half the frames where `in_time`."""

    def __init__(self, width: int, *, in_time: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(nn.Identity(), nn.Conv2d(width, width, 3, stride=2))
        self.time_conv = CausalConv3d(width, width, 1, 3, step=2) if in_time else None

    def forward(self, x: Tensor, walk: Walk) -> Tensor:
        """Return [B, T', H/2, W/2, C]; T' = 1 + (T - 1)/2 at the start of a stream, T/2 later."""
        x = _frames(self.resample[1], x, pad=(0, 1, 0, 1))
        if self.time_conv is None:
            return x
        if walk.cold:
            walk.keep(x[:, -1:])
            return x if x.shape[1] == 1 else torch.cat([x[:, :1], self.time_conv.of(x)], 1)
        return self.time_conv.of(lengthen(x, 1, walk, dim=1))


class Upsample(nn.Module):
    """Twice the side at half the channels, and twice the frames where `in_time`."""

    def __init__(self, width: int, *, in_time: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(nn.Identity(), nn.Conv2d(width, width // 2, 3, padding=1))
        self.time_conv = CausalConv3d(width, 2 * width, 1, 3) if in_time else None

    def forward(self, x: Tensor, walk: Walk) -> Tensor:
        """Return [B, T', 2H, 2W, C/2]; T' = 2T - 1 at the start of a stream, 2T later."""
        if self.time_conv is not None:
            x = self._in_time(x, self.time_conv, walk)
        conv: nn.Conv2d = self.resample[1]  # type: ignore[assignment]
        y = convolve_upsampled(conv, x.flatten(0, 1))
        return y.reshape(x.shape[0], x.shape[1], *y.shape[1:])

    def _in_time(self, x: Tensor, conv: CausalConv3d, walk: Walk) -> Tensor:
        first, rest = (x[:, :1], x[:, 1:]) if walk.cold else (None, x)
        longer = lengthen(rest, conv.reach, walk, dim=1)
        if rest.shape[1] == 0:
            return x
        y = conv.of(longer)
        pairs = y.reshape(*y.shape[:4], 2, -1).movedim(4, 2).flatten(1, 2)  # [B, 2T, H, W, C]
        return pairs if first is None else torch.cat([first, pairs], 1)


class Head(nn.Sequential):
    """Norm, SiLU, convolution."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__(RmsNorm(width, 3), nn.SiLU(), CausalConv3d(width, outputs))

    def forward(self, x: Tensor, walk: Walk) -> Tensor:  # type: ignore[override]
        """Return [B, T, H, W, outputs]."""
        y: Tensor = self[2](F.silu(self[0](x)), walk)
        return y


class Half(nn.Module):
    """What encoder and decoder have in common: a pass through all layers in order."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1: CausalConv3d
        self.middle: nn.Sequential
        self.head: Head

    @staticmethod
    def middle_of(width: int) -> nn.Sequential:
        """Return the blocks at the lowest resolution."""
        return nn.Sequential(ResidualBlock(width, width), AttentionBlock(width), ResidualBlock(width, width))

    @abstractmethod
    def order(self) -> list[nn.Module]:
        """Return the layers from the input to the output."""

    def forward(self, x: Tensor, walk: Walk) -> Tensor:
        """Return the last layer's output, [B, T', H', W', C']."""
        for layer in self.order():
            x = layer(x, walk)
        return x


class WanEncoder(Half):
    """Pixels to the moments of latents."""

    def __init__(self, config: WanCodecConfig) -> None:
        super().__init__()
        dims = [config.dim * mult for mult in (1, *config.dim_mult)]
        self.conv1 = CausalConv3d(3, dims[0])
        layers: list[nn.Module] = []
        for index, (width, outputs) in enumerate(itertools.pairwise(dims)):
            layers += [ResidualBlock(outputs if later else width, outputs) for later in range(config.blocks)]
            if index < len(config.time_down):
                layers.append(Downsample(outputs, in_time=config.time_down[index]))
        self.downsamples = nn.Sequential(*layers)
        self.middle = self.middle_of(dims[-1])
        self.head = Head(dims[-1], 2 * config.latent_channels)

    def order(self) -> list[nn.Module]:
        """Return the layers from the input to the output."""
        return [self.conv1, *self.downsamples, *self.middle, self.head]


class WanDecoder(Half):
    """Latents to pixels."""

    def __init__(self, config: WanCodecConfig) -> None:
        super().__init__()
        dims = [config.dim * mult for mult in (config.dim_mult[-1], *config.dim_mult[::-1])]
        time_up = config.time_down[::-1]
        self.conv1 = CausalConv3d(config.latent_channels, dims[0])
        self.middle = self.middle_of(dims[0])
        layers: list[nn.Module] = []
        for index, (above, outputs) in enumerate(itertools.pairwise(dims)):
            width = above // 2 if index else above  # an upsampling layer before it has halved them
            layers += [ResidualBlock(outputs if later else width, outputs) for later in range(config.blocks + 1)]
            if index < len(time_up):
                layers.append(Upsample(outputs, in_time=time_up[index]))
        self.upsamples = nn.Sequential(*layers)
        self.head = Head(dims[-1], 3)

    def order(self) -> list[nn.Module]:
        """Return the layers from the input to the output."""
        return [self.conv1, *self.middle, *self.upsamples, self.head]


class WanNetwork(nn.Module):
    """The weights under their public names: encoder, conv1, conv2, decoder."""

    def __init__(self, config: WanCodecConfig) -> None:
        super().__init__()
        channels = config.latent_channels
        self.encoder = WanEncoder(config)
        self.conv1 = CausalConv3d(2 * channels, 2 * channels, 1, 1)
        self.conv2 = CausalConv3d(channels, channels, 1, 1)
        self.decoder = WanDecoder(config)


class WanVae(CausalCodec):
    """The VAE as a codec. Mean and deviation of the latents are of the configuration, as upstream, not of the file."""

    latents_at_once = 1
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: WanCodecConfig) -> None:
        super().__init__(config)
        self.network = WanNetwork(config)
        self.register_buffer("latent_mean", torch.tensor(config.mean), persistent=False)
        self.register_buffer("latent_std", torch.tensor(config.std), persistent=False)

    @property
    def published(self) -> nn.Module:
        """The module whose state dict is laid out as the public files are."""
        return self.network

    def encode_piece(self, video: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Return the normalised means and the memory after them."""
        walk = Walk(memory)
        moments = self.network.encoder(video.permute(0, 2, 3, 4, 1).contiguous(), walk)
        conv, channels = self.network.conv1, self.latent_channels
        bias = None if conv.bias is None else conv.bias[:channels]
        mean = F.linear(moments, conv.weight[:channels].flatten(1), bias)  # the rest is the log variance
        return ((mean - self.latent_mean) / self.latent_std).permute(0, 4, 1, 2, 3), walk.memory()

    def decode_piece(self, latents: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Return the frames and the memory after them."""
        walk = Walk(memory)
        raw = latents.permute(0, 2, 3, 4, 1) * self.latent_std + self.latent_mean
        raw = F.linear(raw.contiguous(), self.network.conv2.weight.flatten(1), self.network.conv2.bias)
        return self.network.decoder(raw, walk).permute(0, 4, 1, 2, 3).clamp(-1, 1), walk.memory()
