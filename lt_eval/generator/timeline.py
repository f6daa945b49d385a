"""Which frames belong to which block, and which audio: the one place where the three clocks meet.

Latent frame 0 is video frame 0; latent frame k > 0 is video frames 4k-3..4k. A block is some latent frames (three
unless told), so block 0 makes 9 video frames and every later one 12. Video frame i is shown from i / fps on, and its
audio are the samples round(i rate / fps) .. round((i + 1) rate / fps).

A turn always begins a new block. Its audio is filled up with silence to whole blocks and its frames are cut to

    round(samples / rate * fps), a half rounded up, at least 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from lt_eval.generator.audio_config import FRAMES_PER_LATENT


def exact(fps: float) -> Fraction:
    """Return the fraction that a frame rate written as a float means."""
    return Fraction(fps).limit_denominator(100_000)


def _nearest(value: Fraction) -> int:
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)


def video_frames(latents: int) -> int:
    """Return how many video frames the first `latents` latent frames of a stream make."""
    return FRAMES_PER_LATENT * latents - (FRAMES_PER_LATENT - 1) if latents else 0


@dataclass(frozen=True)
class Timeline:
    """Frames and samples of one stream.

    Attributes:
        fps: video frames a second.
        sample_rate_hz: of the audio.
        block_frames: latent frames a block.
    """

    fps: float
    sample_rate_hz: int
    block_frames: int = 3

    def latents(self, block: int) -> range:
        """Return the latent frames of a block."""
        return range(block * self.block_frames, (block + 1) * self.block_frames)

    def frames(self, block: int) -> range:
        """Return the video frames of a block."""
        latents = self.latents(block)
        return range(video_frames(latents.start), video_frames(latents.stop))

    def sample(self, frame: int) -> int:
        """Return the first sample of a video frame."""
        return _nearest(Fraction(frame * self.sample_rate_hz) / exact(self.fps))

    def shown(self, samples: int) -> int:
        """Return how many frames a turn of so many samples shows; none for none."""
        return max(1, _nearest(Fraction(samples, self.sample_rate_hz) * exact(self.fps))) if samples else 0

    def blocks(self, frames: int, first: int) -> int:
        """Return how many blocks, from block `first` on, make at least so many video frames."""
        if frames <= 0:
            return 0
        latents = -(-(video_frames(first * self.block_frames) + frames + FRAMES_PER_LATENT - 1) // FRAMES_PER_LATENT)
        return -(-latents // self.block_frames) - first
