"""Transcripts from a server."""

from __future__ import annotations

import io
import logging
import wave
from typing import Any

import httpx
import numpy as np
import pytest

from lt_eval.errors import UnscorableError, UsageError
from lt_eval.judge.transcribe.openai_server import OpenAITranscriber, wav_bytes
from lt_eval.registry import create
from tests.clips import tone


class Server:
    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.transport = httpx.MockTransport(self.handle)

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def hear(server: Server, **options: Any) -> str:
    chosen: dict[str, Any] = {"transport": server.transport, "sleep": lambda seconds: None, **options}
    return OpenAITranscriber("http://asr.test/v1", "whisper", **chosen).transcribe(tone(0, 0.5))


def test_a_sound_goes_as_a_wav_file_and_its_words_come_back() -> None:
    server = Server(httpx.Response(200, json={"text": " Hello there. "}))
    assert hear(server) == "Hello there."
    (request,) = server.requests
    content = request.read()
    assert request.url == "http://asr.test/v1/audio/transcriptions"
    assert b'name="model"\r\n\r\nwhisper' in content and b'name="language"\r\n\r\nen' in content
    with wave.open(io.BytesIO(content[content.index(b"RIFF") :])) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getnframes()) == (16_000, 1, 8_000)


def test_wav_bytes_hold_the_samples() -> None:
    audio = np.array([0.0, 0.5, -1.0, 2.0], np.float32)
    with wave.open(io.BytesIO(wav_bytes(audio))) as sound:
        assert np.frombuffer(sound.readframes(9), "<i2").tolist() == [0, 16384, -32767, 32767]


def test_a_busy_server_is_asked_again_and_a_refusal_is_not() -> None:
    server = Server(
        httpx.Response(503), httpx.ReadTimeout("slow"), httpx.Response(429), httpx.Response(200, json={"text": "hi"})
    )
    assert hear(server) == "hi" and len(server.requests) == 4
    server = Server(httpx.Response(400))
    with pytest.raises(UnscorableError, match="400"):
        hear(server)
    assert len(server.requests) == 1
    with pytest.raises(UsageError, match="whisper"):
        hear(Server(httpx.Response(401)))


@pytest.mark.parametrize("answer", [httpx.Response(200, text="<html>"), httpx.Response(200, json={"words": []})])
def test_an_answer_without_text_is_no_transcript(answer: httpx.Response) -> None:
    with pytest.raises(UnscorableError):
        hear(Server(answer))


def test_nothing_is_heard_in_no_sound() -> None:
    server = Server(httpx.Response(500))
    made = OpenAITranscriber("http://asr.test", transport=server.transport)
    assert made.transcribe(np.zeros(0, np.float32)) == "" and server.requests == []


def test_the_key_is_sent_and_not_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("ASR_KEY", "sk-secret")
    server = Server(httpx.Response(200, json={"text": "private words"}))
    hear(server, api_key_env="ASR_KEY")
    assert server.requests[0].headers["authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in caplog.text and "private words" not in caplog.text


def test_model_and_language_are_in_the_fingerprint_and_the_key_is_not() -> None:
    plain = create("transcribers", "openai", {"model": "a"})
    assert plain.fingerprint != create("transcribers", "openai", {"model": "b"}).fingerprint
    assert plain.fingerprint != create("transcribers", "openai", {"model": "a", "language": "fr"}).fingerprint
    assert plain.fingerprint == create("transcribers", "openai", {"model": "a", "timeout_s": 5.0}).fingerprint
