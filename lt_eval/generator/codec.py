"""Between pixels and latents: what every codec offers, whole clips and streams.

    codec = create_codec(MiniCodecConfig(), seed=0)
    latents = codec.encode(video)                  # [B,3,1+4k,H,W] -> [B,C,1+k,h,w]
    decoder = codec.decoder()                      # a stream of its own
    for piece in latents.split(3, dim=2):
        frames = decoder.push(piece)               # 9 frames, then 12 a piece

Video is float in [-1, 1], [B, 3, T, H, W]; latents are normalised, [B, C, F, h, w]. From a cold start the first latent
frame is one pixel frame and every later one is four: T = 4F - 3. However a clip is cut into pieces, the frames are
those of one piece up to rounding.

Letters: B batch, C latent channels, F latent frames, h w latent grid, T pixel frames, H W pixels.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from lt_eval.generator.codec_config import MiniCodecConfig, TinyCodecConfig, pixel_frames
from lt_eval.generator.codec_memory import Memory

if TYPE_CHECKING:
    from lt_eval.generator.codec_config import CodecConfig


class Encoder(Protocol):
    """A stream of pixel frames into latents."""

    memory: Memory

    def push(self, video: Tensor) -> Tensor:
        """Return the latents of the frames that follow."""
        ...


class Decoder(Protocol):
    """A stream of latents into pixel frames."""

    memory: Memory

    def push(self, latents: Tensor) -> Tensor:
        """Return the frames of the latents that follow."""
        ...


@runtime_checkable
class Codec(Protocol):
    """What the pipeline and the training take."""

    latent_channels: int
    spatial: int
    temporal: int

    def encode(self, video: Tensor) -> Tensor:
        """Return the latents of a clip."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Return the frames of a clip."""
        ...

    def encoder(self) -> Encoder:
        """Return a new stream."""
        ...

    def decoder(self) -> Decoder:
        """Return a new stream."""
        ...


