"""Checkpoints in the public key layout: that of Wan2.1, with OmniAvatar's `audio_proj` and `audio_cond_projs`.

    self_attn.q, .k, .v     <->  self_attn.qkv, one matrix
    cross_attn.k, .v        <->  cross_attn.kv
    everything else              the same name

Also read: several files or a folder of shards, a later file over an earlier one; the state inside a training checkpoint
(`generator_ema`, `generator`, `model`, `state_dict`); names with wrappers' marks (`module.`, `_fsdp_wrapped_module.`
...); and OmniAvatar's low-rank updates beside a base. Whatever the way, the result is exactly the model's parameters or
an error that lists what is missing and what is left over.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from lt_eval.errors import WeightsError
from lt_eval.generator.config import ModelConfig
from lt_eval.generator.model import Transformer
from lt_eval.store import atomic_write

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
ENTRIES = ("generator_ema", "generator", "model", "state_dict")
"""Where training checkpoints keep their weights; the first that is there is read."""

_FUSED = {
    "self_attn.qkv": ("self_attn.q", "self_attn.k", "self_attn.v"),
    "cross_attn.kv": ("cross_attn.k", "cross_attn.v"),
}
_WRAPPERS = re.compile(r"(_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod|base_layer)\.")
_PREFIXES = ("module.", "model.diffusion_model.", "diffusion_model.", "model.", "dit.")
_LOW_RANK = re.compile(r"\.lora_(A|B)(\.[A-Za-z_]+)?\.weight$")


def to_public(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return our state dict under public names; matrices that are one here are parts there, sharing memory."""
    public: dict[str, Tensor] = {}
    for key, value in state.items():
        parts = _parts(key)
        public.update(zip(parts, value.chunk(len(parts)), strict=True))
    return public


def from_public(state: Mapping[str, Tensor], config: ModelConfig, source: str = "The checkpoint") -> dict[str, Tensor]:
    """Return a public state dict under our names.

    Args:
        state: name -> tensor.
        config: of the model that it must fit.
        source: what it is called in an error.

    Raises:
        WeightsError: lists what is missing, what is left over and what has another shape.
    """
    with torch.device("meta"):
        own = Transformer(config).state_dict()
    expected = {name: value.shape for name, value in to_public(own).items()}
    check_layout(state, expected, source)
    joined: dict[str, Tensor] = {}
    for key in own:
        parts = _parts(key)
        joined[key] = torch.cat([state[part] for part in parts]) if len(parts) > 1 else state[key]
    return joined


def load_checkpoint(
    model: Transformer, *paths: Path, entry: str | None = None, lora_alpha: float | None = None
) -> None:
    """Fill a model, in its own dtype and on its own device, from files in the public layout.

    Args:
        model: of the shape of the checkpoint.
        paths: files, or folders of shards; a tensor in a later one replaces that of an earlier one.
        entry: which part of a training checkpoint; the first of `ENTRIES` that it has by default.
        lora_alpha: scale of low-rank updates among the files: alpha / rank times B A is added to the weight. Needed
            where there are any, since files do not hold it (OmniAvatar states it in its config.json).

    Raises:
        WeightsError: a file cannot be read, or together they are not the model's parameters.
    """
    source = " with ".join(map(str, paths))
    state: dict[str, Tensor] = {}
    for path in paths:
        state.update(read_state(path, entry))
    state = merge_low_rank(state, lora_alpha, source)
    model.load_state_dict(from_public(state, model.config, source))


def save_checkpoint(model: Transformer, path: Path) -> None:
    """Write a model in the public layout, as safetensors or, by its suffix, as torch.save does; whole or not at all.

    Raises:
        WeightsError: the suffix is of neither.
        StoreError: it cannot be written there.
    """
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path} ends in {path.suffix!r}; name a checkpoint {' or '.join(SUFFIXES)}.")
    state = {name: value.detach().cpu().contiguous() for name, value in to_public(model.state_dict()).items()}
    with atomic_write(path, "wb") as file:
        if path.suffix == ".safetensors":
            file.write(save(state))
        else:
            torch.save({name: value.clone() for name, value in state.items()}, file)


