"""The command that starts a judge, and what judging is said to cost."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from lt_eval.errors import UsageError
from lt_eval.judge.canonical import ClipRules
from lt_eval.judge.estimate import Shape, estimate, shape_of, typical_shape
from lt_eval.judge.serve import PAPER_MODEL, ServeOptions, serve_command, start
from tests.judge.talks import fast, talk


def after(command: list[str], flag: str) -> str:
    return command[command.index(flag) + 1]


def test_the_command_of_an_interpreter_and_of_a_program(tmp_path: Path) -> None:
    command = serve_command(ServeOptions(python=sys.executable))
    assert command[:5] == [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", PAPER_MODEL]
    program = tmp_path / "vllm"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert serve_command(ServeOptions("local/judge", vllm=str(program)))[:3] == [str(program), "serve", "local/judge"]


def test_flags_say_what_judging_needs() -> None:
    command = serve_command(ServeOptions(python=sys.executable, videos=5, media_folder="/clips", extra=("--x", "1")))
    assert json.loads(after(command, "--limit-mm-per-prompt")) == {"image": 0, "video": 5}
    assert after(command, "--generation-config") == "vllm" and "--enable-prompt-tokens-details" in command
    assert after(command, "--allowed-local-media-path") == "/clips" and command[-2:] == ["--x", "1"]
    assert "--media-io-kwargs" not in command and "--tensor-parallel-size" not in command


def test_the_papers_frames_are_kept_by_old_and_new_servers() -> None:
    command = serve_command(ServeOptions(python=sys.executable, frames="paper", tensor_parallel=2))
    kept = json.loads(after(command, "--media-io-kwargs"))["video"]
    assert kept["num_frames"] == kept["max_frames"] == 32 and kept["fps"] >= 32
    assert json.loads(after(command, "--mm-processor-kwargs")) == {"do_sample_frames": False}
    assert after(command, "--tensor-parallel-size") == "2"


def test_no_vllm_is_an_error_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for options in (ServeOptions(), ServeOptions(vllm="/no/vllm"), ServeOptions(python="/no/python")):
        with pytest.raises(UsageError, match=r"install|interpreter"):
            serve_command(options)
    with pytest.raises(UsageError, match="cannot be started"):
        start(["/no/such/program"])


def test_the_prefix_is_computed_once_with_the_rubric_last_and_nine_times_otherwise() -> None:
    shape = Shape(28_000, 300)
    last, first = estimate([shape], fast()), estimate([shape], fast(order="rubric-first"))
    assert last.requests == first.requests == 9
    assert first.computed_tokens == first.prompt_tokens == last.prompt_tokens
    assert 28_000 < last.computed_tokens < 28_000 * 1.6
    assert first.computed_tokens / last.computed_tokens > 6


def test_cost_is_linear_in_conversations_and_requests_in_repeats() -> None:
    shape = Shape(1000, 100)
    one, ten = estimate([shape], fast()), estimate([shape] * 10, fast())
    assert (ten.prompt_tokens, ten.computed_tokens, ten.longest) == (
        10 * one.prompt_tokens,
        10 * one.computed_tokens,
        one.longest,
    )
    thrice = estimate([shape], fast(repeats=3))
    assert (thrice.requests, thrice.answer_tokens) == (27, 3 * one.answer_tokens)
    assert thrice.computed_tokens == one.computed_tokens
    assert estimate([shape], fast(scoring="two-step")).requests == 18


def test_hours_are_tokens_over_rates_and_absent_without_them() -> None:
    cost = estimate([Shape(1000, 100)], fast(), prefill_per_s=2000.0, decode_per_s=100.0)
    assert cost.hours == pytest.approx((cost.computed_tokens / 2000 + cost.answer_tokens / 100) / 3600)
    assert estimate([Shape(1000, 100)], fast()).hours is None


def test_the_shape_of_a_conversation_is_that_of_its_clips(tmp_path: Path) -> None:
    rules = ClipRules(side_px=64)
    shape = shape_of(talk(tmp_path), rules)
    assert shape is not None and shape.video_tokens == 2 * 2 * (2 * 2 + 9)
    assert shape_of(talk(tmp_path / "x", turns=2), ClipRules()) is not None
    broken = talk(tmp_path, "theirs")
    assert broken.turns[0].video is not None
    broken.turns[0].video.write_bytes(b"nothing")
    assert shape_of(broken, rules) is None


def test_three_videos_of_32_frames_are_about_28_000_tokens() -> None:
    assert typical_shape(ClipRules(), 3, 16.0).video_tokens == pytest.approx(28_000, rel=0.02)
