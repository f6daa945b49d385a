"""What noise level and portrait alone say of a latent: a Gaussian, element by element, which the transformer corrects.

A clean latent is taken as N(gain * reference, variance), each of its elements for itself. Then its best estimate from a
noisy one has a closed form, and the network is left with what that form cannot know, at unit scale at every noise
level. With gain 0 and one variance for all it is the preconditioning of EDM (Karras et al., arXiv 2206.00364, section
5) for the velocity of flow matching.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEAST_VARIANCE = 1e-4
"""Of an element: what hardly ever differs from the portrait is not divided by nothing."""


class GaussianPrior(nn.Module):
    """Gain and variance of every element of a latent frame; an untrained one knows nothing: gain 0, variance 1.

    Args:
        channels: C of the latents.
        side: rows, and columns, of the latents.
    """

    gain: Tensor
    variance: Tensor

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.register_buffer("gain", torch.zeros(channels, side, side))
        self.register_buffer("variance", torch.ones(channels, side, side))

    @torch.no_grad()
    def fit(self, gain: Tensor, variance: Tensor) -> None:
        """Take what least squares of clean latents on their references give, [C, h, w] each."""
        self.gain.copy_(gain)
        self.variance.copy_(variance.clamp_min(LEAST_VARIANCE))

    def whitened(self, noisy: Tensor, reference: Tensor, sigma: Tensor) -> Tensor:
        """Return how far a noisy latent lies from what is expected of it, in standard deviations.

        Args:
            noisy: [B, C, F, h, w].
            reference: [B, C, 1 or F, h, w].
            sigma: [B, F or 1], 0..1.

        Returns:
            float32 [B, C, F, h, w].
        """
        level, mean, total = self._expected(reference, sigma)
        return (noisy.float() - (1 - level) * mean) * total.rsqrt()

    def velocity(self, noisy: Tensor, reference: Tensor, sigma: Tensor, correction: Tensor) -> Tensor:
        """Return the velocity noise - clean: the Gaussian's best, and a correction in standard deviations of its error.

        Args:
            noisy: [B, C, F, h, w].
            reference: [B, C, 1 or F, h, w].
            sigma: [B, F or 1], 0..1.
            correction: [B, C, F, h, w], what a network adds.

        Returns:
            float32 [B, C, F, h, w].
        """
        level, mean, total = self._expected(reference, sigma)
        variance = self.variance.float()[:, None]
        best = ((level - (1 - level) * variance) * noisy.float() - level * mean) / total
        return best + (variance / total).sqrt() * correction.float()

    def _expected(self, reference: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the noise level [B, 1, F, 1, 1], the mean of what is clean, and the variance of what is noisy."""
        level = sigma.float()[:, None, :, None, None]
        mean = self.gain.float()[:, None] * reference.float()
        return level, mean, (1 - level).square() * self.variance.float()[:, None] + level.square()
