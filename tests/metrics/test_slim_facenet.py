"""The builtin face network on people that it was not trained on, with the committed weights."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lt_eval.errors import WeightsError
from lt_eval.metrics.face_alignment import aligned_face
from lt_eval.metrics.nets.slim_facenet import WEIGHTS, SlimFaceNet, builtin_facenet, load, save
from lt_eval.records import Frames
from tests.metrics.drawn_people import drawn

TRAIN = Path(__file__).parents[2] / "benchmarks" / "train"


@pytest.fixture(scope="module")
def faces() -> Frames:
    """uint8 [10 people, 6 moments, 112, 112, 3]; the last three in other light, at another size."""
    found = []
    for number in range(10):
        usual, other = drawn(number, 3, 192), drawn(number, 3, 128, light=0.6)
        found.append(
            [
                aligned_face(frame, np.array(box) * len(frame))
                for one in (usual, other)
                for frame, box in zip(one.frames, one.boxes, strict=True)
            ]
        )
    return np.array(found)


def test_people_it_has_never_seen_are_told_apart(faces: Frames) -> None:
    vectors = np.stack([builtin_facenet("cpu").embed(person) for person in faces])
    cosines = np.einsum("pd,qfd->pqf", vectors[:, 0], vectors[:, 3:])
    own = np.eye(len(faces), dtype=bool)
    assert cosines[own].min() > 0.5
    assert cosines[own].mean() > cosines[~own].mean() + 0.5
    hits = cosines.max(axis=2).argmax(axis=1) == np.arange(len(faces))
    assert hits.mean() >= 0.9


def test_a_row_depends_on_its_own_face_only(faces: Frames) -> None:
    network, flat = builtin_facenet("cpu"), faces.reshape(-1, 112, 112, 3)
    together = network.embed(np.concatenate([flat, flat]))  # more than one pass
    alone = np.concatenate([network.embed(face[None]) for face in flat[:5]])
    assert np.allclose(together[:5], alone, atol=1e-5)
    assert np.allclose(together[len(flat) :], together[: len(flat)], atol=1e-5)
    assert np.allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    assert network.embed(flat[:0]).shape == (0, 128)


def test_what_is_no_aligned_face_is_refused() -> None:
    for faces in (np.zeros((1, 56, 56, 3), np.uint8), np.zeros((1, 112, 112, 3), np.float32)):
        with pytest.raises(ValueError, match="112"):
            builtin_facenet("cpu").embed(faces)  # type: ignore[arg-type]


def test_weights_are_small_and_those_of_the_card() -> None:
    assert WEIGHTS.stat().st_size < 2 * 2**20
    digest = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert digest in (TRAIN / "identity.md").read_text()
    assert json.loads((TRAIN / "identity.json").read_text())["sha256"] == digest
    assert builtin_facenet("cpu") is builtin_facenet("cpu")


def test_a_saved_network_is_the_same_again(tmp_path: Path) -> None:
    save(builtin_facenet("cpu"), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == WEIGHTS.read_bytes()
    other = SlimFaceNet()
    del other.layers[-1]
    save(other, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="SlimFaceNet"):
        load(tmp_path / "other.safetensors", "cpu")


def test_training_runs_and_gives_the_same_bytes_again(tmp_path: Path) -> None:
    options = ["--people", "2", "--unseen", "2", "--steps", "2", "--face-folder", str(tmp_path / "faces")]
    digests = []
    for name in ("first", "second"):
        command = [sys.executable, str(TRAIN / "identity.py"), *options, "--out", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        digests.append(json.loads(done.stdout.splitlines()[-1])["sha256"])
        assert (tmp_path / name / "identity_curve.csv").read_text().count("\n") == 2
    assert digests[0] == digests[1]
