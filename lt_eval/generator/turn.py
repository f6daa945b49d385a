"""One turn of a conversation as threads: audio in, denoise, decode, frames out, each working ahead of the next.

    speech --reader--> [audio] --denoiser--> [latents] --decoder--> [frames] --> whoever iterates

All three ways are bounded, so whoever watches slowly slows down the whole chain. A block begins as soon as its audio is
there, its latents go to the decoder before its clean pass, and frames leave as soon as they exist, even while the
source of speech keeps us waiting.

Closing (explicitly, by leaving the loop, or by an error anywhere) closes the three ways, which ends every wait; the
denoiser stops before the next block, and the decoder still takes what it was handed, so that both agree on where the
stream stands. The threads are joined. Only the reader may be left behind, for as long as the source of speech does
not answer: nobody can stop a foreign iterator from outside.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from lt_eval.errors import ConditionError
from lt_eval.generator.audio_windows import checked_audio
from lt_eval.generator.channel import Channel
from lt_eval.generator.lanes import Lanes, restore_thread_default

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import torch
    from torch import Tensor

    from lt_eval.generator.stream import Stream
    from lt_eval.records import Audio, Frames

T = TypeVar("T")

BLOCKS_AHEAD = 1
"""Blocks of latents that may wait for the decoder."""

CHUNKS_AHEAD = 3
"""Chunks of frames that may wait for their viewer: a block in pieces, or three blocks."""


LEAVE_S = 0.5
"""How long closing waits for a source of speech that does not answer."""


class _Block(NamedTuple):
    latents: Tensor
    ready: torch.cuda.Event | None
    keep: int  # frames of the block that the turn shows
    first: bool  # whether the turn begins with it


class Turn:
    """Makes the frames of one turn; iterate it once, and close it.

    Args:
        stream: what was said before; this turn goes on from there.
        speech: chunks of float32 [T], mono, at the stream's rate.
        lanes: what denoiser and decoder run on.

    Attributes:
        broken: whether an error may have left the stream in the middle of a block.
    """

    def __init__(self, stream: Stream, speech: Iterable[Audio], lanes: Lanes) -> None:
        timeline, self._first = stream.timeline, stream.block
        self._stream, self._speech, self._lanes = stream, speech, lanes
        self._audio: Channel[Audio] = Channel(stream.audio.lacking(self._first))
        self._latents: Channel[_Block] = Channel(BLOCKS_AHEAD)
        self._frames: Channel[Frames] = Channel(CHUNKS_AHEAD)
        self._start = timeline.frames(self._first).start
        self._heard = 0
        self._error: BaseException | None = None
        self._reading = False
        self._closing, self._closed, self._lock = threading.Event(), False, threading.Lock()
        self.broken = False
        self._reader = self._thread(self._read, daemon=True)
        self._workers = [self._thread(self._denoise), self._thread(self._decode)]
        for lane in lanes:
            lane.follow()
        for thread in (self._reader, *self._workers):
            thread.start()
        for lane in lanes:
            lane.wait_until_entered()
        restore_thread_default()

    def __iter__(self) -> Iterator[Frames]:
        """Yield uint8 [T, H, W, 3] as soon as they are on the host.

        Raises:
            ConditionError: the audio is empty, or no audio.
            Exception: whatever else went wrong in the source of speech or in a thread.
        """
        yield from self._frames
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the turn now; the stream goes on after the last block that was finished."""
        with self._lock:
            if self._closed:
                return
            self._close_ways()
            for thread in self._workers:
                thread.join()
            self._leave_reader()
            self._stream.audio.align(self._stream.block)
            self._closed = True

    def _close_ways(self) -> None:
        self._closing.set()
        for way in (self._audio, self._latents, self._frames):
            way.close()

    def _leave_reader(self) -> None:
        """Wait for the reader, but not for a source of speech, which it may ask for something after we have begun."""
        while self._reader.is_alive():
            asking = self._reading
            self._reader.join(LEAVE_S)
            if asking and self._reading:
                return

    def _thread(self, work: Callable[[], None], *, daemon: bool = False) -> threading.Thread:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # raised again where the frames are awaited
                if self._error is None:
                    self._error = error
                self.broken |= work != self._read and not isinstance(error, ConditionError)
                self._close_ways()

        return threading.Thread(target=guarded, name=f"lt-eval{work.__name__}", daemon=daemon)

    def _read(self) -> None:
        """Speech to chunks of audio."""
        source = self._foreign(lambda: iter(self._speech))
        if source is None:
            return
        try:
            while (chunk := self._next_chunk(source)) is not None:
                samples = checked_audio(chunk)
                if not self._audio.put(samples, len(samples)):
                    return
        finally:
            self._audio.close()
            if isinstance(source, Generator):
                self._foreign(source.close, always=True)

    def _next_chunk(self, source: Iterator[Audio]) -> Audio | None:
        return self._foreign(lambda: next(source, None))

    def _foreign(self, call: Callable[[], T], *, always: bool = False) -> T | None:
        """Return what the source of speech answers, for which nobody who closes waits long; None once we close."""
        self._reading = True
        try:
            return None if self._closing.is_set() and not always else call()
        finally:
            self._reading = False

    def _denoise(self) -> None:
        """Audio to latents."""
        stream, shown = self._stream, None
        incoming = iter(self._audio)
        try:
            with self._lanes.denoise.enter():
                while True:
                    shown = self._listen(incoming) if shown is None else shown
                    if self._closing.is_set() or (shown is not None and self._made() >= shown):
                        return
                    frames = len(stream.timeline.frames(stream.block))
                    keep = frames if shown is None else min(frames, shown - self._made())
                    first = stream.block == self._first
                    latents, clean_pass = stream.denoise()
                    if not self._latents.put(_Block(latents, self._lanes.denoise.mark(), keep, first)):
                        return
                    clean_pass()
        finally:
            self._latents.close()

    def _listen(self, incoming: Iterator[Audio]) -> int | None:
        """Take audio until the next block can begin; return how many frames the turn shows once all of it is in."""
        audio, timeline = self._stream.audio, self._stream.timeline
        while audio.lacking(self._stream.block):
            samples = next(incoming, None)
            if samples is None:
                if self._closing.is_set():
                    return None
                if not self._heard:
                    raise ConditionError("the audio of this turn has no sample. Give at least one; silence is fine.")
                shown = timeline.shown(self._heard)
                audio.align(self._first + timeline.blocks(shown, self._first))
                return shown
            audio.push(samples)
            self._heard += len(samples)
        return None

    def _made(self) -> int:
        return self._stream.timeline.frames(self._stream.block).start - self._start

    def _decode(self) -> None:
        """Latents to frames."""
        lane = self._lanes.decode
        try:
            with lane.enter():
                for block in self._latents:
                    left, latents = block.keep, lane.take(block.latents, block.ready)
                    # What nobody waits for any more is decoded all the same: the next turn goes on from there.
                    for frames in self._stream.decode(latents, pieces=block.first):
                        shown = frames[:left]
                        if len(shown) and not self._closing.is_set():
                            self._frames.put(lane.to_host(shown))
                        left -= len(shown)
        finally:
            self._frames.close()
