"""What a codec is made of, without torch: three layouts, one `CodecConfig`.

    mini    small, 16x in space, for the processor; its own layout
    wan     the causal video VAE of Wan2.1, 8x in space
    tiny    the small stand-in for it, TAEHV's layout, in the same latent space

All are 4x in time: the first latent frame is one pixel frame, every later one is four.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from lt_eval.errors import SpecError
from lt_eval.registry import suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping

TEMPORAL = 4


@dataclass(frozen=True)
class MiniCodecConfig:
    """The codec that runs beside the denoiser on two processor cores.

    Attributes:
        latent_channels: C of a latent.
        change_components: pictures of what changes within the four frames of a latent; each takes three channels, how
            it comes and goes over the frames. The other channels are the linear codec's.
        widths: channels of each stage, from the latent grid to the pixels. The first runs once a latent frame, the
            others once a pixel frame at twice the side of the one before.
        decoder_blocks: residual blocks of each stage of the decoder, in the order of `widths`.
        encoder_blocks: the same of the encoder, in the order of `widths` too.
        patch: side in pixels of what one position of the last stage stands for.
        shift: one in `shift` channels of a block comes from the frame before; causal mixing in time for no arithmetic.
    """

    kind: ClassVar[str] = "mini"
    temporal: ClassVar[int] = TEMPORAL

    latent_channels: int = 16
    change_components: int = 0
    widths: tuple[int, ...] = (192, 128, 64)
    decoder_blocks: tuple[int, ...] = (3, 1, 1)
    encoder_blocks: tuple[int, ...] = (2, 1, 1)
    patch: int = 4
    shift: int = 8

    def __post_init__(self) -> None:
        if not len(self.widths) == len(self.decoder_blocks) == len(self.encoder_blocks) >= 2:
            raise SpecError(
                f"codec: {len(self.widths)} widths, {len(self.decoder_blocks)} decoder_blocks and "
                f"{len(self.encoder_blocks)} encoder_blocks; give one of each a stage, two stages or more."
            )
        positive = (self.latent_channels, self.patch, self.shift, *self.widths)
        if min(positive) < 1 or min(*self.decoder_blocks, *self.encoder_blocks) < 0:
            raise SpecError(f"codec: sizes must be positive and counts of blocks not negative, given {self}.")
        if self.change_components < 0 or self.linear_channels < 1:
            raise SpecError(
                f"codec: change_components is {self.change_components} and latent_channels {self.latent_channels}; "
                "three times change_components must leave a channel or more."
            )
        if any(width % self.shift for width in self.widths):
            raise SpecError(f"codec: widths {self.widths} must be multiples of shift, {self.shift}.")

    @property
    def linear_channels(self) -> int:
        """Channels that belong to all four frames together, and to the linear codec."""
        return self.latent_channels - (self.temporal - 1) * self.change_components

    @property
    def spatial(self) -> int:
        """Pixels a side of what one latent position stands for: 16 with three stages and patches of 4."""
        return int(self.patch * 2 ** (len(self.widths) - 1))


@dataclass(frozen=True)
class WanCodecConfig:
    """The causal video VAE of Wan2.1 (its `_video_vae`), with its published sizes as defaults.

    Attributes:
        latent_channels: C of a latent.
        dim: channels of the stage nearest the pixels.
        dim_mult: channels of each stage, in `dim`, from the pixels to the latents.
        blocks: residual blocks of a stage; the decoder has one more.
        time_down: whether a stage but the last also halves the frame rate, in the order of `dim_mult`.
        mean: of each latent channel, subtracted when encoding.
        std: of each latent channel, divided by when encoding.
    """

    kind: ClassVar[str] = "wan"
    temporal: ClassVar[int] = TEMPORAL

    latent_channels: int = 16
    dim: int = 96
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2
    time_down: tuple[bool, ...] = (False, True, True)
    mean: tuple[float, ...] = (
        *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
        *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
    )
    std: tuple[float, ...] = (
        *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
        *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
    )

    def __post_init__(self) -> None:
        if len(self.dim_mult) < 2 or len(self.time_down) != len(self.dim_mult) - 1 or sum(self.time_down) != 2:
            raise SpecError(
                f"codec: {len(self.dim_mult)} stages (dim_mult) and time_down {self.time_down}; give one time_down "
                "fewer than stages, two of them true, for a codec that is 4x in time."
            )
        if min(self.latent_channels, self.dim, self.blocks, *self.dim_mult) < 1 or self.dim % 2:
            raise SpecError(f"codec: sizes must be positive and dim even, given {self}.")
        if not len(self.mean) == len(self.std) == self.latent_channels or min(self.std) <= 0:
            raise SpecError(
                f"codec: {self.latent_channels} latent_channels, {len(self.mean)} values of mean and {len(self.std)} "
                "of std; give one positive std and one mean a channel."
            )

    @property
    def spatial(self) -> int:
        """Pixels a side of what one latent position stands for: 8 as published."""
        return int(2 ** len(self.time_down))


@dataclass(frozen=True)
class TinyCodecConfig:
    """TAEHV: a small codec for the latents of a large one (taew2_1 for Wan2.1's, which it takes normalised).

    Attributes:
        latent_channels: C of a latent.
        widths: channels of the decoder, from the latents to the pixels, the last being those before the output.
        encoder_width: channels of the encoder.
        patch: side in pixels of what one position before the output stands for; 1 for taew2_1, 2 for taehv1_5.
    """

    kind: ClassVar[str] = "tiny"
    temporal: ClassVar[int] = TEMPORAL

    latent_channels: int = 16
    widths: tuple[int, int, int, int] = (256, 128, 64, 64)
    encoder_width: int = 64
    patch: int = 1

    def __post_init__(self) -> None:
        if len(self.widths) != 4 or min(self.latent_channels, self.encoder_width, self.patch, *self.widths) < 1:
            raise SpecError(f"codec: give four widths, and positive sizes; given {self}.")

    @property
    def spatial(self) -> int:
        """Pixels a side of what one latent position stands for: 8 as published."""
        return 8 * self.patch


CodecConfig = MiniCodecConfig | WanCodecConfig | TinyCodecConfig

KINDS: dict[str, type[MiniCodecConfig] | type[WanCodecConfig] | type[TinyCodecConfig]] = {
    "mini": MiniCodecConfig,
    "wan": WanCodecConfig,
    "tiny": TinyCodecConfig,
}


def codec_config(kind: str = "mini", options: Mapping[str, object] | None = None) -> CodecConfig:
    """Return the configuration of a kind with some fields set, as a TOML table gives them (lists become tuples).

    Raises:
        SpecError: there is no such kind or field, or the fields do not go together.
    """
    if kind not in KINDS:
        raise SpecError(f"No codec is called {kind!r}; there are {', '.join(KINDS)}.{suggestion(kind, KINDS)}")
    given = dict(options or {})
    known = {field.name for field in fields(KINDS[kind])}
    for name in given:
        if name not in known:
            raise SpecError(f"The codec {kind} has no option {name!r}.{suggestion(name, sorted(known))}")
    try:
        return KINDS[kind](**{name: tuple(v) if isinstance(v, list) else v for name, v in given.items()})  # type: ignore[arg-type]
    except TypeError as cause:
        raise SpecError(f"The codec {kind} cannot be made of {given}: {cause}.") from cause


def pixel_frames(latent_frames: int) -> int:
    """Return how many pixel frames a clip of so many latent frames has, counted from a cold start: 4F - 3."""
    return max(TEMPORAL * latent_frames - (TEMPORAL - 1), 0)
