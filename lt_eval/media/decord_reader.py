"""The same pass with decord's pixels (extra `decord`): timestamps and sound stay PyAV's.

decord turns pictures by their rotation itself, and does not mirror them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import av
import av.error

from lt_eval.errors import MediaError, MissingExtraError
from lt_eval.media.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lt_eval.media.reader import Shot
    from lt_eval.records import Frames


class DecordReader(Reader):
    """As `Reader`; MissingExtraError where decord is not installed. Timestamps are held in memory, pictures are not."""

    def __iter__(self) -> Iterator[Shot]:
        """Yield every frame in order of presentation; raises as `Reader`."""
        try:
            import decord
        except ImportError as error:
            raise MissingExtraError("The decoder 'decord'", "decord", str(error)) from error
        times: list[tuple[int, int]] = []
        try:
            for packet in self._demux():
                if packet.stream_index == self._video.index:
                    if packet.size and not packet.is_discard:
                        pts = packet.dts if packet.pts is None else packet.pts
                        times.append((pts or 0, packet.duration or 0))
                    continue
                for frame in packet.decode():
                    if isinstance(frame, av.AudioFrame):
                        self.sound.add(frame)
        except av.error.FFmpegError as error:
            raise self._damaged(f"does not decode ({error.strerror})") from error
        try:
            pictures = decord.VideoReader(str(self._path)) if times else []
            if len(pictures) != len(times):
                raise self._damaged(f"holds {len(times)} frames, of which decord finds {len(pictures)},")
            for index, (pts, duration) in enumerate(sorted(times)):
                self._seen += 1
                if index or not self._skip_first:
                    if not self._size[0]:
                        height, width, _ = self._pixels(pictures, index).shape
                        self._size = (width, height)
                    yield self._timed(pts, duration, lambda index=index: self._pixels(pictures, index))  # type: ignore[misc]
        except RuntimeError as error:  # decord.DECORDError
            raise self._damaged(f"does not decode ({error})") from error
        self._check_complete()

    def _pixels(self, pictures: Any, index: int) -> Frames:
        pixels: Frames = pictures[index].asnumpy()
        if pixels.shape[2] != 3:  # seen of decord 0.6.0 with turned pictures 48 pixels wide
            finding = f"decord gives pictures of {pixels.shape[2]} channels"
            raise MediaError(self._path, finding, "Use the decoder 'pyav' for this file.")
        return pixels
