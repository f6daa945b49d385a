from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lt_eval import weights
from lt_eval.errors import MissingExtraError, UnscorableError, WeightsError
from lt_eval.interfaces import ClipMetric, HasFingerprint, HasFootnotes, MayBeUnavailable
from lt_eval.metrics import qalign
from lt_eval.metrics.nets.one_align import OneAlign
from lt_eval.metrics.qalign import QAlign, evenly
from lt_eval.records import Frames, Score
from lt_eval.testing import check_clip_metric
from lt_eval.testing.fakes import ArrayClip, toy_samples
from tests.metrics.one_align import one_align_script, pictures
from tests.metrics.still_clips import talking_blob


@pytest.fixture(scope="module")
def metric(tmp_path_factory: pytest.TempPathFactory) -> QAlign:
    folder = one_align_script().write_checkpoint(tmp_path_factory.mktemp("qalign") / "tiny", image_size=56)
    return QAlign(weights_file=str(folder), device="cpu", dtype="float32")


@pytest.fixture(autouse=True)
def no_official_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LT_EVAL_WEIGHTS", str(tmp_path / "weights"))


def score(metric: QAlign, frames: Frames) -> Score:
    return metric.score(toy_samples([ArrayClip(frames, path=Path("clip.mp4"))])[0])


@contextmanager
def counted(metric: QAlign) -> Iterator[dict[str, list[int]]]:
    """Count the pictures of every pass through the eyes and the language model."""
    scorer: Any = metric._scorer()
    model: OneAlign = scorer.__self__
    seen: dict[str, list[int]] = {"eyes": [], "abstractor": [], "language": []}
    hooks = [
        model.network.model.vision_model.register_forward_pre_hook(lambda _, x: seen["eyes"].append(len(x[0]))),
        model.network.model.visual_abstractor.register_forward_pre_hook(
            lambda _, x: seen["abstractor"].append(len(x[0]))
        ),
        model.network.model.layers[0].register_forward_pre_hook(lambda _, x: seen["language"].append(len(x[0]))),
    ]
    yield seen
    for hook in hooks:
        hook.remove()


def test_keeps_the_contract_of_a_clip_metric(metric: QAlign) -> None:
    check_clip_metric(partial(QAlign, weights_file=metric.weights_file, device="cpu"))
    one: ClipMetric = metric
    assert isinstance(one, HasFingerprint)
    assert isinstance(one, HasFootnotes)
    assert isinstance(one, MayBeUnavailable)


def test_columns_are_one_to_five_and_named_by_the_weights(metric: QAlign) -> None:
    assert list(QAlign().columns) == ["IQA", "ASE"]
    assert list(metric.columns) == ["IQA (tiny)", "ASE (tiny)"]
    for column in QAlign().columns.values():
        assert column.better == "higher" and column.minimum == 1.0


def test_footnotes_say_how_and_under_what_terms(metric: QAlign) -> None:
    (note,) = replace(QAlign(), device="cpu").footnotes
    for words in (
        "1 to 5",
        '"quality" and "aesthetics"',
        "16 evenly spaced frames",
        "float32",
        "non-commercial",
        "Pillow",
    ):
        assert words in note
    assert "mean over all frames" in replace(metric, frames=0).footnotes[0]
    assert "own weights tiny" in metric.footnotes[0]


def test_the_score_is_the_mean_over_frames_and_every_frame_s_is_kept(metric: QAlign) -> None:
    found = score(metric, talking_blob(0, 40, 64))
    assert len(found.details["frame_indices"]) == 16
    assert found.details["frame_indices"][0] == 0 and found.details["frame_indices"][-1] == 39
    for name in metric.columns:
        assert len(found.details[name]) == 16
        assert found.values[name] == pytest.approx(np.mean(found.details[name]), abs=1e-4)
        assert 1 <= found.values[name] <= 5


def test_each_column_is_its_own_prompt(metric: QAlign) -> None:
    frames = np.stack([pictures()[2]])
    alone = metric._scorer()([frames[0]])[0]
    assert list(score(metric, frames).values.values()) == pytest.approx(list(alone))
    assert abs(alone[0] - alone[1]) > 1e-3


def test_one_pass_of_the_eyes_serves_both_columns(metric: QAlign) -> None:
    with counted(metric) as seen:
        score(replace(metric, frames=10, batch=4), talking_blob(0, 40, 64))
    assert seen["eyes"] == seen["abstractor"] == [4, 4, 2]
    assert seen["language"] == [4, 4, 4, 4, 2, 2]


def test_frames_that_are_the_same_are_seen_once(metric: QAlign) -> None:
    three = talking_blob(0, 3, 64)
    frames = three[[0, 0, 1, 0, 2, 1]]
    with counted(metric) as seen:
        found = score(metric, frames)
    assert seen["eyes"] == [3]
    name = next(iter(metric.columns))
    a, b, c = score(metric, three).details[name]
    assert found.details[name] == pytest.approx([a, a, b, a, c, b], abs=1e-5)


def test_values_do_not_depend_on_the_batch(metric: QAlign) -> None:
    frames = talking_blob(1, 20, 64)
    whole = score(metric, frames)
    for batch in (1, 3, 64):
        other = score(replace(metric, batch=batch), frames)
        for name in metric.columns:
            assert other.details[name] == pytest.approx(whole.details[name], abs=2e-5)


