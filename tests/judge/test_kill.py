"""kill -9 at any moment, then the same command: it finishes, and no answered question is asked twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from lt_eval.conversations import write_conversations
from lt_eval.judge.options import JudgeOptions
from lt_eval.judge.replies import ReplyStore
from lt_eval.judge.scoring import judge
from tests.judge.fake_server import FakeOpenAI, LocalServer, dimension_of, says
from tests.judge.talks import talk

CODE = """
import sys
from pathlib import Path
from lt_eval.conversations import read_conversations
from lt_eval.judge.options import JudgeOptions
from lt_eval.judge.replies import ReplyStore
from lt_eval.judge.scoring import judge
folder, server = Path(sys.argv[1]), sys.argv[2]
with ReplyStore(folder / "replies.sqlite") as replies:
    judge(read_conversations(folder), JudgeOptions(server, side_px=64), replies)
print("finished")
"""


@pytest.mark.parametrize("answered", [1, 12])
def test_a_killed_run_asks_no_answered_question_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answered: int
) -> None:
    monkeypatch.setenv("LT_EVAL_CACHE", str(tmp_path / "cache"))
    conversations = [talk(tmp_path, "ours", f"s{number}", seed=number) for number in range(2)]
    write_conversations(tmp_path, conversations)
    stuck = threading.Event()
    count = 0

    def answers_a_few(body: dict[str, Any]) -> httpx.Response:
        nonlocal count
        count += 1
        if count > answered:
            stuck.wait(30)  # in flight when the process is killed
        return says("\\boxed{3}")(body)

    fake = FakeOpenAI(answers_a_few)
    with LocalServer(fake) as server:
        process = subprocess.Popen([sys.executable, "-c", CODE, str(tmp_path), server.url], stdout=subprocess.PIPE)
        _wait_for(tmp_path / "replies.sqlite", answered)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        stuck.set()
        kept = _kept(tmp_path / "replies.sqlite")
        assert len(kept) == answered
        fake.behaviour = says("\\boxed{3}")
        fake.chats.clear()
        done = subprocess.run(
            [sys.executable, "-c", CODE, str(tmp_path), server.url], capture_output=True, text=True, check=True
        )
        assert done.stdout == "finished\n"
        asked = Counter(_question(body) for body in fake.chats)
        assert len(fake.chats) == 18 - answered and set(asked.values()) == {1}
        fake.chats.clear()
        with ReplyStore(tmp_path / "replies.sqlite") as replies:
            verdicts = judge(conversations, JudgeOptions(server.url, side_px=64), replies)
    assert fake.chats == [] and {v.score for v in verdicts} == {3.0}


def _question(body: dict[str, Any]) -> tuple[str, str]:
    return json.dumps(body["messages"]), dimension_of(body)


def _kept(path: Path) -> list[str]:
    with ReplyStore(path) as replies:
        return [reply.key for reply in replies]


def _wait_for(path: Path, count: int) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        if path.is_file() and len(_kept(path)) >= count:
            return
        time.sleep(0.02)
    raise AssertionError(f"{count} replies did not come")
