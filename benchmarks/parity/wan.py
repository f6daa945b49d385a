"""Is our transformer the published one? Bidirectional velocities against public code, same seeded weights, same inputs.

    python benchmarks/parity/wan.py                                         # installs diffusers beside, once
    python benchmarks/parity/wan.py --wan CLONE --omniavatar CLONE          # the authors' own code as well

Weights are made in our layout, written in the public one (`checkpoint.to_public`) and loaded there. diffusers'
`WanTransformer3DModel` (Apache-2.0) is compared without audio, which it has not, with one noise level for all frames
and with one a frame. Of clones, Wan-Video/Wan2.1 `wan/modules/model.py` is compared without audio, and
Omni-Avatar/OmniAvatar `OmniAvatar/models/wan_video_dit.py` with it (both Apache-2.0); the attention kernels that they
call for GPUs are replaced by torch's.

The packages go to a folder outside the repository, never into this environment. Last line: JSON. Exit status 1 where a
difference is above its limit.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import sys
import types
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peers import DIFFUSERS, Comparison, compare, install, report
from torch import Tensor

from lt_eval.generator.checkpoint import to_public
from lt_eval.generator.conditions import Conditions, pack_frames
from lt_eval.generator.config import ModelConfig
from lt_eval.generator.model import Transformer
from lt_eval.generator.presets import LIVETALK_1_3B
from lt_eval.paths import cache_dir

FRAMES, SIDE = 5, 8

TINY = ModelConfig(
    dim=48,
    layers=6,
    heads=2,
    ffn_dim=96,
    latent_channels=4,
    text_dim=24,
    text_tokens=12,
    freq_dim=32,
    audio_features=14 * 768,
    audio_hidden=32,
    audio_layers=(2, 3),
)
"""OmniAvatar's code has its audio's 10752 features and 6 // 2 - 1 audio layers from layer 2 on written in."""
WIDE = dataclasses.replace(LIVETALK_1_3B.model, layers=2, audio_hidden=0, audio_layers=())
"""Two layers as wide as the published 1.3B model's."""


