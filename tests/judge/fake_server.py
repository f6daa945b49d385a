"""An OpenAI-compatible judge server that does what it is told: answers, throttles, breaks, hangs, cuts off, babbles.

Behind httpx's MockTransport for most tests (`transport`), on a local port where several processes ask (`LocalServer`).
"""

from __future__ import annotations

import base64
import functools
import io
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import av
import httpx
import numpy as np

from lt_eval.records import Frames

Body = dict[str, Any]
Behaviour = Callable[[Body], httpx.Response]


def completion(text: str | None, *, finish: str = "stop", **message: Any) -> Body:
    """Return a chat completion's JSON."""
    return {
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
        ],
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 64},
        },
    }


def says(text: str, *, finish: str = "stop") -> Behaviour:
    return lambda body: httpx.Response(200, json=completion(text, finish=finish))


def status(code: int, *, headers: Mapping[str, str] | None = None, message: str = "no") -> Behaviour:
    return lambda body: httpx.Response(code, headers=headers, json={"error": {"message": message}})


def hangs(body: Body) -> httpx.Response:
    raise httpx.ReadTimeout("nothing came")


def refuses(body: Body) -> httpx.Response:
    return httpx.Response(200, json=completion(None, refusal="I cannot judge people."))


def filtered(body: Body) -> httpx.Response:
    return httpx.Response(200, json=completion("", finish="content_filter"))


TRUNCATED = says("the the the the", finish="length")
BABBLES = says("It is rather good, four out of five I would say.")


def with_probabilities(shares: Mapping[str, float], text: str) -> Behaviour:
    """Answer one token with the probabilities of several."""

    def answer(body: Body) -> httpx.Response:
        data = completion(text)
        top = [{"token": token, "logprob": float(np.log(share))} for token, share in shares.items()]
        data["choices"][0]["logprobs"] = {"content": [{"token": text, "logprob": 0.0, "top_logprobs": top}]}
        return httpx.Response(200, json=data)

    return answer


class FakeOpenAI:
    """Answers with `behaviour`, after what `script` holds is used up; remembers every chat request."""

    def __init__(
        self,
        behaviour: Behaviour | None = None,
        *,
        model: str = "fake",
        version: str = "9.9",
        root: str = "/weights",
    ) -> None:
        self.behaviour = behaviour or says("Turn 1 is fine. \\boxed{4}")
        self.script: deque[Behaviour] = deque()
        self.model, self.version, self.root = model, version, root
        self.chats: list[Body] = []
        self.headers: list[httpx.Headers] = []
        self.tokens: Callable[[Body], Body] | None = None
        self.transport = httpx.MockTransport(self.handle)

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.headers.append(request.headers)
        path = request.url.path
        if path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": self.model, "root": self.root, "max_model_len": 4096}]})
        if path == "/version" and self.version:
            return httpx.Response(200, json={"version": self.version})
        if path == "/tokenize" and self.tokens is not None:
            return httpx.Response(200, json=self.tokens(json.loads(request.content)))
        if path != "/v1/chat/completions":
            return httpx.Response(404, json={"error": {"message": "no such page"}})
        body = json.loads(request.content)
        self.chats.append(body)
        return (self.script.popleft() if self.script else self.behaviour)(body)


class LocalServer:
    """The same at a port of this machine; use as a context manager and read `url`."""

    def __init__(self, fake: FakeOpenAI) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(b"")

            def do_POST(self) -> None:
                self._answer(self.rfile.read(int(self.headers["content-length"])))

            def _answer(self, content: bytes) -> None:
                found = fake.handle(httpx.Request(self.command, f"http://local{self.path}", content=content))
                try:
                    self.send_response(found.status_code)
                    self.send_header("content-length", str(len(found.content)))
                    self.end_headers()
                    self.wfile.write(found.content)
                except OSError:
                    pass  # who asked was killed

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LocalServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def texts(body: Body) -> str:
    """Return all that a judge reads in a request."""
    found = []
    for message in body["messages"]:
        content = message["content"]
        found.append(content if isinstance(content, str) else "".join(part.get("text", "") for part in content))
    return "\n".join(found)


def dimension_of(body: Body) -> str:
    """Return the dimension whose rubric a request holds."""
    text = texts(body)
    return text.partition("Rubric\n\n# ")[2].partition("(")[2].partition(")")[0]


def videos(body: Body) -> Iterator[Frames]:
    """Decode the clips of a request, uint8 RGB [T, H, W, 3] each."""
    for message in body["messages"]:
        for part in message["content"] if isinstance(message["content"], list) else []:
            if part["type"] == "video_url":
                yield decoded(part["video_url"]["url"].partition(",")[2])


@functools.lru_cache(64)
def decoded(base64_mp4: str) -> Frames:
    """Decode one clip; the same ones come again with every dimension."""
    with av.open(io.BytesIO(base64.b64decode(base64_mp4)), "r") as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(np.uint8)
