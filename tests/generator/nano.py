"""A transformer of 40 thousand parameters whose every output depends on every input, and what it is fed."""

from __future__ import annotations

import dataclasses

import torch

from lt_eval.generator.conditions import Conditions
from lt_eval.generator.config import ModelConfig, StreamConfig
from lt_eval.generator.model import Transformer
from lt_eval.generator.presets import NANO

MODEL = dataclasses.replace(NANO.model, latent_channels=4)
SIDE = 4
PAPER = StreamConfig()
ALL_PAST = StreamConfig(sink_blocks=0, rolling_blocks=1000)


def model(config: ModelConfig = MODEL, seed: int = 0) -> Transformer:
    """Return a transformer with random weights everywhere; as initialised its head is zero."""
    made = Transformer(config)
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters():
        scale = 0.3 if parameter.ndim == 1 else (1 / parameter[0].numel()) ** 0.5
        base = 1.0 if parameter.ndim == 1 and parameter.mean() == 1 else 0.0
        parameter.data = base + scale * torch.randn(parameter.shape, generator=generator)
    return made


def latents(frames: int, batch: int = 1, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, MODEL.latent_channels, frames, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def conditions(frames: int, batch: int = 1, seed: int = 2) -> Conditions:
    generator = torch.Generator().manual_seed(seed)
    return Conditions(
        torch.randn(batch, MODEL.latent_channels, 1, SIDE, SIDE, generator=generator),
        torch.randn(batch, MODEL.text_tokens, MODEL.text_dim, generator=generator),
        torch.randn(batch, frames, MODEL.audio_dim, generator=generator),
    )


def timesteps(frames: int, batch: int = 1, seed: int = 3) -> torch.Tensor:
    return 1000 * torch.rand(batch, frames, generator=torch.Generator().manual_seed(seed))


def of_block(given: Conditions, block: int, size: int = 3) -> Conditions:
    assert isinstance(given.audio, torch.Tensor)
    return given._replace(audio=given.audio[:, block * size : (block + 1) * size])


def stream_through(
    made: Transformer, x: torch.Tensor, t: torch.Tensor, given: Conditions, stream: StreamConfig
) -> torch.Tensor:
    """Return what a sequence becomes block by block, each block written as it is."""
    size = stream.block_frames
    cache = made.new_cache(stream, batch=x.shape[0], height=SIDE, width=SIDE)
    out = []
    for block in range(x.shape[2] // size):
        part = slice(block * size, (block + 1) * size)
        out.append(made.step(x[:, :, part], t[:, part], of_block(given, block, size), cache, write=True))
    return torch.cat(out, dim=2)
