"""The file of replies: what is kept, what is read from it, and what a kill costs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lt_eval.errors import StoreError
from lt_eval.judge.replies import Reply, ReplyStore
from tests.judge.fake_server import completion


def reply(key: str, text: str = "\\boxed{3}") -> Reply:
    return Reply(key, {"dimension": "EA", "words": "naïve"}, completion(text), 0.25)


def test_a_reply_comes_back_as_it_was(tmp_path: Path) -> None:
    with ReplyStore(tmp_path / "deep" / "replies.sqlite") as store:
        assert store.get("a") is None and len(store) == 0
        store.put(reply("a"))
        assert store.get("a") == reply("a")
    with ReplyStore(tmp_path / "deep" / "replies.sqlite") as store:
        found = store.get("a")
    assert found is not None and found.text == "\\boxed{3}" and found.finish_reason == "stop"
    assert (found.usage("prompt_tokens"), found.usage("completion_tokens"), found.usage("cached_tokens")) == (
        100,
        9,
        64,
    )


def test_the_first_reply_of_a_key_stays(tmp_path: Path) -> None:
    with ReplyStore(tmp_path / "r.sqlite") as store:
        store.put(reply("a", "first"))
        store.put(reply("a", "second"))
        found = store.get("a")
    assert found is not None and found.text == "first"


@pytest.mark.parametrize("raw", [{}, {"choices": []}, {"choices": [{}]}, {"choices": ["x"], "usage": 3}])
def test_odd_answers_are_kept_and_read_as_nothing(raw: dict[str, object]) -> None:
    found = Reply("a", {}, raw, 0.0)
    assert (found.text, found.finish_reason, found.refusal, found.logprobs) == ("", "", "", {})
    assert found.usage("prompt_tokens") is None


def test_every_reply_is_exported_as_a_line(tmp_path: Path) -> None:
    with ReplyStore(tmp_path / "r.sqlite") as store:
        for key in "abc":
            store.put(reply(key))
        assert store.export_jsonl(tmp_path / "out" / "replies.jsonl") == 3
    lines = [json.loads(line) for line in (tmp_path / "out" / "replies.jsonl").read_text().splitlines()]
    assert sorted(line["key"] for line in lines) == ["a", "b", "c"]
    assert all(line["text"] == "\\boxed{3}" and line["asked"]["words"] == "naïve" and line["raw"] for line in lines)


def test_two_hold_the_file_at_a_time(tmp_path: Path) -> None:
    with ReplyStore(tmp_path / "r.sqlite") as one, ReplyStore(tmp_path / "r.sqlite") as two:
        one.put(reply("a"))
        two.put(reply("b"))
        assert len(one) == len(two) == 2


def test_another_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to be looked at as one" * 40)
    before = path.read_text()
    with pytest.raises(StoreError, match="reply store"), ReplyStore(path):
        pass
    assert path.read_text() == before


def test_what_was_kept_survives_a_kill(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from lt_eval.judge.replies import Reply, ReplyStore\n"
        "store = ReplyStore(Path(sys.argv[1])).__enter__()\n"
        "for number in range(10_000):\n"
        "    store.put(Reply(str(number), {}, {'n': number}, 0.0))\n"
        "    print(number, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "r.sqlite")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        told = -1
        while told < 20:
            told = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        told = max([told, *map(int, process.stdout.read().split("\n")[:-1])])
    process.wait()
    with ReplyStore(tmp_path / "r.sqlite") as store:
        assert all(store.get(str(number)) is not None for number in range(told + 1))
