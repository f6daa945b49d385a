"""Qwen3-Omni as a talker: it hears the user and answers with text and speech, both streamed.

The interface is that of vLLM-Omni's /v1/chat/completions with "modalities": ["text", "audio"] and "stream": true
(`vllm serve Qwen/Qwen3-Omni-30B-A3B-Instruct --omni`). Its events carry `modality`: in an event of "text" the delta's
content is words, in one of "audio" it is base64 of a WAV file (24 kHz), and every audio event says finish_reason
"stop", so only "[DONE]" ends an answer. Later versions send a WAV header with the first piece only, and bare 16-bit
samples after it. Endpoints in OpenAI's own layout put base64 samples into delta.audio.data instead and words into
delta.audio.transcript; both are understood.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lt_eval.errors import UnscorableError
from lt_eval.media.waves import Resampler, from_pcm, read_wav, wav_bytes
from lt_eval.records import SAMPLE_RATE_HZ
from lt_eval.systems.chat import MANNER, messages_of
from lt_eval.systems.streaming import check_url, deltas, events, key_from

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lt_eval.records import Audio


@dataclass(frozen=True)
class OmniTalker:
    """Answers with Qwen3-Omni's words and voice over HTTP.

    Attributes:
        url: base address, such as http://localhost:8091/v1.
        model: as the server names it.
        voice: one of the model's speakers (Ethan, Chelsie, Aiden); "" leaves it to the server.
        hears: give the model the user's "audio", where there is one, or their "text".
        key_env: name of the environment variable that holds the key; "" sends none.
        rate_hz: of bare samples; a WAV header's own rate wins.
        max_tokens: longest answer, in the thinker's tokens.
        manner: how to answer; stands in the system message after the persona.
        timeout_s: of connecting and of each piece.
        seed: of sampling, where the server honours it.
    """

    url: str = "http://localhost:8091/v1"
    model: str = "Qwen/Qwen3-Omni-30B-A3B-Instruct"
    voice: str = ""
    hears: str = "audio"
    key_env: str = ""
    rate_hz: int = 24_000
    max_tokens: int = 300
    manner: str = MANNER
    timeout_s: float = 60.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.hears not in ("audio", "text"):
            raise ValueError(f"hears = {self.hears!r} must be 'audio' or 'text'")
        object.__setattr__(self, "url", check_url(self.url))
        key_from(self.key_env)

    def reply(
        self, history: Sequence[tuple[str, str]], text: str, audio: Audio | None = None, *, persona: str = ""
    ) -> Iterator[tuple[str, Audio]]:
        """Yield words and 16 kHz sound as the server sends them, in its own pieces.

        Raises:
            UnscorableError: the server failed, or its answer has no sound.
        """
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages_of(history, self._line(text, audio), persona, self.manner),
            "modalities": ["text", "audio"],
            "stream": True,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }
        if self.voice:
            body["speaker"] = self.voice
            body["audio"] = {"voice": self.voice, "format": "wav"}
        endpoint = f"{self.url}/chat/completions"
        sound = _Sound(self.rate_hz, endpoint)
        heard = False
        for event in events(endpoint, body, key=key_from(self.key_env), timeout_s=self.timeout_s):
            for delta in deltas(event):
                words, samples = sound.taken(event, delta)
                heard = heard or len(samples) > 0
                if words or len(samples):
                    yield words, samples
        rest = sound.rest()
        if len(rest):
            yield "", rest
        if not heard:
            raise UnscorableError("empty_answer", f"{endpoint} answered without sound; is it served with --omni?")

    def _line(self, text: str, audio: Audio | None) -> Any:
        if self.hears == "text" or audio is None:
            return text
        data = base64.b64encode(wav_bytes(audio)).decode()
        return [{"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}]


class _Sound:
    """The sound of one answer, piece by piece, at 16 kHz."""

    def __init__(self, rate_hz: int, endpoint: str) -> None:
        self._rate_hz, self._endpoint = rate_hz, endpoint
        self._resampler: Resampler | None = None
        self._odd = b""

    def taken(self, event: Mapping[str, Any], delta: Mapping[str, Any]) -> tuple[str, Audio]:
        """Return the words and the samples that an event adds."""
        content = delta.get("content")
        own = delta.get("audio")
        if isinstance(own, dict):
            return str(content or own.get("transcript") or ""), self._decoded(str(own.get("data") or ""))
        if event.get("modality") == "audio":
            return "", self._decoded(str(content or ""))
        return str(content or ""), np.zeros(0, np.float32)

    def rest(self) -> Audio:
        """Return the last samples."""
        return self._resampler.finish() if self._resampler is not None else np.zeros(0, np.float32)

    def _decoded(self, text: str) -> Audio:
        if not text:
            return np.zeros(0, np.float32)
        try:
            data = base64.b64decode(text, validate=True)
            if data[:4] == b"RIFF":
                samples, rate_hz = read_wav(data)
            else:
                data = self._odd + data
                self._odd = data[len(data) & ~1 :]  # a piece may end in the middle of a sample
                samples, rate_hz = from_pcm(data), self._rate_hz
        except (binascii.Error, ValueError):
            raise UnscorableError("talker_failed", f"{self._endpoint} sent sound that cannot be read.") from None
        if self._resampler is None:
            self._resampler, self._rate_hz = Resampler(rate_hz, SAMPLE_RATE_HZ), rate_hz
        return self._resampler.push(samples)
