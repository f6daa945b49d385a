"""What is proven of a server before a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from lt_eval.errors import UsageError
from lt_eval.judge.preflight import PAD, Preflight, preflight
from tests.judge.fake_server import FakeOpenAI, says, status, videos, with_probabilities
from tests.judge.talks import fast, talk

Body = dict[str, Any]


def counts(keep: Callable[[int], int] = lambda frames: frames, grid_px: int = 32) -> Callable[[Body], Body]:
    """Tokenize as vLLM does, keeping so many frames of each video."""

    def tokens(body: Body) -> Body:
        words = ["<|im_start|>"]
        for frames in videos(body):
            _, height, width, _ = frames.shape
            for _ in range(math.ceil(keep(len(frames)) / 2)):
                cells = (height // grid_px) * (width // grid_px)
                words += ["<0.5", "Ġseconds>", "<|vision_start|>", *[PAD] * cells, "<|vision_end|>"]
        return {"count": len(words), "token_strs": words}

    return tokens


def sees(body: Body) -> httpx.Response:
    (frames,) = videos(body)
    black = frames.mean() < 24
    shares = {"A": 0.98, "B": 0.02} if black else {"A": 0.01, "B": 0.99}
    return with_probabilities(shares, "A" if black else "B")(body)


def look(fake: FakeOpenAI, tmp_path: Path, **options: Any) -> Preflight:
    return preflight(fast(**options), transport=fake.transport, clips=tmp_path)


def server(behaviour: Any = sees, tokens: Any = None) -> FakeOpenAI:
    fake = FakeOpenAI(behaviour)
    fake.tokens = tokens or counts()
    return fake


@pytest.mark.parametrize("mode", ["portable", "paper"])
def test_a_good_server_passes_without_a_word(tmp_path: Path, mode: str) -> None:
    found = look(server(), tmp_path, frames=mode)
    assert found.problems == found.warnings == ()
    pairs = 16 + (5 if mode == "portable" else 16)
    assert found.frame_pairs == (pairs, pairs) and found.video_tokens == (4 * pairs, 4 * pairs)
    assert found.black_of_black == pytest.approx(0.98) and found.black_of_real == pytest.approx(0.01)


def test_a_server_that_drops_frames_is_refused(tmp_path: Path) -> None:
    found = look(server(tokens=counts(lambda frames: min(frames, 10))), tmp_path, frames="paper")
    assert found.frame_pairs == (10, 32)
    assert "--frames paper" in found.problems[0]


def test_a_server_that_resizes_is_refused(tmp_path: Path) -> None:
    found = look(server(tokens=counts(grid_px=16)), tmp_path)
    assert found.frame_pairs == (21, 21) and "resizes" in found.problems[0]


def test_a_judge_that_gets_no_pictures_is_refused(tmp_path: Path) -> None:
    found = look(server(with_probabilities({"A": 0.3, "B": 0.7}, "B")), tmp_path)
    assert "do not reach" in found.problems[0]


def test_a_judge_that_cannot_tell_black_is_warned_of(tmp_path: Path) -> None:
    def unsure(body: Body) -> httpx.Response:
        (frames,) = videos(body)
        return with_probabilities({"A": 0.6, "B": 0.4} if frames.mean() < 24 else {"A": 0.55, "B": 0.45}, "A")(body)

    found = look(server(unsure), tmp_path)
    assert found.problems == () and "does not tell them apart" in found.warnings[0]


def test_without_probabilities_the_letters_count(tmp_path: Path) -> None:
    def letters(body: Body) -> httpx.Response:
        (frames,) = videos(body)
        return says("A" if frames.mean() < 24 else "B")(body)

    assert look(server(letters), tmp_path).warnings == ()
    assert look(server(says("The")), tmp_path).warnings != ()


def test_what_a_server_does_not_tell_is_a_warning(tmp_path: Path) -> None:
    fake = FakeOpenAI(sees)
    assert "not proven" in look(fake, tmp_path).warnings[0]
    assert "not proven" in look(server(tokens=lambda body: {"count": 3, "tokens": [1, 2, 3]}), tmp_path).warnings[0]


def test_a_server_that_refuses_the_question_is_a_problem(tmp_path: Path) -> None:
    found = look(server(status(400, message="at most 1 video")), tmp_path)
    assert "at most 1 video" in found.problems[0]


def test_a_conversation_of_the_run_is_what_is_sent(tmp_path: Path) -> None:
    found = preflight(fast(), talk(tmp_path), transport=server().transport, clips=tmp_path)
    assert found.frame_pairs == (4, 4) and found.problems == ()
    with pytest.raises(UsageError, match="no video"):
        preflight(fast(), talk(tmp_path, turns=0), transport=server().transport, clips=tmp_path)
