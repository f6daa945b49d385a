"""Schedules in closed form, samplers on models whose right answer is known, and noise that belongs to its seed."""

from __future__ import annotations

import dataclasses
import gc
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lt_eval.errors import SpecError
from lt_eval.generator import sampler
from lt_eval.generator.conditions import Conditions, Modulation
from lt_eval.generator.config import StreamConfig
from lt_eval.generator.model import Transformer
from lt_eval.generator.sampler import Guidance
from tests.generator import nano


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def run(
    made: Transformer, given: Conditions, blocks: int, seeds: tuple[int, ...], stream: StreamConfig = nano.PAPER
) -> Tensor:
    """Return the latents of a stream."""
    cache = made.new_cache(stream, batch=len(seeds), height=nano.SIDE, width=nano.SIDE)
    plan = sampler.schedule(made, stream, batch=len(seeds))
    generators, out = seeded(*seeds), []
    for block in range(blocks):
        mine = nano.of_block(given, block)
        out.append(sampler.denoise_block(made, cache, mine, plan, generators))
        sampler.clean_pass(made, cache, mine, out[-1], plan, generators)
    return torch.cat(out, dim=2)


class Oracle(Transformer):
    """Knows the clean latents: its velocity (noisy - clean) / sigma is exact at every noise level."""

    def __init__(self, clean: Tensor) -> None:
        super().__init__(nano.MODEL)
        self.clean = clean
        self.seen: list[Tensor] = []
        self.timesteps: list[float] = []

    def modulation(self, timestep: Tensor) -> Modulation:
        return Modulation(timestep, timestep, timestep / 1000)

    def step(self, noisy: Tensor, timestep: Any, conditions: Any, cache: Any, *, write: bool = False) -> Tensor:
        self.seen.append(noisy.clone())
        self.timesteps.append(float(timestep.time[0, 0]))
        sigma = sampler.shifted_sigmas(4, 5.0)[(len(self.seen) - 1) % 4]
        return (noisy - self.clean) / sigma

    def forward(self, noisy: Tensor, timestep: Any, conditions: Any, **_: Any) -> Tensor:
        sigma: Tensor = timestep[:, None, :, None, None] / 1000
        return (noisy - self.clean) / sigma


def test_the_schedule_of_the_paper() -> None:
    assert sampler.shifted_sigmas(4, 5.0) == pytest.approx([1, 0.9375, 5 / 6, 0.625])
    assert sampler.shifted_sigmas(4, 1.0) == pytest.approx([1, 0.75, 0.5, 0.25])


def test_bfloat16_makes_the_odd_list_of_the_published_configuration() -> None:
    exact = dataclasses.replace(nano.PAPER, timestep_rounding=None)
    sigmas = sampler.shifted_sigmas(4, 5.0)
    assert [sampler.timestep_of(sigma, nano.PAPER) for sigma in sigmas] == [1000, 936, 832, 624]
    assert [sampler.timestep_of(sigma, exact) for sigma in sigmas] == pytest.approx([1000, 937.5, 2500 / 3, 625])


@pytest.mark.parametrize("sigma", [1.0, 0.625, 0.01])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_noise_and_its_removal_are_inverse(sigma: float, dtype: torch.dtype) -> None:
    clean, noise = nano.latents(3, seed=1), nano.latents(3, seed=2)
    noisy = sampler.add_noise(clean, noise, sigma)
    velocity = (noise.double() - clean.double()).to(dtype)
    rounding = 0.0 if dtype == torch.float32 else sigma * 2.0**-8 * float(velocity.abs().max())
    assert_close(sampler.clean_from_velocity(noisy, velocity, sigma), clean, atol=1e-6 + rounding, rtol=0)


def test_a_model_that_knows_the_answer_gives_it() -> None:
    """And what it is shown at each step is the answer under fresh noise of that step's level."""
    clean = nano.latents(3, seed=5)
    oracle, given = Oracle(clean), nano.conditions(3)
    stream = dataclasses.replace(nano.PAPER, anchor_first_latent=False)
    cache = oracle.new_cache(stream, batch=1, height=nano.SIDE, width=nano.SIDE)
    plan = sampler.schedule(oracle, stream)
    made = sampler.denoise_block(oracle, cache, given, plan, seeded(0))
    assert_close(made, clean, atol=1e-5, rtol=0)
    assert oracle.timesteps == [1000, 936, 832, 624]
    noises = [(x - (1 - sigma) * clean) / sigma for x, sigma in zip(oracle.seen, plan.sigmas, strict=True)]
    assert all((a - b).abs().mean() > 0.5 for a, b in zip(noises[1:], noises[:-1], strict=True))
    assert all(noise.std().item() == pytest.approx(1, abs=0.25) for noise in noises)


