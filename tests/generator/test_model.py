"""The transformer: causal where it must be, the same numbers streamed and at once, item by item and together."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from lt_eval.errors import SpecError
from lt_eval.generator import sampler
from lt_eval.generator.conditions import Conditions
from lt_eval.generator.config import StreamConfig
from lt_eval.generator.model import Transformer
from lt_eval.generator.presets import LIVETALK_1_3B, MINI
from lt_eval.generator.rope import axis_widths, rotate, rotation
from lt_eval.generator.text import PromptTable
from tests.generator import nano

FRAMES = 21
STREAMS = [
    nano.ALL_PAST,
    dataclasses.replace(nano.ALL_PAST, rope="relative"),
    StreamConfig(),
    StreamConfig(rope="relative"),
    StreamConfig(sink_blocks=1, rolling_blocks=2, window_includes_current=False),
    StreamConfig(sink_blocks=0, rolling_blocks=2, rope="relative", block_frames=1),
]
streams = pytest.mark.parametrize("stream", STREAMS, ids=lambda s: f"{s.sink_blocks}+{s.rolling_blocks}-{s.rope[:3]}")


@streams
@torch.no_grad()
def test_streaming_is_the_block_causal_pass_over_the_whole_sequence(stream: StreamConfig) -> None:
    """With windows that cover everything and with those that forget, under both rope policies."""
    made = nano.model()
    x, t, given = nano.latents(FRAMES), nano.timesteps(FRAMES), nano.conditions(FRAMES)
    at_once = made(x, t, given, block_causal=True, stream=stream)
    assert_close(nano.stream_through(made, x, t, given, stream), at_once, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_without_a_stream_block_causal_means_all_of_the_past() -> None:
    made = nano.model()
    x, t, given = nano.latents(FRAMES), nano.timesteps(FRAMES), nano.conditions(FRAMES)
    assert torch.equal(made(x, t, given, block_causal=True), made(x, t, given, block_causal=True, stream=nano.ALL_PAST))
    forgetful = made(x, t, given, block_causal=True, stream=StreamConfig())
    assert_close(forgetful[:, :, :15], made(x, t, given, block_causal=True)[:, :, :15])
    assert (forgetful[:, :, 15:] - made(x, t, given, block_causal=True)[:, :, 15:]).abs().max() > 1e-3


@torch.no_grad()
def test_the_future_changes_nothing_before_it() -> None:
    """Latents, audio and noise level of block 3 and later are replaced: blocks 0 to 2 stay, bit by bit."""
    made = nano.model()
    x, t, given = nano.latents(FRAMES), nano.timesteps(FRAMES), nano.conditions(FRAMES)
    before = made(x, t, given, block_causal=True)
    other = nano.conditions(FRAMES, seed=9)
    x[:, :, 9:], t[:, 9:] = nano.latents(FRAMES, seed=8)[:, :, 9:], 500
    assert isinstance(given.audio, torch.Tensor) and isinstance(other.audio, torch.Tensor)
    changed = given._replace(audio=torch.cat([given.audio[:, :9], other.audio[:, 9:]], dim=1))
    after = made(x, t, changed, block_causal=True)
    assert torch.equal(before[:, :, :9], after[:, :, :9])
    assert ((before - after)[:, :, 9:].abs().amax(dim=(0, 1, 3, 4)) > 1e-3).all()
    assert ((made(x, t, changed) - made(x, t, given))[:, :, :9].abs() > 1e-6).any()  # bidirectional: it does


@torch.no_grad()
@pytest.mark.parametrize("what", ["audio", "text", "reference", "noisy", "timestep"])
def test_every_input_is_used(what: str) -> None:
    made = nano.model()
    x, t, given = nano.latents(6), nano.timesteps(6), nano.conditions(6)
    before = made(x, t, given)
    if what == "noisy":
        x = nano.latents(6, seed=7)
    elif what == "timestep":
        t = nano.timesteps(6, seed=7)
    else:
        given = given._replace(**{what: getattr(nano.conditions(6, seed=7), what)})
    assert (made(x, t, given) - before).abs().max() > 1e-2


@torch.no_grad()
def test_the_mask_is_zero_on_the_very_first_latent_frame_alone() -> None:
    """With the mask's weights as the only ones, tokens tell where the mask is 1."""
    made = nano.model()
    for parameter in made.patch_embedding.parameters():
        parameter.zero_()
    made.patch_embedding.weight[:, -1] = 1.0
    tokens, _, _ = made._enter(nano.latents(6), nano.timesteps(6), nano.conditions(6), first=True)
    assert tokens[0, :, 0, 0].tolist() == [0.0, 4.0, 4.0, 4.0, 4.0, 4.0]
    tokens, _, _ = made._enter(nano.latents(3), nano.timesteps(3), nano.conditions(3), first=False)
    assert tokens[0, :, 0, 0].tolist() == [4.0, 4.0, 4.0]


