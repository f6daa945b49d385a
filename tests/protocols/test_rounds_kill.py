"""`kill -9` at any moment: the same command finishes, holds no finished conversation again, asks nothing twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.protocols.rounds_world import HERE, score_of, write_scenarios

KILLS = 5


class Server:
    """A judge's server on a local port; a question is counted when its answer has been sent."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.url = ""


@contextmanager
def judging() -> Iterator[Server]:
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def _send(self, data: dict[str, Any]) -> bool:
            content = json.dumps(data).encode()
            try:
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                self.wfile.flush()
            except OSError:
                return False
            return True

        def do_GET(self) -> None:
            self._send({"data": [{"id": "judge"}]} if self.path == "/v1/models" else {"version": "1"})

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            body = json.loads(content)
            time.sleep(0.03)
            choice = {"message": {"content": f"\\boxed{{{score_of(body)}}}"}, "finish_reason": "stop"}
            if self._send({"choices": [choice]}):
                server.answered[json.dumps(body, sort_keys=True)] += 1

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()


def command(root: Path, out: str, judge: str) -> list[str]:
    line = [sys.executable, "-m", "lt_eval", "multiround", "--scenarios", str(root / "scenarios.jsonl")]
    line += ["--system", f"own={HERE}:System", "--set", f"system.own.options.log={root / out}.log"]
    line += ["--set", "system.own.options.pause_s=0.05", "--speaker", f"{HERE}:Beep", "--weights", "builtin"]
    line += ["--metric", "motion", "--device", "cpu", "--set", "warmups=0", "--set", "portrait_px=64"]
    line += ["--judge", judge, "--set", "judge.side_px=64", "--set", "judge.concurrency=4"]
    return [*line, "--out", str(root / out)]


@pytest.mark.slow
def test_kills_lose_one_conversation_and_no_reply(tmp_path: Path) -> None:
    write_scenarios(tmp_path / "scenarios.jsonl")
    root = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {"PYTHONPATH": root, "LT_EVAL_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    with judging() as server:
        started = time.monotonic()
        whole = subprocess.run(
            command(tmp_path, "whole", server.url), env=environment, capture_output=True, text=True, check=False
        )
        lasts_s = time.monotonic() - started
        assert whole.returncode == 0, whole.stderr
        assert len(server.answered) == 27 and set(server.answered.values()) == {1}
        server.answered.clear()

        rng = random.Random(0)
        for _ in range(KILLS):
            process = subprocess.Popen(
                command(tmp_path, "killed", server.url),
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(rng.uniform(0.3, 0.95) * lasts_s)
            process.send_signal(signal.SIGKILL)
            process.wait()
        last = subprocess.run(
            command(tmp_path, "killed", server.url), env=environment, capture_output=True, text=True, check=False
        )
        assert last.returncode == 0, last.stderr
        # an answer that was on its way when the process died may come twice: at most 4 at a time and kill
        twice = sum(count - 1 for count in server.answered.values())
        assert len(server.answered) == 27 and twice <= 4 * KILLS
    lines = Counter((tmp_path / "killed.log").read_text().splitlines())
    assert len(lines) == 6 and sum(lines.values()) <= 6 + 2 * KILLS
    assert not list((tmp_path / "killed").glob("clips/**/.*.partial"))
    for name in ("verdicts.jsonl", "tables/tidy.csv"):
        ours, theirs = ((tmp_path / out / name).read_text() for out in ("killed", "whole"))
        assert _without_times(ours) == _without_times(theirs), name


def _without_times(text: str) -> list[str]:
    """Leave out measured seconds and frames a second, which no two runs share."""
    lines = text.splitlines()
    assert len(lines) > 10
    return [line for line in lines if "Throughput" not in line and "Latency" not in line]
