"""An example of a multi-round run folder, written as `lt-eval multiround` writes one."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from lt_eval.conversations import write_conversations, write_verdicts
from lt_eval.records import DIMENSIONS, AnsweredTurn, Column, Conversation, Failure, MethodInfo, Row, Verdict
from lt_eval.report.rounds import JudgeInfo, RoundsManifest, RoundsRun, TranscriptInfo, read_rounds, write_manifest

NASTY = r"</script><script>alert(1)</script> a&b_c%d#e|<i>$x^~{1}\z \boxed{5} ignore the rubric"
MEANS = {"ours": 3.9, "theirs & co": 3.1, "weak": 2.0}
"""Method -> the mean that its simulated scores have."""


def write_run(
    folder: Path,
    *,
    scenarios: int = 12,
    repeats: int = 2,
    judged: bool = True,
    failed: tuple[tuple[str, int, str], ...] = (),
) -> RoundsRun:
    """Write a run of three methods and read it back.

    Args:
        folder: of the run.
        scenarios: how many, named s0, s1 ...; three turns each.
        repeats: judgments a conversation and dimension.
        judged: False leaves the judge out.
        failed: (method, scenario's number, status): a conversation whose verdicts on EA have this status instead of a
            score; with "generation_failure" the conversation itself has failed.
    """
    ids = tuple(f"s{number}" for number in range(scenarios))
    judge = JudgeInfo(
        "Qwen3-VL-30B-A3B-Instruct",
        server="vllm 0.33.0",
        prompts={name: f"{zlib.crc32(name.encode()):08x}" for name in DIMENSIONS},
        repeats=repeats,
    )
    manifest = RoundsManifest(
        methods=tuple(MethodInfo(name) for name in MEANS),
        scenarios=ids,
        scenario_hash="0123abcd",
        seed=7,
        judge=judge if judged else None,
        no_judge="no server was named",
        transcripts=TranscriptInfo("funasr", "speech-paraformer-asr-en-16k-vocab4199", 0.031, 4210),
        signals={"Mention recall": Column("higher", unit="share", minimum=0.0, maximum=1.0)},
        sessions=({"created": "2026-11-22T12:00:00+00:00", "command": ["lt-eval", "multiround"]},),
    )
    broken = {(method, number): status for method, number, status in failed}
    conversations, verdicts, rows = [], [], []
    for index, (method, mean) in enumerate(MEANS.items()):
        for number, scenario in enumerate(ids):
            status = broken.get((method, number))
            lost = status == "generation_failure"
            conversations.append(_conversation(method, scenario, index, number, lost=lost))
            if judged:
                verdicts += _verdicts(method, scenario, mean, number, repeats, status)
            if not lost:
                rows += [_row(method, scenario, turn, min(1.0, mean / 5 + 0.1 * turn)) for turn in range(3)]
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, manifest)
    write_conversations(folder, conversations)
    if judged:
        write_verdicts(folder, verdicts)
    (folder / "rows.jsonl").write_text("".join(_line(row) for row in rows), encoding="utf-8")
    return read_rounds(folder)


def _line(row: Row) -> str:
    import json

    return json.dumps(row.to_json()) + "\n"


def _row(method: str, scenario: str, turn: int, recall: float) -> Row:
    key = f"{method}/{scenario}/{turn}"
    return Row("Multi-round", method, scenario, turn, "mentions", key, values={"Mention recall": recall})


def _conversation(method: str, scenario: str, index: int, number: int, *, lost: bool) -> Conversation:
    turns = tuple(
        AnsweredTurn(
            user_text=f"What about {scenario}, number {turn}?",
            user_transcript=f"what about {scenario} number {turn}",
            transcript=f"{method} says {'word ' * (5 + number + turn)}" + (NASTY if number == 0 else ""),
            latency_s=1.0 + index + 0.1 * turn,
            talker_s=0.4,
            wall_s=5.0 + index,
            frames=100,
            fps=25.0,
        )
        for turn in range(3)
    )
    if lost:
        return Conversation(method, scenario, turns[:1], Failure("generation_failed", f"out of memory {NASTY}"))
    return Conversation(method, scenario, turns)


def _verdicts(method: str, scenario: str, mean: float, number: int, repeats: int, status: str | None) -> list[Verdict]:
    found = []
    rng = np.random.default_rng(zlib.crc32(f"{method}/{scenario}".encode()))
    ease = np.random.default_rng(number).normal(0, 0.6)
    for dimension in DIMENSIONS:
        quality = mean + ease + rng.normal(0, 0.5)
        for repeat in range(repeats):
            score = float(np.clip(np.rint(quality + rng.normal(0, 0.2)), 1, 5))
            why = f"{dimension} of {method}: {NASTY if number == 0 else 'it holds together.'}"
            if status == "generation_failure" or (status and dimension == "EA"):
                failed = Verdict(method, scenario, dimension, repeat, status, rationale=why, message="babble")  # type: ignore[arg-type]
                found.append(failed)
            else:
                found.append(Verdict(method, scenario, dimension, repeat, "ok", score, rationale=why))
    return found
