"""Are our codecs the published ones? Latents and frames against the public code, same weights, same input.

    python benchmarks/parity/video_codecs.py         # installs diffusers beside, once
    python benchmarks/parity/video_codecs.py --wan CLONE/wan/modules/vae.py --taehv CLONE/taehv.py

Wan2.1's VAE is compared with diffusers' AutoencoderKLWan, at a small and at the published width, on seeded weights that
go from ours to theirs by the public key layout; with clones of Wan-Video/Wan2.1 and madebyollin/taehv at hand, with
their own files too. Compared are a picture, a clip and a stream in pieces. Beside it stands the processor time of both.

The packages go to a folder outside the repository, never into this environment. Last line: JSON. Exit status 1 where a
difference is above its limit.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from peers import DIFFUSERS, Comparison, compare, install, report
from torch import Tensor

from lt_eval.generator.codec import CausalCodec, create_codec
from lt_eval.generator.codec_config import TinyCodecConfig, WanCodecConfig
from lt_eval.paths import cache_dir

_PLACES = {
    "conv1": "quant_conv",
    "conv2": "post_quant_conv",
    "encoder.conv1": "encoder.conv_in",
    "decoder.conv1": "decoder.conv_in",
    "middle.0": "mid_block.resnets.0",
    "middle.1": "mid_block.attentions.0",
    "middle.2": "mid_block.resnets.1",
    "head.0": "norm_out",
    "head.2": "conv_out",
    "residual.0": "norm1",
    "residual.2": "conv1",
    "residual.3": "norm2",
    "residual.6": "conv2",
    "shortcut": "conv_shortcut",
}
"""Where diffusers keeps what Wan2.1 calls otherwise."""


def import_file(path: Path) -> ModuleType:
    """Import one file without its package."""
    spec = importlib.util.spec_from_file_location(f"public_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SystemExit(f"{path} is not there")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def normal(*shape: int, seed: int) -> Tensor:
    """Return seeded normal values."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def seconds(function: Callable[[], object], repeats: int = 3) -> float:
    """Return the least processor time of a few calls."""
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        taken.append(time.process_time() - start)
    return min(taken)


def compare_calls(
    name: str, ours: Callable[[], Tensor], theirs: Callable[[], Tensor], *, timed: bool = False
) -> Comparison:
    """Return the comparison of what two functions return."""
    return compare(name, ours(), theirs(), time_ratio=seconds(theirs) / seconds(ours) if timed else None)


def varied(codec: CausalCodec, seed: int) -> dict[str, Tensor]:
    """Return the codec's state after moving scales and biases off 1 and 0, where mistakes would not show."""
    state = codec.published.state_dict()
    for index, value in enumerate(state.values()):
        noise = normal(*value.shape, seed=seed + index)
        if value.squeeze().ndim == 1:
            value.add_(noise, alpha=0.1)
    return state


