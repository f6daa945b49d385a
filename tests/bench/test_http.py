"""Somebody else's endpoint, served here on 127.0.0.1: every format, and every way in which it may fail."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import av
import cv2
import numpy as np
import pytest

from lt_eval.bench.adapters.http import HttpStream
from lt_eval.bench.adapters.wire import Pieces, container_frames, part_frames, raw_frames
from lt_eval.bench.timing import Timeline, listen
from lt_eval.errors import SpecError, UnscorableError
from lt_eval.records import Frames
from lt_eval.registry import create
from lt_eval.testing import toy_portrait, toy_speech
from tests.clips import moving_frames

PORTRAIT = toy_portrait(32)
SHOWN = moving_frames(1, 12)


class Endpoint:
    """An HTTP server that answers every POST with given pieces, and keeps what it was sent."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.headers: dict[str, str] = {}
        self.status, self.kind, self.pieces, self.delay_s = 200, "video/mp4", [b""], 0.0
        self.cut = False
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 20

            def do_POST(self) -> None:
                endpoint.headers = dict(self.headers)
                endpoint.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(endpoint.status)
                self.send_header("Content-Type", endpoint.kind)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                try:
                    for piece in endpoint.pieces:
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                        time.sleep(endpoint.delay_s)
                    if not endpoint.cut:
                        self.wfile.write(b"0\r\n\r\n")
                except OSError:  # the other side has left, as it may
                    pass
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/talk"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = Endpoint()
    yield made
    made.close()


def speak(endpoint: Endpoint, **options: Any) -> tuple[Timeline, Frames]:
    kept: list[Frames] = []
    generator = HttpStream(endpoint.url, **{"timeout_s": 20.0, **options})
    found = listen(
        generator,
        PORTRAIT,
        toy_speech(0.4),
        prompt="She nods.",
        text="Well.",
        seed=7,
        keep=lambda chunk: kept.append(chunk.copy()),
    )
    return found, np.concatenate(kept)


