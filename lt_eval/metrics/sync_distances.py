"""From embeddings of mouth and speech to Sync-C, Sync-D and the offset.

Chung and Zisserman, "Out of time" (ACCV workshops 2016), section 3, as joonson/syncnet_python 6efbb1c (MIT) has it:

    d[k, i]   = || lips_i - audio_(i + k - 15) + 1e-6 ||      k = 0 .. 30; audio outside the clip is the zero vector
    m[k]      = mean over i of d[k, i]
    Sync-D    = min m
    Sync-C    = median m - min m
    offset    = 15 - argmin m

What the sign means: audio that comes later than the lips by n frames gives offset -n, audio that comes earlier +n.

Given the same embeddings every number equals upstream's to the last bit. At shift 15 of a clip of five seconds an
eighth of the rows are distances to the zero vector; `masked` leaves them out, which is another number under another
name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

MAX_SHIFT = 15
SAMPLES_PER_FRAME = 640
_SMOOTHING = 9


@dataclass(frozen=True)
class SyncResult:
    """How well lips and speech of one face track agree.

    Attributes:
        offset_frames: at 25 frames a second; negative where the audio is late.
        confidence: Sync-C, higher is better.
        distance: Sync-D, lower is better.
        mean_distances: of each shift; entry k belongs to the offset `len // 2 - k`.
        frame_confidence: median of `mean_distances` minus the distance of each frame at the best shift, then the median
            of nine in a row (zeros beyond the ends). Masked, of those frames only that have a partner there.
    """

    offset_frames: int
    confidence: float
    distance: float
    mean_distances: tuple[float, ...]
    frame_confidence: tuple[float, ...]


def window_count(frames: int, samples: int) -> int:
    """Return how many windows of a track upstream compares: lips and audio rows 0 .. n - 1 of both towers.

    It is min(frames, samples // 640) - 5, one less than there are; none where that is negative.

    Args:
        frames: of the track, at 25 a second.
        samples: of its audio, at 16 kHz.
    """
    return max(0, min(frames, samples // SAMPLES_PER_FRAME) - 5)


def sync_of(lips: Tensor, audio: Tensor, *, masked: bool = False, max_shift: int = MAX_SHIFT) -> SyncResult:
    """Compare the embeddings of mouth and speech at every shift.

    Both are cut to `window_count` rows by the caller. The distances are computed on the CPU, wherever the embeddings
    lie, so that they do not depend on the device.

    Args:
        lips: float32 [n, D], row i of the frames i .. i + 4.
        audio: float32 [n, D], row i of the same time.
        masked: compare only rows that both exist, instead of padding the audio with zeros. Shifts of n and more have no
            such rows and are left out: there are 2 min(max_shift, n - 1) + 1.
        max_shift: frames, to both sides.

    Raises:
        ValueError: not the same shape on both sides, or no rows.
    """
    import torch
    from torch.nn.functional import pad, pairwise_distance

    if lips.ndim != 2 or lips.shape != audio.shape or not len(lips):
        raise ValueError(
            f"lips {tuple(lips.shape)} and audio {tuple(audio.shape)}: the rule is [n, D] for both, n at least 1. "
            "Cut both to the windows that they share."
        )
    lips, audio = lips.cpu(), audio.cpu()
    count = len(lips)
    reach = min(max_shift, count - 1) if masked else max_shift
    padded = pad(audio, (0, 0, reach, reach))
    distances = torch.stack([pairwise_distance(lips, padded[k : k + count]) for k in range(2 * reach + 1)])
    partnered = [slice(max(0, reach - k), count - max(0, k - reach)) for k in range(2 * reach + 1)]
    if masked:
        means = torch.stack([row[part].mean() for row, part in zip(distances, partnered, strict=True)])
    else:
        means = distances.mean(dim=1)
    least, best = means.min(dim=0)
    median = means.median()
    frames = (median - distances[best])[partnered[int(best)] if masked else slice(None)].numpy()
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(frames, _SMOOTHING // 2), _SMOOTHING)
    return SyncResult(
        offset_frames=reach - int(best),
        confidence=float(median - least),
        distance=float(least),
        mean_distances=tuple(means.tolist()),
        frame_confidence=tuple(np.median(windows, axis=1).tolist()),
    )
