"""What a generator is, as frozen records: the transformer, how it streams, and the named shapes.

No torch here: the command line reads these to validate options before anything heavy is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lt_eval.errors import SpecError
from lt_eval.generator.audio_config import AudioConfig
from lt_eval.generator.codec_config import CodecConfig

TIMESTEPS = 1000.0
"""Timestep of pure noise."""

VIDEO_FRAMES_PER_LATENT = 4
"""Temporal compression of the codecs: latent frame 0 is one video frame, each later one is four."""


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the diffusion transformer (Wan2.1 with reference-image channels and OmniAvatar's audio injection).

    Attributes:
        dim: width of the residual stream.
        layers: transformer blocks.
        heads: attention heads; `dim` divides by them into an even head width.
        ffn_dim: width inside the feed-forward networks.
        latent_channels: C of the codec. The input has 2 C + 1 channels: noisy latent, reference latent, mask.
        text_dim: width of the text encoder's tokens.
        text_tokens: tokens of a prompt, padded.
        freq_dim: width of the sinusoidal timestep embedding.
        audio_features: audio features a video frame.
        audio_hidden: width to which the features of a latent frame are packed; 0 for a model without audio.
        audio_layers: layers before which the packed audio is added, each through a linear of its own.
        patch: latent frames, rows and columns of a token. The first must be 1: a token never spans two frames.
        prompt_table: rows of the learned table of hashed word pieces (`text.PromptTable`) that is trained together with
            the transformer and kept beside it; 0 where prompts go to an encoder of their own.
        prior_side: rows, and columns, of the latents for which a `GaussianPrior` is kept that the network corrects; 0
            where it predicts the velocity itself, as Wan does.
        eps: of every normalisation.
    """

    dim: int
    layers: int
    heads: int
    ffn_dim: int
    latent_channels: int
    text_dim: int
    text_tokens: int
    freq_dim: int
    audio_features: int
    audio_hidden: int
    audio_layers: tuple[int, ...]
    patch: tuple[int, int, int] = (1, 2, 2)
    prompt_table: int = 0
    prior_side: int = 0
    eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.dim % self.heads or self.head_dim % 2 or self.head_dim < 6:
            raise SpecError(
                f"dim {self.dim} over {self.heads} heads gives a head width of {self.dim / self.heads:g}; it must be "
                "an even number of at least 6, which rotary embedding splits over time, rows and columns."
            )
        if self.patch[0] != 1:
            raise SpecError(f"patch {self.patch} spans {self.patch[0]} latent frames; it must span 1.")
        if self.freq_dim % 2:
            raise SpecError(f"freq_dim is {self.freq_dim}; it must be even (cosines and sines).")
        if self.audio_hidden and any(not 0 <= layer < self.layers for layer in self.audio_layers):
            raise SpecError(f"audio_layers {self.audio_layers} must be among the layers 0 to {self.layers - 1}.")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.heads

    @property
    def in_channels(self) -> int:
        """Channels of the patch embedding: noisy latent, reference latent and mask."""
        return 2 * self.latent_channels + 1

    @property
    def audio_dim(self) -> int:
        """Raw audio features a latent frame: those of its four video frames, one after the other."""
        return VIDEO_FRAMES_PER_LATENT * self.audio_features


