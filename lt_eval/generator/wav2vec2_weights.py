"""The public key layout of wav2vec2 checkpoints, strictly: every key is used, named as not needed, or an error."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from lt_eval.errors import WeightsError
from lt_eval.generator.wav2vec2 import Wav2Vec2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from lt_eval.generator.audio_config import AudioConfig

FILES = ("model.safetensors", "pytorch_model.bin")
"""What a folder of such a checkpoint holds, the first that is there is read."""

UNUSED = ("masked_spec_embed", "lm_head.weight", "lm_head.bias")
"""For training and for transcripts: left out on purpose."""

_POSITIONS = "encoder.pos_conv_embed.conv."
_WEIGHT_NORM = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))
"""Magnitude and direction, in the names that older and newer releases of torch give them."""


def load_wav2vec2(path: Path, config: AudioConfig) -> Wav2Vec2:
    """Return the network with the weights of a file, or of a folder that holds one of `FILES`.

    Raises:
        WeightsError: no such file, not readable, keys missing or left over, or other shapes than `config` says.
    """
    if path.is_dir():
        path = next((path / name for name in FILES if (path / name).is_file()), path / FILES[0])
    return from_public(read_state(path), config, str(path))


def read_state(path: Path) -> Mapping[str, Tensor]:
    """Return the tensors of a safetensors file or of one that torch.save wrote; nothing in it is executed.

    Raises:
        WeightsError: it cannot be read.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, SafetensorError) as cause:
        raise WeightsError(f"{path} cannot be read as weights: {cause}. Fetch it again.") from cause
    return state


def from_public(state: Mapping[str, Tensor], config: AudioConfig, source: str) -> Wav2Vec2:
    """Return the network with a state dict in the public layout, with or without the prefix `wav2vec2.`.

    Raises:
        WeightsError: see `load_wav2vec2`.
    """
    ours = {key.removeprefix("wav2vec2."): value for key, value in state.items()}
    for key in UNUSED:
        ours.pop(key, None)
    for magnitude, direction in _WEIGHT_NORM:
        if _POSITIONS + magnitude in ours and _POSITIONS + direction in ours:
            g, v = ours.pop(_POSITIONS + magnitude), ours.pop(_POSITIONS + direction)  # [1, 1, K], [D, D / groups, K]
            ours[_POSITIONS + "weight"] = g * v / v.norm(dim=(0, 1), keepdim=True)
    with torch.device("meta"):
        network = Wav2Vec2(config)
    expected = network.state_dict()
    missing, left_over = sorted(expected.keys() - ours.keys()), sorted(ours.keys() - expected.keys())
    if missing or left_over:
        raise WeightsError(
            f"{source} is not a wav2vec2 checkpoint of {config.layers} layers: {len(missing)} keys are missing "
            f"({_some(missing)}), {len(left_over)} are left over ({_some(left_over)}). "
            "Use the files of facebook/wav2vec2-base-960h, or set audio.layers to what this one has."
        )
    wrong = [f"{key} {list(ours[key].shape)}" for key in expected if ours[key].shape != expected[key].shape]
    if wrong:
        raise WeightsError(f"{source} holds {_some(wrong)}, of another shape than the options audio.* say. Adapt them.")
    network.load_state_dict({key: value.float() for key, value in ours.items()}, assign=True)
    return network.eval().requires_grad_(False)


def to_public(network: Wav2Vec2) -> dict[str, Tensor]:
    """Return the state dict in the layout of facebook/wav2vec2-base-960h (weight_g, weight_v), without the prefix."""
    state = dict(network.state_dict())
    weight = state.pop(_POSITIONS + "weight")
    state[_POSITIONS + "weight_g"] = weight.norm(dim=(0, 1), keepdim=True)
    state[_POSITIONS + "weight_v"] = weight
    return state


def seeded_wav2vec2(config: AudioConfig, seed: int = 0) -> Wav2Vec2:
    """Return the network with seeded random weights, on which parity can be measured and nothing can be heard."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Wav2Vec2(config).eval().requires_grad_(False)


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (" ..." if len(names) > 4 else "") if names else "none"