class CausalCodec(nn.Module):
    """A codec whose every layer looks only back in time, as two functions of a piece and a memory.

    `encode` and `decode` carry gradients; the streams do not. The module holds no state of a stream.

    Attributes:
        latents_at_once: how many latent frames `encode` and `decode` take at a time, which bounds their memory; None
            takes a clip as one.
    """

    latents_at_once: int | None = None

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.latent_channels, self.spatial, self.temporal = config.latent_channels, config.spatial, config.temporal

    @abstractmethod
    def encode_piece(self, video: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Return the latents of the frames that follow what the memory has seen, and the memory after them."""

    @abstractmethod
    def decode_piece(self, latents: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Return the frames, in [-1, 1], of the latents that follow, and the memory after them."""

    def encode(self, video: Tensor) -> Tensor:
        """Return the latents of a clip.

        Args:
            video: [B, 3, 1 + 4k, H, W] in [-1, 1], H and W multiples of `spatial`. One frame is a picture.

        Returns:
            [B, C, 1 + k, H / spatial, W / spatial] of the weights' type.

        Raises:
            ValueError: the shape is another.
        """
        video = self.checked_video(video, cold=True)
        count = 1 + video.shape[2] // self.temporal
        at_once = self.latents_at_once or count
        memory, latents = Memory(), []
        for start in range(0, count, at_once):
            # pixel frames up to latent frame n are those of a clip of n latent frames
            begin, end = pixel_frames(start), pixel_frames(start + at_once)
            piece, memory = self.encode_piece(video[:, :, begin:end], memory)
            latents.append(piece)
        return torch.cat(latents, 2)

    def decode(self, latents: Tensor) -> Tensor:
        """Return the frames of a clip.

        Args:
            latents: [B, C, F, h, w], normalised.

        Returns:
            [B, 3, 4F - 3, h * spatial, w * spatial] in [-1, 1] of the weights' type.

        Raises:
            ValueError: the shape is another.
        """
        memory, frames = Memory(), []
        for group in torch.split(self.checked_latents(latents), self.latents_at_once or latents.shape[2], 2):
            piece, memory = self.decode_piece(group, memory)
            frames.append(piece)
        return torch.cat(frames, 2)

    def encoder(self) -> EncoderStream:
        """Return a new stream of frames into latents."""
        return EncoderStream(self)

    def decoder(self) -> DecoderStream:
        """Return a new stream of latents into frames."""
        return DecoderStream(self)

    @property
    def published(self) -> nn.Module:
        """The module whose state dict is laid out as files of this kind are."""
        return self

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights, in which everything is computed."""
        return next(self.parameters()).dtype

    def checked_video(self, video: Tensor, *, cold: bool) -> Tensor:
        """Return a video in the weights' type.

        Raises:
            ValueError: it is not laid out as it must be at the beginning of a stream, or later on.
        """
        first = 1 if cold else 0
        fits = (
            video.ndim == 5
            and video.shape[1] == 3
            and video.shape[2] >= first
            and (video.shape[2] - first) % self.temporal == 0
            and video.shape[3] % self.spatial == 0
            and video.shape[4] % self.spatial == 0
        )
        if not fits:
            count = f"1 + {self.temporal}k" if cold else f"{self.temporal}k"
            raise ValueError(
                f"video of shape {tuple(video.shape)}: give [B, 3, T, H, W] with T = {count} frames "
                f"({'at' if cold else 'after'} the start of a stream) and sides that are multiples of {self.spatial}"
            )
        return video.to(self.dtype)

    def checked_latents(self, latents: Tensor) -> Tensor:
        """Return latents in the weights' type.

        Raises:
            ValueError: they are not [B, C, F, h, w] with at least one frame.
        """
        if latents.ndim != 5 or latents.shape[1] != self.latent_channels or latents.shape[2] < 1:
            raise ValueError(
                f"latents of shape {tuple(latents.shape)}: give [B, {self.latent_channels}, F, h, w], F at least 1"
            )
        return latents.to(self.dtype)


class EncoderStream:
    """A clip on its way into latents. `memory` may be read and put back: it is never changed in place."""

    def __init__(self, codec: CausalCodec) -> None:
        self._codec = codec
        self.memory = Memory()

    @torch.no_grad()
    def push(self, video: Tensor) -> Tensor:
        """Return the latents of the next frames: 1 + 4k at first, then 4k.

        Raises:
            ValueError: the shape is another.
        """
        piece = self._codec.checked_video(video, cold=self.memory.cold)
        latents, self.memory = self._codec.encode_piece(piece, self.memory)
        return latents


class DecoderStream:
    """A clip on its way out of latents. `memory` may be read and put back: it is never changed in place."""

    def __init__(self, codec: CausalCodec) -> None:
        self._codec = codec
        self.memory = Memory()

    @torch.no_grad()
    def push(self, latents: Tensor) -> Tensor:
        """Return the frames of the next latents: four a latent frame, one for the very first.

        Raises:
            ValueError: the shape is another.
        """
        video, self.memory = self._codec.decode_piece(self._codec.checked_latents(latents), self.memory)
        return video


def create_codec(config: CodecConfig, seed: int = 0) -> CausalCodec:
    """Return a codec on the processor, in float32, with weights that depend on nothing but the seed.

    No global random state is read or changed.
    """
    with torch.random.fork_rng(devices=[]):  # constructors draw numbers that are overwritten next
        codec = _constructed(config)
    seeded_init(codec, seed)
    if not isinstance(config, MiniCodecConfig):  # which is for processors, where it makes no difference
        channels_last(codec)
    return codec.eval()


def channels_last(codec: CausalCodec) -> None:
    """Lay the kernels of a codec out as CUDA convolutions take them, once for all calls; loading keeps it so."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    for weight in codec.parameters():
        if weight.ndim in layouts:
            weight.data = weight.data.contiguous(memory_format=layouts[weight.ndim])


def _constructed(config: CodecConfig) -> CausalCodec:
    """Return the module of a configuration; only that codec's file is imported."""
    if isinstance(config, MiniCodecConfig):
        from lt_eval.generator.mini_codec import MiniCodec

        return MiniCodec(config)
    if isinstance(config, TinyCodecConfig):
        from lt_eval.generator.tiny_decoder import TinyCodec

        return TinyCodec(config)
    from lt_eval.generator.wan_vae import WanVae

    return WanVae(config)


def seeded_init(codec: CausalCodec, seed: int) -> None:
    """Overwrite all weights: He's normal law for what precedes a rectifier, and a tenth of it at the end of a branch.

    A residual branch that begins small lets a deep stack without normalisation train from the first step (Zhang et al.,
    Fixup, arXiv 1901.09321, with a small value in place of zero so that untrained codecs differ by their seed). Layers
    name themselves as such an end by an attribute `ends_branch`, and by `linear` that no rectifier comes before
    them, so that half the variance is enough.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in codec.modules():
            weight = getattr(module, "weight", None)
            if not isinstance(module, nn.Conv2d | nn.Conv3d) or not isinstance(weight, Tensor):
                continue
            gain = 1.0 if getattr(module, "linear", False) else 2.0
            scale = math.sqrt(gain / weight[0].numel()) * (0.1 if getattr(module, "ends_branch", False) else 1.0)
            weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
            if module.bias is not None:
                module.bias.zero_()


__all__ = [
    "CausalCodec",
    "Codec",
    "Decoder",
    "DecoderStream",
    "Encoder",
    "EncoderStream",
    "channels_last",
    "create_codec",
    "pixel_frames",
    "seeded_init",
]
