"""One pass over a file: pictures and sound together, streaming, by timestamps.

Which source frame an output frame shows is the rule of `media.resample`, what is done to it that of `media.picture`.
Colour is converted by libswscale with the matrix and range that the stream is tagged with; an untagged stream is taken
as BT.601, limited range, as every common reader does. Sound is that of `media.sound`: sample 0 at output frame 0.

Encoder delay (AAC priming) and edit lists are honoured: libavcodec drops the samples and frames they exclude.

A file is refused rather than read short: a packet that does not decode, a stream that ends before the container's
count, or timestamps that make no sense raise `DamagedError`.
"""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lt_eval.errors import NoAudioError, NotAVideoError
from lt_eval.media.picture import crop, fit
from lt_eval.media.probe import ClipInfo, audio_stream, opened
from lt_eval.media.reader import Reader, Shot
from lt_eval.media.resample import Schedule, exact_rate
from lt_eval.media.sound import Soundtrack
from lt_eval.records import SAMPLE_RATE_HZ, MediaPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import InputContainer

    from lt_eval.records import Audio, Box, Frames

CHUNK = 16
"""Frames that are yielded together: what bounds memory."""


class Decoding:
    """One pass over one file. Iterate it once for the frames; `info` and `audio` are there after the last chunk.

    Args:
        path: the file.
        policy: rate, size and fit of the frames.
        content: the part of the upright picture to keep, as fractions; None keeps all.
    """

    def __init__(self, path: Path | str, policy: MediaPolicy | None = None, content: Box | None = None) -> None:
        self.path = Path(path)
        self._policy = policy or MediaPolicy()
        self._content = content
        self._info: ClipInfo | None = None
        self._audio: Audio | None = None

    @property
    def info(self) -> ClipInfo:
        """The facts of the file, counted."""
        assert self._info is not None, "the frames come first"
        return self._info

    @property
    def audio(self) -> Audio:
        """float32 [T] mono, 16 kHz, sample 0 at output frame 0, as long as the file's own sound.

        Raises:
            NoAudioError: there is no audio stream, or no sample in it after the first frame's start.
        """
        assert self._audio is not None, "the frames come first"
        if len(self._audio):
            return self._audio
        finding = (
            "has an audio stream without a sample" if self.info.has_audio else "holds no audio stream that can be read"
        )
        raise NoAudioError(self.path, finding, "Give a clip with sound, or leave out the metrics that listen.")

    def __iter__(self) -> Iterator[Frames]:
        """Yield uint8 RGB [<=16, H, W, 3].

        Raises:
            MediaError: as `media.probe.opened`; NoVideoError without a frame; DamagedError where it breaks off.
        """
        with opened(self.path) as container:
            reader = self._reader(container)
            pictures = self._shown(reader)
            while chunk := list(itertools.islice(pictures, CHUNK)):
                yield np.stack(chunk)
            self._info = reader.info()
            self._audio = reader.sound.finish(reader.timeline.origin_s)

    def _reader(self, container: InputContainer) -> Reader:
        if self._policy.decoder == "decord":
            from lt_eval.media.decord_reader import DecordReader

            return DecordReader(self.path, container, skip_first=self._policy.skip_first_frame)
        return Reader(self.path, container, skip_first=self._policy.skip_first_frame)

    def _shown(self, reader: Reader) -> Iterator[Frames]:
        """Yield one canonical frame [H, W, 3] per output instant; a repeated one is converted once."""
        schedule = Schedule(None if self._policy.fps is None else exact_rate(self._policy.fps))
        held: Shot | None = None
        for shot in reader:
            if held is not None:
                yield from self._repeat(held, schedule.advance(shot.start_s))
            else:
                schedule.advance(shot.start_s)
            held = shot
        if held is not None:
            yield from self._repeat(held, schedule.finish(reader.timeline.duration_s))

    def _repeat(self, shot: Shot, times: int) -> Iterator[Frames]:
        if times:
            pixels = shot.rgb()
            picture = fit(pixels if self._content is None else crop(pixels, self._content), self._policy)
            yield from itertools.repeat(picture, times)


def read_audio(path: Path | str, rate_hz: int = SAMPLE_RATE_HZ) -> Audio:
    """Return the sound of a whole file (wav, mp3, mp4 ...) without decoding its pictures.

    Returns:
        float32 [T] mono, -1..1, at `rate_hz`; sample 0 is the file's first.

    Raises:
        MediaError: as `media.probe.opened`; NoAudioError without a sample; DamagedError where it does not decode.
    """
    path = Path(path)
    sound = Soundtrack(rate_hz)
    try:
        with opened(path) as container:
            stream = audio_stream(container)
            for frame in [] if stream is None else container.decode(stream):
                sound.add(frame)
    except NotAVideoError as cause:  # whose words are those of clips
        advice = "Give a wav, mp3, mp4 or another file with sound."
        raise NotAVideoError(path, "is no sound that can be decoded", advice) from cause
    audio = sound.finish(sound.start_s or Fraction(0))
    if not len(audio):
        raise NoAudioError(path, "holds no audio stream or no sample in it", "Give a file with sound.")
    return audio
