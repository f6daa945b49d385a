"""Every objective of the recipe as a pure function of tensors. LiveTalk paper (arXiv 2512.23576), section 3.1.

Flow matching throughout: x_sigma = (1 - sigma) x_0 + sigma eps, and the networks predict the velocity v = eps - x_0, so
that x_0 = x_sigma - sigma v. `sigma` is 0 at the clean end and 1 at pure noise; a network's timestep is 1000 sigma.

Shapes: latents [B, C, F, h, w]; sigma [B, F], one a latent frame, or [B]. B clips, C channels, F latent frames.
"""

from __future__ import annotations

import torch
from torch import Tensor


def expand(sigma: Tensor, like: Tensor) -> Tensor:
    """Shape a noise level [B] or [B, F] so that it multiplies latents [B, C, F, h, w].

    Raises:
        ValueError: sigma has another shape.
    """
    batch, _, frames = like.shape[:3]
    if sigma.shape == (batch,):
        return sigma.reshape(batch, 1, 1, 1, 1)
    if sigma.shape == (batch, frames):
        return sigma.reshape(batch, 1, frames, 1, 1)
    raise ValueError(f"sigma has shape {tuple(sigma.shape)}; it is [{batch}] or [{batch}, {frames}] for these latents.")


def add_noise(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Return (1 - sigma) clean + sigma noise."""
    level = expand(sigma, clean)
    return (1 - level) * clean + level * noise


def clean_of(noisy: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    """Return the clean latents that a velocity stands for: noisy - sigma velocity."""
    return noisy - expand(sigma, noisy) * velocity


def velocity_of(noisy: Tensor, clean: Tensor, sigma: Tensor) -> Tensor:
    """Return the velocity that leads from `noisy` to `clean`; sigma must not be 0."""
    return (noisy - clean) / expand(sigma, noisy)


def guided(conditional: Tensor, unconditional: Tensor, weight: float) -> Tensor:
    """Classifier-free guidance, unconditional + weight (conditional - unconditional).

    `weight` 1 is no guidance. This is the paper's convention: its 6.0 is what code with
    conditional + s (conditional - unconditional) calls s = 5.
    """
    return unconditional + weight * (conditional - unconditional)


def flow_loss(
    velocity: Tensor, clean: Tensor, noise: Tensor, mask: Tensor | None = None, weight: Tensor | None = None
) -> Tensor:
    """Mean squared error of the velocity, the loss of teacher and critic.

    Args:
        velocity: predicted, [B, C, F, h, w].
        clean: x_0.
        noise: eps.
        mask: float or bool [B, F], 1 where a latent frame counts; None counts all.
        weight: how much each element of a latent counts, [C, h, w]; None counts all alike.
    """
    return _mean_square(velocity - (noise - clean), mask, weight)


def critic_x0_loss(
    predicted: Tensor, generated: Tensor, mask: Tensor | None = None, weight: Tensor | None = None
) -> Tensor:
    """Equation 3: mean squared error of the critic's clean prediction of what the student made.

    It equals the flow loss weighted by sigma squared.
    """
    return _mean_square(predicted - generated, mask, weight)


def ode_loss(predicted: Tensor, target: Tensor, mask: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
    """Equation 1: mean squared error between the student's clean prediction and the end of the teacher's trajectory.

    The equation sums over blocks; a mean makes the loss independent of how many there are.
    """
    return _mean_square(predicted - target, mask, weight)


def dmd_gradient(generated: Tensor, critic: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the normalised gradient of equation 2 with respect to the student's output.

    The difference of scores s_critic - s_teacher is (1 - sigma) / sigma^2 times (critic - teacher), both as clean
    predictions; the factor is replaced by the mean distance of student and teacher in each clip, as DMD does.

    Args:
        generated: x_0 of the student, [B, C, F, h, w].
        critic: clean prediction of the critic from the noised x_0.
        teacher: clean prediction of the teacher, guided, from the same noised x_0.
        mask: float or bool [B, F], 1 where a latent frame counts in the mean distance; None counts all. Where a frame
            is given, a network's prediction of it means nothing, and must not scale the others.

    Returns:
        [B, C, F, h, w], no gradient attached; what is not finite is 0.
    """
    with torch.no_grad():
        apart, dims = (generated - teacher).abs(), tuple(range(1, generated.dim()))
        if mask is None:
            distance = apart.mean(dim=dims, keepdim=True)
        else:
            weight = expand(mask.to(apart.dtype), apart).expand_as(apart)
            distance = (apart * weight).sum(dim=dims, keepdim=True) / weight.sum(dim=dims, keepdim=True).clamp_min(1)
        return torch.nan_to_num((critic - teacher) / distance, nan=0.0, posinf=0.0, neginf=0.0)


def dmd_loss(generated: Tensor, gradient: Tensor, mask: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
    """A scalar whose gradient with respect to `generated` is `gradient` over the number of elements that count.

    0.5 mean((x - stop(x - g))^2): its value tells nothing but the size of the gradient. A `weight` [C, h, w] multiplies
    the gradient of each element, which moves its zero nowhere.
    """
    target = (generated - gradient).detach()
    return 0.5 * _mean_square(generated.double() - target.double(), mask, weight)


def dmd_sigmas(uniform: Tensor, shift: float, low: float = 0.02, high: float = 0.98) -> Tensor:
    """Turn uniform numbers in 0..1 into the noise levels at which DMD compares scores.

    The flow's own shift, then clamped: at sigma 0 and 1 the two scores say nothing.
    """
    return warp(uniform, shift).clamp(low, high)


def warp(time: Tensor, shift: float) -> Tensor:
    """Return shift t / (1 + (shift - 1) t), the time shift of flow matching."""
    return shift * time / (1 + (shift - 1) * time)


def _mean_square(difference: Tensor, mask: Tensor | None, weight: Tensor | None = None) -> Tensor:
    squares = difference.square()
    if weight is not None:
        squares = squares * weight[:, None]
    if mask is None:
        return squares.mean()
    counted = expand(mask.to(squares.dtype), squares).expand_as(squares)
    return (squares * counted).sum() / counted.sum().clamp_min(1)
