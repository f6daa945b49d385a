"""What a conversation is kept under."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from lt_eval.datasets.scenarios import load_scenarios
from lt_eval.media.waves import wav_bytes
from lt_eval.protocols.rounds_answers import Stage
from tests.protocols.rounds_world import write_scenarios


def test_a_conversations_key_holds_all_that_is_asked(tmp_path: Path) -> None:
    (scenario, other, _) = load_scenarios(write_scenarios(tmp_path / "scenarios.jsonl"))
    line, louder = tmp_path / "a.wav", tmp_path / "b.wav"
    line.write_bytes(wav_bytes(np.full(400, 0.25, np.float32)))
    louder.write_bytes(wav_bytes(np.full(400, 0.5, np.float32)))
    portrait = np.zeros((4, 4, 3), np.uint8)
    stage = Stage(scenario, (line,), portrait, 0)
    changed = [
        replace(stage, scenario=other),
        replace(stage, lines=(louder,)),
        replace(stage, portrait=portrait + np.uint8(1)),
        replace(stage, portrait=portrait.reshape(2, 8, 3)),
        replace(stage, seed=1),
    ]
    keys = [stage.key("m", "i"), stage.key("n", "i"), stage.key("m", "j"), *(each.key("m", "i") for each in changed)]
    assert len(set(keys)) == len(keys) and stage.key("m", "i") == replace(stage).key("m", "i")
