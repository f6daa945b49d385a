"""FunASR from outside: folders, processes, failures, with a stand-in for the package. tests/full runs the real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lt_eval.errors import UnscorableError, UsageError
from lt_eval.judge.transcribe.hearing import hear
from lt_eval.judge.transcribe.paraformer import OTHER_MODEL, PAPER_MODEL, FunASR
from tests.clips import tone
from tests.judge.talks import talk

STAND_IN = """
import os
import numpy as np
print("funasr version: stand-in")  # the real one talks on standard output too

class Frontend:
    dither = 1.0

class AutoModel:
    def __init__(self, **chosen):
        assert os.path.isdir(chosen["model"]) and chosen["disable_update"] and chosen["ncpu"] == 1
        self.kwargs = {"frontend": Frontend()}
        self.vad = chosen.get("vad_kwargs")
        print("loading")

    def generate(self, input, **options):
        print("rtf 0.01")
        assert self.kwargs["frontend"].dither == 0.0
        if len(input) == 666:
            raise ValueError("math domain error")
        if len(input) == 667:
            os._exit(9)
        if float(np.abs(input).max()) < 1e-4:
            return [{"key": "x", "text": ""}]
        return [{"key": "x", "text": f"{len(input)} samples"}, {"text": "vad" if self.vad else "whole"}]
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "speech_paraformer"
    folder.mkdir()
    for name in ("config.yaml", "configuration.json", "model.pt"):
        (folder / name).write_text(name)
    (folder / "tokens.json").write_text('["a", "b", "c"]')
    return folder


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "packages" / "funasr").mkdir(parents=True)
    (tmp_path / "packages" / "funasr" / "__init__.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))


def test_sounds_become_words_whatever_is_printed_beside(model: Path, stand_in: None) -> None:
    with FunASR(str(model)) as asr:
        assert asr.transcribe(tone(0, 1.0)) == "16000 samples whole"
        assert asr.transcribe(np.zeros(8000, np.float32)) == ""
        assert asr.transcribe(np.zeros(0, np.float32)) == ""


def test_a_detector_is_used_where_given(model: Path, stand_in: None) -> None:
    with FunASR(str(model), vad=str(model)) as asr:
        assert asr.transcribe(tone(0, 0.5)) == "8000 samples vad"


def test_the_process_ends_with_the_conversations(model: Path, stand_in: None, tmp_path: Path) -> None:
    asr = FunASR(str(model))
    found = hear([talk(tmp_path)], asr, folder=tmp_path / "cache")
    assert [turn.transcript for turn in found.conversations[0].turns] == ["16000 samples whole"] * 2
    assert asr._held == {}


def test_a_sound_that_funasr_fails_on_fails_alone(model: Path, stand_in: None) -> None:
    with FunASR(str(model)) as asr:
        with pytest.raises(UnscorableError, match="math domain error"):
            asr.transcribe(tone(0, 1.0)[:666])
        assert asr.transcribe(tone(0, 1.0)[:500]) == "500 samples whole"


def test_a_process_that_dies_is_started_again(model: Path, stand_in: None) -> None:
    with FunASR(str(model)) as asr:
        with pytest.raises(UnscorableError, match="ended"):
            asr.transcribe(tone(0, 1.0)[:667])
        assert asr.transcribe(tone(0, 1.0)[:500]) == "500 samples whole"


def test_an_environment_without_funasr_is_an_error_with_a_remedy(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "funasr.py").write_text("raise ModuleNotFoundError(\"No module named 'torchaudio'\")")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with FunASR(str(model)) as asr, pytest.raises(UsageError, match=r"torchaudio.*pip install funasr"):
        asr.transcribe(tone(0, 0.5))
    with FunASR(str(model), python="/no/python") as asr, pytest.raises(UsageError, match="cannot be started"):
        asr.transcribe(tone(0, 0.5))


@pytest.mark.parametrize("name", ["", PAPER_MODEL, "paraformer-en", "/no/folder"])
def test_only_a_local_folder_is_taken(name: str) -> None:
    with pytest.raises(UsageError, match="local folder") as caught:
        FunASR(name)
    assert PAPER_MODEL in str(caught.value)
    assert (OTHER_MODEL in str(caught.value)) == ("paraformer" in name)


def test_a_folder_without_a_model_is_named(model: Path) -> None:
    (model / "model.pt").unlink()
    with pytest.raises(UsageError, match=r"model\.pt"):
        FunASR(str(model))


def test_the_fingerprint_is_that_of_the_files(model: Path, tmp_path: Path) -> None:
    before = FunASR(str(model)).fingerprint
    assert FunASR(str(model), device="cuda:0").fingerprint == before != FunASR(str(model), vad=str(model)).fingerprint
    (model / "config.yaml").write_text("other")
    assert FunASR(str(model)).fingerprint != before
    assert "vocabulary 3 (the paper's has 4199)" in FunASR(str(model)).description
