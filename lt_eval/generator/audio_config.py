"""What a generator hears, as numbers: which features, how far to each side, how many values. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lt_eval.errors import SpecError

FRAMES_PER_LATENT = 4
"""Video frames that one latent frame stands for; the first latent frame stands for one."""


@dataclass(frozen=True)
class AudioConfig:
    """The audio features of a generator.

    A latent frame k > 0 is given the features of its video frames 4k-3..4k, one after the other; latent frame 0 those
    of video frame 0 four times (so that 4L-3 frames fill 4L places). A feature may use audio up to `look_ahead_frames`
    after its block ends: that much later the block can begin.

    Attributes:
        kind: "logmel" (no weights, local) or "wav2vec2" (wav2vec2-base layout, all hidden states).
        sample_rate_hz: of the audio.
        look_ahead_frames: video frames of audio after a block that its features may use; each costs 1 / fps of latency.
        mel_bands: logmel: bands a row, over 0..8000 Hz.
        rows: logmel: rows a video frame, 10 ms apart, the last ending `look_ahead_frames` after the frame's own end.
        resample: wav2vec2: how features, 50 a second, become those of video frames. "stretch" spreads what a window
            gives evenly over its frames, first to first and last to last, as OmniAvatar does with whole clips: what a
            frame hears shifts by up to 35 ms with its place in the window. "centre" takes the middle of each frame's
            own time, the same in a window as in the whole clip.
        left_context_s: wav2vec2: seconds of audio before a block that are encoded again with it.
        hidden: wav2vec2: width of the transformer.
        layers: wav2vec2: number of its layers.
        heads: wav2vec2: attention heads of each.
        ffn: wav2vec2: width of its feed-forward layers.
        conv_dim: wav2vec2: channels of the seven convolutions.
        position_kernel: wav2vec2: width of the positional convolution, in steps of a video frame.
        position_groups: wav2vec2: its groups.
    """

    kind: Literal["logmel", "wav2vec2"] = "logmel"
    sample_rate_hz: int = 16_000
    look_ahead_frames: int = 0
    mel_bands: int = 32
    rows: int = 8
    resample: Literal["stretch", "centre"] = "centre"
    left_context_s: float = 8.0
    hidden: int = 768
    layers: int = 12
    heads: int = 12
    ffn: int = 3072
    conv_dim: int = 512
    position_kernel: int = 128
    position_groups: int = 16

    def __post_init__(self) -> None:
        if self.kind not in ("logmel", "wav2vec2"):
            raise SpecError(f"audio.kind is {self.kind!r}; it must be logmel or wav2vec2.")
        if self.resample not in ("stretch", "centre"):
            raise SpecError(f"audio.resample is {self.resample!r}; it must be stretch or centre.")
        for name in ("mel_bands", "rows", "hidden", "layers", "heads", "ffn", "conv_dim", "position_kernel"):
            if getattr(self, name) < 1:
                raise SpecError(f"audio.{name} is {getattr(self, name)}; it must be at least 1.")
        if self.look_ahead_frames < 0 or self.left_context_s < 0:
            raise SpecError(
                f"audio.look_ahead_frames is {self.look_ahead_frames} and audio.left_context_s {self.left_context_s}; "
                "neither may be negative."
            )
        if self.hidden % self.heads or self.hidden % self.position_groups:
            raise SpecError(
                f"audio.hidden is {self.hidden}; it must divide by audio.heads ({self.heads}) and by "
                f"audio.position_groups ({self.position_groups})."
            )

    @property
    def frame_dim(self) -> int:
        """Values a video frame: rows x bands, or last hidden state and all `layers` + 1 hidden states."""
        return self.rows * self.mel_bands if self.kind == "logmel" else (self.layers + 2) * self.hidden

    @property
    def latent_dim(self) -> int:
        """Values a latent frame: those of its four video frames."""
        return FRAMES_PER_LATENT * self.frame_dim


LIVETALK_AUDIO = AudioConfig(kind="wav2vec2")
"""facebook/wav2vec2-base-960h at 8 s of left context: 14 x 768 values a video frame, 43,008 a latent frame."""
