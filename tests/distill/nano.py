"""A generator so small that a stage of training takes a second."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from lt_eval.distill.denoiser import Denoiser
from lt_eval.distill.material import Batch
from lt_eval.generator.presets import NANO

CONFIG = dataclasses.replace(NANO, stream=dataclasses.replace(NANO.stream, sink_blocks=1, rolling_blocks=2))
"""A window of three blocks, so that a clip of five forgets one."""

FRAMES = 14
"""Latent frames: four blocks of three, and one of two."""


def denoiser(seed: int = 0) -> Denoiser:
    model = Denoiser.fresh(CONFIG, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        nn.init.normal_(model.transformer.head.head.weight, std=0.1)
    return model


def batch(size: int = 2, frames: int = FRAMES, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    side = CONFIG.latent_side
    latents = torch.randn(size, CONFIG.model.latent_channels, frames, side, side, generator=generator)
    audio = torch.randn(size, frames, CONFIG.model.audio_dim, generator=generator)
    return Batch(latents, latents[:, :, :1], audio, tuple(f"Person {n} nods." for n in range(size)))