@torch.no_grad()
def test_items_of_a_batch_do_not_meet() -> None:
    made = nano.model()
    x, t, given = nano.latents(12, batch=3), nano.timesteps(12, batch=3), nano.conditions(12, batch=3)
    together = nano.stream_through(made, x, t, given, StreamConfig())
    for item in range(3):
        one = slice(item, item + 1)
        alone = type(given)(*(part[one] for part in given if isinstance(part, torch.Tensor)))
        assert_close(nano.stream_through(made, x[one], t[one], alone, StreamConfig()), together[one])


@torch.no_grad()
@pytest.mark.parametrize("stream", STREAMS[2:4], ids=["absolute", "relative"])
def test_the_short_pass_leaves_what_the_whole_one_does(stream: StreamConfig) -> None:
    """`prefill` skips the rest of the last layer; every later block is the same to the bit."""
    made = nano.model()
    given, t = nano.conditions(24), torch.zeros(1, 1)
    whole, short = (made.new_cache(stream, batch=1, height=nano.SIDE, width=nano.SIDE) for _ in range(2))
    for block in range(8):
        x, mine = nano.latents(3, seed=block), nano.of_block(given, block)
        assert torch.equal(made.step(x, t, mine, whole), made.step(x, t, mine, short))
        made.step(x, t, mine, whole, write=True)
        made.prefill(x, t, mine, short)
        assert torch.equal(whole._keys, short._keys) and torch.equal(whole._values, short._values)


@torch.no_grad()
def test_what_is_prepared_once_gives_the_same_bytes() -> None:
    """Cross-attention's keys and values, the audio's projections, the embedded noise level."""
    made = nano.model()
    x, t, given = nano.latents(6, batch=2), nano.timesteps(6, batch=2), nano.conditions(6, batch=2)
    prepared = made.prepare(given)
    assert made.prepare(prepared) == prepared
    assert torch.equal(made(x, t, given), made(x, made.modulation(t), prepared))
    shared = torch.full((2, 1), 700.0)
    assert_close(made(x, shared, given), made(x, shared.expand(2, 6), given))


@pytest.mark.parametrize("form", ["bidirectional", "causal", "streaming"])
def test_gradients_reach_every_parameter_that_is_used(form: str) -> None:
    made = nano.model()
    x, t, given = nano.latents(6), nano.timesteps(6), nano.conditions(6)
    table = PromptTable(nano.MODEL.prompt_table, nano.MODEL.text_dim, nano.MODEL.text_tokens)
    given = given._replace(text=table(["a person speaks and smiles"]))
    if form == "streaming":
        out = nano.stream_through(made, x, t, given, StreamConfig())
    else:
        out = made(x, t, given, block_causal=form == "causal")
    torch.autograd.backward(out.square().mean())
    trained = [*made.named_parameters(), *table.named_parameters()]
    without = [name for name, p in trained if p.grad is None or not p.grad.abs().any()]
    assert without == []


def test_gradients_of_streaming_are_those_of_the_block_causal_pass_where_the_past_is_data() -> None:
    """One block: no past. The two graphs differ, the gradients do not."""
    x, t, given = nano.latents(3), nano.timesteps(3), nano.conditions(3)
    grads = []
    for form in ("causal", "streaming"):
        made = nano.model()
        out = (
            made(x, t, given, block_causal=True)
            if form == "causal"
            else nano.stream_through(made, x, t, given, StreamConfig())
        )
        torch.autograd.backward(out.square().mean())
        grads.append([parameter.grad for parameter in made.parameters()])
    for causal, streamed in zip(*grads, strict=True):
        assert_close(causal, streamed, atol=1e-6, rtol=1e-4)


@torch.no_grad()
def test_bfloat16_is_close_to_float32() -> None:
    made = nano.model()
    x, t, given = nano.latents(15), nano.timesteps(15), nano.conditions(15)
    exact = nano.stream_through(made, x, t, given, StreamConfig())
    half = nano.stream_through(made.bfloat16(), x, t, given, StreamConfig())
    assert half.dtype == torch.bfloat16
    assert ((half.float() - exact).norm() / exact.norm()) < 0.03


@torch.no_grad()
def test_a_step_compiles_whole_and_not_anew_for_every_block() -> None:
    """No graph break; from the steady block on two slots alternate and nothing is compiled any more."""
    torch._dynamo.reset()
    made, stream = nano.model(), StreamConfig(sink_blocks=1, rolling_blocks=2)
    counter = CompileCounter()
    step = torch.compile(made.step, fullgraph=True, backend=counter)
    cache = made.new_cache(stream, batch=1, height=nano.SIDE, width=nano.SIDE)
    given, level = made.prepare(nano.conditions(3)), made.modulation(torch.zeros(1, 1))
    compiled = []
    for _ in range(12):
        assert_close(step(nano.latents(3), level, given, cache), made.step(nano.latents(3), level, given, cache))
        compiled.append(counter.frame_count)
        cache.advance()
    assert compiled[-1] == compiled[stream.steady_block + 1] <= stream.steady_block + 2
    torch._dynamo.reset()