def test_the_first_latent_of_the_first_block_is_the_reference() -> None:
    """Before every step and in the result; in the second block nothing is."""
    oracle, given = Oracle(nano.latents(3, seed=5)), nano.conditions(6)
    cache = oracle.new_cache(nano.PAPER, batch=1, height=nano.SIDE, width=nano.SIDE)
    plan = sampler.schedule(oracle, nano.PAPER)
    first = sampler.denoise_block(oracle, cache, nano.of_block(given, 0), plan, seeded(0))
    cache.advance()
    second = sampler.denoise_block(oracle, cache, nano.of_block(given, 1), plan, seeded(0))
    for latents in (first, *oracle.seen[:4]):
        assert torch.equal(latents[:, :, :1], given.reference)
    for latents in (second, *oracle.seen[4:]):
        assert (latents[:, :, :1] - given.reference).abs().min() > 0


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    made, given = nano.model(), nano.conditions(18)
    first = run(made, given, 6, (7,))
    assert torch.equal(first, run(made, given, 6, (7,)))
    assert (first - run(made, given, 6, (8,))).abs().max() > 0.1


def test_the_global_random_state_is_neither_read_nor_changed() -> None:
    made, given = nano.model(), nano.conditions(6)
    torch.manual_seed(1)
    first = run(made, given, 2, (7,))
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)
    assert torch.equal(first, run(made, given, 2, (7,)))


def test_a_stream_in_a_batch_is_the_stream_alone() -> None:
    made, given = nano.model(), nano.conditions(18, batch=2)
    assert isinstance(given.text, Tensor) and isinstance(given.audio, Tensor)
    together = run(made, given, 6, (3, 4))
    for item, seed in enumerate((3, 4)):
        one = slice(item, item + 1)
        alone = Conditions(given.reference[one], given.text[one], given.audio[one])
        assert_close(run(made, alone, 6, (seed,)), together[one], atol=1e-4, rtol=1e-4)


def test_two_streams_interleaved_are_each_the_stream_alone() -> None:
    """To the byte: they share weights and nothing else."""
    made = nano.model()
    given = [nano.conditions(18, seed=seed) for seed in (1, 2)]
    alone = [run(made, mine, 6, (seed,)) for seed, mine in enumerate(given)]
    plan = sampler.schedule(made, nano.PAPER)
    caches = [made.new_cache(nano.PAPER, batch=1, height=nano.SIDE, width=nano.SIDE) for _ in given]
    noise = [seeded(seed) for seed in range(2)]
    for block in range(6):
        for who in (0, 1):
            mine = nano.of_block(given[who], block)
            latents = sampler.denoise_block(made, caches[who], mine, plan, noise[who])
            assert torch.equal(latents, alone[who][:, :, block * 3 : block * 3 + 3])
            sampler.clean_pass(made, caches[who], mine, latents, plan, noise[who])


def test_the_pass_that_writes_is_told_the_context_noise() -> None:
    made, noisy = nano.model(), dataclasses.replace(nano.PAPER, context_noise=100.0)
    for stream, timestep in ((nano.PAPER, 0.0), (noisy, 100.0)):
        expected = made.modulation(torch.full((1, 1), timestep))
        assert torch.equal(sampler.schedule(made, stream).context.projected, expected.projected)


def test_context_noise_reaches_the_cache_and_takes_noise() -> None:
    made, given = nano.model(), nano.conditions(9)
    noisy = dataclasses.replace(nano.PAPER, context_noise=100.0)
    first, second = run(made, given, 3, (7,)), run(made, given, 3, (7,), noisy)
    assert torch.equal(first[:, :, :3], second[:, :, :3])
    assert (first - second)[:, :, 3:].abs().max() > 1e-3
    with pytest.raises(SpecError, match="1 items and 0 generators"):
        cache = made.new_cache(noisy, batch=1, height=nano.SIDE, width=nano.SIDE)
        sampler.clean_pass(made, cache, nano.of_block(given, 0), first[:, :, :3], sampler.schedule(made, noisy))


