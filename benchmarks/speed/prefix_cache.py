"""Nine dimensions of one conversation: rubric last, which shares the prefix, against rubric first, which does not.

    python benchmarks/speed/prefix_cache.py --out benchmarks/speed/prefix_cache.md
    python benchmarks/speed/prefix_cache.py --seconds 8 --side 256        # a quick look

A real vLLM server on this machine's CPU serves a tiny Qwen3-VL of random weights (benchmarks/environments), started
once. A conversation of three square videos, 32 frames each at 768 pixels, is judged by `lt_eval.judge.scoring.judge`
itself, once in each order, on conversations that the server has not seen. Cached tokens are those that the server
reports. The model's arithmetic is next to nothing; on a GPU the ratio depends on the shares of prefill and decoding.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from lt_eval.judge.options import JudgeOptions
from lt_eval.judge.replies import Reply, ReplyStore
from lt_eval.judge.scoring import judge
from lt_eval.media.encode import encode
from lt_eval.records import DIMENSIONS, AnsweredTurn, Conversation

BLOCK = 128
"""Tokens of one block of vLLM's cache on a CPU; only whole blocks are shared."""

TURNS = 3
Order = Literal["rubric-last", "rubric-first"]


@dataclass(frozen=True)
class Outcome:
    """One order: its wall time and its nine replies in the order in which they came."""

    wall_s: float
    replies: tuple[Reply, ...]

    @property
    def first_s(self) -> float:
        """Seconds of the request that came first: the server decodes the videos and runs its encoder over them."""
        first = next(reply for reply in self.replies if reply.asked["dimension"] == DIMENSIONS[0])
        return first.latency_s

    def tokens(self, name: str) -> list[int]:
        """Return one of the counts of `Reply.usage` for each reply."""
        return [reply.usage(name) or 0 for reply in self.replies]


