"""What a user is told of weights that are not here."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from lt_eval import weights


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Exception:
    monkeypatch.setenv("LT_EVAL_WEIGHTS", str(tmp_path))
    return weights.missing(("i3d", "i3d-state-dict"), ("one-align",))


def test_all_is_told_in_one_list_with_one_way_to_get_it(told: Exception, tmp_path: Path) -> None:
    text = str(told)
    assert "i3d_torchscript.pt  (or i3d_pretrained_400.pt, i3d-state-dict)" in text and "16.41 GB" in text
    assert text.count("lt-eval weights fetch i3d one-align") == text.count("--weights builtin") == 1
    assert text.count(str(tmp_path)) == 1


def test_it_is_told_alike_from_another_process(told: Exception) -> None:
    back = pickle.loads(pickle.dumps(told))
    assert (type(back), str(back), vars(back)) == (type(told), str(told), vars(told))