@pytest.mark.parametrize(
    ("count", "wanted", "indices"),
    [(5, 0, [0, 1, 2, 3, 4]), (3, 16, [0, 1, 2]), (9, 3, [0, 4, 8]), (10, 1, [5]), (125, 2, [0, 124]), (1, 1, [0])],
)
def test_frames_are_spaced_evenly(count: int, wanted: int, indices: list[int]) -> None:
    assert evenly(count, wanted).tolist() == indices


@pytest.mark.parametrize("count", [17, 81, 125, 1000])
def test_no_frame_is_chosen_twice_and_gaps_differ_by_one_at_most(count: int) -> None:
    gaps = np.diff(evenly(count, 16))
    assert len(gaps) == 15 and gaps.min() >= 1 and np.ptp(gaps) <= 1


def test_a_clip_without_frames_is_a_failure_with_a_reason(metric: QAlign) -> None:
    with pytest.raises(UnscorableError, match="has no frame") as failure:
        score(metric, np.empty((0, 64, 64, 3), np.uint8))
    assert failure.value.code == "clip_too_short"


def test_a_number_that_is_none_is_a_failure_with_a_reason(metric: QAlign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qalign, "_load", lambda *_: lambda frames: np.full((len(frames), 2), np.nan, np.float32))
    with pytest.raises(UnscorableError, match="try dtype float32") as failure:
        score(metric, talking_blob(0, 4, 64))
    assert failure.value.code == "not_finite"


def test_builtin_weights_have_no_value_and_say_why() -> None:
    builtin = QAlign(weights="builtin")
    assert "no builtin network rates pictures" in builtin.unavailable
    assert "lt-eval weights fetch one-align" in builtin.unavailable
    assert builtin.fingerprint == QAlign(weights="builtin", frames=8).fingerprint
    assert builtin.footnotes == ()
    assert QAlign().unavailable == ""
    with pytest.raises(WeightsError, match="no builtin network"):
        score(builtin, talking_blob(0, 4, 64))


def test_official_weights_are_the_published_files_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: QAlign
) -> None:
    folder = one_align_script().write_checkpoint(
        tmp_path / "weights" / "one-align", image_size=56, form="bin", shards=2
    )
    table = tuple(replace(line, sha256=None) for line in weights.TABLE)
    monkeypatch.setattr(weights, "TABLE", table)
    official = QAlign(device="cpu", dtype="float32")
    assert list(score(official, talking_blob(0, 4, 64)).values) == ["IQA", "ASE"]
    first = official.fingerprint
    (folder / "README.md").write_text("what it is")
    assert official.fingerprint == first
    (folder / "model.safetensors").write_bytes(b"of unknown origin")
    with pytest.raises(WeightsError, match=r"also holds model\.safetensors"):
        score(official, talking_blob(0, 4, 64))


def test_missing_official_weights_say_what_to_get() -> None:
    with pytest.raises(
        WeightsError, match=r"(?s)16\.41 GB.*pytorch_model-00001-of-00002\.bin.*weights fetch one-align"
    ) as failure:
        _ = QAlign(device="cpu").fingerprint
    assert "non-commercial" in str(failure.value)
    with pytest.raises(WeightsError, match="is no folder"):
        score(QAlign(weights_file="nowhere", device="cpu"), talking_blob(0, 4, 64))


def test_pyiqa_is_asked_for_by_its_extra_with_its_licence(metric: QAlign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lt_eval.metrics.qalign_pyiqa.PACKAGES", ("a_package_that_is_not_here",))
    for call in (lambda m: m.fingerprint, lambda m: score(m, talking_blob(0, 4, 64))):
        with pytest.raises(MissingExtraError, match=r"PolyForm-Noncommercial.*pip install 'lt-eval\[qalign\]'"):
            call(replace(metric, loader="pyiqa"))


@pytest.mark.parametrize(
    "options",
    [
        {"weights": "random"},
        {"loader": "vllm"},
        {"dtype": "int8"},
        {"frames": -1},
        {"batch": 0},
        {"weights": "builtin", "weights_file": "x"},
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        QAlign(**options)


def test_the_fingerprint_names_what_changes_a_score(metric: QAlign, tmp_path: Path) -> None:
    again = one_align_script().write_checkpoint(tmp_path / "tiny", image_size=56)
    other = one_align_script().write_checkpoint(tmp_path / "other" / "tiny", image_size=56, seed=1)
    same = {
        metric.fingerprint,
        replace(metric, batch=2).fingerprint,
        replace(metric, weights_file=str(again)).fingerprint,
    }
    assert len(same) == 1
    changed = [replace(metric, frames=8), replace(metric, dtype="float16"), replace(metric, weights_file=str(other))]
    assert len({*same, *(one.fingerprint for one in changed)}) == 4


def test_precision_by_itself_follows_the_device(metric: QAlign) -> None:
    assert replace(metric, dtype="auto").fingerprint == metric.fingerprint


def test_a_checkpoint_that_is_replaced_is_read_anew(metric: QAlign, tmp_path: Path) -> None:
    script = one_align_script()
    folder = script.write_checkpoint(tmp_path / "tiny", image_size=56)
    own = replace(metric, weights_file=str(folder))
    frames = talking_blob(0, 4, 64)
    before = score(own, frames)
    assert before.values == score(metric, frames).values
    script.write_checkpoint(folder, image_size=56, seed=1)
    assert score(own, frames).values != before.values
