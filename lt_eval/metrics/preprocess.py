"""Frames as files give them to what the feature networks expect. uint8 RGB [N, H, W, 3] in, float32 tensors out.

Three ways to the same 299 x 299 picture are in use, and each gives another FID:

    pytorch_fid   x / 255, bilinear without antialiasing (align_corners false), 2 x - 1
                  (mseitzer/pytorch-fid b9c1811, inception.py, Apache-2.0)
    clean         antialiased bicubic in float, as Pillow resizes mode "F"; cut to 0..255, not rounded; (x - 128) / 128
                  (GaParmar/clean-fid e88c4d6, resize.py, MIT; Parmar et al., arXiv 2104.11222)
    builtin       mean over the area under each pixel, 2 x / 255 - 1

FVD frames are resized to 224 x 224 bilinearly without antialiasing and lie in -1..1 (universome/stylegan-v 3fecd69).
Both sides are resized to the target, whatever the aspect ratio: frames that should stay undistorted are made square
before.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from lt_eval.records import Frames

INCEPTION_SIDE = 299
I3D_SIDE = 224
BUILTIN_FRAME_SIDE = 128
BUILTIN_WINDOW_SIDE = 64


def check_frames(frames: Frames) -> None:
    """Refuse anything but uint8 RGB [N, H, W, 3]: a wrong range is scored without complaint by every network.

    Raises:
        ValueError: names what was given and the rule.
    """
    dtype, shape = frames.dtype, tuple(frames.shape)
    if dtype != np.uint8:
        raise ValueError(
            f"frames are {dtype}, the rule is uint8 in 0..255. Pass what the decoder gave; scaling to the network's "
            "range is done here."
        )
    if len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise ValueError(f"frames have the shape {shape}, the rule is [N, H, W, 3], RGB, at least one pixel.")


def to_tensor(frames: Frames, device: str = "cpu") -> Tensor:
    """Return float32 [N, 3, H, W] in 0..255, channels last in memory."""
    import torch

    check_frames(frames)
    bytes_ = torch.from_numpy(np.array(frames, order="C"))  # a copy: frames may be a read-only map of a file
    return bytes_.to(device).permute(0, 3, 1, 2).float()


def pytorch_fid(frames: Frames, device: str = "cpu") -> Tensor:
    """Return float32 [N, 3, 299, 299] in -1..1 as pytorch-fid prepares it."""
    from torch.nn.functional import interpolate

    x = to_tensor(frames, device) / 255
    size = (INCEPTION_SIDE, INCEPTION_SIDE)
    return 2 * interpolate(x, size=size, mode="bilinear", align_corners=False) - 1


@functools.lru_cache(maxsize=64)
def _bicubic_matrix(source: int, target: int, device: str) -> Tensor:
    """Return float32 [target, source]: Keys' cubic (a = -1/2), as wide as the scale when shrinking; rows sum to 1.

    Weights are computed in float64, as Pillow does.
    """
    import torch

    scale = max(source / target, 1.0)
    centres = (np.arange(target) + 0.5) * (source / target)
    first = np.maximum((centres - 2 * scale + 0.5).astype(np.int64), 0)
    last = np.minimum((centres + 2 * scale + 0.5).astype(np.int64), source)
    pixels = np.arange(source)
    inside = (pixels >= first[:, None]) & (pixels < last[:, None])
    distance = np.abs((pixels - centres[:, None] + 0.5) / scale)
    near = (1.5 * distance - 2.5) * distance**2 + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0.0)) * inside
    weights /= weights.sum(axis=1, keepdims=True)
    return torch.from_numpy(weights.astype(np.float32)).to(device)


def clean_resize(frames: Frames, side: int = INCEPTION_SIDE, device: str = "cpu") -> Tensor:
    """Return float32 [N, 3, side, side] in 0..255: antialiased bicubic, rows first, cut to the range, not rounded."""
    x = to_tensor(frames, device).contiguous()
    across, down = _bicubic_matrix(x.shape[3], side, device), _bicubic_matrix(x.shape[2], side, device)
    return (down @ (x @ across.T)).clamp(0, 255)


def clean(frames: Frames, device: str = "cpu") -> Tensor:
    """Return float32 [N, 3, 299, 299] in -1..127/128 as clean-fid prepares it."""
    return (clean_resize(frames, INCEPTION_SIDE, device) - 128) / 128


def area(frames: Frames, side: int, device: str = "cpu") -> Tensor:
    """Return float32 [N, 3, side, side] in -1..1: each pixel the mean of its area, to the nearest level."""
    import cv2

    check_frames(frames)
    if frames.shape[1:3] != (side, side):
        frames = np.stack([cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA) for frame in frames])
    return to_tensor(frames, device) * (2 / 255) - 1


def windows(count: int, length: int, stride: int) -> list[slice]:
    """Return the windows of `length` frames that lie wholly within `count` frames, one every `stride` frames."""
    return [slice(start, start + length) for start in range(0, count - length + 1, stride)]


def i3d(frames: Frames, device: str = "cpu") -> Tensor:
    """Return float32 [3, N, 224, 224] in -1..1: one window for I3D."""
    from torch.nn.functional import interpolate

    x = interpolate(to_tensor(frames, device), size=(I3D_SIDE, I3D_SIDE), mode="bilinear", align_corners=False)
    return (2 * (x / 255) - 1).transpose(0, 1)
