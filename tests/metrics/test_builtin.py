from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lt_eval.metrics.fid import FID
from lt_eval.metrics.fvd import FVD
from lt_eval.metrics.nets.builtin import BuiltinI3D, BuiltinInception, kernel, uniform_weights
from lt_eval.metrics.nets.inference import exact_inference
from lt_eval.records import Features, Frames
from tests.metrics.still_clips import ArrayClip, blurred, compressed, dropped, frozen, talking_blob

METRICS = (FID(weights="builtin"), FVD(weights="builtin"))
Spoil = Callable[[Frames], Frames]


def digest(network: torch.nn.Module) -> str:
    state = sorted(network.state_dict().items())
    return hashlib.sha256(b"".join(key.encode() + value.numpy().tobytes() for key, value in state)).hexdigest()


def test_weights_are_the_same_bits_everywhere() -> None:
    # a change here changes every builtin number; say so in the changelog
    assert uniform_weights(0, (3,)).tolist() == [0.27392327785491943, -0.4604266881942749, -0.9180530309677124]
    assert digest(BuiltinInception()) == "9aeeaf573d3f5adcbe7bd0660cad7d0167f2a62363cf464f5d665580badbd14f"
    assert digest(BuiltinI3D()) == "4670627ba5700a2eacf99bbd9e675553e317af54aa9e5e85114e251ecc7d3384"


def test_seeds_give_other_networks() -> None:
    assert digest(BuiltinInception(1)) != digest(BuiltinInception(0))
    assert digest(BuiltinI3D(1)) != digest(BuiltinI3D(0))


def test_kernels_are_scaled_and_the_first_ones_see_no_flat_picture() -> None:
    weights = kernel(3, (64, 8, 5, 5), zero_sum=32)
    assert np.abs(weights[:32].sum(axis=(2, 3))).max() < 1e-5
    assert np.abs(weights[32:].sum(axis=(2, 3))).max() > 0.1
    assert (weights**2).sum(axis=(1, 2, 3)).mean() == pytest.approx(2.0, rel=0.05)


def test_features_do_not_depend_on_the_batch() -> None:
    x = torch.rand(5, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    windows = torch.rand(3, 3, 16, 64, 64, generator=torch.Generator().manual_seed(0))
    for network, inputs, width in ((BuiltinInception(), x, 192), (BuiltinI3D(), windows, 64)):
        with exact_inference():
            whole, single = network(inputs), torch.cat([network(one[None]) for one in inputs])
        assert whole.shape == (len(inputs), width)
        assert (whole - single).abs().max() < 1e-5


@pytest.fixture(scope="module")
def clips() -> list[Frames]:
    return [talking_blob(seed) for seed in range(6)]


def test_no_feature_is_dead(clips: list[Frames]) -> None:
    for metric in METRICS:
        rows = np.concatenate([metric.features(ArrayClip(frames)) for frames in clips])
        assert rows.std(axis=0).min() > 1e-2


SERIES: dict[str, list[Spoil]] = {
    "blur": [blurred(spread) for spread in (0.7, 1.4, 2.8)],
    "compression": [compressed(quality) for quality in (80, 40, 8)],
    "dropped frames": [dropped(share) for share in (0.25, 0.5, 0.75, 0.9)],
    "frozen frames": [frozen(share) for share in (0.25, 0.5, 1.0)],
}


def values(metric: FID | FVD, clips: Sequence[Frames], series: Sequence[Spoil]) -> list[float]:
    column = next(iter(metric.columns))
    reference: list[Features] = [metric.features(ArrayClip(frames)) for frames in clips]
    found = [0.0]
    for spoil in series:
        spoilt = [metric.features(ArrayClip(spoil(frames))) for frames in clips]
        found.append(metric.distance(spoilt, reference)[column])
    return found


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("metric", METRICS, ids=["fid", "fvd"])
def test_rises_with_what_spoils_a_picture(metric: FID | FVD, series: str, clips: list[Frames]) -> None:
    found = values(metric, clips, SERIES[series])
    assert all(worse > 1.3 * better for better, worse in pairwise(found)), found


def faces(folder: Path, names: Sequence[str], count: int = 48, side: int = 160) -> list[Frames]:
    clips = []
    for name in names:
        video = cv2.VideoCapture(str(folder / "video" / name))
        frames: list[Frames] = []
        while len(frames) < count:
            whole, frame = video.read()
            assert whole
            height, width = frame.shape[:2]
            edge = min(height, width)
            top, left = (height - edge) // 2, (width - edge) // 2
            square = frame[top : top + edge, left : left + edge, ::-1]
            frames.append(np.asarray(cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA), np.uint8))
        clips.append(np.stack(frames))
    return clips


def test_rises_on_real_faces_too(real_media: Path) -> None:
    clips = faces(real_media, ("face2.mp4", "face_480.mp4", "hdtf_like_512.mp4"))
    for metric in METRICS:
        for series in SERIES.values():
            found = values(metric, clips, series)
            assert all(worse > 1.2 * better for better, worse in pairwise(found)), found
