"""The KV cache holds what the paper's window holds, whatever the length of the stream."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.testing import assert_close

from lt_eval.generator.cache import KVCache, slot_of, visible_blocks
from lt_eval.generator.config import StreamConfig
from lt_eval.generator.rope import rotate, rotation
from tests.generator import nano

WINDOWS = [
    StreamConfig(sink_blocks=3, rolling_blocks=2),
    StreamConfig(sink_blocks=3, rolling_blocks=2, window_includes_current=False),
    StreamConfig(sink_blocks=0, rolling_blocks=1),
    StreamConfig(sink_blocks=0, rolling_blocks=4, block_frames=1),
    StreamConfig(sink_blocks=2, rolling_blocks=3),
    StreamConfig(sink_blocks=1, rolling_blocks=0, window_includes_current=False),
    StreamConfig(sink_blocks=3, rolling_blocks=2, rope="relative"),
]
windows = pytest.mark.parametrize("stream", WINDOWS, ids=lambda s: f"{s.sink_blocks}+{s.rolling_blocks}-{s.rope[:3]}")


def cache_of(stream: StreamConfig, batch: int = 1) -> KVCache:
    return KVCache(nano.MODEL, stream, batch=batch, height=2, width=2)


def marked(cache: KVCache, value: float, batch: int = 1) -> torch.Tensor:
    return torch.full((batch, cache.block_tokens, nano.MODEL.heads, nano.MODEL.head_dim), float(value))


def values_in(x: torch.Tensor) -> list[float]:
    return sorted(set(x.flatten().tolist()))


def expected_window(block: int, stream: StreamConfig) -> list[int]:
    """The window said in words: the sinks, and the latest blocks, of which the current one may or may not count."""
    past = [other for other in range(stream.sink_blocks, block)]
    kept = stream.rolling_blocks - (1 if stream.window_includes_current and block >= stream.sink_blocks else 0)
    sinks = [other for other in range(stream.sink_blocks) if other < block]
    return [*sinks, *(past[-kept:] if kept > 0 else []), block]


@windows
def test_every_block_sees_the_sinks_the_latest_blocks_and_itself(stream: StreamConfig) -> None:
    """One value a block: nothing is dropped, nothing is there twice, nothing older than the window."""
    cache = cache_of(stream)
    for block in range(20):
        for layer in range(nano.MODEL.layers):
            content = marked(cache, block + 0.25 * layer)
            window = cache.update(layer, content, content)
            per_block = window.values[0, :: cache.block_tokens, 0, 0] - 0.25 * layer
            assert sorted(per_block.tolist()) == expected_window(block, stream)
            assert (torch.unflatten(window.values, 1, (-1, cache.block_tokens)).std(dim=2) == 0).all()
        cache.advance()


def test_the_shipped_window_from_the_sixth_block_on() -> None:
    """LiveTalk's 15 latent frames: three sink blocks, the previous block, the current one."""
    assert visible_blocks(5, nano.PAPER) == (0, 1, 2, 4, 5)
    assert visible_blocks(100, nano.PAPER) == (0, 1, 2, 99, 100)
    assert visible_blocks(4, nano.PAPER) == (0, 1, 2, 3, 4)
    without = dataclasses.replace(nano.PAPER, window_includes_current=False)
    assert visible_blocks(100, without) == (0, 1, 2, 98, 99, 100)


@windows
def test_keys_are_rotated_to_their_positions(stream: StreamConfig) -> None:
    """Those of blocks long past too, whatever they were rotated to before."""
    cache = cache_of(stream)
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):
        content = torch.randn(marked(cache, 0).shape, generator=generator)
        window = cache.update(0, content, content)
        turn = rotation(window.positions, 2, 2, nano.MODEL.head_dim)
        assert_close(window.keys, rotate(window.values, turn))
        cache.advance()


