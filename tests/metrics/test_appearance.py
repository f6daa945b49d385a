"""Appearance: what changes of a face moves its own number and leaves the others alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from lt_eval.errors import SpecError, UnscorableError
from lt_eval.metrics.appearance import Appearance, mean_lab, sharpness
from lt_eval.records import Frames
from lt_eval.registry import create
from tests.metrics.drawn_people import Drawn, drawn, sample

METRIC = Appearance(weights="builtin")


@pytest.fixture(scope="module")
def person() -> Drawn:
    return drawn(3, count=10)


def look(folder: Path, person: Drawn, frames: Frames) -> dict[str, float]:
    return dict(METRIC.score(sample(person.dialogue(folder, "anna"), frames)).values)


def test_columns_are_scored_and_none_is_better_higher(tmp_path: Path, person: Drawn) -> None:
    assert set(look(tmp_path, person, person.frames)) == set(METRIC.columns)
    assert {column.better for column in METRIC.columns.values()} == {"neither"}


def test_a_frozen_face_does_not_move_and_keeps_its_colours(tmp_path: Path, person: Drawn) -> None:
    frozen = np.repeat(person.frames[:1], len(person.frames), axis=0)
    found = look(tmp_path, person, frozen)
    assert found["Face motion"] == 0.0 < look(tmp_path, person, person.frames)["Face motion"]


def test_each_change_shows_in_its_own_number(tmp_path: Path, person: Drawn) -> None:
    plain = look(tmp_path, person, person.frames)
    bright = look(tmp_path, person, np.clip(person.frames * 1.15, 0, 255).astype(np.uint8))
    red = look(tmp_path, person, np.clip(person.frames * np.array([1.15, 1, 1]), 0, 255).astype(np.uint8))
    soft = look(tmp_path, person, np.stack([cv2.GaussianBlur(frame, (0, 0), 2) for frame in person.frames]))
    assert bright["Face L"] > plain["Face L"] + 3 and red["Face a"] > plain["Face a"] + 3
    assert soft["Face sharpness"] < 0.5 * plain["Face sharpness"]
    assert soft["Face L"] == pytest.approx(plain["Face L"], abs=1.0)


def test_what_happens_beside_the_face_does_not_count(tmp_path: Path, person: Drawn) -> None:
    changed = person.frames.copy()
    changed[:, :, :20], changed[:, -10:] = 255, 0
    plain, found = look(tmp_path, person, person.frames), look(tmp_path, person, changed)
    assert {name: pytest.approx(value) for name, value in plain.items()} == found


def test_grey_has_no_colour_and_a_flat_face_no_sharpness() -> None:
    grey = np.full((2, 8, 8, 3), 119, np.uint8)
    lightness, a, b = mean_lab(grey)
    assert lightness == pytest.approx(50.03, abs=0.3)  # OpenCV interpolates in a table
    assert abs(a) < 0.1 and abs(b) < 0.1
    assert sharpness(grey[0]) == 0.0
    board = grey[0].copy()
    board[::2, ::2] = board[1::2, 1::2] = 129
    assert sharpness(board) > 100


def test_what_has_no_value_has_a_reason(tmp_path: Path, person: Drawn) -> None:
    dialogue = person.dialogue(tmp_path, "anna")
    grey = np.full_like(person.frames, 128)
    for metric, frames, code in (
        (METRIC, person.frames[:1], "clip_too_short"),
        (dataclasses.replace(METRIC, faces="haar"), grey, "no_face"),
        (dataclasses.replace(METRIC, faces="sidecar"), grey, "no_face_boxes"),
    ):
        with pytest.raises(UnscorableError) as caught:
            metric.score(sample(dialogue, frames))
        assert caught.value.code == code
    for options in ({"frames": -1}, {"faces": "ears"}, {"weights": "mine"}):
        with pytest.raises(SpecError):
            create("metrics", "appearance", options)