def test_guidance_of_one_is_the_model_and_is_linear_in_its_scales() -> None:
    """W = 1 is no guidance; the convention with + s (with - without) is w = s + 1."""
    made, x, given = nano.model(), nano.latents(6), nano.conditions(6)
    assert isinstance(given.audio, Tensor)
    negative, t, silence = nano.conditions(6, seed=8).text, torch.full((1, 1), 500.0), torch.zeros_like(given.audio)
    assert isinstance(negative, Tensor)
    full, neither = made(x, t, given), made(x, t, Conditions(given.reference, negative, silence))
    text_only = made(x, t, given._replace(audio=silence))

    def guided(text: float, audio: float) -> Tensor:
        return sampler.guided_velocity(made, x, t, given, negative, Guidance(text, audio))

    assert torch.equal(guided(1, 1), full)
    assert_close(guided(6, 6), full + 5 * (full - neither), atol=1e-4, rtol=1e-4)
    assert_close(guided(0, 0), neither)
    assert_close(guided(1, 5), text_only + 5 * (full - text_only), atol=1e-4, rtol=1e-4)
    assert_close(guided(4.5, 1), full + 3.5 * (text_only - neither), atol=1e-4, rtol=1e-4)
    # unequal scales that meet: the three-pass form becomes the two-pass form
    assert_close(guided(4.0, 4.0001), guided(4.0, 4.0), atol=1e-3, rtol=1e-3)
    with pytest.raises(SpecError, match="negative_text"):
        sampler.guided_velocity(made, x, t, given, None, Guidance(2, 2))


def test_many_steps_of_a_known_field_end_at_the_answer_and_keep_what_is_asked() -> None:
    """Towards one point the field's lines are straight: Euler is exact, and every kept state lies on its line."""
    clean = nano.latents(6, seed=5)
    oracle, given = Oracle(clean), nano.conditions(6)
    path = sampler.sample_sequence(
        oracle, given, 6, seeded(3), steps=48, keep=(0, 12, 24, 36), anchor_first_latent=False
    )
    assert path.sigmas == pytest.approx([1, 0.9375, 5 / 6, 0.625, 0])
    assert_close(path.states[-1], clean, atol=1e-4, rtol=0)
    noise = path.states[0]
    for sigma, state in zip(path.sigmas, path.states, strict=True):
        assert_close(state, (1 - sigma) * clean + sigma * noise, atol=1e-4, rtol=0)


def test_the_teacher_keeps_the_reference_as_its_first_latent() -> None:
    made, given = nano.model(), nano.conditions(6)
    path = sampler.sample_sequence(made, given, 6, seeded(3), steps=5, keep=(2,))
    assert path.states.shape == (2, 1, nano.MODEL.latent_channels, 6, nano.SIDE, nano.SIDE)
    assert all(torch.equal(state[:, :, :1], given.reference) for state in path.states)
    assert torch.equal(path.states, sampler.sample_sequence(made, given, 6, seeded(3), steps=5, keep=(2,)).states)


@pytest.mark.parametrize("rope", ["absolute", "relative"])
def test_a_hundred_blocks_leave_nothing_behind(rope: Literal["absolute", "relative"]) -> None:
    """As many tensors after 120 blocks as after 20; `benchmarks/speed/stream_cost.py` does 10,000 and times them."""
    made, stream = nano.model(), dataclasses.replace(nano.PAPER, rope=rope)
    cache = made.new_cache(stream, batch=1, height=nano.SIDE, width=nano.SIDE)
    plan, noise, counts = sampler.schedule(made, stream), seeded(0), []
    given = made.prepare(nano.conditions(3))
    latents = nano.latents(3)
    for block in range(121):
        latents = sampler.denoise_block(made, cache, given, plan, noise)
        sampler.clean_pass(made, cache, given, latents, plan, noise)
        if block in (20, 120):
            gc.collect()
            counts.append(sum(type(thing) is Tensor for thing in gc.get_objects()))
    assert counts[0] == counts[1]
    assert latents.isfinite().all() and cache.block == 121
