from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lt_eval.metrics import preprocess
from lt_eval.records import Frames, MediaPolicy

Prepare = Callable[[Frames], Tensor]


def grain(count: int, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def pillow_float_bicubic(frame: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    planes = [Image.fromarray(frame[:, :, c].astype(np.float32)) for c in range(3)]
    assert all(plane.mode == "F" for plane in planes)
    resized = [np.asarray(plane.resize((side, side), resample=Image.Resampling.BICUBIC)) for plane in planes]
    return np.stack(resized).clip(0, 255)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 60), st.integers(0, 9))
def test_clean_resize_is_pillows_float_bicubic(height: int, width: int, side: int, seed: int) -> None:
    frames = grain(1, height, width, seed)
    ours = preprocess.clean_resize(frames, side).numpy()[0]
    assert np.abs(ours - pillow_float_bicubic(frames[0], side)).max() < 1e-4


@pytest.mark.parametrize(("height", "width"), [(512, 512), (960, 540), (299, 299), (64, 64)])
def test_clean_resize_to_the_networks_size_is_pillows(height: int, width: int) -> None:
    frames = grain(1, height, width)
    ours = preprocess.clean_resize(frames).numpy()[0]
    assert np.abs(ours - pillow_float_bicubic(frames[0], 299)).max() < 1e-4


def test_clean_scales_to_the_range_of_clean_fid() -> None:
    ends = np.stack([np.zeros((40, 30, 3), np.uint8), np.full((40, 30, 3), 255, np.uint8)])
    low, high = preprocess.clean(ends)
    assert low.min() == low.max() == -1.0
    torch.testing.assert_close(high, torch.full_like(high, 127 / 128), atol=1e-6, rtol=0)


def test_pytorch_fid_is_to_tensor_then_bilinear_then_scaled() -> None:
    frames = grain(2, 120, 160)
    unit = torch.from_numpy(frames.transpose(0, 3, 1, 2).copy()).float() / 255
    theirs = 2 * torch.nn.functional.interpolate(unit, size=(299, 299), mode="bilinear", align_corners=False) - 1
    torch.testing.assert_close(preprocess.pytorch_fid(frames), theirs, atol=1e-6, rtol=0)


def test_pytorch_fid_does_not_antialias_where_clean_does() -> None:
    columns = np.zeros((1, 30, 3 * 299, 3), np.uint8)
    columns[:, :, 1::3] = 255  # a third of the picture, which sampling without a filter takes for all of it
    assert preprocess.pytorch_fid(columns).mean().item() == pytest.approx(1.0, abs=1e-4)
    assert preprocess.clean(columns).mean().item() == pytest.approx((255 / 3 - 128) / 128, abs=1e-2)


@pytest.mark.parametrize("level", [0, 100, 255])
def test_a_flat_picture_stays_flat(level: int) -> None:
    frames = np.full((16, 50, 70, 3), level, np.uint8)
    scaled = 2 * level / 255 - 1
    prepared = (
        preprocess.pytorch_fid(frames),
        preprocess.area(frames, 32),
        preprocess.i3d(frames),
        preprocess.clean(frames) * 256 / 255 + 1 / 255,  # to the same scale
    )
    for x in prepared:
        torch.testing.assert_close(x, torch.full_like(x, scaled), atol=2e-6, rtol=0)


def test_mirrored_frames_give_mirrored_pictures() -> None:
    frames = grain(2, 90, 130)
    for prepare in (preprocess.pytorch_fid, preprocess.clean):
        mirrored = prepare(np.ascontiguousarray(frames[:, :, ::-1]))
        torch.testing.assert_close(mirrored.flip(3), prepare(frames), atol=2e-5, rtol=0)


def test_area_is_the_mean_of_the_pixels_beneath() -> None:
    frames = grain(2, 64, 64)
    means = frames.reshape(2, 32, 2, 32, 2, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2)
    levels = (preprocess.area(frames, 32).numpy() + 1) * 255 / 2
    assert np.abs(levels - means).max() <= 0.501


