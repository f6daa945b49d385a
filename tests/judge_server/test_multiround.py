"""`lt-eval multiround` with two systems and a real judge server, twice: `make test-judge`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lt_eval.judge.replies import ReplyStore
from lt_eval.records import DIMENSIONS
from tests.judge_server.test_vllm import pytestmark, script
from tests.protocols.rounds_world import HERE, TOY, write_scenarios
from tests.test_cli_multiround import lt_eval

__all__ = ["pytestmark"]

RUN = (
    *("--scenarios", "scenarios.jsonl", "--speaker", f"{HERE}:Beep", "--metric", "motion", "--device", "cpu"),
    *("--weights", "builtin", "--set", "warmups=0", "--set", "portrait_px=64", "--out", "run"),
    *("--system", f"ours={HERE}:System", "--system", "theirs=reference"),
    *("--set", f'system.theirs.options.talker="{HERE}:Talker"', "--set", f'system.theirs.options.generator="{TOY}"'),
    *("--set", 'judge.structured="regex"', "--set", "judge.side_px=128", "--set", "judge.max_tokens=32"),
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with script().serving() as url:
        yield url


def test_two_systems_are_judged_end_to_end_and_the_second_run_asks_nothing(server: str, tmp_path: Path) -> None:
    write_scenarios(tmp_path / "scenarios.jsonl")
    done = lt_eval("multiround", *RUN, "--judge", server, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    verdicts = [json.loads(line) for line in (tmp_path / "run" / "verdicts.jsonl").read_text().splitlines()]
    assert len(verdicts) == 2 * 3 * len(DIMENSIONS)
    assert {verdict["status"] for verdict in verdicts} == {"ok"}
    assert {verdict["score"] for verdict in verdicts} <= {1.0, 2.0, 3.0, 4.0, 5.0}
    (store,) = (tmp_path / "run").glob("**/*.sqlite")
    with ReplyStore(store) as replies:
        kept = len(replies)
    again = lt_eval("multiround", *RUN, "--judge", server, cwd=tmp_path)
    assert again.returncode == 0 and again.stdout == done.stdout
    with ReplyStore(store) as replies:
        assert len(replies) == kept == len(verdicts)
    assert all(f"| {name} " in done.stdout.replace("**", "") for name in ("ours", "theirs"))