class _Sink(io.RawIOBase):
    """A file that cannot be sought, so that libav fragments what it writes."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.pieces.append(bytes(data))
        return len(data)


def container(name: str, options: dict[str, str]) -> list[bytes]:
    """Return the pieces of a stream of SHOWN, a fragment a frame."""
    sink = _Sink()
    with av.open(sink, "w", format=name, options=options) as file:
        stream = file.add_stream("libx264", rate=25, options={"tune": "zerolatency", "preset": "ultrafast", "g": "6"})
        stream.width, stream.height, stream.pix_fmt = SHOWN.shape[2], SHOWN.shape[1], "yuv420p"
        for pixels in SHOWN:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode(None))
    return sink.pieces


FRAGMENTED = ("mp4", {"movflags": "frag_every_frame+empty_moov+default_base_moof"})


def jpegs(*, length: bool, boundary: str = "frame") -> list[bytes]:
    pieces = []
    for pixels in SHOWN:
        body = cv2.imencode(".jpg", np.ascontiguousarray(pixels[:, :, ::-1]))[1].tobytes()
        size = f"Content-Length: {len(body)}\r\n" if length else ""
        pieces.append(f"--{boundary}\r\nContent-Type: image/jpeg\r\n{size}\r\n".encode() + body + b"\r\n")
    return [*pieces, f"--{boundary}--\r\n".encode()]


def near(frames: Frames) -> bool:
    return frames.shape == SHOWN.shape and float(np.abs(frames.astype(float) - SHOWN).mean()) < 12


@pytest.mark.parametrize("form", [FRAGMENTED, ("mpegts", {}), ("matroska", {"cluster_time_limit": "0"})])
def test_a_container_is_decoded_while_it_comes(endpoint: Endpoint, form: tuple[str, dict[str, str]]) -> None:
    endpoint.pieces, endpoint.delay_s = container(*form), 0.03
    found, frames = speak(endpoint)
    assert near(frames) and found.streams
    # twelve frames 30 ms apart: the first one did not wait for the last bytes
    assert found.arrivals[-1].at_s - found.arrivals[0].at_s > 0.2


@pytest.mark.parametrize("length", [True, False])
def test_pictures_of_a_multipart_stream_come_one_by_one(endpoint: Endpoint, length: bool) -> None:
    endpoint.kind, endpoint.pieces = 'multipart/x-mixed-replace; boundary="frame"', jpegs(length=length)
    endpoint.delay_s = 0.03
    found, frames = speak(endpoint)
    assert near(frames) and len(found.arrivals) == 12
    assert found.arrivals[-1].at_s - found.arrivals[0].at_s > 0.2


@pytest.mark.parametrize("stated", [True, False])
def test_raw_pixels_come_as_their_size_says(endpoint: Endpoint, stated: bool) -> None:
    height, width = SHOWN.shape[1:3]
    endpoint.kind = f"video/x-raw; format=RGB; width={width}; height={height}" if stated else "application/octet-stream"
    data = SHOWN.tobytes()
    endpoint.pieces = [data[at : at + 5000] for at in range(0, len(data), 5000)]
    options = {} if stated else {"format": "rgb24", "width": width, "height": height}
    found, frames = speak(endpoint, **options)
    assert np.array_equal(frames, SHOWN) and len(found.arrivals) == 12


def test_the_conditions_arrive_in_the_form(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALK_TOKEN", "secret")
    endpoint.pieces = container(*FRAGMENTED)
    speak(endpoint, token_env="TALK_TOKEN", image_field="portrait")
    (body,) = endpoint.bodies
    for words in (
        b'name="portrait"; filename="image.png"',
        b"\x89PNG",
        b'name="audio"',
        b"RIFF",
        b"She nods.",
        b"Well.",
    ):
        assert words in body
    assert endpoint.headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": 503, "pieces": [b"no free worker"]}, "answered 503: no free worker"),
        ({"pieces": [b"<html>hello</html>"]}, "no video that can be decoded"),
        ({"pieces": []}, "no video that can be decoded|no frame"),
        ({"kind": "multipart/x-mixed-replace", "pieces": [b"x"]}, "names no boundary"),
        (
            {"kind": "multipart/x-mixed-replace; boundary=b", "pieces": [b"--b\r\n\r\nxyz\r\n--b--\r\n"]},
            "is no picture",
        ),
        ({"kind": "video/x-raw", "pieces": [b"x"]}, "needs width and height"),
        ({"kind": "video/x-raw;width=2;height=2", "pieces": [b"x" * 13]}, "after 1 of the 12 bytes"),
        ({"kind": "video/x-raw;width=2;height=2", "pieces": [b"x" * 12], "cut": True}, "RemoteProtocolError"),
    ],
    ids=str,
)
def test_what_goes_wrong_is_told(endpoint: Endpoint, change: dict[str, Any], words: str) -> None:
    for name, value in change.items():
        setattr(endpoint, name, value)
    with pytest.raises(UnscorableError, match=words):
        speak(endpoint)


def test_an_endpoint_that_falls_silent_is_left_after_the_time_out(endpoint: Endpoint) -> None:
    endpoint.kind, endpoint.pieces, endpoint.delay_s = "video/x-raw;width=2;height=2", [b"x" * 12] * 2, 5.0
    begin = time.monotonic()
    with pytest.raises(UnscorableError, match="gave nothing for 1 s") as caught:
        speak(endpoint, timeout_s=1.0)
    assert caught.value.code == "generation_timeout" and time.monotonic() - begin < 10


def test_nobody_listening_is_told(endpoint: Endpoint) -> None:
    endpoint.close()
    with pytest.raises(UnscorableError, match="ConnectError"):
        speak(endpoint, timeout_s=5.0)


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 64, 100_000])
@pytest.mark.parametrize("length", [True, False])
def test_where_the_network_cuts_a_stream_changes_no_picture(cut: int, length: bool) -> None:
    data = b"".join(jpegs(length=length)[:3])
    pieces = Pieces(iter([data[at : at + cut] for at in range(0, len(data), cut)]))
    whole = list(part_frames(Pieces(iter([data])), "frame"))
    assert len(whole) == 3
    assert all(np.array_equal(a, b) for a, b in zip(part_frames(pieces, "frame"), whole, strict=True))


@pytest.mark.parametrize("reader", [container_frames, lambda source: raw_frames(source, 32, 24)])
def test_nothing_is_read_beyond_what_is_needed_for_a_frame(reader: Callable[[Pieces], Iterator[Frames]]) -> None:
    """The first frame is there when the first fragments are, however many follow."""
    pieces: Sequence[bytes] = container(*FRAGMENTED) if reader is container_frames else [bytes(32 * 24 * 3)] * 12
    taken: list[int] = []

    def coming() -> Iterator[bytes]:
        for number, piece in enumerate(pieces):
            taken.append(number)
            yield piece

    next(reader(Pieces(coming())))
    assert len(taken) <= len(pieces) / 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "ftp://x"}, "must begin with http"),
        ({"url": "http://x", "format": "avi"}, "must be 'auto', 'container'"),
        ({"url": "http://x", "format": "rgb24"}, "needs width and height"),
        ({"url": "http://x", "token_env": "LT_NO_SUCH_TOKEN"}, "is not set"),
        ({}, "needs the option 'url'"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        create("generators", "http-stream", options)
