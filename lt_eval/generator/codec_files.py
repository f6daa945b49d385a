"""Weight files of codecs, in the layout in which each kind is published; all keys or none.

wan     Wan2.1_VAE.pth of Wan-AI/Wan2.1-T2V-1.3B, and its safetensors forms under the same names
tiny    taew2_1.pth or .safetensors of madebyollin/taehv
mini    this package's own, with the statistics of its latents
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from safetensors.torch import save
from torch import Tensor

from lt_eval.errors import WeightsError
from lt_eval.generator.checkpoint import read_state
from lt_eval.store import atomic_write

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from lt_eval.generator.codec import CausalCodec

_SUFFIXES = (".safetensors", ".pth", ".pt")
_SHOWN = 20


def load_codec(codec: CausalCodec, path: Path) -> None:
    """Fill a codec, in its own type and on its own device, from a file. Nothing in the file is executed.

    Raises:
        WeightsError: it cannot be read, or is not exactly this codec's layout; the message lists what is missing, left
            over or of another shape. The codec is then as it was.
    """
    state = read_state(path)
    own = codec.published.state_dict()
    _check(state, own, f"{path} is not laid out as the codec {codec.config.kind} of this shape")
    codec.published.load_state_dict({key: value.to(own[key].dtype) for key, value in state.items()})


def save_codec(codec: CausalCodec, path: Path, dtype: torch.dtype | None = None) -> None:
    """Write a codec under its public names, whole or not at all.

    Args:
        codec: whose weights are written.
        path: `.safetensors`, or `.pth` as torch.save writes it.
        dtype: of the file; that of the weights where None.

    Raises:
        WeightsError: the name ends otherwise.
        StoreError: it cannot be written there.
    """
    if path.suffix not in _SUFFIXES:
        raise WeightsError(f"{path} ends in {path.suffix!r}; name a codec's file {' or '.join(_SUFFIXES)}.")
    state = {
        key: value.detach().to("cpu", dtype or value.dtype).contiguous().clone(memory_format=torch.contiguous_format)
        for key, value in codec.published.state_dict().items()
    }
    with atomic_write(path, "wb") as file:
        if path.suffix == ".safetensors":
            file.write(save(state))
        else:
            torch.save(state, file)


def _check(given: Mapping[str, Tensor], own: Mapping[str, Tensor], what: str) -> None:
    findings = {
        "missing": [key for key in own if key not in given],
        "left over": [key for key in given if key not in own],
        "of another shape": [
            f"{key} {tuple(given[key].shape)} instead of {tuple(value.shape)}"
            for key, value in own.items()
            if key in given and given[key].shape != value.shape
        ],
    }
    if any(findings.values()):
        text = "; ".join(f"{len(keys)} {kind}: {_some(keys)}" for kind, keys in findings.items() if keys)
        raise WeightsError(f"{what}. {text}. Check that kind and sizes of the codec are the file's.")


def _some(keys: Iterable[str]) -> str:
    keys = list(keys)
    return ", ".join(keys[:_SHOWN]) + (f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")
