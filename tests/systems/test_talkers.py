"""Talkers: what they ask, what they make of an answer that streams, and how they fail."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_eval.errors import SpecError, UnscorableError
from lt_eval.media.waves import pcm_bytes, read_wav, wav_bytes
from lt_eval.records import Audio
from lt_eval.systems.chat import ChatTalker
from lt_eval.systems.omni import OmniTalker
from lt_eval.systems.scripted import Line, ScriptedTalker, sentences_of
from lt_eval.systems.streaming import Sentences
from tests.systems.servers import DONE, ChatServer, serving, words

BEEP = "tests.systems.test_talkers:Beep"


class Beep:
    """A speaker whose sound is as long as its text."""

    def speak(self, text: str) -> Audio:
        return np.full(len(text) * 10, 0.1, np.float32)


def tone(samples: int, rate_hz: int) -> Audio:
    return np.asarray(0.5 * np.sin(2 * np.pi * 300.0 * np.arange(samples) / rate_hz), np.float32)


# Text that streams ----------------------------------------------------------------------------------------------------


@given(st.lists(st.text(alphabet='aB .!?\n,"', max_size=20), max_size=12))
def test_sentences_are_the_text_whatever_its_pieces(pieces: list[str]) -> None:
    one, other = Sentences(), Sentences()
    found = [s for piece in pieces for s in one.push(piece)] + one.finish()
    whole = other.push("".join(pieces)) + other.finish()
    assert "".join("".join(found).split()) == "".join("".join(whole).split()) == "".join("".join(pieces).split())


def test_a_sentence_leaves_as_soon_as_the_next_begins() -> None:
    sentences = Sentences()
    assert sentences.push("The tower is tall. It") == ["The tower is tall."]
    assert sentences.push(" was built in 1889.") == [] and sentences.finish() == ["It was built in 1889."]


# An OpenAI-compatible endpoint ----------------------------------------------------------------------------------------


def test_a_chat_talker_speaks_sentence_by_sentence_with_the_whole_history() -> None:
    first_is_here = threading.Event()
    script: list[Any] = [words("Hello there, my "), words("friend. How are "), first_is_here, words("you today?"), DONE]
    with serving(ChatServer(script)) as server:
        talker = ChatTalker(server.url, "model", speaker=BEEP)
        pieces = talker.reply([("Hi.", "Hello.")], "And now?", None, persona="You are Ann.")
        first = next(pieces)  # would wait for ever if it waited for the whole answer
        first_is_here.set()
        rest = list(pieces)
    assert first[0].strip() == "Hello there, my friend."
    assert [text.strip() for text, _ in rest] == ["How are you today?"]
    assert [len(sound) for _, sound in (first, *rest)] == [230, 180]
    (asked,) = server.asked
    assert server.paths == ["/v1/chat/completions"] and asked["stream"] is True
    roles = [(m["role"], m["content"]) for m in asked["messages"]]
    assert roles[0][0] == "system" and roles[0][1].startswith("You are Ann.")
    assert roles[1:] == [("user", "Hi."), ("assistant", "Hello."), ("user", "And now?")]


def test_the_key_comes_from_the_environment_and_reaches_the_server_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(ChatServer([b'{"error": "key sk-secret is wrong, you said: hello"}'], status=401)) as server:
        monkeypatch.setenv("MY_KEY", "sk-secret")
        talker = ChatTalker(server.url, "model", key_env="MY_KEY", speaker=BEEP)
        with pytest.raises(UnscorableError, match="401") as caught:
            list(talker.reply([], "hello"))
    assert server.keys == ["Bearer sk-secret"]
    assert "secret" not in str(caught.value) and "hello" not in str(caught.value)
    assert "secret" not in repr(talker) and "secret" not in talker.fingerprint


def test_a_key_that_is_not_there_is_told_before_any_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(SpecError, match="MY_KEY is not set"):
        ChatTalker("http://localhost:1/v1", "model", key_env="MY_KEY", speaker=BEEP)


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([DONE], "empty_answer"),
        ([words("Hel"), b"data: {broken\n\n"], "talker_failed"),
        ([words("Hel"), {"error": {"message": "out of memory"}}], "talker_failed"),
        ([words("Hel"), 5.0], "talker_timeout"),
    ],
)
def test_a_server_that_fails_is_a_reason(events: list[Any], code: str) -> None:
    with serving(ChatServer(events)) as server, pytest.raises(UnscorableError) as caught:
        list(ChatTalker(server.url, "model", speaker=BEEP, timeout_s=0.5).reply([], "hello"))
    assert caught.value.code == code


def test_a_server_that_is_not_there_is_a_reason() -> None:
    with pytest.raises(UnscorableError, match="cannot be reached"):
        list(ChatTalker("http://127.0.0.1:9/v1", "model", speaker=BEEP).reply([], "hello"))


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="http://"):
        ChatTalker("localhost:8000", "model", speaker=BEEP)


# Qwen3-Omni -----------------------------------------------------------------------------------------------------------


def audio_event(data: bytes) -> dict[str, Any]:
    content = base64.b64encode(data).decode()
    return {"modality": "audio", "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": "stop"}]}


def heard(events: list[Any], **options: Any) -> tuple[str, Audio, dict[str, Any]]:
    with serving(ChatServer(events)) as server:
        user = tone(1600, 16_000)
        pieces = list(OmniTalker(server.url, **options).reply([("Hi.", "Hello.")], "And now?", user, persona="Ann"))
    return "".join(text for text, _ in pieces), np.concatenate([sound for _, sound in pieces]), server.asked[0]


WHOLE = tone(7201, 24_000)


@pytest.mark.parametrize(
    "pieces",
    [
        [wav_bytes(WHOLE[:3000], 24_000), wav_bytes(WHOLE[3000:], 24_000)],
        [wav_bytes(WHOLE[:3000], 24_000), pcm_bytes(WHOLE[3000:])],
        [pcm_bytes(WHOLE)[:2001], pcm_bytes(WHOLE)[2001:]],
    ],
    ids=["a header a piece", "one header", "bare samples, cut in the middle of one"],
)
def test_speech_in_every_layout_of_vllm_omni_is_the_same_sound(pieces: list[bytes]) -> None:
    """Audio events say finish_reason "stop" each; the answer goes on until [DONE]."""
    events = [words("Good ", modality="text"), audio_event(pieces[0]), words("day.", modality="text")]
    text, sound, asked = heard([*events, audio_event(pieces[1]), DONE])
    assert text == "Good day." and len(sound) == round(len(WHOLE) * 2 / 3)
    assert np.abs(sound - tone(len(sound), 16_000))[50:-50].max() < 3e-3
    assert asked["modalities"] == ["text", "audio"] and asked["stream"] is True
    (line,) = asked["messages"][-1]["content"]
    assert asked["messages"][1:3] == [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    spoken, rate_hz = read_wav(base64.b64decode(line["input_audio"]["data"]))
    assert rate_hz == 16_000 and np.allclose(spoken, tone(1600, 16_000), atol=1e-4)


def test_openais_own_layout_is_understood() -> None:
    data = base64.b64encode(pcm_bytes(WHOLE)).decode()
    event = {"choices": [{"index": 0, "delta": {"audio": {"transcript": "Good day.", "data": data}}}]}
    text, sound, _ = heard([event, DONE])
    assert text == "Good day." and len(sound) == round(len(WHOLE) * 2 / 3)


def test_a_model_may_be_given_the_text_instead_of_the_sound() -> None:
    _, _, asked = heard([audio_event(wav_bytes(WHOLE, 24_000)), DONE], hears="text", voice="Ethan")
    assert asked["messages"][-1]["content"] == "And now?" and asked["audio"]["voice"] == "Ethan"


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([words("Only words.", modality="text"), DONE], "empty_answer"),
        ([audio_event(b"RIFFxxxxWAVEfmt "), DONE], "talker_failed"),
        ([{"modality": "audio", "choices": [{"delta": {"content": "*no base64*"}}]}, DONE], "talker_failed"),
    ],
)
def test_an_answer_without_sound_is_a_reason(events: list[Any], code: str) -> None:
    with pytest.raises(UnscorableError) as caught:
        heard(events)
    assert caught.value.code == code


# The scripted talker --------------------------------------------------------------------------------------------------


def scenarios(folder: Path) -> Path:
    turns = [
        {"user": "How tall is it?", "emotion": "curious", "must_mention": ["330 metres | 330 m", "in Paris"]},
        {"user": "And who built it?", "emotion": "curious", "must_mention": ["Eiffel"]},
    ]
    record = {"id": "tower", "domain": "travel", "persona": {"name": "Ann", "description": "A guide."}, "turns": turns}
    path = folder / "scenarios.jsonl"
    path.write_text(json.dumps(record) + "\n")
    return path


def test_the_script_mentions_every_fact_and_knows_where_the_conversation_is(tmp_path: Path) -> None:
    talker = ScriptedTalker(str(scenarios(tmp_path)), speaker=BEEP)
    first = "".join(text for text, _ in talker.reply([], "How tall is it?"))
    assert "330 metres" in first and "In Paris" in first
    second = list(talker.reply([("How tall is it?", first)], "And who built it?"))
    assert second[0][0].strip() == "Eiffel." and len(second[0][1]) == 70
    with pytest.raises(UnscorableError, match="no answer to this line") as caught:
        list(talker.reply([], "And who built it?"))
    assert "built" not in str(caught.value).replace("And who built", "")


def test_stored_answers_go_before_facts(tmp_path: Path) -> None:
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps({"tower": ["It is tall. Very tall."]}))
    talker = ScriptedTalker(str(scenarios(tmp_path)), answers=str(answers), speaker=BEEP)
    assert [t.strip() for t, _ in talker.reply([], "How tall is it?")] == ["It is tall.", "Very tall."]
    assert talker.fingerprint != ScriptedTalker(str(scenarios(tmp_path)), speaker=BEEP).fingerprint


@pytest.mark.parametrize("text", ["[1]", '{"tower": "x"}', '{"tower": [""]}', "{"])
def test_answers_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    answers = tmp_path / "answers.json"
    answers.write_text(text)
    with pytest.raises(SpecError, match=r"answers\.json"):
        ScriptedTalker(str(scenarios(tmp_path)), answers=str(answers), speaker=BEEP)


def test_each_sentence_takes_its_own_phonemes() -> None:
    line = Line("Good day. Go on!", "G UH1 D|D EY1 SIL|G OW1|AA1 N")
    assert sentences_of(line) == [Line("Good day.", "G UH1 D|D EY1 SIL"), Line("Go on!", "G OW1|AA1 N")]
    assert sentences_of(Line("One. Two")) == [Line("One."), Line("Two")]