@torch.no_grad()
def test_rotation_depends_on_distance_alone() -> None:
    """Query and key moved together, in time: their product stays, at any position."""
    q, k = torch.randn(2, 1, 4, 2, 64, generator=torch.Generator().manual_seed(0)).unbind(0)
    products = []
    for start in (0, 11, 5000):
        here, there = (rotation(torch.tensor([start + at]), 2, 2, 64) for at in (0, 3))
        products.append((rotate(q, here) * rotate(k, there)).sum(dim=-1))
    assert_close(products[0], products[1], atol=1e-4, rtol=1e-4)
    assert_close(products[0], products[2], atol=1e-4, rtol=1e-4)
    far = rotation(torch.tensor([9]), 2, 2, 64)
    assert (
        products[0] - (rotate(q, rotation(torch.tensor([0]), 2, 2, 64)) * rotate(k, far)).sum(dim=-1)
    ).abs().max() > 0.1


def test_heads_split_as_published() -> None:
    assert axis_widths(128) == (44, 42, 42)
    assert all(sum(axis_widths(width)) == width for width in range(6, 200, 2))


def test_a_grid_that_patches_do_not_tile_is_refused() -> None:
    with pytest.raises(SpecError, match="5 x 4 do not divide"):
        nano.model().new_cache(nano.PAPER, batch=1, height=5, width=4)


def test_as_initialised_the_velocity_is_zero() -> None:
    made = Transformer(nano.MODEL)
    assert not made(nano.latents(3), nano.timesteps(3), nano.conditions(3)).any()


def test_mini_has_the_size_that_it_states() -> None:
    assert 4e6 < sum(parameter.numel() for parameter in Transformer(MINI.model).parameters()) < 8e6


@torch.no_grad()
def test_the_papers_stream_reads_nothing_back_and_costs_what_was_counted() -> None:
    """On the meta device a tensor has no values: whatever asked for one would raise.

    Per forward, N = 3072 queries, K = 15360 keys, d = 1536, L = 30: linear maps L 2N (4 d^2 + 2 d^2 + 2 d 8960), where
    cross-attention's keys and values are prepared, attention L 4 N K d, cross-attention L 4 N 512 d: 16.67 TFLOP.
    """
    config = LIVETALK_1_3B
    shallow = dataclasses.replace(config.model, layers=3, audio_layers=(1, 2))  # a tenth of the layers, all alike
    with torch.device("meta"):
        made = Transformer(shallow).bfloat16()
        cache = made.new_cache(config.stream, batch=1, height=64, width=64)
        reference, audio = torch.empty(1, 16, 1, 64, 64), torch.empty(1, 3, 43008)
        given = made.prepare(Conditions(reference, torch.empty(1, 512, 4096), audio))
        plan = sampler.schedule(made, config.stream)
        x = torch.empty(1, 16, 3, 64, 64)
        for _ in range(7):
            made.step(x, plan.levels[0], given, cache)
            made.prefill(x, plan.context, given, cache)
        with FlopCounterMode(display=False) as whole:
            made.step(x, plan.levels[0], given, cache)
        with FlopCounterMode(display=False) as short:
            made.fill(x, plan.context, given, cache)
    n, k, d = 3072, 15360, 1536
    layer = 2 * n * (6 * d * d + 2 * d * 8960) + 4 * n * k * d + 4 * n * 512 * d
    assert 30 * layer == pytest.approx(16.67e12, rel=1e-3)
    patches_in_and_out = 2 * n * d * (33 * 4 + 16 * 4)
    assert whole.get_total_flops() == 3 * layer + patches_in_and_out
    assert short.get_total_flops() == 2 * layer + 4 * n * d * d + 2 * n * d * 33 * 4


@pytest.mark.parametrize("block_causal", [False, True])
def test_recomputing_changes_no_gradient(block_causal: bool) -> None:
    """And it keeps less: of a layer, what enters it."""
    noisy, level, told = nano.latents(6), torch.full((1, 6), 500.0), nano.conditions(6)
    gradients, kept = [], []
    for recompute in (False, True):
        model, held = nano.model(), set[int]()
        model.recompute = recompute

        def keep(tensor: torch.Tensor, held: set[int] = held) -> torch.Tensor:
            held.add(tensor.data_ptr())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = model(noisy, level, told, block_causal=block_causal).square().mean()
        torch.autograd.backward(loss)
        gradients.append([parameter.grad for parameter in model.parameters()])
        kept.append(len(held))
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
    assert kept[1] < kept[0] / 2
