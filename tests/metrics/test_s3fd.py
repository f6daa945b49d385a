from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from lt_eval.errors import WeightsError
from lt_eval.metrics.nets.inference import seeded_state
from lt_eval.metrics.nets.s3fd import (
    S3FD,
    S3FDLayers,
    decode,
    faces_of,
    load_s3fd,
    prepare,
    priors,
    strongest_apart,
)
from tests.metrics.test_inception import layout
from tests.metrics.upstream import parity_script


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Weights that find boxes: activations near one for levels 0..255, decided scores, sizes near the priors'."""
    found = seeded_state(S3FDLayers())
    found["vgg.0.weight"] /= 64
    for key, value in found.items():
        if key.endswith("weight") and key.startswith(("conf", "loc")):
            value *= 8.0 if key.startswith("conf") else 0.5
    return found


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory, state: dict[str, Tensor]) -> S3FD:
    path = tmp_path_factory.mktemp("weights") / "sfd_face.pth"
    torch.save(state, path)
    return load_s3fd(path)


def frames(count: int, height: int = 128, width: int = 160) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(0).integers(0, 256, (count, height // 8, width // 8, 3)).astype(np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def random_boxes(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 80, (count, 2)), rng.uniform(5, 40, (count, 2))
    scores = rng.uniform(0, 1, count).astype(np.float32)
    return scores, np.concatenate((corner, corner + size), axis=1).astype(np.float32)


def overlap(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, float(across)) * max(0.0, float(down))
    areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (one, other)]
    return shared / (sum(areas) - shared)


def test_layout_is_the_published_files() -> None:
    # of detectors/s3fd/nets.py of joonson/syncnet_python 6efbb1c, which loads the file strictly
    assert layout(S3FDLayers()) == (65, "85f5923b2cd77d85a793fa66b6d167e11f48b3c1eead2cb96fbf7375ab8ea996")


def test_every_stage_is_that_of_the_public_package() -> None:
    script = parity_script("sync")
    upstream = script.load_upstream(script.default_packages())
    raw = script.against_raw(upstream, sizes=((270, 354),))
    for found in raw + script.against_boxes(upstream) + script.against_faces(upstream, (2, 240, 320)):
        assert found.holds, found


def test_each_place_of_a_map_has_a_prior_box_about_its_centre() -> None:
    found = priors(128, 256, ((2, 3), (1, 1), (1, 1), (1, 1), (1, 1), (1, 1)))
    assert found.shape == (11, 4)
    np.testing.assert_allclose(found[0], [2 / 256, 2 / 128, 16 / 256, 16 / 128])
    np.testing.assert_allclose(found[5], [10 / 256, 6 / 128, 16 / 256, 16 / 128])  # second row, third column
    np.testing.assert_allclose(found[-1], [64 / 256, 64 / 128, 512 / 256, 512 / 128])


def test_offsets_move_by_tenths_of_the_prior_and_stretch_by_fifths_of_a_power() -> None:
    prior = torch.tensor([[0.5, 0.5, 0.2, 0.4]])
    np.testing.assert_allclose(decode(torch.zeros(1, 4), prior), [[0.4, 0.3, 0.6, 0.7]], atol=1e-6)
    moved = decode(torch.tensor([[1.0, -1.0, 5 * np.log(2), 0.0]]), prior)
    np.testing.assert_allclose(moved, [[0.32, 0.26, 0.72, 0.66]], atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(count=st.integers(0, 60), seed=st.integers(0, 1000), limit=st.sampled_from([0.0, 0.1, 0.3, 0.9]))
def test_kept_boxes_lie_apart_and_every_other_overlaps_a_stronger_kept_one(count: int, seed: int, limit: float) -> None:
    scores, boxes = random_boxes(count, seed)
    kept = strongest_apart(boxes, np.argsort(-scores), limit)
    assert [float(scores[i]) for i in kept] == sorted((float(scores[i]) for i in kept), reverse=True)
    for i in range(count):
        stronger = [j for j in kept if scores[j] > scores[i]]
        covered = any(overlap(boxes[i], boxes[j]) > limit + 1e-6 for j in stronger)
        touched = any(overlap(boxes[i], boxes[j]) > limit - 1e-6 for j in stronger)
        assert touched if i not in kept else not covered


def test_faces_score_more_than_the_threshold_and_are_in_pixels() -> None:
    scores = np.array([0.9, 0.95, 0.3, 0.04], np.float32)
    boxes = np.array([[0, 0, 0.1, 0.1], [0.5, 0.25, 1, 1], [0.2, 0.2, 0.3, 0.3], [0.8, 0, 0.9, 0.1]], np.float32)
    assert faces_of(scores, boxes, 200, 100, 0.9).tolist() == [[100, 25, 200, 100, np.float32(0.95)]]
    assert len(faces_of(scores, boxes, 200, 100, 0.0)) == 3  # none below 0.05
    assert faces_of(scores, boxes, 200, 100, 0.99).shape == (0, 5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), threshold=st.floats(0.05, 0.95))
def test_raising_the_threshold_only_takes_faces_away(seed: int, threshold: float) -> None:
    scores, boxes = random_boxes(80, seed)
    everything = faces_of(scores, boxes, 1, 1, 0.0)
    strong = faces_of(scores, boxes, 1, 1, threshold)
    np.testing.assert_array_equal(strong, everything[everything[:, 4] > np.float32(threshold)])


def test_input_is_shrunk_as_bytes_and_has_its_mean_taken_off() -> None:
    flat = np.full((1, 64, 64, 3), (200, 100, 50), np.uint8)
    x = prepare(flat, 0.25, torch.device("cpu"))
    assert x.shape == (1, 3, 16, 16)
    assert x[0, :, 3, 3].tolist() == [200 - 123, 100 - 117, 50 - 104]


def test_faces_do_not_depend_on_the_other_frames(detector: S3FD) -> None:
    pictures = frames(5)
    together = detector.detect(pictures)
    assert all(map(len, together))
    for picture, faces in zip(pictures, together, strict=True):
        (alone,) = detector.detect(picture[None])
        np.testing.assert_allclose(alone, faces, rtol=1e-4, atol=1e-2)


def test_frames_that_repeat_are_looked_at_once(detector: S3FD, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = frames(2)
    looked_at: list[int] = []
    plain = detector.raw

    def counted(x: Tensor) -> tuple[Tensor, Tensor, tuple[tuple[int, int], ...]]:
        looked_at.append(len(x))
        return plain(x)

    monkeypatch.setattr(detector, "raw", counted)
    found = detector.detect(np.stack([first, first, second, second, second, first]))
    assert sum(looked_at) == 3
    assert found[0] is found[1] and found[2] is found[4]
    np.testing.assert_allclose(found[0], found[5], rtol=1e-4, atol=1e-2)
    assert found[0].shape != found[2].shape or np.abs(found[0] - found[2]).max() > 1


def test_no_frames_have_no_faces(detector: S3FD) -> None:
    assert detector.detect(frames(0)) == []


@pytest.mark.parametrize("size", [(110, 131), (115, 410), (111, 110)])
def test_the_smallest_frames_are_looked_at(detector: S3FD, size: tuple[int, int]) -> None:
    (faces,) = detector.detect(frames(1, 120, 416)[:, : size[0], : size[1]], threshold=0.05)
    assert len(faces) and faces.dtype == np.float32


@pytest.mark.parametrize("size", [(109, 131), (400, 33), (1, 1)])
def test_frames_too_small_for_the_network_have_no_faces(detector: S3FD, size: tuple[int, int]) -> None:
    found = detector.detect(np.full((2, *size, 3), 90, np.uint8), threshold=0.05)
    assert [faces.shape for faces in found] == [(0, 5), (0, 5)]


def test_other_frames_are_refused(detector: S3FD) -> None:
    with pytest.raises(ValueError, match="frames are float64"):
        detector.detect(np.zeros((1, 64, 64, 3)))  # type: ignore[arg-type]


def test_another_layout_is_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save({**state, "vgg.0.weight": torch.zeros(64, 1, 3, 3)}, tmp_path / "grey.pth")
    with pytest.raises(WeightsError, match=r"1 wrong shape: vgg\.0\.weight \(64, 1, 3, 3\) instead of \(64, 3, 3, 3\)"):
        load_s3fd(tmp_path / "grey.pth")
