"""A talker behind any OpenAI-compatible chat endpoint: text streams in, a speaker says it sentence by sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lt_eval.errors import UnscorableError
from lt_eval.store import key_of
from lt_eval.systems.speakers import Voice, make_voice
from lt_eval.systems.streaming import Sentences, check_url, deltas, events, key_from

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lt_eval.records import Audio

MANNER = (
    "You are speaking with a person face to face. Answer in a few short spoken sentences, without lists, headings or "
    "symbols that cannot be said."
)


def messages_of(history: Sequence[tuple[str, str]], user: Any, persona: str, manner: str) -> list[dict[str, Any]]:
    """Return the chat messages of a turn: the persona, all earlier turns as text, and the user's new line."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": f"{persona}\n\n{manner}".strip()}]
    for said, answered in history:
        messages += [{"role": "user", "content": said}, {"role": "assistant", "content": answered}]
    return [*messages, {"role": "user", "content": user}]


@dataclass(frozen=True)
class ChatTalker:
    """Answers with a language model's words and a speaker's voice.

    Attributes:
        url: base address of the endpoint, such as http://localhost:8000/v1.
        model: as the endpoint names it.
        key_env: name of the environment variable that holds the key; "" sends none.
        speaker: a registered speaker or module:Class; "auto" is espeak-ng where installed, else the formant voice.
        speaker_options: of the speaker.
        temperature: of sampling.
        max_tokens: longest answer.
        manner: how to answer; stands in the system message after the persona.
        timeout_s: of connecting and of each piece.
        seed: of sampling, where the endpoint honours it.
    """

    url: str
    model: str
    key_env: str = ""
    speaker: str = "auto"
    speaker_options: Mapping[str, Any] = field(default_factory=dict)
    temperature: float = 0.7
    max_tokens: int = 300
    manner: str = MANNER
    timeout_s: float = 60.0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", check_url(self.url))
        key_from(self.key_env)
        self._voice  # noqa: B018  a speaker that cannot be made is reported before the first conversation

    @cached_property
    def _voice(self) -> Voice:
        return make_voice(self.speaker, self.speaker_options)

    @property
    def fingerprint(self) -> str:
        """Changes with the model, how it is asked, and the voice; what serves it under that name is not looked at."""
        asked = (self.url, self.model, self.temperature, self.max_tokens, self.manner, self.seed)
        return key_of("chat-1", asked, self._voice.identity)

    def reply(
        self, history: Sequence[tuple[str, str]], text: str, audio: Audio | None = None, *, persona: str = ""
    ) -> Iterator[tuple[str, Audio]]:
        """Yield a sentence and its sound as soon as each is there.

        Raises:
            UnscorableError: the endpoint or the speaker failed, or the answer is empty.
        """
        body = {
            "model": self.model,
            "messages": messages_of(history, text, persona, self.manner),
            "stream": True,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }
        sentences, said = Sentences(), False
        endpoint = f"{self.url}/chat/completions"
        for event in events(endpoint, body, key=key_from(self.key_env), timeout_s=self.timeout_s):
            for delta in deltas(event):
                for sentence in sentences.push(str(delta.get("content") or "")):
                    yield f"{sentence} ", self._voice.speak(sentence)
                    said = True
        for sentence in sentences.finish():
            yield sentence, self._voice.speak(sentence)
            said = True
        if not said:
            raise UnscorableError("empty_answer", f"{endpoint} answered without a word.")
