"""`lt-eval judge` as a person runs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lt_eval.cli import app
from lt_eval.conversations import write_conversations
from lt_eval.errors import DatasetError, LtEvalError, SpecError, UsageError
from tests.judge.fake_server import FakeOpenAI, LocalServer
from tests.judge.test_check import Attentive, conversations
from tests.judge.test_preflight import counts, sees


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["judge", *map(str, arguments)])
    if isinstance(result.exception, LtEvalError):
        raise result.exception
    return result


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LT_EVAL_CACHE", str(tmp_path / "cache"))


def a_run(folder: Path) -> Path:
    write_conversations(folder, conversations(folder))
    return folder


def server(judge: Attentive) -> FakeOpenAI:
    fake = FakeOpenAI(lambda body: sees(body) if body["max_tokens"] == 1 else judge(body))
    fake.tokens = counts()
    return fake


def test_check_passes_a_good_judge_and_then_asks_nothing_again(tmp_path: Path) -> None:
    fake = server(Attentive())
    with LocalServer(fake) as local:
        command = ("check", a_run(tmp_path / "run"), "--server", local.url, "--set", "side_px=64")
        result = run(*command)
        asked = len(fake.chats)
        assert run(*command).stdout == result.stdout
    assert result.exit_code == 0
    assert result.stdout.count("  fell") == 6 and "DID NOT" not in result.stdout
    assert "frames    6 pairs of 6 kept" in result.stdout
    assert len(fake.chats) == asked + 2  # the two questions of sight


def test_check_fails_a_judge_that_does_not_look(tmp_path: Path) -> None:
    with LocalServer(server(Attentive("MVC"))) as local:
        result = run("check", a_run(tmp_path / "run"), "--server", local.url, "--set", "side_px=64")
    assert result.exit_code == 1 and "MVC (swapped)" in result.stderr


def test_check_without_a_run_looks_at_the_server_only(tmp_path: Path) -> None:
    fake = server(Attentive())
    with LocalServer(fake) as local:
        assert run("check", "--server", local.url, "--set", "side_px=64").exit_code == 0
        fake.tokens = counts(lambda frames: 2)
        result = run("check", "--server", local.url, "--set", "side_px=64")
    assert result.exit_code == 1 and "problem: " in result.stderr
    assert len(fake.chats) == 4


def test_estimate_prints_tokens_and_hours(tmp_path: Path) -> None:
    result = run("estimate", "--scenarios", 100, "--methods", 3, "--prefill-per-s", 20_000, "--decode-per-s", 800)
    assert result.exit_code == 0
    assert "requests              2700" in result.stdout and "hours" in result.stdout
    assert "hours" not in run("estimate", a_run(tmp_path / "run")).stdout


def test_serve_prints_its_command() -> None:
    result = run("serve", "some/model", "--python", sys.executable, "--frames", "paper", "--dry-run")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{sys.executable} -m vllm") and "--media-io-kwargs" in result.stdout
    with pytest.raises(SpecError, match="portable"):
        run("serve", "--frames", "all", "--dry-run")


def test_serve_prints_the_command_for_another_machine_without_vllm_on_this_one(tmp_path: Path) -> None:
    absent = str(tmp_path / "vllm")
    assert run("serve", "--vllm", absent, "--dry-run").stdout.startswith(f"{absent} serve ")
    with pytest.raises(UsageError, match="There is no program"):
        run("serve", "--vllm", absent)


def test_a_folder_without_conversations_is_named(tmp_path: Path) -> None:
    for command in ("check", "estimate"):
        with pytest.raises(DatasetError, match=r"holds no conversation.*multiround"):
            run(command, tmp_path)


@pytest.mark.parametrize(
    ("setting", "why"), [("repeat=3", "repeats"), ("repeats=three", "int"), ("max_tokens=1.5", "int")]
)
def test_a_wrong_setting_says_what_is_right(setting: str, why: str) -> None:
    with pytest.raises(SpecError, match=why):
        run("check", "--set", setting)


def test_settings_reach_the_judge(tmp_path: Path) -> None:
    fake = server(Attentive())
    with LocalServer(fake) as local:
        settings = ("--set", "side_px=64", "--set", "temperature=1", "--set", 'dimensions="SR CU"')
        run("check", a_run(tmp_path / "run"), "--server", local.url, *settings)
    judged = [body for body in fake.chats if body["max_tokens"] > 1]
    assert {body["temperature"] for body in judged} == {1.0} and len(judged) == 2 * 2 * 6
