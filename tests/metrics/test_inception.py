from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lt_eval.errors import WeightsError
from lt_eval.metrics.nets.inception import InceptionV3, Mixed7, load_inception
from lt_eval.metrics.nets.inference import exact_inference, seeded_state
from tests.metrics.upstream import parity_script


def layout(network: nn.Module) -> tuple[int, str]:
    lines = sorted(f"{key}:{'x'.join(map(str, value.shape))}" for key, value in network.state_dict().items())
    return len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return seeded_state(InceptionV3())


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, state: dict[str, Tensor]) -> Path:
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def network(file: Path) -> Callable[[Tensor], Tensor]:
    return load_inception(file)


def pictures(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 299, 299, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_layout_is_the_published_files() -> None:
    # of fid_inception_v3() of mseitzer/pytorch-fid b9c1811 on torchvision 0.28.0, which loads the file strictly
    assert layout(InceptionV3()) == (566, "b1e5ec46df6cb0a4b6370fe9cea0e3124bc4a6e2df0929c1bc5d845c55f01ac8")


def test_loaded_network_equals_the_plain_one(network: Callable[[Tensor], Tensor], state: dict[str, Tensor]) -> None:
    plain = InceptionV3().eval()
    plain.load_state_dict(state)
    with exact_inference():
        theirs = plain(pictures(1))
        ours = network(pictures(1))
    assert ours.shape == (1, 2048)
    assert theirs.abs().mean() > 0.1
    assert (ours - theirs).abs().max() < 1e-5


def test_features_do_not_depend_on_the_batch(network: Callable[[Tensor], Tensor]) -> None:
    x = pictures(3)
    with exact_inference():
        whole = network(x)
        single = torch.cat([network(x[i : i + 1]) for i in range(3)])
    assert (whole - single).abs().max() < 1e-5
    assert (whole[0] - whole[1]).abs().max() > 1e-3  # and they do depend on the picture


def test_last_block_pools_by_maximum_and_the_others_by_the_mean_inside() -> None:
    block_b, block_c = (Mixed7(8, pool_by_maximum=choice).eval() for choice in (False, True))
    seen: list[Tensor] = []
    for block in (block_b, block_c):
        block.branch_pool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        with torch.inference_mode():
            block(torch.ones(1, 8, 8, 8).index_fill_(3, torch.tensor([0]), 5.0))
    mean, maximum = seen
    assert mean[0, 0, 0, 0].item() == pytest.approx(3.0)  # two of the four pixels inside are 5, the padding counts not
    assert maximum[0, 0, 0, 0].item() == 5.0


def test_counters_of_training_steps_may_be_absent(file: Path, state: dict[str, Tensor], tmp_path: Path) -> None:
    older = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save(older, tmp_path / "older.pth")
    with exact_inference():
        assert torch.equal(load_inception(tmp_path / "older.pth")(pictures(1)), load_inception(file)(pictures(1)))


def test_another_layout_is_refused_with_its_keys(state: dict[str, Tensor], tmp_path: Path) -> None:
    changed = dict(state)
    del changed["Mixed_7c.branch_pool.conv.weight"]
    changed["AuxLogits.fc.weight"] = torch.zeros(3)
    changed["fc.weight"] = torch.zeros(1000, 2048)
    torch.save(changed, tmp_path / "torchvision.pth")
    with pytest.raises(WeightsError) as refusal:
        load_inception(tmp_path / "torchvision.pth")
    message = str(refusal.value)
    assert "1 missing: Mixed_7c.branch_pool.conv.weight" in message
    assert "1 unexpected: AuxLogits.fc.weight" in message
    assert "fc.weight (1000, 2048) instead of (1008, 2048)" in message


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04 broken off"])
def test_what_is_no_weight_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"file\.pth cannot be read"):
        load_inception(tmp_path / "file.pth")


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    torch.save(Path("/"), tmp_path / "object.pth")
    with pytest.raises(WeightsError, match="cannot be read"):
        load_inception(tmp_path / "object.pth")


def save_program(network: nn.Module, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # of torch.jit.script: the published files are such programs
        torch.jit.script(network).save(str(path))  # type: ignore[no-untyped-call]


class Layers(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3)).repeat(1, 683)[:, :2048, None, None]


class Program(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = Layers()

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_the_torchscript_file_is_called_by_its_layers(tmp_path: Path) -> None:
    save_program(Program(), tmp_path / "inception-2015-12-05.pt")
    features = load_inception(tmp_path / "inception-2015-12-05.pt")(pictures(2))
    assert features.shape == (2, 2048)
    np.testing.assert_allclose(features[:, 0], pictures(2)[:, 0].mean(dim=(1, 2)), atol=1e-6)


def test_another_program_is_refused(tmp_path: Path) -> None:
    save_program(Layers(), tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="without `layers`"):
        load_inception(tmp_path / "other.pt")


def test_features_are_those_of_pytorch_fid(tmp_path: Path) -> None:
    script = parity_script()
    (found,) = script.against_pytorch_fid(script.moving_frames(2, 200, 240), tmp_path, script.default_packages())
    assert found.max_abs_difference <= 1e-5
    assert found.values_mean_abs > 0.1