def judge_server() -> ModuleType:
    """Return benchmarks/environments/judge_server.py."""
    path = Path(__file__).parents[1] / "environments" / "judge_server.py"
    spec = importlib.util.spec_from_file_location("judge_server", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def conversation(folder: Path, name: str, seed: int, seconds: float, side: int) -> Conversation:
    """Make a conversation of three moving pictures."""
    rng = np.random.default_rng(seed)
    turns = []
    for number in range(TURNS):
        coarse = rng.integers(0, 256, (round(seconds * 4), 8, 8, 3), dtype=np.uint8)
        frames = (frame.repeat(side // 8, 0).repeat(side // 8, 1)[None] for frame in coarse)
        video = encode(folder / f"{name}{number}.mp4", frames, 4.0, preset="ultrafast")
        turns.append(AnsweredTurn(f"Question {number} about {name}?", video=video, transcript=f"Answer {number}."))
    return Conversation("random", name, tuple(turns))


def measure(url: str, model: str, talk: Conversation, order: Order, folder: Path, side: int, clips: Path) -> Outcome:
    """Judge one conversation in one order, with canonical clips made beforehand."""
    options = JudgeOptions(url, model=model, order=order, structured="regex", side_px=side, max_tokens=32)
    with ReplyStore(folder / f"{talk.scenario}.sqlite") as replies:
        started = time.perf_counter()
        verdicts = judge([talk], options, replies, clips=clips)
        wall_s = time.perf_counter() - started
        assert {verdict.status for verdict in verdicts} == {"ok"}, verdicts
        return Outcome(wall_s, tuple(replies))


def shared_prefix(url: str, model: str, talk: Conversation, side: int, clips: Path) -> int:
    """Return how many tokens come before the rubric, as the server counts them."""
    import httpx

    from lt_eval.judge.canonical import ClipRules, canonical_clip
    from lt_eval.judge.media import media_part
    from lt_eval.judge.prompt import messages_of

    options = JudgeOptions(url, side_px=side)
    made = [canonical_clip(turn.video, ClipRules.of(options), clips) for turn in talk.turns if turn.video]
    messages = messages_of(talk, [media_part(clip, options) for clip in made], None)
    body = {"model": model, "messages": messages, "add_generation_prompt": False}
    counted = httpx.post(f"{url}/tokenize", json=body, timeout=300).json()
    return int(counted["count"]) - 2  # the end of the user's message and a line feed


def report(facts: dict[str, Any], command: str) -> str:
    """Return the report."""
    rows = "\n".join(
        f"| {order} | {found['wall_s']:.1f} s | {found['first_s']:.1f} s | {found['prompt'][0]:,} to "
        f"{found['prompt'][1]:,} | {', '.join(map(str, found['cached']))} |"
        for order, found in facts["orders"].items()
    )
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    return "\n".join(
        (
            "# Nine dimensions, one conversation: rubric last against rubric first",
            "",
            f"{date.today()}, {machine}, vLLM {facts['version']} on the CPU,",
            f"`{command}`.",
            "",
            f"Three videos of {facts['frames']} frames each, {facts['prefix']:,} tokens before the rubric, cache",
            f"blocks of {BLOCK} tokens.",
            "",
            "| order | nine dimensions | of it the first | prompt tokens | cached tokens of each request |",
            "|---|---|---|---|---|",
            rows,
            "",
            f"- Rubric last: {facts['full']} of 9 requests found all of the {facts['prefix']:,} tokens in the cache",
            "  but the last, unfilled block.",
            f"- Rubric first takes {facts['ratio']:.1f} times as long.",
            f"- Tokens to compute: {facts['computed']['rubric-last']:,} against {facts['computed']['rubric-first']:,}.",
            "",
            "The first request of either order holds the decoding of the videos and the vision encoder, which the",
            "server does once for all nine. The cached tokens of the rubric-first order are the system prompt and the",
            "rubric, left by a conversation that warmed the server.",
            "",
            "The model is a tiny Qwen3-VL of random weights: the tokens and what is cached of them are those of the",
            "real one, the seconds are not. Clips were encoded beforehand; sending them is in either order's time.",
            "",
        )
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and perhaps write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, help="write the report there")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each video; 16 and more give 32 frames")
    parser.add_argument("--side", type=int, default=784, help="side_px of the judge")
    chosen = parser.parse_args(arguments)
    server = judge_server()
    with tempfile.TemporaryDirectory() as name, server.serving() as url:
        folder = Path(name)
        outcomes: dict[str, Outcome] = {}
        orders: tuple[Order, ...] = ("rubric-last", "rubric-first")
        for seed, order in enumerate(orders):
            warm = conversation(folder, f"warm-{order}", 10 + seed, 2.0, 64)
            measure(url, server.MODEL, warm, order, folder, 64, folder / "clips")
            talk = conversation(folder, order, seed, chosen.seconds, 512)
            prefix = shared_prefix(url, server.MODEL, talk, chosen.side, folder / "clips")
            outcomes[order] = measure(url, server.MODEL, talk, order, folder, chosen.side, folder / "clips")
        version = outcomes["rubric-last"].replies[0].asked["server"]["version"]
    last = outcomes["rubric-last"]
    whole = prefix // BLOCK * BLOCK
    facts = {
        "version": version,
        "frames": min(32, int(chosen.seconds * 2)),
        "prefix": prefix,
        "full": sum(cached >= whole - BLOCK for cached in last.tokens("cached_tokens")),
        "ratio": outcomes["rubric-first"].wall_s / last.wall_s,
        "orders": {
            order: {
                "wall_s": found.wall_s,
                "first_s": found.first_s,
                "prompt": (min(found.tokens("prompt_tokens")), max(found.tokens("prompt_tokens"))),
                "cached": sorted(found.tokens("cached_tokens")),
            }
            for order, found in outcomes.items()
        },
        "computed": {
            order: sum(found.tokens("prompt_tokens")) - sum(found.tokens("cached_tokens"))
            for order, found in outcomes.items()
        },
    }
    text = report(facts, f"python benchmarks/speed/prefix_cache.py{'' if arguments is None else ' ...'}")
    print(text)
    if chosen.out:
        chosen.out.write_text(text, encoding="utf-8")
    print(json.dumps(facts | {"dimensions": len(DIMENSIONS)}))


if __name__ == "__main__":
    main()
