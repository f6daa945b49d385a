"""What least squares say of the material before anything is trained: the prior of a latent, and what follows the audio.

Lips are a small part of a moving head: of the variance of drawn people's latents the audio explains two thousandths, so
that a plain mean square learns them last. `audio_weights` counts each element of a latent by what of it the audio
explains.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lt_eval.distill.material import Material
from lt_eval.generator.prior import LEAST_VARIANCE, GaussianPrior

RIDGE = 0.5
"""Of the regression on audio, in units of its samples: features have variance 1."""

AT_ONCE = 16
"""People whose windows are in memory together, at most."""


def _people(material: Material) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield latents [N, C, F, h, w] and audio [N, F, A] of those who are trained on, float32, some people at a time."""
    trained = material.options.trained
    many = min(AT_ONCE, -(-trained // 2))  # two lots at least
    for start in range(0, trained, many):
        chosen = slice(start, min(start + many, trained))
        yield material.latents[chosen].flatten(0, 1).float(), material.audio[chosen].flatten(0, 1).float()


@torch.no_grad()
def fit_prior(prior: GaussianPrior, material: Material) -> None:
    """Set a prior's gain and variance to those of the material: clean latents regressed on their portraits."""
    crossed, squared, own, frames = (torch.zeros_like(prior.gain, dtype=torch.float64) for _ in range(4))
    for latents, _ in _people(material):
        clean, reference = latents[:, :, 1:], latents[:, :, :1]
        crossed += (clean * reference).sum((0, 2))
        squared += reference.square().sum((0, 2)) * clean.shape[2]
        own += clean.square().sum((0, 2))
        frames += clean.shape[0] * clean.shape[2]
    gain = crossed / squared.clamp_min(LEAST_VARIANCE)
    prior.fit(gain, (own - 2 * gain * crossed + gain.square() * squared) / frames)


class Products(NamedTuple):
    """Sums over half of the people: of audio with itself [A, A], with latents [A, N], and of squared latents [N]."""

    audio: Tensor
    both: Tensor
    latents: Tensor
    samples: int

    def plus(self, other: Products) -> Products:
        """Return the sums over both."""
        audio, both, latents = self.audio + other.audio, self.both + other.both, self.latents + other.latents
        return Products(audio, both, latents, self.samples + other.samples)


@torch.no_grad()
def explained(material: Material) -> tuple[Tensor, Tensor]:
    """Return how much of each latent element a linear function of its own frame's audio explains, and its variance.

    Both are about deviations from the mean of a clip. Half of the people predict the other half, and the other way
    round; what is not explained there is 0.

    Returns:
        R squared, 0..1, and variance, float32 [C, h, w].
    """
    spread = _spread(material)
    halves = _products(material, spread)
    shares = [_predicted(halves[half], halves[1 - half]) for half in (0, 1)]
    shape = material.latents.shape[2:3] + material.latents.shape[4:]
    variance = (halves[0].latents + halves[1].latents) / (halves[0].samples + halves[1].samples)
    share = torch.where(variance > LEAST_VARIANCE, torch.stack(shares).mean(0), 0.0).clamp_min(0)
    return share.reshape(shape), variance.reshape(shape)


def audio_weights(material: Material, weight: float) -> Tensor | None:
    """Return what each latent element counts in a loss, 1 + weight * R squared up to a factor, float32 [C, h, w].

    The factor leaves the mean square of the material's own deviations as it is. None where the weight is 0.
    """
    if not weight:
        return None
    share, variance = explained(material)
    found = 1 + weight * share
    return found * (variance.sum() / (found * variance).sum())


def _deviations(audio: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Return audio [N F, A] and latents [N F, C h w] without each clip's mean, nor the first frame, which is given."""
    heard, seen = audio[:, 1:], latents[:, :, 1:].transpose(1, 2).flatten(2)
    heard, seen = (part - part.mean(1, keepdim=True) for part in (heard, seen))
    return heard.flatten(0, 1), seen.flatten(0, 1)


def _spread(material: Material) -> Tensor:
    squares = [_deviations(audio, latents)[0].square().mean(0) for latents, audio in _people(material)]
    return torch.stack(squares).mean(0).sqrt() + 0.05


def _products(material: Material, spread: Tensor) -> list[Products]:
    """Return the sums over every other lot of people, and over the others."""
    found: list[Products | None] = [None, None]
    for number, (latents, audio) in enumerate(_people(material)):
        heard, seen = _deviations(audio, latents)
        heard = heard / spread
        new = Products(heard.T @ heard, heard.T @ seen, seen.square().sum(0), len(seen))
        known = found[number % 2]
        found[number % 2] = new if known is None else known.plus(new)
    return [each for each in found if each is not None]


def _predicted(known: Products, other: Products) -> Tensor:
    """Return the share of `other`'s variance that a regression on `known` explains, [N]."""
    audio = known.audio.double()
    ridge = RIDGE * known.samples * torch.eye(len(audio), dtype=audio.dtype, device=audio.device)
    weights = torch.linalg.solve(audio + ridge, known.both.double()).float()
    error = other.latents - 2 * (weights * other.both).sum(0) + (weights * (other.audio @ weights)).sum(0)
    share: Tensor = 1 - error / other.latents.clamp_min(LEAST_VARIANCE)
    return share
