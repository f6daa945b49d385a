"""One server over HTTP: addresses, status codes, and what never leaves in a message."""

from __future__ import annotations

import asyncio
import logging
import time
from email.utils import formatdate

import httpx
import pytest

from lt_eval.errors import SpecError, UsageError
from lt_eval.judge.client import ServerClient, ServerFacts
from lt_eval.judge.options import JudgeOptions, base_url
from lt_eval.judge.schedule import RejectedError, TransportError
from tests.judge.fake_server import FakeOpenAI, hangs, says, status

SECRET = "sk-very-secret"
WORDS = "words of a private conversation"
BODY = {"model": "fake", "messages": [{"role": "user", "content": WORDS}]}


def ask(fake: FakeOpenAI, key: str = "") -> object:
    async def run() -> object:
        async with ServerClient("http://judge.test", key, 5.0, fake.transport) as client:
            return await client.chat(BODY)

    return asyncio.run(run())


def facts(fake: FakeOpenAI, model: str = "") -> ServerFacts:
    async def run() -> ServerFacts:
        async with ServerClient("http://judge.test", "", 5.0, fake.transport) as client:
            return await client.facts(model)

    return asyncio.run(run())


def test_who_answers_is_told_in_full() -> None:
    assert facts(FakeOpenAI()) == ServerFacts("fake", "/weights", "9.9", 4096)
    assert facts(FakeOpenAI(version=""), "fake").version == ""


def test_a_model_that_is_not_served_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"'other' is not served.*fake"):
        facts(FakeOpenAI(), "other")


def test_several_models_need_a_name() -> None:
    fake = FakeOpenAI()
    both = {"data": [{"id": "one"}, {"id": "two"}]}
    fake.transport = httpx.MockTransport(lambda request: httpx.Response(200, json=both))
    with pytest.raises(UsageError, match="several"):
        facts(fake)
    assert facts(fake, "two").model == "two"


@pytest.mark.parametrize("code", [429, 500, 502, 503])
def test_a_busy_or_broken_server_may_be_asked_again(code: int) -> None:
    with pytest.raises(TransportError) as caught:
        ask(FakeOpenAI(status(code, headers={"retry-after": "7"})))
    assert caught.value.status == code and caught.value.retry_after_s == 7.0


def test_retry_after_may_be_a_date() -> None:
    with pytest.raises(TransportError) as caught:
        ask(FakeOpenAI(status(429, headers={"retry-after": formatdate(time.time() + 100, usegmt=True)})))
    assert 90 < (caught.value.retry_after_s or 0) <= 100
    with pytest.raises(TransportError) as caught:
        ask(FakeOpenAI(status(429, headers={"retry-after": "soon"})))
    assert caught.value.retry_after_s is None


@pytest.mark.parametrize("code", [400, 401, 404, 413, 422, 307])
def test_other_refusals_are_final(code: int) -> None:
    with pytest.raises(RejectedError) as caught:
        ask(FakeOpenAI(status(code)))
    assert caught.value.status == code


def test_a_server_that_hangs_gave_no_answer() -> None:
    with pytest.raises(TransportError, match="no answer"):
        ask(FakeOpenAI(hangs))


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[1]),
        httpx.Response(200, json={"choices": []}),
        httpx.Response(200, json={"detail": "starting"}),
        httpx.Response(200, content=b"\xff\xfe{"),
    ],
)
def test_an_answer_that_is_no_completion_is_no_answer(answer: httpx.Response) -> None:
    with pytest.raises(TransportError):
        ask(FakeOpenAI(lambda body: answer))


def test_the_key_is_sent_and_neither_it_nor_what_was_sent_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    fake = FakeOpenAI()
    fake.script.extend(
        [says("fine"), status(400, message=f"1 validation error 'input': '{WORDS}'"), status(500, message="x" * 5000)]
    )
    ask(fake, SECRET)
    assert all(headers["authorization"] == f"Bearer {SECRET}" for headers in fake.headers)
    with pytest.raises(RejectedError) as rejected:
        ask(fake, SECRET)
    with pytest.raises(TransportError) as broken:
        ask(fake, SECRET)
    told = caplog.text + str(rejected.value) + str(broken.value) + repr(ServerClient("http://a", SECRET))
    assert SECRET not in told and WORDS not in told and len(str(broken.value)) < 500


@pytest.mark.parametrize("length", [0, 260])
@pytest.mark.parametrize("code", [401, 403, 500])
def test_a_server_that_repeats_the_key_does_not_spread_it(code: int, length: int) -> None:
    fake = FakeOpenAI(status(code, message=f"{'x' * length} Incorrect API key provided: {SECRET}"))
    with pytest.raises((RejectedError, TransportError), match=str(code)) as caught:
        ask(fake, SECRET)
    assert SECRET[:8] not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("kind", [httpx.DecodingError, httpx.TooManyRedirects, httpx.RemoteProtocolError])
def test_whatever_goes_wrong_on_the_way_is_no_answer(kind: type[httpx.RequestError]) -> None:
    def fails(body: object) -> httpx.Response:
        raise kind("broken")

    with pytest.raises(TransportError, match=kind.__name__):
        ask(FakeOpenAI(fails))


def test_no_key_no_header() -> None:
    fake = FakeOpenAI()
    ask(fake)
    assert "authorization" not in fake.headers[0]


def test_the_key_comes_from_the_environment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    options = JudgeOptions(api_key_env="JUDGE_KEY")
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(SpecError, match="JUDGE_KEY"):
        options.api_key()
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    assert options.api_key() == SECRET and SECRET not in repr(options)
    assert JudgeOptions().api_key() == ""


@pytest.mark.parametrize("given", ["http://h:8000", "http://h:8000/", "http://h:8000/v1", " http://h:8000/v1/ "])
def test_an_address_is_the_same_with_and_without_v1(given: str) -> None:
    assert base_url(given) == "http://h:8000"


@pytest.mark.parametrize(
    "wrong",
    [
        {"servers": "h:8000"},
        {"servers": "http://"},
        {"servers": "http://[::1"},
        {"servers": "http://ho st:8000"},
        {"servers": "http://h:99999999"},
        {"servers": ()},
        {"dimensions": ("EA", "XX")},
        {"dimensions": ()},
        {"frames": "all"},
        {"order": "random"},
        {"repeats": 0},
        {"repairs": 9},
        {"top_p": 0.0},
        {"temperature": -1.0},
        {"side_px": 8},
        {"timeout_s": 0.0},
    ],
)
def test_options_outside_their_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        JudgeOptions(**wrong)  # type: ignore[arg-type]


def test_an_address_with_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(SpecError, match="api_key_env") as caught:
        JudgeOptions(f"http://user:{SECRET}@h:8000/v1")
    assert SECRET not in str(caught.value)


def test_servers_may_be_one_text() -> None:
    assert JudgeOptions("http://a/v1, http://b").servers == ("http://a", "http://b")
    assert JudgeOptions(dimensions="EA, NI").dimensions == ("EA", "NI")
