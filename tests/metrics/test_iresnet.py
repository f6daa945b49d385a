"""ArcFace's network: the published one's numbers with the same weights, whatever stands beside a face."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lt_eval.metrics.nets.inference import seeded_state
from lt_eval.metrics.nets.iresnet import IResNet50

UPSTREAM = (
    (-0.01331, -0.03414, -0.00379, -0.04637, -0.01077, -0.07973),
    (-0.00509, -0.01231, -0.01042, -0.05948, -0.06981, -0.05927),
    (0.03586, -0.03249, 0.00401, -0.05641, -0.00797, -0.10037),
)
"""Values 0, 100, 200 ... of the unit vectors that `iresnet50` of deepinsight/insightface gives with these weights."""


@pytest.fixture(scope="module")
def network() -> IResNet50:
    made = IResNet50()
    made.load_state_dict(seeded_state(made, 3))
    return made.eval()


@pytest.fixture(scope="module")
def faces() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A formula's pictures, the same everywhere."""
    y, x, channel, number = np.ogrid[0:112, 0:112, 0:3, 0:3]
    levels = 127 + 120 * np.sin(x * (0.11 + 0.05 * number) + y * 0.07 * (channel + 1) + number)
    return np.ascontiguousarray(np.moveaxis(levels, 3, 0)).astype(np.uint8)


def test_the_numbers_are_upstreams(network: IResNet50, faces: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    assert np.allclose(network.embed(faces)[:, ::100], UPSTREAM, atol=2e-4)


def test_a_row_depends_on_its_own_face_only(
    network: IResNet50, faces: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
) -> None:
    together, many = network.embed(faces), network.embed(np.concatenate([faces] * 6))  # more than one pass
    alone = np.concatenate([network.embed(face[None]) for face in faces])
    assert np.allclose(together, alone, atol=1e-5) and np.allclose(many[-3:], together, atol=1e-5)
    assert np.allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    assert network.embed(faces[:0]).shape == (0, 512)


def test_the_layout_is_the_published_one(network: IResNet50) -> None:
    state = network.state_dict()
    assert sum(value.numel() for value in network.parameters()) == 43_590_848
    for key, shape in {
        "layer1.0.downsample.0.weight": (64, 64, 1, 1),
        "layer3.13.conv2.weight": (256, 256, 3, 3),
        "layer4.2.prelu.weight": (512,),
        "fc.weight": (512, 25088),
        "features.running_var": (512,),
    }.items():
        assert tuple(state[key].shape) == shape
    assert isinstance(state["conv1.weight"], torch.Tensor) and "layer3.14.conv1.weight" not in state


def test_what_is_no_aligned_face_is_refused(network: IResNet50) -> None:
    with pytest.raises(ValueError, match="112"):
        network.embed(np.zeros((1, 96, 96, 3), np.uint8))
