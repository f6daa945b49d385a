"""Sizes of mPLUG-Owl2 as the config.json of a checkpoint states them; no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from lt_eval.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

T = TypeVar("T")

_FIXED: Mapping[str, object] = {
    "hidden_act": "silu",
    "rope_scaling": None,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
}
"""What the network is written for; a checkpoint that says otherwise is another network."""


@dataclass(frozen=True)
class VisionConfig:
    """Of the vision tower; defaults are those of the published code, for keys that a file leaves out."""

    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    image_size: int = 448
    patch_size: int = 14
    layer_norm_eps: float = 1e-6

    @property
    def grid(self) -> int:
        """Patches a side."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class AbstractorConfig:
    """Of the abstractor."""

    hidden_size: int = 1024
    intermediate_size: int = 2816
    num_hidden_layers: int = 6
    num_attention_heads: int = 16
    num_learnable_queries: int = 64
    encoder_hidden_size: int = 1024
    grid_size: int = 32
    layer_norm_eps: float = 1e-6


@dataclass(frozen=True)
class OwlConfig:
    """Of the language model and its parts."""

    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    vocab_size: int = 32000
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    vision: VisionConfig = field(default_factory=VisionConfig)
    abstractor: AbstractorConfig = field(default_factory=AbstractorConfig)


def _read(kind: type[T], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a dataclass that a mapping states; null stands for the default, as in the published code."""
    known = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    return {key: value for key, value in data.items() if key in known and value is not None}


def owl_config(data: Mapping[str, Any], path: Path) -> OwlConfig:
    """Return the sizes that a config.json states.

    Args:
        data: its content.
        path: for messages.

    Raises:
        WeightsError: it describes another network.
    """
    if data.get("model_type") != "mplug_owl2":
        raise WeightsError(f"{path} describes a {data.get('model_type')!r}; Q-Align is a 'mplug_owl2'.")
    given = {**data, **{"num_key_value_heads": data.get("num_key_value_heads") or data.get("num_attention_heads")}}
    expected = {**_FIXED, "num_key_value_heads": data.get("num_attention_heads")}
    for key, value in expected.items():
        if given.get(key, value) != value:
            raise WeightsError(f"{path} states {key} = {given[key]!r}; the network of Q-Align has {value!r}.")
    visual = data.get("visual_config") or {}
    vision = VisionConfig(**_read(VisionConfig, visual.get("visual_model") or {}))
    abstractor = AbstractorConfig(**_read(AbstractorConfig, visual.get("visual_abstractor") or {}))
    if abstractor.grid_size != vision.grid:
        raise WeightsError(
            f"{path}: the abstractor's grid_size is {abstractor.grid_size}; pictures have {vision.grid} patches a side."
        )
    return OwlConfig(**_read(OwlConfig, data), vision=vision, abstractor=abstractor)
