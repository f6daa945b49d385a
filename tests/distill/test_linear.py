"""What least squares say of the material: gain and variance of the prior, and what follows the audio."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.testing import assert_close

from lt_eval.distill import linear, losses
from lt_eval.distill.linear import audio_weights, explained, fit_prior
from lt_eval.distill.material import Material
from lt_eval.distill.recipe import build
from lt_eval.distill.talkers import TalkerOptions
from lt_eval.errors import SpecError
from lt_eval.generator.prior import GaussianPrior

PEOPLE, WINDOWS, FRAMES, SIDE = 40, 2, 21, 2


def material(people: int = PEOPLE) -> Material:
    """Channel 0 is 0.8 of its portrait and noise of deviation 0.5; channel 1 follows the audio, but for a fifth."""
    generator = torch.Generator().manual_seed(0)
    audio = torch.randn(people, WINDOWS, FRAMES, 6, generator=generator)
    latents = torch.randn(people, WINDOWS, 2, FRAMES, SIDE, SIDE, generator=generator)
    latents[:, :, 0, 1:] = 0.8 * latents[:, :, 0, :1] + 0.5 * latents[:, :, 0, 1:]
    heard = audio[..., :4].reshape(people, WINDOWS, FRAMES, SIDE, SIDE)
    latents[:, :, 1] = 0.8**0.5 * heard + 0.2**0.5 * latents[:, :, 1]
    options = TalkerOptions(people=people, held_out=4, windows=WINDOWS)
    return Material(latents.half(), audio.half(), ("",) * people, options)


def test_the_prior_is_the_regression_on_the_portrait() -> None:
    prior = GaussianPrior(2, SIDE)
    fit_prior(prior, material())
    assert prior.gain[0].mean() == pytest.approx(0.8, abs=0.05) and prior.gain[1].abs().max() < 0.15
    assert prior.variance[0].mean() == pytest.approx(0.25, rel=0.05)
    assert prior.variance[1].mean() == pytest.approx(1.0, rel=0.1)


def test_what_follows_the_audio_is_found_and_nothing_else() -> None:
    share, variance = explained(material())
    assert share[0].max() < 0.02 and share[1].min() > 0.65  # 0.8 but for the ridge
    assert variance[0].mean() == pytest.approx(0.25, rel=0.1)


def test_people_who_are_held_out_decide_nothing() -> None:
    known = material()
    changed = dataclasses.replace(known, latents=known.latents.clone())
    changed.latents[-4:] = 100
    for one, other in zip(explained(known), explained(changed), strict=True):
        assert torch.equal(one, other)


def test_how_many_are_in_memory_together_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    few = GaussianPrior(2, SIDE), GaussianPrior(2, SIDE)
    fit_prior(few[0], material())
    monkeypatch.setattr(linear, "AT_ONCE", 3)
    fit_prior(few[1], material())
    assert_close(few[0].gain, few[1].gain)
    assert_close(explained(material())[0][1], torch.full((SIDE, SIDE), 0.71), atol=0.06, rtol=0)


def test_weights_leave_the_mean_square_and_rise_with_what_is_explained() -> None:
    share, variance = explained(material())
    found = audio_weights(material(), 10.0)
    assert found is not None and audio_weights(material(), 0.0) is None
    assert (found * variance).sum() == pytest.approx(float(variance.sum()), rel=1e-4)
    assert_close(found[1] / found[0], (1 + 10 * share[1]) / (1 + 10 * share[0]))
    deviations = torch.randn(5, 2, 7, SIDE, SIDE) * variance.sqrt()[None, :, None]
    assert losses.ode_loss(deviations, 0 * deviations, weight=torch.ones(2, SIDE, SIDE)) == pytest.approx(
        float(losses.ode_loss(deviations, 0 * deviations))
    )
    alone = torch.zeros(2, SIDE, SIDE)
    alone[1] = 1
    assert losses.flow_loss(deviations, 0 * deviations, 0 * deviations, weight=alone) == pytest.approx(
        float(deviations[:, 1].square().sum() / deviations.numel())
    )


def test_one_person_cannot_predict_the_other_half() -> None:
    with pytest.raises(SpecError, match=r"audio_weight is 30 and material trains on 1 people"):
        build({"material": {"people": 2, "held_out": 1}})
    build({"audio_weight": 0.0, "material": {"people": 2, "held_out": 1}})
    assert audio_weights(material(people=6), 5.0) is not None  # two people are enough
