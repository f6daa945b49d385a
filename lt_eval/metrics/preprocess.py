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
    from collections.abc import Callable

    from torch import Tensor

    from lt_eval.records import Frames

INCEPTION_SIDE = 299
I3D_SIDE = 224
BUILTIN_FRAME_SIDE = 128
BUILTIN_WINDOW_SIDE = 64

PART_PIXELS = 2**21
"""Pixels of full-size pictures that are held as float at a time (12 bytes each), whatever their size and number."""


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


def _by_parts(frames: Frames, side: int, device: str, resize: Callable[[Tensor], Tensor]) -> Tensor:
    """Return float32 [N, 3, side, side], channels last in memory, of which a few frames were resized at a time.

    A picture of more than PART_PIXELS is resized one colour at a time.

    Args:
        frames: uint8 RGB [N, H, W, 3].
        side: of the result.
        device: where the result lies.
        resize: float32 [n, c, H, W] in 0..255, which it may overwrite, to [n, c, side, side]; no frame and no colour
            may depend on another.
    """
    import torch

    check_frames(frames)
    count, height, width, _ = frames.shape
    step = max(1, PART_PIXELS // (height * width))
    colours = 3 if height * width <= PART_PIXELS else 1
    resized = torch.empty((count, 3, side, side), device=device, memory_format=torch.channels_last)
    for first in range(0, count, step):
        for colour in range(0, 3, colours):
            place = (slice(first, first + step), slice(colour, colour + colours))
            part = np.array(frames[place[0], :, :, place[1]], order="C")
            resized[place] = resize(torch.from_numpy(part).to(device).permute(0, 3, 1, 2).float())
    return resized


def _bilinear(x: Tensor, side: int) -> Tensor:
    from torch.nn.functional import interpolate

    return interpolate(x, size=(side, side), mode="bilinear", align_corners=False)


def pytorch_fid(frames: Frames, device: str = "cpu") -> Tensor:
    """Return float32 [N, 3, 299, 299] in -1..1 as pytorch-fid prepares it."""
    unit = _by_parts(frames, INCEPTION_SIDE, device, lambda x: _bilinear(x.div_(255), INCEPTION_SIDE))
    return unit.mul_(2).sub_(1)


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
    check_frames(frames)
    height, width = frames.shape[1:3]
    across, down = _bicubic_matrix(width, side, device), _bicubic_matrix(height, side, device)
    return _by_parts(frames, side, device, lambda x: down @ (x.contiguous() @ across.T)).clamp_(0, 255)


def clean(frames: Frames, device: str = "cpu") -> Tensor:
    """Return float32 [N, 3, 299, 299] in -1..127/128 as clean-fid prepares it."""
    return clean_resize(frames, INCEPTION_SIDE, device).sub_(128).div_(128)


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


def i3d_levels(frames: Frames, device: str = "cpu") -> Tensor:
    """Return float32 [3, N, 224, 224] in 0..255: one window, resized and not yet scaled."""
    return _by_parts(frames, I3D_SIDE, device, lambda x: _bilinear(x, I3D_SIDE)).transpose(0, 1)


def i3d(frames: Frames, device: str = "cpu") -> Tensor:
    """Return float32 [3, N, 224, 224] in -1..1: one window for I3D."""
    return i3d_levels(frames, device).div_(255).mul_(2).sub_(1)