def to_diffusers(state: Mapping[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """Return a state dict of Wan2.1 under the names of diffusers, whose decoder counts layers by stage."""
    renamed = {}
    for key, value in state.items():
        name = key.replace("encoder.downsamples.", "encoder.down_blocks.")
        if found := re.match(r"decoder\.upsamples\.(\d+)\.(.*)", name):
            stage, layer = divmod(int(found[1]), blocks + 2)
            place = f"resnets.{layer}" if layer <= blocks else "upsamplers.0"
            name = f"decoder.up_blocks.{stage}.{place}.{found[2]}"
        owner, _, leaf = name.rpartition(".")
        for old, new in _PLACES.items():
            whole = old in ("conv1", "conv2", "encoder.conv1", "decoder.conv1")
            if owner == old if whole else re.search(rf"(^|\.){re.escape(old)}($|\.)", owner):
                owner = owner.replace(old, new, 1)
        renamed[f"{owner}.{leaf}"] = value
    return renamed


def streamed(codec: CausalCodec, latents: Tensor) -> Tensor:
    """Return the frames of latents pushed as one, then two, then the rest."""
    decoder = codec.decoder()
    pieces = torch.split(latents, [1, 2, latents.shape[2] - 3], 2)
    return torch.cat([decoder.push(piece) for piece in pieces], 2)


def normalised(values: Tensor, config: WanCodecConfig) -> Tensor:
    """Return raw latents less the mean, over the deviation."""
    mean, std = (torch.tensor(of).reshape(1, -1, 1, 1, 1) for of in (config.mean, config.std))
    return (values - mean) / std


def raw(values: Tensor, config: WanCodecConfig) -> Tensor:
    """Return normalised latents as the network gives them."""
    mean, std = (torch.tensor(of).reshape(1, -1, 1, 1, 1) for of in (config.mean, config.std))
    return values * std + mean


def against_wan(
    label: str,
    codec: CausalCodec,
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    side: int,
    frames: int,
) -> list[Comparison]:
    """Compare with a pair of functions that take pixels and return normalised latents, and back."""
    video = normal(1, 3, frames, side, side - 16, seed=1).clamp(-1, 1)
    picture = video[:, :, :1]
    latents = normal(1, codec.latent_channels, 5, side // 8, side // 8 - 2, seed=2)
    few = latents[:, :, : max(4, (frames + 3) // 4)]
    return [
        compare_calls(f"{label}, picture", lambda: codec.encode(picture), lambda: encode(picture), timed=True),
        compare_calls(f"{label}, clip encoded", lambda: codec.encode(video), lambda: encode(video), timed=True),
        compare_calls(f"{label}, clip decoded", lambda: codec.decode(few), lambda: decode(few), timed=True),
        compare_calls(f"{label}, decoded in pieces", lambda: streamed(codec, few), lambda: decode(few)),
    ]


def against_diffusers(config: WanCodecConfig, side: int, frames: int) -> list[Comparison]:
    """Compare with AutoencoderKLWan of the same sizes and weights."""
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    codec = create_codec(config, seed=1)
    theirs: Any = AutoencoderKLWan(
        base_dim=config.dim,
        z_dim=config.latent_channels,
        dim_mult=list(config.dim_mult),
        num_res_blocks=config.blocks,
        temperal_downsample=list(config.time_down),
    ).eval()
    theirs.load_state_dict(to_diffusers(varied(codec, seed=3), config.blocks))
    return against_wan(
        f"diffusers AutoencoderKLWan, dim {config.dim}",
        codec,
        lambda video: normalised(theirs.encode(video).latent_dist.mean, config),
        lambda latents: theirs.decode(raw(latents, config)).sample.clamp(-1, 1),
        side,
        frames,
    )


def against_wan_file(file: Path, config: WanCodecConfig, side: int, frames: int) -> list[Comparison]:
    """Compare with Wan2.1's own file."""
    codec = create_codec(config, seed=1)
    theirs: Any = (
        import_file(file)
        .WanVAE_(
            dim=config.dim,
            z_dim=config.latent_channels,
            dim_mult=list(config.dim_mult),
            num_res_blocks=config.blocks,
            temperal_downsample=list(config.time_down),
        )
        .eval()
    )
    theirs.load_state_dict(varied(codec, seed=3))
    scale = [torch.tensor(config.mean), 1 / torch.tensor(config.std)]
    return against_wan(
        f"Wan2.1 vae.py, dim {config.dim}",
        codec,
        lambda video: theirs.encode(video, scale),
        lambda latents: theirs.decode(latents, scale).clamp(-1, 1),
        side,
        frames,
    )


def against_taehv_file(file: Path, config: TinyCodecConfig) -> list[Comparison]:
    """Compare with taehv's own file, which takes [B, T, C, H, W] in 0..1."""
    codec = create_codec(config, seed=1)
    theirs: Any = import_file(file).TAEHV(None, patch_size=config.patch, latent_channels=config.latent_channels).eval()
    state = varied(codec, seed=3)
    last = [key for key in state if key.startswith("decoder.")][-2:]
    for key in last:
        state[key].mul_(0.1)  # frames of random weights would nearly all be clipped
    theirs.load_state_dict(state)
    video = normal(1, 3, 13, 16 * codec.spatial, 12 * codec.spatial, seed=1).clamp(-1, 1)
    latents = normal(1, config.latent_channels, 5, 16, 12, seed=2)

    def encode() -> Tensor:
        found: Tensor = theirs.encode_video((video.transpose(1, 2) + 1) / 2, show_progress_bar=False)
        return found.transpose(1, 2)

    def decode() -> Tensor:
        found: Tensor = theirs.decode_video(latents.transpose(1, 2), show_progress_bar=False)
        return found.transpose(1, 2) * 2 - 1

    label = f"taehv.py, {config.latent_channels} channels, patch {config.patch}"
    return [
        compare_calls(f"{label}, clip encoded", lambda: codec.encode(video), encode, timed=True),
        compare_calls(f"{label}, clip decoded", lambda: codec.decode(latents), decode, timed=True),
        compare_calls(f"{label}, decoded in pieces", lambda: streamed(codec, latents), decode),
    ]


def main() -> int:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    packages = cache_dir() / "parity-diffusers"
    parser.add_argument("--packages", type=Path, default=packages, help=f"folder for {', '.join(DIFFUSERS)}")
    parser.add_argument("--wan", type=Path, help="wan/modules/vae.py of a clone of Wan-Video/Wan2.1")
    parser.add_argument("--taehv", type=Path, help="taehv.py of a clone of madebyollin/taehv")
    options = parser.parse_args()
    sys.path.append(str(install(options.packages, DIFFUSERS)))
    small, published = WanCodecConfig(dim=16), WanCodecConfig()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of public code
        found = against_diffusers(small, 64, 17) + against_diffusers(published, 48, 5)
        if options.wan:
            found += against_wan_file(options.wan, small, 64, 17) + against_wan_file(options.wan, published, 48, 5)
        if options.taehv:
            found += against_taehv_file(options.taehv, TinyCodecConfig())
            found += against_taehv_file(options.taehv, TinyCodecConfig(latent_channels=32, patch=2))
    return report(found)


if __name__ == "__main__":
    sys.exit(main())
