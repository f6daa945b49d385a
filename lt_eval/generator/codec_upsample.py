"""A 3x3 convolution of a picture at twice its side, without making that picture.

At twice the side by repetition, the nine taps around a pixel fall on four pixels of the original only: which four, and
which taps add up, depends on whether row and column are even or odd. So four kernels of 2x2 do what one of 3x3 does,
with 16 products a pixel of the original in place of 36. The sums are the same; rounding may differ.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def convolve_upsampled(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Return conv(nearest-neighbour upsampling of x by two).

    Args:
        conv: 3x3, stride 1, zero padding of 1.
        x: [N, H, W, C].

    Returns:
        [N, 2H, 2W, outputs], contiguous.
    """
    count, height, width, _ = x.shape
    kernels = _of_two(_of_two(conv.weight, 3), 3).flatten(0, 2)  # [row, column, outputs, inputs, 2, 2] of a pair
    bias = None if conv.bias is None else conv.bias.repeat(4)
    y = F.conv2d(x.permute(0, 3, 1, 2), kernels, bias, padding=1).permute(0, 2, 3, 1)  # [N, H+1, W+1, 4 outputs]
    y = y.reshape(count, height + 1, width + 1, 2, 2, conv.out_channels)
    out = y.new_empty(count, height, 2, width, 2, conv.out_channels)
    for row in (0, 1):
        for column in (0, 1):
            out[:, :, row, :, column] = y[:, row : row + height, column : column + width, row, column]
    return out.reshape(count, 2 * height, 2 * width, conv.out_channels)


def _of_two(kernel: Tensor, dim: int) -> Tensor:
    """Return, stacked in front, what a dimension of three taps is for the even and for the odd position of a pair.

    The first tap of an even position falls on the one before, the last tap of an odd position on the one after.
    """
    first, middle, last = kernel.unbind(dim)
    even, odd = torch.stack([first, middle + last], dim), torch.stack([first + middle, last], dim)
    return torch.stack([even, odd])
