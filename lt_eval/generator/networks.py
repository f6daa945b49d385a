"""From the names of weights to networks that are ready to stream.

A *bundle* is one safetensors file with everything that one training run made: `transformer.*` in the public layout,
`codec.*`, and `prompts.*` where the model has a table of its own. Public checkpoints come as they are published, one
file or folder for each network.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor, nn

from lt_eval.errors import SpecError, WeightsError
from lt_eval.generator import checkpoint
from lt_eval.generator.audio_windows import create_audio_encoder
from lt_eval.generator.codec import create_codec
from lt_eval.generator.codec_files import load_codec
from lt_eval.generator.model import Transformer
from lt_eval.generator.stream import Networks
from lt_eval.generator.text import PromptTable, TextCache, Umt5, folder_digest
from lt_eval.paths import cache_dir
from lt_eval.store import atomic_write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lt_eval.generator.codec import CausalCodec
    from lt_eval.generator.config import GeneratorConfig, ModelConfig

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Sources:
    """Where weights come from. What has no path is seeded, and makes noise.

    Attributes:
        transformer: a bundle, or a checkpoint in the public layout.
        codec: a checkpoint of the codec; overrides the bundle's.
        audio: wav2vec2, file or folder.
        text: folder of umt5-xxl's encoder.
        seed: of what is seeded.
    """

    transformer: Path | None = None
    codec: Path | None = None
    audio: Path | None = None
    text: Path | None = None
    seed: int = 0


class Parts(NamedTuple):
    """What is trained together."""

    transformer: Transformer
    codec: CausalCodec
    prompts: PromptTable | None


def load_networks(config: GeneratorConfig, sources: Sources, device: torch.device, dtype: torch.dtype) -> Networks:
    """Return what sessions share.

    Raises:
        WeightsError: a file is missing, unreadable or of another shape.
        MissingExtraError: the text encoder needs a package that is not installed.
    """
    parts = load_parts(config, sources)
    for module in parts:
        if module is not None:
            module.eval().requires_grad_(False)
    return Networks(
        config,
        parts.transformer.to(device, dtype),
        parts.codec.to(device, dtype),
        create_audio_encoder(config.audio, weights=sources.audio, seed=sources.seed, device=str(device)),
        _reading(config.model, parts.prompts, sources, device, dtype),
        device,
    )


def load_parts(config: GeneratorConfig, sources: Sources) -> Parts:
    """Return transformer, codec and prompt table on the CPU in float32, as training goes on from them."""
    parts = seeded_parts(config, sources.seed)
    if sources.transformer is not None:
        state = checkpoint.read_state(sources.transformer)
        name = str(sources.transformer)
        if any(key.startswith("transformer.") for key in state):
            _fill_from_bundle(parts, state, name, with_codec=sources.codec is None)
        else:
            parts.transformer.load_state_dict(checkpoint.from_public(state, config.model, name))
    if sources.codec is not None:
        load_codec(parts.codec, sources.codec)
    return parts


def seeded_parts(config: GeneratorConfig, seed: int) -> Parts:
    """Return untrained networks that depend on the seed alone.

    The head, which training starts at zero, is drawn too: otherwise nothing of what goes in would be seen in what comes
    out.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = Transformer(config.model)
        nn.init.normal_(transformer.head.head.weight, std=0.5 * config.model.dim**-0.5)
        rows = config.model.prompt_table
        prompts = PromptTable(rows, config.model.text_dim, config.model.text_tokens) if rows else None
    return Parts(transformer, create_codec(config.codec, seed), prompts)


def save_bundle(parts: Parts, path: Path, *, dtype: torch.dtype = torch.bfloat16, card: Mapping[str, str] = {}) -> None:
    """Write everything that one training run made as one safetensors file, whole or not at all.

    Args:
        parts: what was trained.
        path: to write.
        dtype: of the tensors in the file.
        card: recipe, steps, date ... as JSON under the one metadata key "card"; several keys have no order.
    """
    state = {f"transformer.{key}": value for key, value in checkpoint.to_public(parts.transformer.state_dict()).items()}
    state |= {f"codec.{key}": value for key, value in parts.codec.published.state_dict().items()}
    if parts.prompts is not None:
        state |= {f"prompts.{key}": value for key, value in parts.prompts.state_dict().items()}
    kept = {key: value.detach().cpu().to(dtype).contiguous() for key, value in state.items()}
    with atomic_write(path, "wb") as file:
        file.write(save(kept, metadata={"card": json.dumps(dict(card), sort_keys=True)}))


def _fill_from_bundle(parts: Parts, state: Mapping[str, Tensor], source: str, *, with_codec: bool) -> None:
    own = _under("transformer.", state)
    parts.transformer.load_state_dict(checkpoint.from_public(own, parts.transformer.config, source))
    if with_codec:
        _fill(parts.codec.published, _under("codec.", state), f"{source}, codec")
    if parts.prompts is not None:
        _fill(parts.prompts, _under("prompts.", state), f"{source}, prompts")


def _under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _fill(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load all keys or none.

    Raises:
        WeightsError: keys are missing or left over, or shapes differ.
    """
    own = {key: value.shape for key, value in module.state_dict().items()}
    checkpoint.check_layout(state, own, source)
    module.load_state_dict(dict(state))


def _reading(
    model: ModelConfig, prompts: PromptTable | None, sources: Sources, device: torch.device, dtype: torch.dtype
) -> Callable[[str], Tensor]:
    """Return what makes tokens [1, L, text_dim] of a prompt."""
    if prompts is not None:
        return lambda prompt: prompts([prompt])
    if sources.text is None:
        if sources.transformer is not None:
            raise WeightsError(
                "this generator reads prompts with umt5-xxl, and no folder of it was given. Set text_encoder to the "
                "folder text_encoder of Wan-AI/Wan2.1-T2V-1.3B-Diffusers, with tokenizer beside it."
            )
        return lambda _: torch.zeros(1, model.text_tokens, model.text_dim)
    folder = sources.text
    cache = TextCache(
        cache_dir() / "text",
        f"umt5 {model.text_tokens} {dtype} {folder_digest(folder)}",
        lambda: Umt5(folder, tokens=model.text_tokens, device=str(device), dtype=dtype),
    )
    return lambda prompt: cache([prompt])


def resolve_device(device: str) -> torch.device:
    """Return "cuda" or "cpu" for "auto", else the device as given.

    Raises:
        SpecError: torch has no such device here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as cause:
        first = str(cause).splitlines()[0].rstrip(".")
        if first.startswith("Expected one of"):  # and then names thirty kinds
            first = "torch knows no such kind of device"
        raise SpecError(f"device {device!r} cannot be used here: {first}. Use auto or cpu.") from cause