def test_i3d_window_is_channels_first_then_time() -> None:
    frames = np.zeros((16, 64, 64, 3), np.uint8)
    frames[3, ..., 1] = 255  # one green frame
    window = preprocess.i3d(frames)
    assert window.shape == (3, 16, 224, 224)
    expected = torch.full_like(window, -1.0)
    expected[1, 3] = 1.0
    torch.testing.assert_close(window, expected, atol=1e-6, rtol=0)


class LargestTensor(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the bytes of the largest tensor that any operator gives."""

    bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = function(*args, **(kwargs or {}))
        for found in given if isinstance(given, tuple | list) else [given]:
            if isinstance(found, Tensor):
                self.bytes = max(self.bytes, found.numel() * found.element_size())
        return given


@pytest.mark.parametrize("prepare", [preprocess.pytorch_fid, preprocess.clean, preprocess.i3d])
@pytest.mark.parametrize(("height", "width", "count"), [(1080, 1920, 6), (2160, 3840, 2), (96, 128, 32)])
def test_no_tensor_grows_with_the_picture_or_the_number_of_frames(
    prepare: Prepare, height: int, width: int, count: int
) -> None:
    frames = np.broadcast_to(grain(1, 1, width), (count, height, width, 3))
    with LargestTensor() as largest:  # type: ignore[no-untyped-call]
        prepared = prepare(frames)
    assert prepared.numel() == count * 3 * prepared.shape[-1] ** 2
    assert 0 < largest.bytes <= 60e6


@pytest.mark.parametrize("prepare", [preprocess.pytorch_fid, preprocess.clean, preprocess.i3d])
@pytest.mark.parametrize("frames_a_part", [1, 3])
def test_parts_give_the_same_bits_as_all_frames_at_once(
    prepare: Prepare, frames_a_part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = grain(5, 90, 70)
    at_once = prepare(frames)
    monkeypatch.setattr(preprocess, "PART_PIXELS", frames_a_part * 90 * 70)
    assert torch.equal(prepare(frames), at_once)


@pytest.mark.parametrize("prepare", [preprocess.pytorch_fid, preprocess.clean, preprocess.i3d])
def test_one_colour_at_a_time_gives_the_same_picture(prepare: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = grain(3, 90, 70)
    at_once = prepare(frames)
    monkeypatch.setattr(preprocess, "PART_PIXELS", 90 * 70 - 1)
    torch.testing.assert_close(prepare(frames), at_once, atol=1e-6, rtol=0)


def test_frames_of_a_read_only_map_are_accepted_and_left_alone() -> None:
    frames = grain(2, 40, 40)
    before = frames.copy()
    frames.setflags(write=False)
    preprocess.pytorch_fid(frames)
    preprocess.clean(frames[:, ::-1])
    assert (frames == before).all()


@pytest.mark.parametrize(
    ("frames", "rule"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), "float32.*rule is uint8 in 0..255"),
        (np.zeros((2, 8, 8, 3), np.int64), "int64.*rule is uint8"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"\(2, 3, 8, 8\), the rule is \[N, H, W, 3\]"),
        (np.zeros((8, 8, 3), np.uint8), r"the rule is \[N, H, W, 3\]"),
        (np.zeros((2, 0, 8, 3), np.uint8), "at least one pixel"),
    ],
)
@pytest.mark.parametrize("prepare", [preprocess.pytorch_fid, preprocess.clean, preprocess.i3d])
def test_other_types_and_shapes_are_refused(prepare: object, frames: NDArray[np.uint8], rule: str) -> None:
    assert callable(prepare)
    with pytest.raises(ValueError, match=rule):
        prepare(frames)


@given(st.integers(0, 400), st.integers(1, 40), st.integers(1, 40))
def test_windows_are_whole_in_order_and_as_many_as_fit(count: int, length: int, stride: int) -> None:
    windows = preprocess.windows(count, length, stride)
    assert [w.start for w in windows] == [i * stride for i in range(len(windows))]
    assert all(w.stop - w.start == length and w.stop <= count for w in windows)
    assert len(windows) * stride + length > count


def test_a_five_second_clip_has_seven_windows() -> None:
    assert len(preprocess.windows(round(5 * (MediaPolicy().fps or 0)), 16, 16)) == 7
