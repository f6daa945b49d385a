"""The real FunASR hears, offline, from local folders, in its own process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lt_eval.judge.transcribe.hearing import hear
from lt_eval.judge.transcribe.paraformer import FunASR
from lt_eval.records import Audio
from tests.clips import write_wav
from tests.full.packages import require
from tests.judge.talks import talk

require("funasr", "torchaudio")

WRITE = """
import sys
from pathlib import Path
from tests.full.tiny_paraformer import write_detector, write_paraformer
folder = Path(sys.argv[1])
write_paraformer(folder / "asr")
write_detector(folder / "vad")
"""


def noise(seed: int, seconds: float) -> Audio:
    """Return loud noise in syllables, another one for every seed."""
    rng = np.random.default_rng(seed)
    samples = round(16_000 * seconds)
    loud = 0.5 + 0.5 * np.sin(2 * np.pi * (2 + seed % 3) * np.arange(samples) / 16_000)
    wave: Audio = (0.4 * loud * rng.standard_normal(samples).clip(-2, 2) / 2).astype(np.float32)
    return wave


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of a recogniser and a detector, made in a process of its own: funasr reseeds and sets threads."""
    folder = tmp_path_factory.mktemp("models")
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", WRITE, str(folder)], check=True, cwd=root, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def asr(models: Path) -> Iterator[FunASR]:
    with FunASR(str(models / "asr")) as found:
        yield found


@pytest.fixture(scope="module")
def with_vad(models: Path) -> Iterator[FunASR]:
    with FunASR(str(models / "asr"), vad=str(models / "vad")) as found:
        yield found


def test_the_same_sound_gives_the_same_words_and_another_one_others(asr: FunASR) -> None:
    first = asr.transcribe(noise(0, 2.0))
    assert len(first.split()) >= 2
    assert asr.transcribe(noise(0, 2.0)) == first != asr.transcribe(noise(1, 2.0))


def test_longer_sounds_give_longer_texts(asr: FunASR) -> None:
    # FunASR joins single letters that follow one another, so words are no measure
    assert len(asr.transcribe(noise(0, 6.0))) > len(asr.transcribe(noise(0, 2.0)))


def test_silence_is_nothing_heard_with_a_detector(with_vad: FunASR) -> None:
    assert with_vad.transcribe(np.zeros(32_000, np.float32)) == ""


def test_a_long_sound_is_heard_in_segments(with_vad: FunASR) -> None:
    pause = np.zeros(24_000, np.float32)
    parts = [noise(2, 3.0), noise(5, 3.0)]
    whole = with_vad.transcribe(np.concatenate([parts[0], pause, parts[1]]))
    assert len(whole.split()) >= 4
    assert whole != with_vad.transcribe(np.concatenate([parts[0], pause]))


def test_the_shortest_sounds_end_in_a_text_or_a_reason(with_vad: FunASR, asr: FunASR) -> None:
    assert with_vad.transcribe(noise(0, 0.1)) == ""
    assert isinstance(asr.transcribe(noise(0, 0.1)), str)


def test_a_conversation_is_heard_on_both_sides(with_vad: FunASR, tmp_path: Path) -> None:
    item = talk(tmp_path)
    turns = tuple(
        replace(turn, user_audio=write_wav(tmp_path / f"{n}.wav", noise(n, 2.0))) for n, turn in enumerate(item.turns)
    )
    found = hear([replace(item, turns=turns)], with_vad, folder=tmp_path / "cache")
    assert found.problems == () and (found.user_errors.rate or 0) > 0 and found.user_errors.lines == 2
    assert all(turn.user_transcript for turn in found.conversations[0].turns)


def test_the_footnote_says_that_it_is_not_the_papers_vocabulary(asr: FunASR) -> None:
    assert "the paper's has 4199" in asr.description and "no VAD" in asr.description