@windows
def test_positions_are_those_of_the_keys(stream: StreamConfig) -> None:
    """Absolute: where the block was in the stream. Relative: its rank in the window, contiguous from 0."""
    cache = cache_of(stream)
    for block in range(12):
        window = cache.update(0, marked(cache, block), marked(cache, block))
        seen = [int(value) for value in window.values[0, :: cache.block_tokens, 0, 0].tolist()]
        ranks = {other: rank for rank, other in enumerate(sorted(seen))}
        first = [(other if stream.rope == "absolute" else ranks[other]) * stream.block_frames for other in seen]
        assert window.positions.tolist() == [start + at for start in first for at in range(stream.block_frames)]
        cache.advance()


def test_a_block_is_overwritten_until_it_is_finished() -> None:
    """Every denoising step leaves its keys; only the last ones stay."""
    cache = cache_of(nano.PAPER)
    for value in (1.0, 2.0, 3.0):
        window = cache.update(0, marked(cache, value), marked(cache, value))
        assert values_in(window.values) == [value]
    cache.advance()
    assert values_in(cache.update(0, marked(cache, 9), marked(cache, 9)).values) == [3.0, 9.0]


@windows
def test_shapes_and_memory_are_constant_from_the_steady_block_on(stream: StreamConfig) -> None:
    cache = cache_of(stream)
    addresses, shapes = set(), set()
    for block in range(400):
        window = cache.update(1, marked(cache, block), marked(cache, block))
        if block >= stream.steady_block:
            shapes.add((window.keys.shape, window.keys.stride(), window.positions.shape))
            addresses.add((window.keys.data_ptr(), window.values.data_ptr(), cache._rotation.cos.data_ptr()))
        cache.advance()
    assert len(shapes) == len(addresses) == 1
    assert {slot_of(block, stream) for block in range(400)} == set(range(stream.window_blocks))


def test_positions_go_past_the_thousandth_latent_frame() -> None:
    """The table of upstream ends there. Half an hour at 16 frames a second is latent frame 7200."""
    cache = cache_of(nano.PAPER)
    cache.block = 2399
    cache.advance()
    window = cache.update(0, marked(cache, 1), marked(cache, 1))
    assert window.positions.max() == 7202
    angle = torch.tensor(7202.0, dtype=torch.float64)
    assert cache.rotation().cos[-1, 0, 0].item() == pytest.approx(float(angle.cos()), abs=1e-7)


def test_a_cache_that_begins_anew_is_a_new_cache() -> None:
    cache, fresh = cache_of(nano.PAPER), cache_of(nano.PAPER)
    for block in range(7):
        cache.update(0, marked(cache, block), marked(cache, block))
        cache.advance()
    cache.reset()
    for _ in range(6):
        ours = cache.update(0, marked(cache, 5), marked(cache, 6))
        theirs = fresh.update(0, marked(cache, 5), marked(cache, 6))
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        cache.advance()
        fresh.advance()


def test_gradients_reach_the_current_block_and_never_the_past() -> None:
    """Self-rollout training differentiates one step of the current block; the past is data."""
    cache = cache_of(nano.PAPER)
    old = marked(cache, 1).requires_grad_()
    cache.update(0, old, old)
    cache.advance()
    new = marked(cache, 2).requires_grad_()
    turn = cache.rotation()
    window = cache.update(0, new, new)
    assert values_in(window.values) == [1.0, 2.0]
    (expected,) = torch.autograd.grad(rotate(new, turn).square().sum() + 2 * new.sum(), new)
    cache.reset()  # the copy outlives the cache's next use
    cache.update(0, marked(cache, 7), marked(cache, 7))
    torch.autograd.backward(window.keys.square().sum() + 2 * window.values.sum())
    assert new.grad is not None and old.grad is None
    assert_close(new.grad, expected)
    assert values_in(window.values) == [1.0, 2.0]


def test_the_cache_of_the_paper_is_as_large_as_stated() -> None:
    """2 x 30 layers x 15360 tokens x 1536 x 2 bytes = 2.83 GB."""
    from lt_eval.generator.presets import LIVETALK_1_3B

    model, stream = LIVETALK_1_3B.model, LIVETALK_1_3B.stream
    cache = KVCache(model, stream, batch=1, height=32, width=32, dtype=torch.bfloat16, device="meta")
    assert cache.nbytes == 2 * 30 * 15360 * 1536 * 2
