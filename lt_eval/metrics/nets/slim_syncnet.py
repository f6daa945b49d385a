"""A slim SyncNet trained on the procedural talker: lip sync with nothing to download.

Of the family of the official network (Chung & Zisserman, "Out of time: automated lip sync in the wild", 2016): a lip
net over 5 frames, an audio net over 13 x 20 MFCC windows, trained so that windows of the same time are close and others
are not; its embeddings go through the same distances. What is different:

    the mouth only         112 x 112 of the 224 x 224 crop, at half the size
    one encoder a frame    windows share their frames: T frames are encoded once, not 5 (T - 4) of them
    unit embeddings        times 10, beside a constant 10: two unrelated windows are 10 sqrt 2 = 14.1 apart, and so is
                           any window from the zero rows that the reference algorithm pads with, which then favour no
                           shift
    every input by itself  each frame is standardised, normalisation layers look at one frame or window only, so no row
                           depends on what is beside it

Trained by `benchmarks/train/slim_syncnet.py`; what it was trained on and what it reaches stands in
`benchmarks/train/slim_syncnet.md`. It knows drawn faces and a formant synthesiser: its numbers order methods on such
clips, and are not comparable with published Sync-C and Sync-D.

Shapes: T frames, F rows of MFCC, n whole windows of them, D = 65.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import convert_conv2d_weight_memory_format

from lt_eval.metrics.nets.inference import exact_inference, load_strictly

WEIGHTS = Path(__file__).with_suffix(".npz")
"""float16 arrays named as in the state dict; the network computes in float32."""

LIP_FRAMES = 5
AUDIO_ROWS = 20
ROWS_PER_FRAME = 4
SCALE = 10.0
MOUTH = (slice(72, 184), slice(56, 168))
"""Rows and columns of the 224 x 224 crop that are looked at."""

SIDE = 56
_WIDTH = 64
_CHUNK = 256
"""Frames or windows a pass; bounds the memory for long clips."""


class SlimSyncNet(nn.Module):
    """The seam of a lip-sync network is `lips` and `audio`; the rest is for training."""

    mfcc_mean: Tensor
    mfcc_std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.frame_net = nn.Sequential(
            nn.Conv2d(3, 24, 5, stride=2, padding=2),  # [T, 24, 28, 28]
            nn.GroupNorm(4, 24),
            nn.ReLU(),
            nn.Conv2d(24, 32, 3, stride=2, padding=1),  # [T, 32, 14, 14]
            nn.GroupNorm(4, 32),
            nn.ReLU(),
            nn.Conv2d(32, 48, 3, stride=2, padding=1),  # [T, 48, 7, 7]
            nn.GroupNorm(4, 48),
            nn.ReLU(),
            nn.Conv2d(48, 64, 3, stride=2, padding=1),  # [T, 64, 4, 4]
            nn.GroupNorm(4, 64),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 16, _WIDTH),
        )
        convert_conv2d_weight_memory_format(self.frame_net, torch.channels_last)  # a quarter faster on CPUs
        self.lip_net = _head(LIP_FRAMES * _WIDTH)
        self.audio_net = nn.Sequential(
            nn.Conv1d(13, 64, 3, padding=1),  # [n, 64, 20]
            nn.GroupNorm(4, 64),
            nn.ReLU(),
            nn.Conv1d(64, 96, 3, stride=2, padding=1),  # [n, 96, 10]
            nn.GroupNorm(4, 96),
            nn.ReLU(),
            nn.Conv1d(96, 96, 3, stride=2, padding=1),  # [n, 96, 5]
            nn.GroupNorm(4, 96),
            nn.ReLU(),
            nn.Flatten(),
            _head(96 * 5),
        )
        self.register_buffer("mfcc_mean", torch.zeros(13))
        self.register_buffer("mfcc_std", torch.ones(13))

    def lips(self, crops: NDArray[np.uint8]) -> Tensor:
        """Return float32 [T - 4, 65], row i of frames i .. i + 4, from face crops uint8 RGB [T, 224, 224, 3].

        Raises:
            ValueError: crops of another type or size, or fewer than 5.
        """
        if crops.dtype != np.uint8 or crops.shape[1:] != (224, 224, 3) or len(crops) < LIP_FRAMES:
            raise ValueError(
                f"crops are {crops.dtype} {list(crops.shape)}, the rule is uint8 [T, 224, 224, 3], T at least "
                f"{LIP_FRAMES}."
            )
        mouths = crops[:, *MOUTH]
        with exact_inference():
            encoded = [self.encode_frames(self._shrunk(mouths[i : i + _CHUNK])) for i in range(0, len(crops), _CHUNK)]
            return embedding(self.lip_directions(torch.cat(encoded)))

    def audio(self, mfcc: NDArray[np.float32]) -> Tensor:
        """Return float32 [n, 65], row i of MFCC rows 4 i .. 4 i + 19, from float32 [F, 13].

        Raises:
            ValueError: another shape, or fewer than 20 rows.
        """
        if mfcc.ndim != 2 or mfcc.shape[1] != 13 or len(mfcc) < AUDIO_ROWS:
            raise ValueError(f"MFCC are {list(mfcc.shape)}, the rule is [F, 13], F at least {AUDIO_ROWS}.")
        rows = torch.from_numpy(np.ascontiguousarray(mfcc, np.float32)).to(self.mfcc_mean.device)
        windows = rows.unfold(0, AUDIO_ROWS, ROWS_PER_FRAME)
        with exact_inference():
            return embedding(torch.cat([self.audio_directions(part) for part in torch.split(windows, _CHUNK)]))

    def _shrunk(self, mouths: NDArray[np.uint8]) -> Tensor:
        """Return float32 [T, 3, 56, 56], 0..255, means of 2 x 2 pixels of uint8 [T, 112, 112, 3]."""
        pixels = torch.from_numpy(np.ascontiguousarray(mouths)).to(self.mfcc_mean.device)
        return F.avg_pool2d(pixels.permute(0, 3, 1, 2).float(), 2)

    def encode_frames(self, pixels: Tensor) -> Tensor:
        """Return float32 [T, 64] of mouths float32 [T, 3, 56, 56], 0..255; brightness and contrast do not matter."""
        flat = pixels.flatten(1)
        spread, mean = torch.std_mean(flat, dim=1, correction=0, keepdim=True)
        standard = ((flat - mean) / (spread + 4.0)).view(pixels.shape)
        encoded: Tensor = self.frame_net(standard.contiguous(memory_format=torch.channels_last))
        return encoded

    def lip_directions(self, encoded: Tensor) -> Tensor:
        """Return unit vectors [T - 4, 64] of encoded frames [T, 64]."""
        windows = encoded.unfold(0, LIP_FRAMES, 1).flatten(1)  # [T - 4, 64 * 5]
        return F.normalize(self.lip_net(windows), dim=1)

    def audio_directions(self, windows: Tensor) -> Tensor:
        """Return unit vectors [n, 64] of MFCC windows [n, 13, 20]; digital silence counts as very quiet."""
        standard = (windows - self.mfcc_mean[:, None]) / self.mfcc_std[:, None]
        return F.normalize(self.audio_net(standard.clamp(-4.0, 4.0)), dim=1)


def embedding(directions: Tensor) -> Tensor:
    """Return [n, D + 1] of unit vectors [n, D]: a constant beside them, and all of it times `SCALE`."""
    return SCALE * F.pad(directions, (0, 1), value=1.0)


def _head(inputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 192), nn.LayerNorm(192), nn.ReLU(), nn.Linear(192, _WIDTH))


def save(network: SlimSyncNet, path: Path) -> None:
    """Write the weights as `load` reads them; the same weights give the same bytes."""
    state = network.state_dict()
    np.savez(path, **{key: value.cpu().numpy().astype(np.float16) for key, value in state.items()})


def load(path: Path, device: str) -> SlimSyncNet:
    """Return the network in eval mode on a device.

    Raises:
        WeightsError: the file is laid out in another way.
    """
    with np.load(path, allow_pickle=False) as arrays:
        state = {key: torch.from_numpy(arrays[key].astype(np.float32)) for key in arrays.files}
    network = SlimSyncNet()
    load_strictly(network, state, path)
    return network.eval().to(device)


@functools.cache
def builtin_syncnet(device: str) -> SlimSyncNet:
    """Return the trained network in eval mode on a device, one a process."""
    return load(WEIGHTS, device)
