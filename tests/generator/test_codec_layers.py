"""Layers of the codecs on inputs whose answer is known without a computation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lt_eval.generator.codec_memory import Memory, Walk, lengthen
from lt_eval.generator.codec_upsample import convolve_upsampled
from lt_eval.generator.mini_codec import (
    Conv,
    FrameBlock,
    LatentBlock,
    depth_to_space,
    depth_to_time,
    joined,
    scaled,
    space_to_depth,
    squares,
)
from lt_eval.generator.tiny_decoder import Grow, MemoryBlock, Pool
from lt_eval.generator.wan_vae import AttentionBlock, CausalConv3d, Downsample, RmsNorm, Upsample


def ramp(*shape: int) -> Tensor:
    """Return 1, 2, 3 ...: every value is another."""
    return torch.arange(1.0, 1 + torch.Size(shape).numel()).reshape(shape)


def frames_of(values: list[float], width: int = 1, side: int = 2) -> Tensor:
    """Return [1, T, side, side, width] whose frames are constants."""
    return (
        torch.tensor(values, dtype=torch.float32)[None, :, None, None, None]
        .expand(-1, -1, side, side, width)
        .contiguous()
    )


def tap(conv: nn.Module, place: tuple[Any, ...], value: float = 1.0) -> None:
    """Make a convolution copy one tap of its kernel and nothing else."""
    with torch.no_grad():
        for weight in conv.parameters():
            weight.zero_()
        conv.weight[place] = value  # type: ignore[operator]


def in_pieces(layer: Callable[[Tensor, Walk], Tensor], x: Tensor, sizes: list[int]) -> Tensor:
    memory, out = Memory(), []
    for piece in torch.split(x, sizes, 1):
        walk = Walk(memory)
        out.append(layer(piece, walk))
        memory = walk.memory()
    return torch.cat(out, 1)


# Memory ---------------------------------------------------------------------------------------------------------------


def test_a_piece_is_lengthened_by_what_came_before_it() -> None:
    first = Walk(Memory())
    assert lengthen(torch.tensor([[1.0]]), 2, first, dim=1).tolist() == [[0, 0, 1]]
    second = Walk(first.memory())
    assert not second.cold
    assert lengthen(torch.tensor([[2.0, 3.0, 4.0]]), 2, second, dim=1).tolist() == [[0, 1, 2, 3, 4]]
    assert second.memory().tails[0].tolist() == [[3, 4]]
    assert first.memory().tails[0].tolist() == [[0, 1]], "a memory is never changed"


def test_a_layer_that_keeps_nothing_is_noticed() -> None:
    walk = Walk(Memory((torch.zeros(1), torch.zeros(1))))
    walk.keep(torch.zeros(1))
    with pytest.raises(RuntimeError, match="1 layers kept a tail where 2"):
        walk.memory()


# Mini -----------------------------------------------------------------------------------------------------------------


def test_space_and_depth_are_inverse_and_hold_what_pixel_shuffle_holds() -> None:
    x = ramp(2, 3, 4, 5, 12)
    assert torch.equal(space_to_depth(depth_to_space(x, 2), 2), x)
    shuffled = F.pixel_shuffle(
        x.flatten(0, 1).permute(0, 3, 1, 2).reshape(6, 4, 3, 4, 5).transpose(1, 2).flatten(1, 2), 2
    )
    assert torch.equal(depth_to_space(x, 2).flatten(0, 1).permute(0, 3, 1, 2), shuffled)


def test_depth_becomes_frames_in_order() -> None:
    video = depth_to_time(ramp(1, 1, 1, 1, 8), 2)
    assert video.shape == (1, 2, 2, 2, 1)
    assert video.flatten().tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_convolution_of_frames_is_the_usual_one(kernel: int) -> None:
    conv = Conv(3, 5, kernel)
    x = torch.randn(2, 3, 4, 6, 3, generator=torch.Generator().manual_seed(0))
    expected = F.conv2d(x.flatten(0, 1).permute(0, 3, 1, 2), conv.weight, conv.bias, padding=kernel // 2)
    torch.testing.assert_close(conv(x).flatten(0, 1).permute(0, 3, 1, 2), expected)


def test_a_latent_block_reaches_two_frames_back() -> None:
    block = LatentBlock(1)
    tap(block.mix, (0, 0))  # the oldest of the three
    tap(block.conv, (0, 0, 1, 1))
    out = in_pieces(block, frames_of([1, -2, 3, 4]), [1, 3])
    # a single channel is scaled to its sign, and -1 is bent twice
    assert out[0, :, 0, 0, 0].tolist() == pytest.approx([1, -2, 3 + 1, 4 - 0.01], abs=1e-4)


def test_a_frame_block_moves_its_first_channels_by_one_frame() -> None:
    block = FrameBlock(2, 2)
    for channel in (0, 1):
        tap(block.first, (slice(None), channel, 1, 1))
        tap(block.second, (0, 0, 1, 1))
        branch = in_pieces(block, frames_of([1, -2, 3], width=2), [2, 1])[0, :, 0, 0, 0] - torch.tensor([1.0, -2, 3])
        here = [1, -0.01, 1]  # scaled to signs, bent twice
        assert branch.tolist() == pytest.approx([0, *here[:2]] if channel == 0 else here, abs=1e-4)


def test_scaling_gives_every_position_one_size_and_sees_no_other() -> None:
    x = 30 * torch.randn(2, 3, 4, 5, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(scaled(x).square().mean(-1), torch.ones(2, 3, 4, 5))
    torch.testing.assert_close(scaled(1e3 * x), scaled(x))
    torch.testing.assert_close(scaled(x)[:, 1:, 2:], scaled(x[:, 1:, 2:]))
    assert not scaled(torch.zeros(1, 1, 1, 1, 4)).any()


def test_squares_are_four_frames_of_a_place_and_joined_again() -> None:
    x = ramp(2, 8, 4, 6, 3)
    found = squares(x, 2, 4)
    assert found.shape == (2, 2, 2, 3, 48)
    assert torch.equal(found[1, 1, 0, 2], x[1, 4:8, 0:2, 4:6].flatten())
    assert torch.equal(joined(found, 2, 4), x)


@pytest.mark.parametrize("bias", [True, False])
def test_convolving_an_upsampled_picture_needs_no_such_picture(bias: bool) -> None:
    conv = nn.Conv2d(3, 2, 3, padding=1, bias=bias).double()
    x = torch.randn(2, 4, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    upsampled = x.repeat_interleave(2, 1).repeat_interleave(2, 2).permute(0, 3, 1, 2)
    torch.testing.assert_close(convolve_upsampled(conv, x), conv(upsampled).permute(0, 2, 3, 1))


# Wan ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place, expected", [(0, [0, 0, 1, 2]), (1, [0, 1, 2, 3]), (2, [1, 2, 3, 4])])
@pytest.mark.parametrize("sizes", [[4], [1, 3], [1, 1, 1, 1], [2, 2]])
def test_a_causal_convolution_ends_at_its_own_frame(place: int, expected: list[float], sizes: list[int]) -> None:
    conv = CausalConv3d(1, 1)
    tap(conv, (0, 0, place, 1, 1))
    assert in_pieces(conv, frames_of([1, 2, 3, 4]), sizes)[0, :, 0, 0, 0].tolist() == expected


@pytest.mark.parametrize(
    "place, expected", [(2, [1, 2, 20, 3, 30, 4, 40]), (1, [1, 0, 0, 2, 20, 3, 30]), (0, [1, 0, 0, 0, 0, 2, 20])]
)
@pytest.mark.parametrize("sizes", [[4], [1, 3], [1, 1, 1, 1], [2, 2]])
def test_doubling_frames_leaves_the_first_alone_and_then_sees_zeros(
    place: int, expected: list[float], sizes: list[int]
) -> None:
    up = Upsample(2, in_time=True)
    assert up.time_conv is not None
    tap(up.time_conv, (0, 0, place))
    with torch.no_grad():
        up.time_conv.weight[2, 0, place] = 10
    tap(up.resample[1], (0, 0, 1, 1))
    out = in_pieces(up, frames_of([1, 2, 3, 4], width=2), sizes)
    assert out.shape == (1, 7, 4, 4, 1)
    assert out[0, :, 1, 1, 0].tolist() == expected


@pytest.mark.parametrize("place, expected", [(0, [1, 1, 3]), (1, [1, 2, 4]), (2, [1, 3, 5])])
@pytest.mark.parametrize("sizes", [[5], [1, 4], [1, 2, 2], [3, 2]])
def test_halving_frames_leaves_the_first_alone_and_then_takes_it_along(
    place: int, expected: list[float], sizes: list[int]
) -> None:
    down = Downsample(1, in_time=True)
    assert down.time_conv is not None
    tap(down.time_conv, (0, 0, place))
    tap(down.resample[1], (0, 0, 0, 0))
    out = in_pieces(down, frames_of([1, 2, 3, 4, 5]), sizes)
    assert out[0, :, 0, 0, 0].tolist() == expected


def test_halving_a_side_pads_behind_and_not_in_front() -> None:
    down = Downsample(1, in_time=False)
    picture = ramp(1, 1, 4, 4, 1)
    tap(down.resample[1], (0, 0, 0, 0))
    assert down(picture, Walk(Memory())).flatten().tolist() == [1, 3, 9, 11]
    tap(down.resample[1], (0, 0, 2, 2))
    assert down(picture, Walk(Memory())).flatten().tolist() == [11, 0, 0, 0]


def test_a_norm_gives_unit_mean_square_and_keeps_zeros() -> None:
    norm = RmsNorm(4, 3)
    x = torch.tensor([[3.0, -4, 0, 0], [0, 0, 0, 0], [1e-6, 1e-6, 1e-6, 1e-6]])
    expected = torch.tensor([[1.2, -1.6, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    torch.testing.assert_close(norm(x), expected)


def test_attention_keeps_to_its_frame() -> None:
    block = AttentionBlock(4)
    x = torch.randn(1, 2, 3, 3, 4, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[:, 1] += 1
    with torch.no_grad():
        assert torch.equal(block(x, Walk(Memory()))[:, 0], block(changed, Walk(Memory()))[:, 0])


# TAEHV ----------------------------------------------------------------------------------------------------------------


def test_growing_gives_frames_in_order_and_pooling_takes_them_so() -> None:
    grow, pool = Grow(1, 2), Pool(1, 2)
    with torch.no_grad():
        grow.conv.weight.copy_(torch.tensor([1.0, 10]).reshape(2, 1, 1, 1))
        pool.conv.weight.copy_(torch.tensor([1.0, 10]).reshape(1, 2, 1, 1))
        assert grow(ramp(2, 1, 1, 1)).flatten().tolist() == [1, 10, 2, 20]
        assert pool(ramp(4, 1, 1, 1)).flatten().tolist() == [21, 43]


def test_a_memory_block_sees_the_frame_before_of_its_own_clip() -> None:
    block = MemoryBlock(1)
    tap(block.conv[0], (0, 1, 1, 1))  # the second half of the channels is the frame before
    tap(block.conv[2], (0, 0, 1, 1))
    tap(block.conv[4], (0, 0, 1, 1))
    clips = torch.tensor([1.0, 2, 3, 10, 20, 30]).reshape(6, 1, 1, 1)
    with torch.no_grad():
        assert block(clips, 2, Walk(Memory())).flatten().tolist() == [1, 3, 5, 10, 30, 50]
