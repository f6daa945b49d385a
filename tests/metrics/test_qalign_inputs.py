from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from lt_eval.errors import WeightsError
from lt_eval.metrics.qalign_inputs import (
    CLIP_MEAN,
    CLIP_STD,
    LEVELS,
    PROMPT,
    TASKS,
    check_pictures,
    read_wording,
    squared,
)
from tests.metrics.one_align import one_align_script, pictures

GREY = [122, 116, 104]
"""CLIP's mean colour in whole levels, as upstream truncates it."""


def test_the_prompts_are_those_of_training() -> None:
    assert [PROMPT.format(task=task) for task in TASKS] == [
        "USER: How would you rate the quality of this image?\n<|image|>\nASSISTANT: The quality of the image is",
        "USER: How would you rate the aesthetics of this image?\n<|image|>\nASSISTANT: The aesthetics of the image is",
    ]
    assert LEVELS == ("excellent", "good", "fair", "poor", "bad")


@pytest.mark.parametrize("index", range(7))
def test_a_picture_becomes_a_square_of_bytes(index: int) -> None:
    picture = squared(pictures()[index], 448)
    assert picture.shape == (448, 448, 3) and picture.dtype == np.uint8


def test_a_picture_of_the_right_size_is_left_alone() -> None:
    picture = pictures()[4]
    assert np.array_equal(squared(picture, 448), picture)


@pytest.mark.parametrize(("height", "width"), [(20, 56), (56, 20), (21, 56), (56, 1)])
def test_padding_is_the_mean_colour_and_the_odd_pixel_goes_behind(height: int, width: int) -> None:
    picture = squared(np.full((height, width, 3), 250, np.uint8), 56)
    top, left = (56 - height) // 2, (56 - width) // 2
    inside = np.zeros((56, 56), bool)
    inside[top : top + height, left : left + width] = True
    assert (picture[inside] == 250).all()
    assert (picture[~inside] == GREY).all()


def test_one_colour_stays_that_colour() -> None:
    assert (squared(np.full((300, 300, 3), 77, np.uint8), 56) == 77).all()


def test_resizing_is_bicubic_with_antialiasing() -> None:
    """A ramp is reproduced but for its ends, and stripes finer than the result become their mean."""
    ramp = np.repeat(np.arange(224, dtype=np.uint8)[None, :, None], 224, axis=0).repeat(3, axis=2)
    shrunk = squared(ramp, 56)[28, 4:-4, 0].astype(float)
    assert np.abs(shrunk - (4 * np.arange(4, 52) + 1.5)).max() <= 0.5
    stripes = np.zeros((448, 448, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.abs(squared(stripes, 56)[:, 4:-4].astype(float) - 100).max() <= 1


def test_mirrored_pictures_stay_mirrored() -> None:
    picture = pictures()[0]
    assert np.array_equal(squared(picture[:, ::-1], 56), squared(picture, 56)[:, ::-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = one_align_script().write_checkpoint(tmp_path_factory.mktemp("inputs") / "tiny", image_size=56)
    return path


def restate(folder: Path, file: str, target: Path, **changes: object) -> Path:
    """Return a folder like another, with other values in one JSON file; None removes the key."""
    target.mkdir()
    for source in folder.iterdir():
        (target / source.name).symlink_to(source)
    stated = json.loads((folder / file).read_text()) | changes
    (target / file).unlink()
    (target / file).write_text(json.dumps({key: value for key, value in stated.items() if value is not None}))
    return target


def test_a_prompt_is_its_text_around_the_picture(folder: Path) -> None:
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    wording = read_wording(folder, 10_000)
    for prompt, task in zip(wording.prompts, TASKS, strict=True):
        assert prompt.before[0] == tokenizer.bos_id()
        text = tokenizer.decode(list(prompt.before[1:])) + "<|image|>" + tokenizer.decode(list(prompt.after))
        assert text == PROMPT.format(task=task)
    assert [tokenizer.decode([level]) for level in wording.levels] == list(LEVELS)
    assert len(wording.prompts[0].before) < len(wording.prompts[1].before)


def test_the_start_token_is_left_out_only_where_the_file_says_so(folder: Path, tmp_path: Path) -> None:
    usual = read_wording(folder, 10_000)
    silent = restate(folder, "tokenizer_config.json", tmp_path / "silent", add_bos_token=None)
    assert read_wording(silent, 10_000) == usual
    without = read_wording(restate(folder, "tokenizer_config.json", tmp_path / "no", add_bos_token=False), 10_000)
    for given, taken in zip(usual.prompts, without.prompts, strict=True):
        assert given.before[1:] == taken.before and given.after == taken.after


def test_a_tokenizer_of_another_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    script = one_align_script()
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "tokenizer.model").write_bytes(script.tokenizer_model(("excellent", "good", "poor", "bad")))
    with pytest.raises(WeightsError, match=r"splits the answer 'fair' into \['▁', .* not the tokenizer of Q-Align"):
        read_wording(tmp_path, 10_000)
    with pytest.raises(WeightsError, match="of a vocabulary of 300"):
        read_wording(folder, 300)
    (tmp_path / "tokenizer.model").write_bytes(b"<html>")
    with pytest.raises(WeightsError, match="cannot be read as a sentencepiece model"):
        read_wording(tmp_path, 10_000)


@pytest.mark.parametrize("size", [56, {"shortest_edge": 56}, {"height": 56, "width": 56}])
def test_sizes_may_be_written_in_the_newer_way(folder: Path, tmp_path: Path, size: object) -> None:
    check_pictures(restate(folder, "preprocessor_config.json", tmp_path / "new", size=size, crop_size=size), 56)


@pytest.mark.parametrize(
    ("key", "value"), [("image_mean", [0.5, 0.5, 0.5]), ("resample", 2), ("size", 224), ("crop_size", {"height": 224})]
)
def test_other_preparation_is_refused(folder: Path, tmp_path: Path, key: str, value: object) -> None:
    changed = restate(folder, "preprocessor_config.json", tmp_path / "changed", **{key: value})
    with pytest.raises(WeightsError, match=f"states {key} ="):
        check_pictures(changed, 56)


def test_mean_and_deviation_are_clip_s() -> None:
    assert [int(255 * mean) for mean in CLIP_MEAN] == GREY
    assert CLIP_STD == (0.26862954, 0.26130258, 0.27577711)
