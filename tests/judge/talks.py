"""Small conversations with real files."""

from __future__ import annotations

from pathlib import Path

from lt_eval.judge.options import JudgeOptions
from lt_eval.media.encode import encode
from lt_eval.records import AnsweredTurn, Conversation
from tests.clips import moving_frames, tone

WORDS = (("Tell me about the Eiffel Tower.", "it is an iron tower in paris"), ("Where is it?", "near the seine"))


def fast(**options: object) -> JudgeOptions:
    """Return options for small clips and a server that is behind a transport."""
    return JudgeOptions(**{"servers": "http://judge.test", "side_px": 64, **options})  # type: ignore[arg-type]


def talk(folder: Path, method: str = "ours", scenario: str = "s1", seed: int = 0, turns: int = 2) -> Conversation:
    """Make a conversation of short clips; another seed shows somebody else."""
    answered = []
    for number in range(turns):
        path = folder / f"{method}-{scenario}-{number}.mp4"
        if not path.is_file():
            frames = moving_frames(seed, 10, 64)
            encode(path, frames, 10.0, tone(seed + number, 1.0), preset="ultrafast")
        asked, said = WORDS[number % 2]
        answered.append(AnsweredTurn(asked, video=path, user_transcript=asked.lower(), transcript=said))
    return Conversation(method, scenario, tuple(answered))
