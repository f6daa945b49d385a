from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lt_eval import weights as weight_files
from lt_eval.errors import UnscorableError, WeightsError
from lt_eval.interfaces import HasFingerprint, HasFloor, HasFootnotes, HasInfluence, SetMetric
from lt_eval.metrics.fid import FID
from lt_eval.metrics.nets.inception import InceptionV3
from lt_eval.metrics.nets.inference import seeded_state
from lt_eval.records import Features
from tests.metrics.still_clips import ArrayClip, talking_blob

BUILTIN = FID(weights="builtin")


@pytest.fixture
def official_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty weights folder."""
    folder = tmp_path_factory.mktemp("weights")
    monkeypatch.setenv("LT_EVAL_WEIGHTS", str(folder))
    return folder


def put_seeded_inception(folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> None:
    """Seeded weights under the official name, their checksum for the published one."""
    path = folder / "pt_inception-2015-12-05-6726825d.pth"
    torch.save(seeded_state(InceptionV3(), seed), path)
    digest = weight_files.sha256_of(path)
    table = tuple(replace(line, sha256=digest) if line.name == "inception" else line for line in weight_files.TABLE)
    monkeypatch.setattr(weight_files, "TABLE", table)


def some_features(clips: int, seed: int = 0, width: int = 5) -> list[Features]:
    rng = np.random.default_rng(seed)
    return [rng.normal(rng.normal(), 1, (20, width)).astype(np.float32) for _ in range(clips)]


def test_keeps_the_contracts_of_a_set_metric() -> None:
    metric: SetMetric = BUILTIN
    assert isinstance(metric, HasInfluence)
    assert isinstance(metric, HasFloor)
    assert isinstance(metric, HasFingerprint)
    assert isinstance(metric, HasFootnotes)


@pytest.mark.parametrize(
    ("metric", "names"),
    [
        (FID(), ["FID", "KID", "FID-inf"]),
        (FID(kid=False, infinity=False), ["FID"]),
        (FID(preprocess="clean", infinity=False), ["FID (clean)", "KID (clean)"]),
        (FID(weights_file="my/net.pth", infinity=False), ["FID (net.pth)", "KID (net.pth)"]),
        (
            FID(weights_file="net.pth", preprocess="clean", kid=False),
            ["FID (net.pth, clean)", "FID-inf (net.pth, clean)"],
        ),
        (BUILTIN, ["FID (builtin)", "KID (builtin)", "FID-inf (builtin)"]),
    ],
)
def test_columns_are_named_by_what_makes_another_number(metric: FID, names: Sequence[str]) -> None:
    assert list(metric.columns) == names
    assert all(column.better == "lower" and column.fixed_by_reference for column in metric.columns.values())
    assert list(metric.distance(some_features(4), some_features(4, 1))) == names
    assert all(name in metric.footnotes[0] for name in names)


@pytest.mark.parametrize(
    "options",
    [
        {"weights": "random"},
        {"preprocess": "tensorflow"},
        {"ddof": 2},
        {"batch": 0},
        {"weights": "builtin", "preprocess": "clean"},
        {"weights": "builtin", "weights_file": "x.pth"},
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        FID(**options)  # type: ignore[arg-type]


def test_a_set_is_no_distance_from_itself_and_sides_may_be_swapped() -> None:
    features = [BUILTIN.features(ArrayClip(talking_blob(seed, 40, 64))) for seed in range(3)]
    same, there, back = (
        BUILTIN.distance(*sides)
        for sides in (
            (features, features),
            (features[:2], features[2:]),
            (features[2:], features[:2]),
        )
    )
    assert same["FID (builtin)"] == pytest.approx(0, abs=1e-6)
    assert there["FID (builtin)"] > 0.1
    assert there == pytest.approx(back)


def test_few_clips_leave_out_what_needs_more() -> None:
    one = some_features(1)
    assert "FID-inf (builtin)" not in BUILTIN.distance(one, one)
    assert "FID (builtin)" not in BUILTIN.floor(one, 1)


def test_every_value_has_an_influence_and_every_distance_a_floor() -> None:
    generated, reference = some_features(8), some_features(8, 1)
    pulls = BUILTIN.influence(generated, reference)
    assert pulls.keys() == BUILTIN.distance(generated, reference).keys() == BUILTIN.columns.keys()
    assert BUILTIN.floor(reference, 8).keys() == {"FID (builtin)", "KID (builtin)"}
    assert BUILTIN.influence(generated[:1], reference).keys() == BUILTIN.distance(generated[:1], reference).keys()
    for pull in pulls.values():
        assert pull.generated.shape == pull.reference.shape == (8,)
        assert pull.generated.sum() == pytest.approx(0, abs=1e-8)


def test_features_are_one_row_a_frame_whatever_the_batch() -> None:
    clip = ArrayClip(talking_blob(0, 37, 96))
    rows = BUILTIN.features(clip)
    assert rows.shape == (37, 192)
    assert rows.dtype == np.float32
    assert np.abs(rows - replace(BUILTIN, batch=5).features(clip)).max() < 1e-5
    assert (rows == BUILTIN.features(clip)).all()


def test_a_clip_without_frames_is_a_failure_with_a_reason() -> None:
    with pytest.raises(UnscorableError, match=r"empty\.mp4 has no frame") as failure:
        BUILTIN.features(ArrayClip(np.zeros((0, 8, 8, 3), np.uint8), Path("empty.mp4")))
    assert failure.value.code == "clip_too_short"


def test_missing_weights_say_what_to_get(official_folder: Path) -> None:
    for attempt in (lambda: FID().features(ArrayClip(talking_blob(0, 1))), lambda: FID().fingerprint):
        with pytest.raises(WeightsError) as refusal:
            attempt()
        for word in ("pt_inception", "95.6 MB", "lt-eval weights fetch inception", "https://", str(official_folder)):
            assert word in str(refusal.value)
        assert "--weights builtin" in str(refusal.value)
    assert "pt_inception-2015-12-05-6726825d.pth" in FID().footnotes[0]


def test_another_file_under_the_official_name_is_refused(official_folder: Path) -> None:
    (official_folder / "pt_inception-2015-12-05-6726825d.pth").write_bytes(b"something else")
    with pytest.raises(WeightsError, match="is not the published file"):
        FID().features(ArrayClip(talking_blob(0, 1)))


def test_official_weights_end_to_end(official_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_seeded_inception(official_folder, monkeypatch)
    clip = ArrayClip(talking_blob(0, 3, 64))
    rows = FID(device="cpu").features(clip)
    assert rows.shape == (3, 2048)
    assert np.abs(rows - FID(device="cpu", batch=2).features(clip)).max() < 1e-5
    assert np.abs(rows - FID(device="cpu", preprocess="clean").features(clip)).max() > 1e-3
    own = FID(device="cpu", weights_file=str(official_folder / "pt_inception-2015-12-05-6726825d.pth"))
    assert (rows == own.features(clip)).all()

    fingerprint = FID().fingerprint
    assert fingerprint == FID(batch=7, ddof=0, kid=False).fingerprint == own.fingerprint
    put_seeded_inception(official_folder, monkeypatch, seed=1)
    others = {FID().fingerprint, FID(preprocess="clean").fingerprint, BUILTIN.fingerprint}
    assert len({fingerprint, *others}) == 4
    assert np.abs(rows - FID(device="cpu").features(clip)).max() > 1e-3  # a replaced file is read anew


def test_a_file_of_ones_own_must_exist() -> None:
    with pytest.raises(WeightsError, match=r"nowhere\.pth does not exist"):
        FID(weights_file="nowhere.pth").features(ArrayClip(talking_blob(0, 1)))


def test_distances_need_no_torch() -> None:
    program = """
import sys, numpy as np
from lt_eval.metrics.fid import FID
from lt_eval.metrics.fvd import FVD
rng = np.random.default_rng(0)
sets = [[rng.normal(size=(9, 4)).astype("float32") for _ in range(2)] for _ in range(2)]
for metric in (FID(), FVD(infinity=True), FID(weights="builtin"), FVD(weights="builtin")):
    metric.distance(*sets), metric.influence(*sets), metric.floor(sets[0], 2), metric.columns, metric.footnotes
FID(weights="builtin").fingerprint
assert "torch" not in sys.modules and "cv2" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
