"""Is our wav2vec2 the published one? Hidden states against transformers' Wav2Vec2Model, same weights, same sound.

    python benchmarks/parity/audio.py         # installs transformers beside, once

Both networks have the published architecture of facebook/wav2vec2-base-960h at a tiny and at the full size, with seeded
weights that go from theirs to ours by the public key layout. Compared are all hidden states as published (50 a second),
and the features at 16 and 25 frames a second, where theirs is given the interpolated features, as OmniAvatar does.

The packages go to a folder outside the repository, never into this environment. Last line: JSON. Exit status 1 where a
difference is above its limit.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peers import Comparison, compare, install, report
from torch import Tensor, nn
from torch.nn import functional as F

from lt_eval.generator.audio_config import AudioConfig
from lt_eval.generator.wav2vec2 import normalise
from lt_eval.generator.wav2vec2_weights import from_public
from lt_eval.paths import cache_dir
from lt_eval.testing.fakes import toy_speech

PACKAGES = ("transformers==5.16.1", "huggingface-hub==1.33.0", "tokenizers==0.23.3")

FULL = AudioConfig("wav2vec2")
TINY = replace(FULL, hidden=32, layers=3, heads=4, ffn=64, conv_dim=24, position_kernel=16, position_groups=4)


def published(config: AudioConfig, seed: int) -> Any:
    """Return transformers' network at this size, seeded; norms are moved off 1 and 0, where mistakes would not show."""
    import transformers

    theirs: Any = transformers.Wav2Vec2Model(
        transformers.Wav2Vec2Config(
            hidden_size=config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.ffn,
            conv_dim=[config.conv_dim] * 7,
            num_conv_pos_embeddings=config.position_kernel,
            num_conv_pos_embedding_groups=config.position_groups,
        )
    ).eval()
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in theirs.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=rng)
    return theirs


class Resampled(nn.Module):
    """Their convolutions, interpolated to the frames of a video before anything else sees them."""

    def __init__(self, convolutions: nn.Module, frames: int) -> None:
        super().__init__()
        self.convolutions, self.frames = convolutions, frames

    def forward(self, sound: Tensor) -> Tensor:
        """[B, N] -> [B, C, frames]."""
        return F.interpolate(self.convolutions(sound), size=self.frames, mode="linear", align_corners=True)


def against_transformers(name: str, config: AudioConfig, seconds: float) -> list[Comparison]:
    """Compare hidden states at the rate of the convolutions, and features at two video rates."""
    theirs = published(config, seed=1)
    ours = from_public(theirs.state_dict(), config, "transformers")
    sound = normalise(torch.from_numpy(toy_speech(seconds))[None])
    with torch.inference_mode():
        out = theirs(sound, output_hidden_states=True)
        steps = out.last_hidden_state.shape[1]
        wanted = torch.cat([out.last_hidden_state, *out.hidden_states], dim=2)
        found = [compare(f"{name}, {steps} steps", ours(sound, steps), wanted)]
        steps_of = theirs.feature_extractor
        for fps in (16, 25):
            frames = round(seconds * fps)
            theirs.feature_extractor = Resampled(steps_of, frames)
            out = theirs(sound, output_hidden_states=True)
            wanted = torch.cat([out.last_hidden_state, *out.hidden_states], dim=2)
            found.append(compare(f"{name}, {fps} fps", ours(sound, frames), wanted))
    return found


def main() -> int:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = cache_dir() / "parity-transformers"
    parser.add_argument("--packages", type=Path, default=folder, help=f"folder for {', '.join(PACKAGES)}")
    sys.path.append(str(install(parser.parse_args().packages, PACKAGES)))
    torch.manual_seed(0)
    comparisons = against_transformers("tiny", TINY, 2.0) + against_transformers("wav2vec2-base", FULL, 2.0)
    return report(comparisons)


if __name__ == "__main__":
    sys.exit(main())