def read_state(path: Path, entry: str | None = None) -> dict[str, Tensor]:
    """Return name -> tensor of a file or a folder of shards, names freed of wrappers; nothing in it is executed.

    Raises:
        WeightsError: there is no such file, or it holds something else.
    """
    if path.is_dir():
        files = next((found for suffix in SUFFIXES if (found := sorted(path.glob(f"*{suffix}")))), [])
        if not files:
            raise WeightsError(f"{path} holds no weights: no file ends in {' or '.join(SUFFIXES)}.")
        return {name: value for file in files for name, value in read_state(file, entry).items()}
    if not path.is_file():
        raise WeightsError(f"There is no checkpoint {path}. Give a file ({', '.join(SUFFIXES)}) or a folder of shards.")
    try:
        if path.suffix == ".safetensors":
            held: object = load_file(path)
        else:
            held = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError) as cause:
        kind = "a safetensors file" if path.suffix == ".safetensors" else "weights as torch.save writes them"
        raise WeightsError(
            f"{path} cannot be read as weights: it is not {kind}, or it is damaged. Give a file of weights; if "
            "it was downloaded, fetch it again."
        ) from cause
    return _unwrap(_tensors(held, path, entry))


def merge_low_rank(
    state: Mapping[str, Tensor], alpha: float | None, source: str = "The checkpoint"
) -> dict[str, Tensor]:
    """Add low-rank updates (lora_A [r, in], lora_B [out, r]) to the weights that they belong to.

    Raises:
        WeightsError: there are updates and no alpha, half a pair, or a pair whose weight is not there.
    """
    merged = {name: value for name, value in state.items() if not _LOW_RANK.search(name)}
    pairs: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        if found := _LOW_RANK.search(name):
            pairs.setdefault(name[: found.start()] + ".weight", {})[found[1]] = value
    if pairs and alpha is None:
        raise WeightsError(f"{source} holds {len(pairs)} low-rank updates; give lora_alpha, their scale.")
    for name, pair in pairs.items():
        if name not in merged or pair.keys() != {"A", "B"}:
            lacking = f"weight {name}" if name not in merged else "other half"
            raise WeightsError(
                f"{source}: the low-rank update of {name} lacks its {lacking}. Give the base's file too."
            )
        down, up, base = pair["A"].float(), pair["B"].float(), merged[name]
        merged[name] = (base.float() + (alpha or 0.0) / down.shape[0] * (up @ down)).to(base.dtype)
    return merged


def _parts(key: str) -> tuple[str, ...]:
    """Return the public names of one of our keys."""
    for fused, parts in _FUSED.items():
        if f".{fused}." in key:
            return tuple(key.replace(fused, part) for part in parts)
    return (key,)


def _tensors(held: object, path: Path, entry: str | None) -> dict[str, Tensor]:
    """Return the state dict in what a file holds."""
    if isinstance(held, dict):
        names = [entry] if entry else [name for name in ENTRIES if isinstance(held.get(name), dict)]
        if names and isinstance(held.get(names[0]), dict):
            held = held[names[0]]
        elif entry:
            raise WeightsError(f"{path} has no entry {entry!r}; it has {_some(map(str, held))}.")
    if not isinstance(held, dict) or not held or not all(isinstance(value, Tensor) for value in held.values()):
        raise WeightsError(f"{path} holds a {type(held).__name__}; expected a state dict, name -> tensor.")
    return {str(name): value for name, value in held.items()}


def _unwrap(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state under names without wrappers' marks and without a prefix that all of them share."""
    plain = {_WRAPPERS.sub("", name): value for name, value in state.items()}
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in plain):
            return _unwrap({name.removeprefix(prefix): value for name, value in plain.items()})
    return plain


def check_layout(state: Mapping[str, Tensor], expected: Mapping[str, torch.Size], source: str) -> None:
    """Refuse a state dict whose names or shapes are not the expected ones.

    Raises:
        WeightsError: lists what is missing, what is left over and what has another shape.
    """
    differing = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if name in state and state[name].shape != shape
    ]
    findings = {
        "missing": [name for name in expected if name not in state],
        "left over": [name for name in state if name not in expected],
        "of another shape": differing,
    }
    if any(findings.values()):
        text = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in findings.items() if names)
        raise WeightsError(f"{source} is not laid out as this model. {text}. Give the preset, or config, of its shape.")


def _some(names: Iterable[str], most: int = 4) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
