"""Each objective against what can be worked out by hand, and DMD on a Gaussian, where both scores are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lt_eval.distill import losses


def latents(seed: int, batch: int = 2, frames: int = 3) -> Tensor:
    return torch.randn(batch, 4, frames, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_velocity_and_clean_prediction_are_inverse() -> None:
    clean, noise = latents(0), latents(1)
    sigma = torch.tensor([[0.1, 0.5, 1.0], [0.2, 0.3, 0.9]], dtype=torch.float64)
    noisy = losses.add_noise(clean, noise, sigma)
    torch.testing.assert_close(losses.clean_of(noisy, noise - clean, sigma), clean)
    torch.testing.assert_close(losses.velocity_of(noisy, clean, sigma), noise - clean)


def test_noise_levels_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sigma has shape \(3,\)"):
        losses.add_noise(latents(0), latents(1), torch.zeros(3))


def test_the_truth_has_no_loss() -> None:
    clean, noise = latents(0), latents(1)
    assert losses.flow_loss(noise - clean, clean, noise) == 0
    assert losses.ode_loss(clean, clean) == 0
    assert losses.critic_x0_loss(clean, clean) == 0


def test_the_critics_losses_differ_by_sigma_squared() -> None:
    clean, noise, wrong = latents(0), latents(1), latents(2)
    sigma = torch.full((2,), 0.3, dtype=torch.float64)
    noisy = losses.add_noise(clean, noise, sigma)
    x0 = losses.critic_x0_loss(losses.clean_of(noisy, wrong, sigma), clean)
    torch.testing.assert_close(x0, 0.3**2 * losses.flow_loss(wrong, clean, noise))


def test_guidance_of_one_is_none_and_six_is_five_times_the_difference_more() -> None:
    conditional, unconditional = latents(0), latents(1)
    torch.testing.assert_close(losses.guided(conditional, unconditional, 1.0), conditional)
    six = conditional + 5.0 * (conditional - unconditional)
    torch.testing.assert_close(losses.guided(conditional, unconditional, 6.0), six)


def test_frames_left_out_carry_neither_loss_nor_gradient() -> None:
    predicted, target = latents(0).requires_grad_(), latents(1)
    mask = torch.tensor([[1, 0, 1], [1, 1, 1]])
    torch.autograd.backward(losses.ode_loss(predicted, target, mask))
    assert predicted.grad is not None and predicted.grad[0, :, 1].abs().max() == 0
    assert predicted.grad[1].abs().min() > 0
    kept = torch.cat([(predicted - target)[0, :, [0, 2]].flatten(), (predicted - target)[1].flatten()])
    torch.testing.assert_close(losses.ode_loss(predicted, target, mask), kept.square().mean())


def test_the_dmd_loss_has_the_stated_gradient() -> None:
    generated = latents(0).requires_grad_()
    gradient = losses.dmd_gradient(generated, latents(1), latents(2))
    torch.autograd.backward(losses.dmd_loss(generated, gradient))
    assert generated.grad is not None
    torch.testing.assert_close(generated.grad, gradient / generated.numel())


def test_a_weight_multiplies_the_gradient_of_the_dmd_loss() -> None:
    generated = latents(0).requires_grad_()
    gradient = losses.dmd_gradient(generated, latents(1), latents(2))
    weight = torch.rand(generated.shape[1], *generated.shape[3:])
    torch.autograd.backward(losses.dmd_loss(generated, gradient, weight=weight))
    assert generated.grad is not None
    torch.testing.assert_close(generated.grad, weight[:, None] * gradient / generated.numel())


def test_the_dmd_gradient_is_scaled_for_each_clip_alone() -> None:
    generated, critic, teacher = latents(0), latents(1), latents(2)
    both = losses.dmd_gradient(generated, critic, teacher)
    for clip in range(2):
        one = losses.dmd_gradient(*(x[clip : clip + 1] for x in (generated, critic, teacher)))
        torch.testing.assert_close(both[clip : clip + 1], one)
    scale = (generated - teacher).abs().mean(dim=(1, 2, 3, 4), keepdim=True)
    torch.testing.assert_close(both * scale, critic - teacher)


def test_a_student_that_equals_its_teacher_has_no_gradient_instead_of_nan() -> None:
    same = latents(0)
    assert losses.dmd_gradient(same, same, same).abs().max() == 0


def test_the_time_shift_keeps_its_ends_and_its_published_values() -> None:
    times = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0], dtype=torch.float64)
    expected = torch.tensor([1.0, 0.9375, 5 / 6, 0.625, 0.0], dtype=torch.float64)
    torch.testing.assert_close(losses.warp(times, 5.0), expected)
    assert losses.dmd_sigmas(torch.tensor([0.0, 1.0]), 5.0).tolist() == pytest.approx([0.02, 0.98])


# A Gaussian student x = a + b z, z ~ N(0, 1), and a Gaussian target N(mean, std^2): the best clean prediction of either
# from x_sigma is linear, so DMD can be followed with exact scores.


def best_prediction(noisy: Tensor, mean: float | Tensor, std: float | Tensor, sigma: float) -> Tensor:
    variance = std * std
    gain = (1 - sigma) * variance / ((1 - sigma) ** 2 * variance + sigma**2)
    return mean + gain * (noisy - (1 - sigma) * mean)


def divergence(a: float, b: float, mean: float, std: float, sigma: float) -> float:
    """KL of the noised student from the noised target, in closed form."""
    v, w = (1 - sigma) ** 2 * b * b + sigma**2, (1 - sigma) ** 2 * std**2 + sigma**2
    return 0.5 * (v / w + (1 - sigma) ** 2 * (a - mean) ** 2 / w - 1 + math.log(w / v))


@pytest.mark.parametrize("sigma", [0.2, 0.6, 0.9])
def test_the_difference_of_predictions_is_the_gradient_of_the_divergence(sigma: float) -> None:
    """E[(critic - teacher) dx/dphi] (1 - sigma)^2 / sigma^2 = d KL / d phi, by quadrature and finite difference."""
    a, b, mean, std = 0.4, 1.7, -0.8, 0.6
    nodes, weights = np.polynomial.hermite_e.hermegauss(30)
    z, eps = np.meshgrid(nodes, nodes)
    weight = torch.from_numpy(np.outer(weights, weights) / (2 * np.pi))
    noisy = torch.from_numpy((1 - sigma) * (a + b * z) + sigma * eps)
    gap = best_prediction(noisy, a, b, sigma) - best_prediction(noisy, mean, std, sigma)
    factor = (1 - sigma) ** 2 / sigma**2
    step = 1e-5
    by_a = (divergence(a + step, b, mean, std, sigma) - divergence(a - step, b, mean, std, sigma)) / (2 * step)
    by_b = (divergence(a, b + step, mean, std, sigma) - divergence(a, b - step, mean, std, sigma)) / (2 * step)
    assert float((weight * gap).sum()) * factor == pytest.approx(by_a, rel=1e-6)
    assert float((weight * gap * torch.from_numpy(z)).sum()) * factor == pytest.approx(by_b, rel=1e-6)


@pytest.mark.parametrize(("mean", "std"), [(2.0, 0.5), (-1.0, 2.0)])
def test_dmd_reaches_the_targets_mean_and_deviation(mean: float, std: float) -> None:
    generator = torch.Generator().manual_seed(3)
    a, b = torch.zeros((), requires_grad=True), torch.ones((), requires_grad=True)
    optimiser = torch.optim.Adam([a, b], lr=0.02, betas=(0.0, 0.999))
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 1200)
    for _ in range(1200):
        z = torch.randn(64, 1, 1, 1, 4, generator=generator)
        student = a + b * z
        sigma = float(losses.dmd_sigmas(torch.rand((), generator=generator), 5.0))
        eps = torch.randn(student.shape, generator=generator)
        noisy = losses.add_noise(student.detach(), eps, torch.full((64,), sigma))
        critic = best_prediction(noisy, a.detach(), b.detach(), sigma)
        teacher = best_prediction(noisy, mean, std, sigma)
        optimiser.zero_grad()
        torch.autograd.backward(losses.dmd_loss(student, losses.dmd_gradient(student, critic, teacher)))
        optimiser.step()
        decay.step()
    assert float(a.detach()) == pytest.approx(mean, abs=0.08)
    assert abs(float(b.detach())) == pytest.approx(std, abs=0.08)