def seeded(config: ModelConfig, seed: int = 0) -> Transformer:
    """Return our network with weights that keep activations near one; normalisations are moved off 1 and 0."""
    made = Transformer(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            drawn = torch.randn(weight.shape, generator=generator)
            if name.endswith("modulation") or weight.ndim == 1:
                weight.add_(0.2 * drawn)
            else:
                weight.copy_(drawn * weight[0].numel() ** -0.5)
    return made


def inputs(config: ModelConfig, seed: int = 1) -> tuple[Tensor, Conditions]:
    """Return noisy latents and conditions; audio where the model takes it."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    noisy = draw(2, config.latent_channels, FRAMES, SIDE, SIDE + 4)
    reference = draw(2, config.latent_channels, 1, SIDE, SIDE + 4)
    text = draw(2, config.text_tokens, config.text_dim)
    return noisy, Conditions(reference, text, draw(2, FRAMES, config.audio_dim) if config.audio_hidden else None)


def stacked(noisy: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Return the input channels that OmniAvatar adds to the noisy latents, and both together."""
    mask = torch.ones_like(noisy[:, :1])
    mask[:, :, 0] = 0
    added = torch.cat([reference.expand_as(noisy), mask], dim=1)
    return added, torch.cat([noisy, added], dim=1)


def without_audio(config: ModelConfig) -> ModelConfig:
    """Return the shape of Wan2.1 itself."""
    return dataclasses.replace(config, audio_hidden=0, audio_layers=())


@torch.no_grad()
def against_diffusers(name: str, config: ModelConfig) -> list[Comparison]:
    """Compare with `WanTransformer3DModel`, through diffusers' own conversion of the public layout."""
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    theirs = WanTransformer3DModel(
        num_attention_heads=config.heads,
        attention_head_dim=config.head_dim,
        in_channels=config.in_channels,
        out_channels=config.latent_channels,
        text_dim=config.text_dim,
        freq_dim=config.freq_dim,
        ffn_dim=config.ffn_dim,
        num_layers=config.layers,
    ).eval()
    ours = seeded(config)
    theirs.load_state_dict(convert_wan_transformer_to_diffusers(dict(to_public(ours.state_dict()))), strict=True)
    noisy, given = inputs(config)
    _, channels = stacked(noisy, given.reference)
    shared, each = torch.tensor([[937.5], [624.0]]), torch.linspace(0, 1000, 2 * FRAMES).view(2, FRAMES)
    tokens = noisy[0, 0, 0].numel() // 4
    return [
        compare(
            f"diffusers, {name}, one level", ours(noisy, shared, given), theirs(channels, shared[:, 0], given.text)[0]
        ),
        compare(
            f"diffusers, {name}, a level a frame",
            ours(noisy, each, given),
            theirs(channels, each.repeat_interleave(tokens, dim=1), given.text)[0],
        ),
    ]


@torch.no_grad()
def against_wan(clone: Path, config: ModelConfig) -> Comparison:
    """Compare with the authors' `WanModel`."""
    package(clone / "wan", "wan")
    package(clone / "wan" / "modules", "wan.modules")
    upstream: Any = importlib.import_module("wan.modules.model")

    def attention(q: Tensor, k: Tensor, v: Tensor, k_lens: Tensor | None = None, **_: Any) -> Tensor:
        return F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)

    upstream.flash_attention = attention
    theirs = upstream.WanModel(
        text_len=config.text_tokens,
        in_dim=config.in_channels,
        dim=config.dim,
        ffn_dim=config.ffn_dim,
        freq_dim=config.freq_dim,
        text_dim=config.text_dim,
        out_dim=config.latent_channels,
        num_heads=config.heads,
        num_layers=config.layers,
    ).eval()
    ours = seeded(config)
    theirs.load_state_dict(to_public(ours.state_dict()), strict=True)
    noisy, given = inputs(config)
    _, channels = stacked(noisy, given.reference)
    timestep = torch.tensor([[937.5], [624.0]])
    out = theirs(list(channels), timestep[:, 0], list(given.text), FRAMES * noisy[0, 0, 0].numel() // 4)
    return compare("Wan2.1", ours(noisy, timestep, given), torch.stack(out))


@torch.no_grad()
def against_omniavatar(clone: Path, config: ModelConfig) -> Comparison:
    """Compare with OmniAvatar's `WanModel`, audio included, one item at a time as it takes it."""
    package(clone / "OmniAvatar", "OmniAvatar")
    for folder in ("models", "utils"):
        package(clone / "OmniAvatar" / folder, f"OmniAvatar.{folder}")
    parallel = "get_sequence_parallel_rank", "get_sequence_parallel_world_size", "get_sp_group"
    stand_in("xfuser.core.distributed", **dict.fromkeys(parallel))
    stand_in("OmniAvatar.utils.io_utils", hash_state_dict_keys=None)

    class Arguments(types.SimpleNamespace):
        def __contains__(self, name: str) -> bool:
            return hasattr(self, name)

    stand_in("OmniAvatar.utils.args_config", args=Arguments(use_audio=True, sp_size=1))
    upstream: Any = importlib.import_module("OmniAvatar.models.wan_video_dit")
    theirs = upstream.WanModel(
        dim=config.dim,
        in_dim=config.in_channels,
        ffn_dim=config.ffn_dim,
        out_dim=config.latent_channels,
        text_dim=config.text_dim,
        freq_dim=config.freq_dim,
        eps=config.eps,
        patch_size=config.patch,
        num_heads=config.heads,
        num_layers=config.layers,
        has_image_input=False,
        audio_hidden_size=config.audio_hidden,
    ).eval()
    ours = seeded(config)
    theirs.load_state_dict(to_public(ours.state_dict()), strict=True)
    noisy, given = inputs(config)
    # ours takes four video frames a latent frame; theirs repeats the first one itself
    frames = torch.randn(2, 4 * FRAMES - 3, config.audio_features, generator=torch.Generator().manual_seed(2))
    given = given._replace(audio=pack_frames(frames))
    added, _ = stacked(noisy, given.reference)
    timestep = torch.tensor([[937.5], [624.0]])
    out = [
        theirs(noisy[i : i + 1], timestep[i], given.text[i : i + 1], y=added[i : i + 1], audio_emb=frames[i : i + 1])
        for i in range(2)
    ]
    return compare("OmniAvatar, with audio", ours(noisy, timestep, given), torch.cat(out))


def package(folder: Path, name: str) -> None:
    """Make a folder importable as a package without running its __init__, which needs GPUs and more packages."""
    if not folder.is_dir():
        raise SystemExit(f"{folder} is not there")
    made = types.ModuleType(name)
    made.__path__ = [str(folder)]
    sys.modules[name] = made


def stand_in(name: str, **members: Any) -> None:
    """Put a module with these members in the place of one that is not needed here."""
    for end in (at for at, letter in enumerate(name) if letter == "."):
        sys.modules.setdefault(name[:end], types.ModuleType(name[:end]))
    made = types.ModuleType(name)
    vars(made).update(members)
    sys.modules[name] = made


def main() -> int:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = cache_dir() / "parity-diffusers"
    parser.add_argument("--packages", type=Path, default=folder, help=f"folder for {', '.join(DIFFUSERS)}")
    parser.add_argument("--wan", type=Path, help="a clone of Wan-Video/Wan2.1")
    parser.add_argument("--omniavatar", type=Path, help="a clone of Omni-Avatar/OmniAvatar")
    options = parser.parse_args()
    sys.path.append(str(install(options.packages, DIFFUSERS)))
    torch.manual_seed(0)
    comparisons = against_diffusers("tiny", without_audio(TINY)) + against_diffusers("1.3B wide", WIDE)
    if options.wan:
        comparisons.append(against_wan(options.wan, without_audio(TINY)))
    if options.omniavatar:
        comparisons.append(against_omniavatar(options.omniavatar, TINY))
    return report(comparisons)


if __name__ == "__main__":
    sys.exit(main())