@dataclass(frozen=True)
class StreamConfig:
    """How the transformer streams: block size, KV window with Anchor-Heavy Identity Sinks, and denoising schedule.

    Attributes:
        block_frames: latent frames denoised together.
        sink_blocks: first blocks of the stream, kept for ever as identity anchors.
        rolling_blocks: latest blocks kept beside them.
        window_includes_current: whether the block being denoised is one of `rolling_blocks`. As shipped by LiveTalk it
            is: from the sixth block on a query sees three sinks, one previous block and its own. False keeps that many
            blocks of the past besides, one slot more.
        rope: "absolute" caches rotated keys at their position in the stream, as shipped, so that the distance to the
            sinks grows without bound; "relative" caches keys unrotated and rotates the window at contiguous positions
            from 0 at every read, so that the model never meets a position beyond its window.
        steps: denoising forwards a block.
        shift: of the flow-matching schedule, sigma' = shift sigma / (1 + (shift - 1) sigma).
        timestep_rounding: "bfloat16" feeds the model the timesteps of LiveTalk's bf16 pipeline (1000, 936, 832,
            624); None the exact ones (1000, 937.5, 833.33, 625). Sigma, in the update, is exact in either case.
        context_noise: timestep, 0..1000, at which a finished block is run once more to write its keys and values.
        anchor_first_latent: whether latent frame 0 of the stream is overwritten by the reference latent.
    """

    block_frames: int = 3
    sink_blocks: int = 3
    rolling_blocks: int = 2
    window_includes_current: bool = True
    rope: Literal["absolute", "relative"] = "absolute"
    steps: int = 4
    shift: float = 5.0
    timestep_rounding: Literal["bfloat16"] | None = "bfloat16"
    context_noise: float = 0.0
    anchor_first_latent: bool = True

    def __post_init__(self) -> None:
        if self.rope not in ("absolute", "relative"):
            raise SpecError(f"rope is {self.rope!r}; it must be absolute or relative.")
        if self.timestep_rounding not in ("bfloat16", None):
            raise SpecError(f"timestep_rounding is {self.timestep_rounding!r}; it must be bfloat16 or absent.")
        least = 1 if self.window_includes_current else 0
        for name, value, minimum in (
            ("block_frames", self.block_frames, 1),
            ("sink_blocks", self.sink_blocks, 0),
            ("rolling_blocks", self.rolling_blocks, least),
            ("steps", self.steps, 1),
        ):
            if value < minimum:
                raise SpecError(f"{name} is {value}; it must be at least {minimum}.")
        if self.shift <= 0:
            raise SpecError(f"shift is {self.shift:g}; it must be above 0.")
        if not 0 <= self.context_noise <= 1000:
            raise SpecError(f"context_noise is {self.context_noise:g}; it is a timestep from 0 to 1000.")

    @property
    def ring_blocks(self) -> int:
        """Slots that are overwritten in turn, the one of the current block among them."""
        return self.rolling_blocks if self.window_includes_current else self.rolling_blocks + 1

    @property
    def window_blocks(self) -> int:
        """Blocks that a query sees at most, its own among them; also the slots of the KV cache."""
        return self.sink_blocks + self.ring_blocks

    @property
    def steady_block(self) -> int:
        """Index of the first block for which another was forgotten: from here on shapes and costs are constant."""
        return self.window_blocks


@dataclass(frozen=True)
class GeneratorConfig:
    """A whole generator.

    Attributes:
        name: of the preset that it was made from.
        model: the transformer.
        stream: how it streams.
        codec: pixels to latents and back.
        audio: what it hears.
        size: side of the square frame in pixels.
        fps: video frames a second at which it speaks in time with its audio.
    """

    name: str
    model: ModelConfig
    stream: StreamConfig
    codec: CodecConfig
    audio: AudioConfig
    size: int
    fps: float

    def __post_init__(self) -> None:
        if self.model.latent_channels != self.codec.latent_channels:
            raise SpecError(
                f"model.latent_channels is {self.model.latent_channels} and codec.latent_channels "
                f"{self.codec.latent_channels}; they must be equal."
            )
        if self.model.audio_hidden and self.model.audio_features != self.audio.frame_dim:
            raise SpecError(
                f"model.audio_features is {self.model.audio_features} and the audio has "
                f"{self.audio.frame_dim} features a video frame; they must be equal."
            )
        rows, columns = self.model.patch[1:]
        for step in (rows * self.codec.spatial, columns * self.codec.spatial):
            if self.size < step or self.size % step:
                raise SpecError(f"size is {self.size}; it must be a multiple of {step} (a token of the transformer).")
        if self.model.prior_side not in (0, self.latent_side):
            fitting = self.model.prior_side * self.codec.spatial
            raise SpecError(
                f"model.prior_side is {self.model.prior_side}, and a picture of {self.size} pixels has "
                f"{self.latent_side} x {self.latent_side} latents; they must be equal. Use size {fitting}, or a config "
                "with model.prior_side = 0 and weights of its own."
            )
        if not 1 <= self.fps <= 120:
            raise SpecError(f"fps is {self.fps:g}; it must lie in 1..120.")

    @property
    def latent_side(self) -> int:
        """Rows, and columns, of a latent frame."""
        return self.size // self.codec.spatial
