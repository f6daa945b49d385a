"""Speech to text by a server with OpenAI's /v1/audio/transcriptions (vLLM with Whisper or Qwen3-ASR, and others)."""

from __future__ import annotations

import io
import time
import wave
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from lt_eval.errors import UnscorableError, UsageError
from lt_eval.judge.options import base_url, key_from
from lt_eval.records import SAMPLE_RATE_HZ
from lt_eval.store import key_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from lt_eval.records import Audio

TRIES = 4
BACKOFF_S = 1.0


@dataclass(frozen=True)
class OpenAITranscriber:
    """Sends each sound as a 16-bit wav file at 16 kHz.

    Attributes:
        url: base address, with or without /v1.
        model: name under which the server serves the recogniser.
        language: ISO code of what is spoken; the paper's protocol is English.
        api_key_env: name of the environment variable that holds the key; "" sends none.
        timeout_s: without an answer for this long a request has failed.
        transport: another way to the server than the network (tests).
        sleep: waits between tries.
    """

    url: str = "http://127.0.0.1:8000/v1"
    model: str = "openai/whisper-large-v3"
    language: str = "en"
    api_key_env: str = ""
    timeout_s: float = 120.0
    transport: httpx.BaseTransport | None = field(default=None, repr=False)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def __post_init__(self) -> None:
        """Look at the address and the key before anything is heard.

        Raises:
            SpecError: no usable address, or the variable of the key is not set.
        """
        base_url(self.url)
        key_from(self.api_key_env)

    @property
    def fingerprint(self) -> str:
        """Changes with the model and language; a server does not tell the version of its weights."""
        return key_of("openai", base_url(self.url), self.model, self.language)

    def transcribe(self, audio: Audio) -> str:
        """Return the words of float32 [T] mono 16 kHz audio; "" where nothing is heard.

        Raises:
            UnscorableError: the server gave no text.
            UsageError: it refuses the key or does not know the model.
        """
        if not len(audio):
            return ""
        answer = self._post(wav_bytes(audio))
        try:
            data: Any = answer.json()
        except ValueError:
            data = None
        text = data.get("text") if isinstance(data, dict) else None
        if not isinstance(text, str):
            raise UnscorableError("not_transcribed", f"{base_url(self.url)}: an answer without text")
        return text.strip()

    def _post(self, wav: bytes) -> httpx.Response:
        """Send once, and again where no answer came."""
        url, key = base_url(self.url), key_from(self.api_key_env)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        form = {"model": self.model, "language": self.language, "response_format": "json", "temperature": "0"}
        found = "no answer"
        with httpx.Client(headers=headers, timeout=self.timeout_s, transport=self.transport) as client:
            for number in range(TRIES):
                if number:
                    self.sleep(BACKOFF_S * 2 ** (number - 1))
                try:
                    files = {"file": ("audio.wav", wav, "audio/wav")}
                    answer = client.post(f"{url}/v1/audio/transcriptions", data=form, files=files)
                except httpx.RequestError as error:
                    found = f"no answer ({type(error).__name__})"
                    continue
                if answer.is_success:
                    return answer
                found = f"HTTP {answer.status_code}"
                if answer.status_code in (401, 403, 404):
                    raise UsageError(
                        f"{url}: {found} for model {self.model!r}. Check the address, the model's name and api_key_env."
                    )
                if answer.status_code != 429 and answer.status_code < 500:
                    break
        raise UnscorableError("not_transcribed", f"{url}: {found}")


def wav_bytes(audio: Audio) -> bytes:
    """Return float32 [T] mono 16 kHz audio as a 16-bit wav file."""
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes((np.clip(audio, -1, 1) * 32767).round().astype("<i2").tobytes())
    return held.getvalue()
