"""Pixels between uint8 frames and the [-1, 1] of a codec."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray


def to_video(frames: NDArray[np.uint8]) -> Tensor:
    """Return float [-1, 1] [B, 3, T, H, W] of uint8 [B, T, H, W, 3]."""
    return of_levels(torch.from_numpy(np.array(frames, copy=True, order="C")))


def of_levels(frames: Tensor) -> Tensor:
    """Return float [-1, 1] [B, 3, T, H, W] of a uint8 tensor [B, T, H, W, 3], on its device."""
    return frames.permute(0, 4, 1, 2, 3).float().div(127.5).sub(1.0)


def to_frames(video: Tensor) -> NDArray[np.uint8]:
    """Return uint8 [B, T, H, W, 3] of float [-1, 1] [B, 3, T, H, W]."""
    levels = video.detach().float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 4, 1).contiguous().cpu().numpy()
