from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lt_eval.errors import WeightsError
from lt_eval.metrics.nets.inference import exact_inference, seeded_state
from lt_eval.metrics.nets.syncnet import SyncNet, SyncNetLayers, load_syncnet
from tests.metrics.test_inception import layout
from tests.metrics.upstream import parity_script


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return seeded_state(SyncNetLayers())


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, state: dict[str, Tensor]) -> SyncNet:
    path = tmp_path_factory.mktemp("weights") / "syncnet_v2.model"
    torch.save(state, path)
    return load_syncnet(path)


def crops(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 224, 224, 3)).astype(np.uint8)


def rows(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(0, 10, (count, 13)).astype(np.float32)


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Largest distance of two embeddings of the same window, as a fraction of their length."""
    assert ours.shape == theirs.shape
    return float(((ours - theirs).norm(dim=1) / theirs.norm(dim=1)).max())


def test_layout_is_the_published_files() -> None:
    # of SyncNetModel.S() of joonson/syncnet_python 6efbb1c, into which the file is loaded
    assert layout(SyncNetLayers()) == (102, "07ee5926a6c9ea1b2c82f756b0426589b66b0390750db51f38f01cfd1897eae4")
    assert sum(value.numel() for value in SyncNetLayers().parameters()) == 13_631_616


def test_embeddings_are_those_of_the_public_package() -> None:
    script = parity_script("sync")
    for found in script.against_embeddings(script.load_upstream(script.default_packages()), frames=12):
        assert found.holds, found


def test_loaded_network_equals_the_layers_as_they_stand(network: SyncNet, state: dict[str, Tensor]) -> None:
    layers = SyncNetLayers().eval()
    layers.load_state_dict(state)
    pictures, sound = crops(6), rows(24)
    with exact_inference():
        blue_first = torch.from_numpy(pictures[..., ::-1].transpose(3, 0, 1, 2).copy()).float()
        windows = torch.stack([blue_first[:, i : i + 5] for i in range(2)])
        lips = layers.netfclip(layers.netcnnlip(windows).flatten(1))
        audio = layers.netfcaud(
            layers.netcnnaud(torch.from_numpy(np.stack([sound[:20].T, sound[4:].T]))[:, None]).flatten(1)
        )
    assert relative(network.lips(pictures), lips) < 1e-5
    assert relative(network.audio(sound), audio) < 1e-5


def test_windows_do_not_depend_on_what_is_around_them(network: SyncNet) -> None:
    pictures, sound = crops(11), rows(160)
    lips, audio = network.lips(pictures), network.audio(sound)
    assert relative(network.lips(pictures[2:10]), lips[2:6]) < 1e-5
    assert relative(network.audio(sound[8:60]), audio[2:11]) < 1e-5
    assert relative(lips[:-1], lips[1:]) > 1e-3  # and they do depend on the picture
    assert relative(audio[:-1], audio[1:]) > 1e-3


@pytest.mark.parametrize(("given", "windows"), [(0, 0), (4, 0), (5, 1), (6, 2)])
def test_five_frames_are_a_window(network: SyncNet, given: int, windows: int) -> None:
    assert network.lips(crops(given)).shape == (windows, 1024)


@pytest.mark.parametrize(("given", "windows"), [(0, 0), (19, 0), (20, 1), (23, 1), (24, 2), (499, 120)])
def test_twenty_rows_are_a_window_and_the_next_begins_four_later(network: SyncNet, given: int, windows: int) -> None:
    assert network.audio(rows(given)).shape == (windows, 1024)


def test_the_layers_given_are_left_as_they_are(state: dict[str, Tensor]) -> None:
    layers = SyncNetLayers()
    layers.load_state_dict(state)
    SyncNet(layers)
    assert all(torch.equal(value, state[key]) for key, value in layers.state_dict().items())


def test_other_pictures_and_rows_are_refused(network: SyncNet) -> None:
    with pytest.raises(ValueError, match=r"uint8 \(6, 96, 96, 3\), the rule is"):
        network.lips(np.zeros((6, 96, 96, 3), np.uint8))
    with pytest.raises(ValueError, match=r"crops are float32"):
        network.lips(np.zeros((6, 224, 224, 3), np.float32))
    with pytest.raises(ValueError, match=r"MFCC are \(13, 40\)"):
        network.audio(rows(40).T)


def test_another_layout_is_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save({key: value for key, value in state.items() if not key.startswith("netfclip")}, tmp_path / "half.model")
    with pytest.raises(WeightsError, match=r"8 missing: netfclip\.0\.bias"):
        load_syncnet(tmp_path / "half.model")
