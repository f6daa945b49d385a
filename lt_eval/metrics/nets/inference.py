"""How feature networks are loaded and run: all keys or none, the same float32 numbers whatever the machine."""

from __future__ import annotations

import contextlib
import pickle
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lt_eval.errors import SpecError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


def resolve_device(device: str) -> str:
    """Return "cuda" or "cpu" for "auto", else the device as given.

    Raises:
        SpecError: torch has no such device here.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as cause:
        raise SpecError(
            f"device {device!r} cannot be used here: {str(cause).splitlines()[0].rstrip('.')}. Use auto or cpu."
        ) from cause
    return device


@contextlib.contextmanager
def exact_inference() -> Iterator[None]:
    """Inference without TF32 and without algorithms chosen by timing: TF32 convolutions move features by 1e-3."""
    with torch.inference_mode(), torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False):
        yield


def is_torchscript(path: Path) -> bool:
    """Return whether a file holds a TorchScript program rather than a state dict."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def read_torchscript(path: Path, device: str) -> Any:
    """Return the program of a TorchScript file in eval mode; its methods are known only when called.

    Raises:
        WeightsError: it cannot be read.
    """
    try:
        with warnings.catch_warnings():
            # torch deprecates the format in which the files are published
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, OSError) as cause:
        raise WeightsError(f"{path} cannot be read as TorchScript: {cause}. Fetch it again.") from cause


def read_state_dict(path: Path) -> Mapping[str, Tensor]:
    """Return the tensors of a file that torch.save wrote; nothing in it is executed.

    Raises:
        WeightsError: it is not such a file.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as cause:
        raise WeightsError(f"{path} cannot be read as PyTorch weights: {cause}. Fetch it again.") from cause
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} holds a {type(state).__name__}; expected a state dict, name -> tensor.")
    return state


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Copy the tensors of a file into a network, all of them and no others.

    `num_batches_tracked`, which counts training steps and older files lack, is neither needed nor refused.

    Raises:
        WeightsError: names the keys that are missing, unexpected, or of another shape.
    """
    given = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    check_layout(network, {key: value.shape for key, value in given.items()}, path)
    network.load_state_dict(given, strict=False)


def check_layout(network: nn.Module, shapes: Mapping[str, Sequence[int]], path: Path) -> None:
    """Refuse tensors of other names or shapes than a network's.

    Raises:
        WeightsError: names the keys that are missing, unexpected, or of another shape.
    """
    own = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    differing = [
        f"{key} {tuple(shapes[key])} instead of {tuple(own[key].shape)}"
        for key in own.keys() & shapes.keys()
        if tuple(shapes[key]) != tuple(own[key].shape)
    ]
    findings = {"missing": own.keys() - shapes.keys(), "unexpected": shapes.keys() - own.keys()}
    if any(findings.values()) or differing:
        text = "; ".join(
            f"{len(keys)} {what}: {_some(sorted(keys))}"
            for what, keys in {**findings, "wrong shape": differing}.items()
            if keys
        )
        raise WeightsError(f"{path} is not laid out as {type(network).__name__} is. {text}.")


def _some(keys: list[str], most: int = 5) -> str:
    return ", ".join(keys[:most]) + (f" and {len(keys) - most} more" if len(keys) > most else "")


def seeded_state(network: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Return a state dict of a network's layout with random values that keep activations near one through every layer.

    For parity checks and speed measurements where the published weights are not at hand. Scales of normalisations are
    within a quarter of what the network begins with. Running statistics are random too, so that a wrong eps or a
    swapped statistic shows.
    """
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for key, value in network.state_dict().items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.zeros_like(value)
        elif value.ndim > 1:
            state[key] = torch.randn(value.shape, generator=generator) * (2.0 / value[0].numel()) ** 0.5
        elif key.endswith(("weight", "running_var")):
            state[key] = value * (0.75 + 0.5 * torch.rand(value.shape, generator=generator))
        else:
            state[key] = 0.1 * torch.randn(value.shape, generator=generator)
    return state
