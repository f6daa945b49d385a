"""Rotary position embedding over time, rows and columns, as Wan2.1 splits it (44/42/42 of a head of 128).

Frequencies and angles are float64: at latent frame 7000, half an hour of video, float32 angles are off by 4e-4 rad.
There is no table of positions, hence no last position; upstream's ends at latent frame 1024.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

THETA = 10_000.0


class Rotation(NamedTuple):
    """Cosines and sines for N tokens, each [N, 1, head_dim / 2] float32: the middle axis is that of the heads."""

    cos: Tensor
    sin: Tensor

    def part(self, start: int, stop: int) -> Rotation:
        """Return the rotation of some of the tokens, in the same memory."""
        return Rotation(self.cos[start:stop], self.sin[start:stop])

    def copy(self) -> Rotation:
        """Return the same in memory of its own."""
        return Rotation(self.cos.clone(), self.sin.clone())


def axis_widths(head_dim: int) -> tuple[int, int, int]:
    """Return how many of a head's channels turn with time, rows and columns; all even."""
    sixth = head_dim // 6
    return head_dim - 4 * sixth, 2 * sixth, 2 * sixth


def _angles(positions: Tensor, width: int) -> Tensor:
    """Return the angles of one axis, [len(positions), width / 2] float64."""
    exponents = torch.arange(0, width, 2, dtype=torch.float64, device=positions.device) / width
    return positions.to(torch.float64)[:, None] * torch.pow(THETA, -exponents)


def rotation(frames: Tensor, height: int, width: int, head_dim: int) -> Rotation:
    """Return the rotation of a grid of tokens.

    Args:
        frames: temporal position of each latent frame, [F], any order.
        height: rows of tokens.
        width: columns of tokens.
        head_dim: of the attention.

    Returns:
        For F * height * width tokens, frame after frame, row after row.
    """
    grid = (frames.numel(), height, width)
    in_time, in_rows, in_columns = axis_widths(head_dim)
    rows = torch.arange(height, device=frames.device)
    columns = torch.arange(width, device=frames.device)
    angles = torch.cat(
        [
            _angles(frames, in_time)[:, None, None].expand(*grid, -1),
            _angles(rows, in_rows)[None, :, None].expand(*grid, -1),
            _angles(columns, in_columns)[None, None, :].expand(*grid, -1),
        ],
        dim=-1,
    ).flatten(0, 2)  # [F h w, head_dim / 2]
    return Rotation(angles.cos().float()[:, None], angles.sin().float()[:, None])


def rotate(x: Tensor, by: Rotation) -> Tensor:
    """Turn consecutive pairs of channels, in float32.

    Args:
        x: [B, N, heads, head_dim].
        by: of N tokens.

    Returns:
        The same shape and dtype.
    """
    # as complex numbers: one pass over the values where four products and two sums of every other one are seven
    pairs = torch.view_as_complex(torch.unflatten(x.float(), -1, (-1, 2)).contiguous())  # [B, N, heads, head_dim / 2]
    return torch.view_as_real(pairs * torch.complex(by.cos, by.sin)).flatten(-2).to(x.dtype)
