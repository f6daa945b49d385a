"""Weights of a folder from a model hub, tensor by tensor: the network fills up, and no second copy is ever whole.

model.safetensors | model.safetensors.index.json and its shards | pytorch_model.bin.index.json and its shards
| pytorch_model.bin
"""

from __future__ import annotations

import contextlib
import json
import pickle
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from lt_eval.errors import WeightsError
from lt_eval.metrics.nets.inference import check_layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    Reader = tuple[dict[str, Sequence[int]], Callable[[str], Tensor]]
    """Shapes of a file's tensors by key, and what reads one of them."""

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
WHOLE = ("model.safetensors", "pytorch_model.bin")


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold a folder's weights, safetensors before pickles.

    Raises:
        WeightsError: there are none, or an index names one that is missing.
    """
    for whole, index in zip(WHOLE, INDEXES, strict=True):
        if (folder / whole).is_file():
            return [folder / whole]
        if (folder / index).is_file():
            return _indexed(folder / index)
    raise WeightsError(f"{folder} holds no weights: none of {', '.join((*WHOLE, *INDEXES))}.")


def _indexed(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, OSError) as cause:
        raise WeightsError(
            f"{index} is no index of weights ({type(cause).__name__}: {cause}). Fetch it again."
        ) from cause
    if missing := [name for name in names if not (index.parent / name).is_file()]:
        raise WeightsError(
            f"{index.parent} lacks {', '.join(missing)}, which {index.name} names. Fetch what is missing."
        )
    return [index.parent / name for name in names]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Reader]:
    """Yield what a file holds; tensors are mapped from the disk and read only when asked for."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                yield {key: file.get_slice(key).get_shape() for key in file.keys()}, file.get_tensor  # noqa: SIM118
        else:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            yield {key: value.shape for key, value in state.items()}, state.__getitem__
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, AttributeError) as cause:
        first = (str(cause).splitlines() or [""])[0].rstrip(".")
        raise WeightsError(
            f"{path} cannot be read as weights ({type(cause).__name__}: {first}). Fetch it again."
        ) from cause


def load_folder(
    network: nn.Module, folder: Path, device: str, dtype: torch.dtype, *, derived: str = "rotary_emb.inv_freq"
) -> None:
    """Fill a network that was made on the "meta" device with the weights of a folder, all of them and no others.

    Args:
        network: its tensors are replaced, each by one of `dtype` on `device`.
        folder: of the checkpoint.
        device: "cpu", "cuda" ...
        dtype: every tensor is converted to it.
        derived: keys that end so are neither needed nor refused: older files store what follows from the sizes.

    Raises:
        WeightsError: the folder lacks files, or holds other tensors than the network's.
    """
    files = weight_files(folder)
    shapes: dict[str, Sequence[int]] = {}
    for path in files:
        with _opened(path) as (found, _):
            shapes |= found
    check_layout(network, {key: shape for key, shape in shapes.items() if not key.endswith(derived)}, folder)
    for path in files:
        with _opened(path) as (found, read):
            for key in found:
                if not key.endswith(derived):
                    # a copy of its own: a mapped file that is replaced while in use ends the process
                    tensor = read(key).to(device=device, dtype=dtype, copy=True)
                    network.load_state_dict({key: tensor}, strict=False, assign=True)
