"""wav2vec2 in the layout of facebook/wav2vec2-base-960h, read at the rate of the video.

Baevski et al. 2020 (arXiv 2006.11477); the "base" variant: group norm after the first convolution, layer norm after
each residual. As OmniAvatar (Apache-2.0) uses it, the features of the convolutions, 50 a second, are interpolated
linearly to the video's frames *before* the transformer, and a frame's feature is the last hidden state followed by all
hidden states, the one before the first layer included.

Shapes: B batch, N samples, T steps of the convolutions, V video frames, D hidden width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from lt_eval.generator.audio_config import AudioConfig

KERNELS = (10, 3, 3, 3, 3, 2, 2)
STRIDES = (5, 2, 2, 2, 2, 2, 2)
RECEPTIVE_FIELD, STEP = 400, 320
"""Samples that one step of the convolutions sees, and from step to step."""


class ConvLayer(nn.Module):
    """Convolution without bias, then group norm with one group a channel (first layer only), then GELU."""

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int, *, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels_in, channels, kernel, stride, bias=False)
        self.layer_norm = nn.GroupNorm(channels, channels) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, N] -> [B, C', N']."""
        return F.gelu(self.layer_norm(self.conv(x)))


class FeatureExtractor(nn.Module):
    """Seven convolutions: 400 samples seen, 320 apart."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers = zip((1, *[channels] * 6), KERNELS, STRIDES, strict=True)
        self.conv_layers = nn.ModuleList(
            ConvLayer(before, channels, kernel, stride, norm=k == 0)
            for k, (before, kernel, stride) in enumerate(layers)
        )

    def forward(self, samples: Tensor) -> Tensor:
        """[B, N] -> [B, T, C]."""
        x = samples[:, None]
        for layer in self.conv_layers:
            x = layer(x)
        return x.transpose(1, 2)


class FeatureProjection(nn.Module):
    """Layer norm and a linear map to the transformer's width."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(channels)
        self.projection = nn.Linear(channels, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[B, V, C] -> [B, V, D]."""
        projected: Tensor = self.projection(self.layer_norm(x))
        return projected


class PositionalConv(nn.Module):
    """Relative positions by a wide grouped convolution over time; checkpoints hold its weight norm, we its product."""

    def __init__(self, hidden: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(hidden, hidden, kernel, padding=kernel // 2, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """[B, V, D] -> [B, V, D]. An even kernel makes one step too many, which is dropped."""
        return F.gelu(self.conv(x.transpose(1, 2))[:, :, : x.shape[1]]).transpose(1, 2)


class SelfAttention(nn.Module):
    """Every frame attends to every frame of the window."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(hidden, hidden) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """[B, V, D] -> [B, V, D]."""
        q, k, v = (proj(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for proj in self._projections())
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.out_proj(mixed)
        return out

    def _projections(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        return self.q_proj, self.k_proj, self.v_proj


class FeedForward(nn.Module):
    """Two linear maps with GELU between."""

    def __init__(self, hidden: int, ffn: int) -> None:
        super().__init__()
        self.intermediate_dense, self.output_dense = nn.Linear(hidden, ffn), nn.Linear(ffn, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[B, V, D] -> [B, V, D]."""
        out: Tensor = self.output_dense(F.gelu(self.intermediate_dense(x)))
        return out


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each followed by residual and layer norm."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config.hidden, config.heads)
        self.layer_norm = nn.LayerNorm(config.hidden)
        self.feed_forward = FeedForward(config.hidden, config.ffn)
        self.final_layer_norm = nn.LayerNorm(config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[B, V, D] -> [B, V, D]."""
        x = self.layer_norm(x + self.attention(x))
        out: Tensor = self.final_layer_norm(x + self.feed_forward(x))
        return out


class Encoder(nn.Module):
    """Positions, layer norm, and the layers."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.pos_conv_embed = PositionalConv(config.hidden, config.position_kernel, config.position_groups)
        self.layer_norm = nn.LayerNorm(config.hidden)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, V, D] -> the layers + 1 hidden states, [B, V, D] each."""
        states = [self.layer_norm(x + self.pos_conv_embed(x))]
        for layer in self.layers:
            states.append(layer(states[-1]))
        return states


class Wav2Vec2(nn.Module):
    """Samples to the features of video frames."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.feature_extractor = FeatureExtractor(config.conv_dim)
        self.feature_projection = FeatureProjection(config.conv_dim, config.hidden)
        self.encoder = Encoder(config)

    def forward(self, samples: Tensor, frames: int | Tensor) -> Tensor:
        """Return the features of the video frames that samples span.

        Args:
            samples: [B, N], normalised (see `normalise`), N >= 400.
            frames: V, how many video frames they last, spread evenly over the steps of the convolutions; or the step
                at which each of them lies, float [V].

        Returns:
            [B, V, (layers + 2) * D]: last hidden state, then all from the first.
        """
        steps = self.feature_extractor(samples)
        if isinstance(frames, Tensor):
            steps = at_steps(steps, frames)
        else:
            steps = F.interpolate(steps.transpose(1, 2), size=frames, mode="linear", align_corners=True).transpose(1, 2)
        states = self.encoder(self.feature_projection(steps))
        return torch.cat([states[-1], *states], dim=2)


def at_steps(steps: Tensor, places: Tensor) -> Tensor:
    """Return [B, V, C]: steps [B, T, C] interpolated linearly at places [V], the ends held beyond them."""
    places = places.clamp(0, steps.shape[1] - 1)
    below = places.floor().long()
    above = (below + 1).clamp(max=steps.shape[1] - 1)
    return torch.lerp(steps[:, below], steps[:, above], (places - below)[:, None].to(steps.dtype))


def normalise(samples: Tensor) -> Tensor:
    """Return [B, N] at zero mean and unit variance, as the published network was trained; silence stays zero."""
    centred = samples - samples.mean(dim=1, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(dim=1, keepdim=True) + 1e-7)
