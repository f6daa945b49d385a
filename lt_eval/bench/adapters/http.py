"""`http-stream`: somebody else's model behind an HTTP endpoint, timed from outside as its frames arrive.

    lt-eval bench --generator http-stream --set url=http://127.0.0.1:8000/talk --set fps=25

One POST a turn, multipart/form-data: the files `image` (PNG) and `audio` (WAV), the fields `prompt`, `text` and `seed`.
The answer is read while it comes:

    multipart/x-mixed-replace    one JPEG or PNG a part
    video/x-raw, or format=rgb24 raw pixels, their size from `width` and `height`
    anything else                a container: fragmented mp4, mpegts, matroska

A frame counts when it is decoded on this side: the network is in the time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lt_eval.bench.adapters.wire import FrameReader, Pieces, part_frames, png_of, reader_of, wav_of
from lt_eval.bench.host import FAILED, TIMEOUT
from lt_eval.errors import UnscorableError

if TYPE_CHECKING:
    import httpx

    from lt_eval.records import Audio, Frames

_SHOWN_CHARACTERS = 500


@dataclass(frozen=True)
class HttpStream:
    """A Generator that is an HTTP endpoint.

    Attributes:
        url: that is posted to.
        fps: frames a second of what it makes.
        sample_rate: of the WAV, in Hz.
        format: of the answer; "auto" goes by its content type.
        width: of raw frames.
        height: of raw frames.
        block: frames of one block, where its frames come in blocks.
        image_field: name of the portrait in the form.
        audio_field: name of the audio in the form.
        token_env: environment variable that holds a bearer token; the token itself is never written down.
        timeout_s: longest wait for the connection, and for each piece of the answer.
    """

    url: str
    fps: float = 25.0
    sample_rate: int = 16_000
    format: Literal["auto", "container", "rgb24", "multipart"] = "auto"
    width: int = 0
    height: int = 0
    block: int = 0
    image_field: str = "image"
    audio_field: str = "audio"
    token_env: str = ""
    timeout_s: float = 1800.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url is {self.url!r}; it must begin with http:// or https://")
        if self.format not in ("auto", "container", "rgb24", "multipart"):
            raise ValueError(f"format is {self.format!r}; it must be auto, container, rgb24 or multipart")
        if not (self.timeout_s > 0 and self.fps > 0 and self.sample_rate > 0):
            raise ValueError("timeout_s, fps and sample_rate must be above 0")
        if self.token_env and self.token_env not in os.environ:
            raise ValueError(f"the environment variable {self.token_env!r} of token_env is not set")
        reader_of(self.format, self.width, self.height)

    @property
    def block_frames(self) -> tuple[int, ...]:
        """Frames of each block; empty where it is not known."""
        return (self.block,) if self.block else ()

    @property
    def description(self) -> Mapping[str, Any]:
        """What its numbers hold."""
        return {"clock": "includes the network", "url": self.url}

    @contextmanager
    def session(self, portrait: Frames, *, prompt: str = "", seed: int = 0) -> Iterator[_Session]:
        """Open a conversation: one client, one POST a turn."""
        import httpx

        headers = {"Authorization": f"Bearer {os.environ[self.token_env]}"} if self.token_env else {}
        with httpx.Client(timeout=self.timeout_s, headers=headers) as client:
            yield _Session(self, client, png_of(portrait), prompt, seed)


class _Session:
    def __init__(self, made_by: HttpStream, client: httpx.Client, image: bytes, prompt: str, seed: int) -> None:
        self._by, self._client, self._image, self._prompt, self._seed = made_by, client, image, prompt, seed

    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        """Post all of the audio and yield frames as they arrive.

        Raises:
            UnscorableError: no connection, a status other than 200, no answer in time, or one that is no video.
        """
        import httpx

        by = self._by
        heard = list(speech)
        audio = wav_of(np.concatenate(heard) if heard else np.zeros(0, np.float32), by.sample_rate)
        files = {
            by.image_field: ("image.png", self._image, "image/png"),
            by.audio_field: ("audio.wav", audio, "audio/wav"),
        }
        fields = {"prompt": self._prompt, "text": text, "seed": str(self._seed)}
        try:
            with self._client.stream("POST", by.url, files=files, data=fields) as response:
                _check_status(by.url, response)
                yield from _reader(by, response.headers.get("content-type", ""))(Pieces(response.iter_bytes()))
        except httpx.TimeoutException as cause:
            raise UnscorableError(
                TIMEOUT, f"{by.url} gave nothing for {by.timeout_s:g} s; a longer wait: --set timeout_s=SECONDS."
            ) from cause
        except httpx.HTTPError as cause:
            raise UnscorableError(FAILED, f"{by.url}: {type(cause).__name__}: {cause}") from cause


def _check_status(url: str, response: httpx.Response) -> None:
    if response.status_code != 200:
        response.read()
        raise UnscorableError(
            FAILED, f"{url} answered {response.status_code}: {response.text.strip()[:_SHOWN_CHARACTERS] or 'no text'}"
        )


def _reader(by: HttpStream, content_type: str) -> FrameReader:
    kind, _, rest = content_type.lower().partition(";")
    if by.format == "multipart" or (by.format == "auto" and kind.startswith("multipart/")):
        boundary = content_type[len(kind) + 1 :].partition("oundary=")[2].partition(";")[0].strip()
        if not boundary:
            raise UnscorableError(FAILED, f"{by.url}: the content type {content_type!r} names no boundary.")
        return lambda source: part_frames(source, boundary)
    if by.format == "rgb24" or (by.format == "auto" and kind.strip() == "video/x-raw"):
        stated = dict(pair.strip().split("=", 1) for pair in rest.split(";") if "=" in pair)
        try:
            return reader_of("rgb24", int(stated.get("width", by.width)), int(stated.get("height", by.height)))
        except ValueError as cause:
            raise UnscorableError(FAILED, f"{by.url}: {cause}; --set width=W --set height=H.") from cause
    return reader_of("container", 0, 0)
