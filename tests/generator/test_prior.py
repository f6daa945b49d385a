"""The Gaussian prior is the closed form that it says it is, and the transformer keeps its properties with it."""

from __future__ import annotations

import dataclasses
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lt_eval.errors import SpecError
from lt_eval.generator.config import StreamConfig
from lt_eval.generator.model import Transformer
from lt_eval.generator.presets import MINI, configure
from lt_eval.generator.prior import GaussianPrior
from lt_eval.generator.sampler import add_noise, clean_from_velocity
from tests.generator import nano

MODEL = dataclasses.replace(nano.MODEL, prior_side=nano.SIDE)


def prior(gain: float = 0.7, variance: float = 0.4) -> GaussianPrior:
    made = GaussianPrior(nano.MODEL.latent_channels, nano.SIDE)
    made.fit(torch.full_like(made.gain, gain), torch.full_like(made.variance, variance))
    return made


def of_prior(seed: int, count: int, gain: float = 0.7, variance: float = 0.4) -> tuple[Tensor, Tensor]:
    """Return clean latents [N, C, 1, h, w] as the prior has them, and their references."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, nano.MODEL.latent_channels, 1, nano.SIDE, nano.SIDE)
    reference = torch.randn(shape, generator=generator)
    return gain * reference + variance**0.5 * torch.randn(shape, generator=generator), reference


@pytest.mark.parametrize("level", [0.05, 0.5, 0.95, 1.0])
def test_without_a_correction_it_is_the_conditional_mean(level: float) -> None:
    """E[clean | noisy, reference] of jointly Gaussian numbers, computed by their covariances."""
    clean, reference = of_prior(0, 3)
    noisy = add_noise(clean, torch.randn(clean.shape, generator=torch.Generator().manual_seed(1)), level)
    sigma = torch.full((3, 1), level)
    velocity = prior().velocity(noisy, reference, sigma, torch.zeros_like(noisy))
    mean = 0.7 * reference
    share = (1 - level) * 0.4 / ((1 - level) ** 2 * 0.4 + level**2)
    assert_close(clean_from_velocity(noisy, velocity, level), mean + share * (noisy - (1 - level) * mean))


@pytest.mark.parametrize("level", [0.02, 0.3, 0.8, 1.0])
def test_what_is_left_and_what_goes_in_have_unit_scale_at_every_level(level: float) -> None:
    clean, reference = of_prior(2, 400)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(3))
    sigma, nothing = torch.full((400, 1), level), torch.zeros_like(clean)
    noisy = add_noise(clean, noise, level)
    scale = prior().velocity(noisy, reference, sigma, nothing + 1) - prior().velocity(noisy, reference, sigma, nothing)
    left = (noise - clean - prior().velocity(noisy, reference, sigma, nothing)) / scale
    assert left.std() == pytest.approx(1, rel=0.03)
    assert prior().whitened(noisy, reference, sigma).std() == pytest.approx(1, rel=0.03)


def test_an_element_that_never_moves_is_not_divided_by_nothing() -> None:
    made = prior(1.0, 0.0)
    reference = torch.ones(1, 4, 1, 4, 4)
    for level in (0.0, 1e-3, 1.0):
        sigma = torch.full((1, 1), level)
        assert made.velocity(reference, reference, sigma, torch.ones_like(reference)).isfinite().all()
        assert made.whitened(reference, reference, sigma).isfinite().all()


@pytest.mark.parametrize("rope", ["absolute", "relative"])
@torch.no_grad()
def test_streaming_with_a_prior_is_the_block_causal_pass(rope: Literal["absolute", "relative"]) -> None:
    stream = dataclasses.replace(StreamConfig(sink_blocks=1, rolling_blocks=2), rope=rope)
    made = nano.model(MODEL)
    assert made.prior is not None
    made.prior.fit(torch.full_like(made.prior.gain, 0.6), torch.full_like(made.prior.variance, 0.3))
    x, t, given = nano.latents(21), nano.timesteps(21), nano.conditions(21)
    at_once = made(x, t, given, block_causal=True, stream=stream)
    assert_close(nano.stream_through(made, x, t, given, stream), at_once, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_as_initialised_it_knows_nothing_of_the_portrait() -> None:
    made, given = Transformer(MODEL), nano.conditions(3)
    x, t = nano.latents(3), nano.timesteps(3)
    other = given._replace(reference=given.reference + 1)
    assert torch.equal(made(x, t, given), made(x, t, other))
    noise = clean_from_velocity(x, made(x, torch.full_like(t, 1000.0), given), 1.0)
    assert_close(noise, torch.zeros_like(noise))  # of pure noise it predicts the mean of all latents


def test_gain_and_variance_go_with_the_weights() -> None:
    made, other = nano.model(MODEL), nano.model(MODEL, seed=1)
    assert made.prior is not None and other.prior is not None
    made.prior.fit(torch.full_like(made.prior.gain, 0.6), torch.full_like(made.prior.variance, 0.3))
    other.load_state_dict(made.state_dict())
    assert torch.equal(other.prior.gain, made.prior.gain) and torch.equal(other.prior.variance, made.prior.variance)
    assert not {"prior.gain", "prior.variance"} & dict(made.named_parameters()).keys()  # data, not trained


def test_a_picture_of_another_size_than_the_priors_is_refused() -> None:
    assert MINI.model.prior_side == MINI.latent_side == 8
    with pytest.raises(SpecError, match=r"model.prior_side is 8, and a picture of 512 pixels has 16 x 16 latents"):
        configure("mini", {"size": 512})
    assert configure("mini", {"size": 512, "model": {"prior_side": 0}}).latent_side == 16
