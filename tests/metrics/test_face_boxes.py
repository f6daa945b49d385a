from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lt_eval.errors import UnscorableError
from lt_eval.media.picture import crop, fit
from lt_eval.metrics.face_boxes import Detector, Footage, Placing, available, boxes_of, read_faces
from lt_eval.records import Box, Frames, MediaPolicy, Turn
from lt_eval.testing.fakes import ArrayClip

CLIP = ArrayClip(np.zeros((6, 80, 160, 3), np.uint8), path=Path("nowhere/clip.mp4"))
FOOTAGE = Footage(CLIP.frames, np.arange(6), [(0, 6)], np.zeros(3840, np.int16))
BOX = [0.25, 0.25, 0.5, 0.75]


class CornerDetector:
    """Finds one face, as large as the first pixel's red says, and counts what it is shown."""

    def __init__(self) -> None:
        self.seen = 0

    def detect(self, frames: Frames, scale: float = 0.25, threshold: float = 0.9) -> list[NDArray[np.float32]]:
        self.seen += len(frames)
        return [np.array([[0, 0, frame[0, 0, 0], 5, 0.99]], np.float32) for frame in frames]


def unused() -> Detector:
    raise AssertionError("no detector is needed")


def stated(path: Path, faces: object, fps: float = 25) -> Path:
    path.write_text(json.dumps({"fps": fps, "faces": faces, "other": "keys"}))
    return path


def test_the_first_source_there_is_is_taken(tmp_path: Path) -> None:
    manifest = stated(tmp_path / "item.json", [BOX])
    clip = ArrayClip(CLIP.frames, path=tmp_path / "clip.mp4")
    assert available(clip, Turn(), ("manifest", "sidecar", "haar")) == "haar"
    stated(tmp_path / "clip.faces.json", [BOX])
    assert available(clip, Turn(), ("manifest", "sidecar", "haar")) == "sidecar"
    assert available(clip, Turn(faces=manifest), ("manifest", "sidecar", "haar")) == "manifest"
    with pytest.raises(UnscorableError, match="no face boxes are stated"):
        available(clip, Turn(faces=tmp_path / "absent.json"), ("manifest",))


def test_boxes_of_a_file_belong_to_times(tmp_path: Path) -> None:
    # 12.5 boxes a second: each serves two of our frames
    file = stated(tmp_path / "item.json", [BOX, None, [BOX, [0.5, 0, 1, 1]]], fps=12.5)
    found = boxes_of(FOOTAGE, CLIP, Turn(faces=file), "manifest", None, unused, "")
    assert [len(boxes) for boxes in found] == [1, 1, 0, 0, 2, 2]
    np.testing.assert_allclose(found[0], [[40, 20, 80, 60]])
    np.testing.assert_allclose(found[5][1], [80, 0, 160, 80])


def test_frames_beyond_the_file_have_no_box(tmp_path: Path) -> None:
    file = stated(tmp_path / "item.json", [BOX] * 4)
    found = boxes_of(FOOTAGE, CLIP, Turn(faces=file), "manifest", None, unused, "")
    assert [len(boxes) for boxes in found] == [1, 1, 1, 1, 0, 0]


def test_pictures_shown_twice_have_the_box_of_their_instant(tmp_path: Path) -> None:
    file = stated(tmp_path / "item.json", [[0, 0, (k + 1) / 10, 1] for k in range(6)])
    late = replace(FOOTAGE, instants=np.array([0, 0, 1, 1, 2, 3]))
    found = boxes_of(late, CLIP, Turn(faces=file), "manifest", None, unused, "")
    np.testing.assert_allclose([boxes[0, 2] for boxes in found], [16, 16, 32, 32, 48, 64])


def test_a_first_frame_left_out_shifts_the_boxes(tmp_path: Path) -> None:
    file = stated(tmp_path / "item.json", [[0, 0, (k + 1) / 10, 1] for k in range(7)])
    placing = Placing(160, 80, MediaPolicy(skip_first_frame=True), None, 1 / 25)
    found = boxes_of(FOOTAGE, CLIP, Turn(faces=file), "manifest", placing, unused, "")
    np.testing.assert_allclose([boxes[0, 2] for boxes in found], 16 * np.arange(2, 8))


@pytest.mark.parametrize("how", ["crop", "letterbox", "squash"])
@pytest.mark.parametrize("content", [None, Box(0.125, 0.0, 1.0, 0.75)])
def test_boxes_go_where_the_canonical_frame_puts_their_pixels(how: str, content: Box | None) -> None:
    policy = MediaPolicy(size=64, fit=how)  # type: ignore[arg-type]
    picture = np.zeros((160, 240, 3), np.uint8)
    picture[60:100, 100:140] = 255
    small = fit(picture if content is None else crop(picture, content), policy)[..., 0] > 127
    rows, columns = np.flatnonzero(small.any(axis=1)), np.flatnonzero(small.any(axis=0))
    (box,) = Placing(240, 160, policy, content, 0.04).placed(np.array([[100 / 240, 60 / 160, 140 / 240, 100 / 160]]))
    np.testing.assert_allclose(64 * box, [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], atol=1.01)


