"""A real vLLM server judges: `make test-judge`. The model is tiny and random; everything around it is real."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from lt_eval.judge.options import JudgeOptions
from lt_eval.judge.preflight import preflight
from lt_eval.judge.replies import Reply, ReplyStore
from lt_eval.judge.scoring import judge
from lt_eval.records import DIMENSIONS, Conversation
from tests.judge.talks import talk

pytestmark = pytest.mark.skipif(
    os.environ.get("LT_EVAL_JUDGE_SERVER") != "1", reason="starts a vLLM server of its own: make test-judge"
)

BLOCK = 128
"""Tokens of one block of vLLM's cache on a CPU."""


def script() -> ModuleType:
    """Return benchmarks/environments/judge_server.py."""
    path = Path(__file__).parents[2] / "benchmarks" / "environments" / "judge_server.py"
    spec = importlib.util.spec_from_file_location("judge_server", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with script().serving() as url:
        yield url


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> list[Conversation]:
    """Three scenarios with two systems."""
    folder = tmp_path_factory.mktemp("talks")
    return [
        talk(folder, method, f"s{number}", seed=10 * number + len(method), turns=2 + number)
        for method in ("ours", "theirs")
        for number in range(3)
    ]


def options(url: str, **chosen: object) -> JudgeOptions:
    return JudgeOptions(url, structured="regex", side_px=128, max_tokens=32, **chosen)  # type: ignore[arg-type]


def nobody() -> httpx.MockTransport:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody is there")

    return httpx.MockTransport(fail)


def test_a_run_of_two_systems_is_judged_and_the_second_time_nothing_is_asked(
    server: str, talks: list[Conversation], tmp_path: Path
) -> None:
    with ReplyStore(tmp_path / "replies.sqlite") as replies:
        verdicts = judge(talks, options(server), replies, clips=tmp_path)
        assert len(verdicts) == 6 * len(DIMENSIONS)
        assert {verdict.status for verdict in verdicts} == {"ok"}, verdicts
        assert {verdict.score for verdict in verdicts} <= {1.0, 2.0, 3.0, 4.0, 5.0}
        kept = len(replies)
        assert kept == len(verdicts)
        again = judge(talks, options(server, tries=1), replies, clips=tmp_path, transport=nobody())
        assert again == verdicts and len(replies) == kept


def test_the_default_server_keeps_every_frame_of_portable_clips(server: str, tmp_path: Path) -> None:
    found = preflight(options(server, frames="portable"), clips=tmp_path)
    assert found.problems == ()
    assert found.frame_pairs == (21, 21) and found.video_tokens == (21 * 16, 21 * 16)
    assert found.server.version.startswith("0.") and found.prompt_tokens


def test_and_drops_frames_of_the_papers_which_preflight_sees(server: str, tmp_path: Path) -> None:
    found = preflight(options(server, frames="paper"), clips=tmp_path)
    assert found.frame_pairs == (21, 32) and "--frames paper" in found.problems[0]


def test_a_server_started_for_the_papers_frames_keeps_them(tmp_path: Path) -> None:
    with script().serving("paper") as url:
        found = preflight(options(url, frames="paper"), clips=tmp_path)
    assert found.frame_pairs == (32, 32) and found.problems == ()


def test_the_shortest_clips_keep_their_frames_too(server: str, tmp_path: Path) -> None:
    found = preflight(options(server), talk(tmp_path), clips=tmp_path)
    assert found.frame_pairs == (4, 4) and found.problems == ()


def told(item: Conversation, more: str) -> Conversation:
    """Return a conversation with more words in every answer."""
    return replace(item, turns=tuple(replace(turn, transcript=f"{turn.transcript} {more}") for turn in item.turns))


def cached_share(replies: list[Reply]) -> list[tuple[int, int]]:
    return [(reply.usage("cached_tokens") or 0, reply.usage("prompt_tokens") or 0) for reply in replies]


def test_eight_of_nine_requests_find_everything_before_the_rubric_cached(
    server: str, talks: list[Conversation], tmp_path: Path
) -> None:
    fresh = told(talks[2], "today")
    with ReplyStore(tmp_path / "last.sqlite") as replies:
        judge([fresh], options(server, seed=1), replies, clips=tmp_path)
        last = list(replies)
    other = told(talks[2], "or not")
    with ReplyStore(tmp_path / "first.sqlite") as replies:
        judge([other], options(server, seed=1, order="rubric-first"), replies, clips=tmp_path)
        first = list(replies)
    rubric = max(len(str(reply.asked["messages"][1]["content"][-1]["text"]).encode()) for reply in last)
    shortest = min(prompt for _, prompt in cached_share(last))
    before_rubric = shortest - rubric  # the model has one token a byte
    assert before_rubric > 4 * BLOCK
    shared = [cached for cached, _ in cached_share(last) if cached >= before_rubric // BLOCK * BLOCK - BLOCK]
    assert len(shared) >= 8
    assert max(cached for cached, _ in cached_share(first)) < 1000 < min(shared)


def test_two_steps_give_an_expected_score(server: str, talks: list[Conversation], tmp_path: Path) -> None:
    chosen = options(server, scoring="two-step", dimensions=("EA", "OIE"))
    with ReplyStore(tmp_path / "replies.sqlite") as replies:
        verdicts = judge(talks[:1], chosen, replies, clips=tmp_path)
    for verdict in verdicts:
        assert verdict.status == "ok" and verdict.score in (1, 2, 3, 4, 5)
        assert verdict.expected is not None and 1 <= verdict.expected <= 5


def test_babble_is_no_score(server: str, talks: list[Conversation], tmp_path: Path) -> None:
    free = JudgeOptions(server, side_px=128, max_tokens=16, repairs=1, dimensions=("EA",))
    with ReplyStore(tmp_path / "replies.sqlite") as replies:
        (verdict,) = judge(talks[:1], free, replies, clips=tmp_path)
        assert len(replies) == 2
    assert verdict.status in ("truncated", "parse_error") and verdict.score is None


def test_a_conversation_too_long_for_the_server_is_told_once(
    server: str, talks: list[Conversation], tmp_path: Path
) -> None:
    long = told(talks[0], "word " * 12_000)
    with ReplyStore(tmp_path / "replies.sqlite") as replies:
        (verdict,) = judge([long], options(server, dimensions=("SR",)), replies, clips=tmp_path)
        assert len(replies) == 0
    assert verdict.status == "transport_error" and "HTTP 400" in verdict.message
    assert "word word" not in verdict.message
