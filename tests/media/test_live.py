from __future__ import annotations

import io
import queue
import wave
from collections.abc import Iterator

import av
import numpy as np
import pytest

from lt_eval.errors import MediaError, NoAudioError, NotAVideoError, UsageError
from lt_eval.media.live import LiveWriter, audio_from
from lt_eval.records import Audio, Frames
from lt_eval.testing.fakes import toy_clip, toy_speech


class Pipe:
    """Bytes one way, as a process sees them: no seek; `read1` gives what there is."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.taken = 0

    def read1(self, size: int) -> bytes:
        piece = self.data[self.taken : self.taken + size]
        self.taken += len(piece)
        return piece

    def write(self, data: bytes) -> None:
        self.data += data

    def flush(self) -> None:
        pass


def wav(samples: Audio, rate_hz: int = 16_000, channels: int = 1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(rate_hz)
        writer.writeframes(np.repeat(np.rint(samples * 32767).astype("<i2"), channels).tobytes())
    return file.getvalue()


@pytest.mark.parametrize("seconds", [0.05, 2.0])
def test_sound_comes_through_a_pipe_as_it_is(seconds: float) -> None:
    speech = toy_speech(seconds)
    found = np.concatenate(list(audio_from(Pipe(wav(speech)), 16_000)))
    assert len(found) == len(speech)
    assert np.abs(found - speech).max() < 1e-3


def test_rate_and_channels_are_adapted() -> None:
    speech = toy_speech(1.0)
    found = np.concatenate(list(audio_from(Pipe(wav(speech, 32_000, 2)), 16_000)))
    assert len(found) == pytest.approx(len(speech) / 2, abs=2)
    assert np.abs(found[100:7_900] - speech[200:15_800:2]).max() < 0.05


def test_sound_comes_before_the_file_ends() -> None:
    pipe = Pipe(wav(toy_speech(10.0)))
    first = next(iter(audio_from(pipe, 16_000)))
    assert len(first) and pipe.taken < len(pipe.data) / 4


@pytest.mark.parametrize(("data", "kind"), [(b"", NotAVideoError), (b"no sound" * 1_000, NotAVideoError)])
def test_bytes_that_are_no_sound_are_refused(data: bytes, kind: type[MediaError]) -> None:
    with pytest.raises(kind, match=r"-: is empty, or no sound that can be decoded\. Pipe a wav"):
        next(audio_from(Pipe(data), 16_000))


def test_a_film_without_sound_is_refused() -> None:
    pipe, clip = Pipe(), toy_clip(0.5, 64)
    with LiveWriter(pipe, 25.0, sample_rate_hz=16_000) as writer:
        writer.write(clip.frames, np.zeros(0, np.float32))
    silent = io.BytesIO()
    with av.open(silent, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for pixels in clip.frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.array(pixels), format="rgb24")))
        container.mux(stream.encode(None))
    with pytest.raises(NoAudioError, match="holds no audio stream"):
        next(audio_from(Pipe(silent.getvalue()), 16_000))


def pieces(frames: Frames, audio: Audio, count: int) -> Iterator[tuple[Frames, Audio]]:
    for first in range(0, len(frames), count):
        yield frames[first : first + count], audio[first * 640 : (first + count) * 640]


def test_what_is_written_can_be_read_again() -> None:
    clip, pipe = toy_clip(2.0, 64), Pipe()
    with LiveWriter(pipe, 25.0, sample_rate_hz=16_000, crf=10) as writer:
        for frames, audio in pieces(clip.frames, clip.audio, 12):
            writer.write(frames, audio)
    with av.open(io.BytesIO(pipe.data), "r") as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(io.BytesIO(pipe.data), "r") as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)]) / 32768
    assert len(pictures) == 50 and len(sound) == len(clip.audio)
    assert np.abs(np.stack(pictures).astype(int) - clip.frames).mean() < 4
    assert np.abs(sound - clip.audio).max() < 1e-3


def test_a_chunk_has_left_but_for_two_frames_before_the_next_is_made() -> None:
    clip, pipe, seen = toy_clip(2.0, 64), Pipe(), queue.SimpleQueue[int]()
    with LiveWriter(pipe, 25.0, sample_rate_hz=16_000) as writer:
        for frames, audio in pieces(clip.frames, clip.audio, 10):
            writer.write(frames, audio)
            with av.open(io.BytesIO(pipe.data), "r") as container:
                seen.put(sum(1 for _ in container.demux(video=0) if _.size))
    counts = [seen.get() for _ in range(5)]
    assert all(count >= 10 * number - 2 for number, count in enumerate(counts, 1)), counts


def test_odd_frames_are_refused() -> None:
    with pytest.raises(UsageError, match="63x64"), LiveWriter(Pipe(), 25.0, sample_rate_hz=16_000) as writer:
        writer.write(np.zeros((1, 64, 63, 3), np.uint8), np.zeros(0, np.float32))


def test_a_viewer_who_goes_is_an_error_of_pipes() -> None:
    class Broken(Pipe):
        def write(self, data: bytes) -> None:
            raise BrokenPipeError

    clip = toy_clip(1.0, 64)
    with pytest.raises(BrokenPipeError), LiveWriter(Broken(), 25.0, sample_rate_hz=16_000) as writer:
        for frames, audio in pieces(clip.frames, clip.audio, 5):
            writer.write(frames, audio)