@pytest.mark.parametrize(
    "data",
    [
        "[]",
        "{}",
        '{"fps": 0, "faces": []}',
        '{"fps": 25, "faces": [[1, 2, 3]]}',
        '{"fps": 25, "faces": [[0.5, 0, 0.5, 1]]}',
        '{"fps": 25, "faces": ["left"]}',
        '{"fps": 25, "faces": [[0, 0, NaN, 1]]}',
        '{"fps": 25, "faces": [[120, 80, 360, 320]]}',
        '{"fps": 25, "faces": [[0.1, 0.1, 0.3, 0.3], [120, 80, 360, 320], [[120, 80, 360, 320], [9, 9, 10, 10]]]}',
        "not json",
    ],
)
def test_a_file_that_is_no_file_of_boxes_is_refused(tmp_path: Path, data: str) -> None:
    file = tmp_path / "clip.faces.json"
    file.write_text(data)
    with pytest.raises(UnscorableError, match=r"is no file of face boxes.*Mend it") as caught:
        read_faces(file)
    assert caught.value.code == "bad_face_boxes"


@pytest.mark.parametrize(
    "stray",
    [[1.1, 0.2, 1.5, 0.6], [-0.6, 0.2, -0.2, 0.6], [0.2, 0.9, 0.6, 1.2], [40, 40, 41, 41], [-3, -3, 4, 4]],
    ids=["right", "left", "below", "far away", "immense"],
)
def test_a_box_outside_of_the_picture_is_no_face(tmp_path: Path, stray: list[float]) -> None:
    file = stated(tmp_path / "item.json", [BOX, [BOX, stray], stray, BOX, BOX])
    found = boxes_of(FOOTAGE, CLIP, Turn(faces=file), "manifest", None, unused, "")
    assert [len(boxes) for boxes in found] == [1, 1, 0, 1, 1, 0]
    assert all(np.allclose(boxes, [40, 20, 80, 60]) for boxes in found if len(boxes))


def test_a_face_that_the_picture_cuts_stays_one(tmp_path: Path) -> None:
    file = stated(tmp_path / "item.json", [[-0.4, -0.3, 0.5, 0.6]] * 6)
    found = boxes_of(FOOTAGE, CLIP, Turn(faces=file), "manifest", None, unused, "")
    assert [len(boxes) for boxes in found] == [1] * 6


def test_boxes_beside_what_the_canonical_frame_shows_are_no_faces(tmp_path: Path) -> None:
    """A face at the left edge of a wide picture, of which the middle is kept."""
    file = stated(tmp_path / "item.json", [[0, 0.4, 0.1, 0.6], [0.4, 0.4, 0.6, 0.6]] * 3)
    placing = Placing(160, 80, MediaPolicy(size=64), None, 1 / 25)
    found = boxes_of(FOOTAGE, CLIP, Turn(faces=file), "manifest", placing, unused, "")
    assert [len(boxes) for boxes in found] == [0, 1] * 3


def test_where_every_box_is_outside_the_reason_says_so(tmp_path: Path) -> None:
    file = stated(tmp_path / "item.json", [None, [1.1, 0.2, 1.5, 0.6], [-0.6, 0.2, -0.2, 0.6]])
    with pytest.raises(UnscorableError, match=r"all 2 stated face boxes lie outside of the picture") as caught:
        boxes_of(FOOTAGE, CLIP, Turn(faces=file), "manifest", None, unused, "")
    assert caught.value.code == "face_outside"


def test_detections_are_kept_for_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LT_EVAL_CACHE", str(tmp_path))
    frames = np.random.default_rng(0).integers(6, 256, (20, 64, 64, 3), dtype=np.uint8)
    footage = Footage(frames, np.arange(20), [(0, 20)], np.zeros(0, np.int16), key="a clip")
    detector = CornerDetector()

    def find(footage: Footage, key: str) -> list[NDArray[np.float64]]:
        return boxes_of(footage, CLIP, Turn(), "s3fd", None, lambda: detector, key)

    first, again = find(footage, "weights"), find(footage, "weights")
    assert detector.seen == 20
    assert [boxes[0, 2] for boxes in first] == frames[:, 0, 0, 0].tolist()
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(first, again, strict=True))
    find(footage, "other weights")
    find(replace(footage, key="another clip"), "weights")
    assert detector.seen == 60


def test_a_spoiled_cache_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LT_EVAL_CACHE", str(tmp_path))
    detector = CornerDetector()
    footage = replace(FOOTAGE, key="a clip")
    make: Callable[[], Detector] = lambda: detector  # noqa: E731
    boxes_of(footage, CLIP, Turn(), "s3fd", None, make, "w")
    (kept,) = (tmp_path / "faces").iterdir()
    kept.write_bytes(kept.read_bytes()[:50])
    assert len(boxes_of(footage, CLIP, Turn(), "s3fd", None, make, "w")) == 6
    assert detector.seen == 12
    monkeypatch.setenv("LT_EVAL_CACHE", str(kept / "no folder"))
    assert len(boxes_of(footage, CLIP, Turn(), "s3fd", None, make, "w")) == 6


def test_the_cascade_finds_no_face_in_noise() -> None:
    assert [len(boxes) for boxes in boxes_of(FOOTAGE, CLIP, Turn(), "haar", None, unused, "")] == [0] * 6


def test_s3fd_is_not_asked_about_pictures_too_small_for_it() -> None:
    tiny = replace(FOOTAGE, pictures=np.zeros((6, 40, 90, 3), np.uint8))
    assert [len(boxes) for boxes in boxes_of(tiny, CLIP, Turn(), "s3fd", None, unused, "")] == [0] * 6
