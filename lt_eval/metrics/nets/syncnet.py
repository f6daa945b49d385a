"""SyncNet: mouth pictures and speech in one space of 1024 dimensions, where what belongs together lies close.

Chung and Zisserman, "Out of time: automated lip sync in the wild" (ACCV workshops 2016). State-dict layout and numbers
are those of syncnet_v2.model as joonson/syncnet_python 6efbb1c (MIT) loads it into `SyncNetModel.S`. Two towers:

    lip     5 frames x 224 x 224, blue, green, red, 0..255 as they are  -> convolutions -> 512 -> 512 -> 1024
    audio   13 MFCC x 20 rows (0.2 s, 4 rows a frame)                   -> convolutions -> 512 -> 512 -> 1024

The same numbers are computed with fewer operations: only the first lip convolution sees more than one frame, so all of
the tower is two-dimensional with five frames as 15 channels; normalisation is folded into the layer before it; a frame
stays uint8 until the window that it belongs to is reached. Embeddings differ from upstream's by 1e-6 of their size.

Shapes: T frames, F rows of MFCC, D = 1024.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import convert_conv2d_weight_memory_format, fuse_conv_bn_weights, fuse_linear_bn_eval

from lt_eval.metrics.nets.inference import exact_inference, load_strictly, read_state_dict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

DIMENSIONS = 1024
LIP_FRAMES = 5
LIP_SIDE = 224
AUDIO_ROWS = 20
ROWS_PER_FRAME = 4
COEFFICIENTS = 13

_LIP_BATCH = {"cpu": 4}
"""Windows at a time: on a CPU the maps of four stay in its cache (16 ms a window; 19 ms with 16)."""
_AUDIO_BATCH = {"cpu": 32}
_GPU_BATCH = 128


def _fully_connected() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, DIMENSIONS))


class SyncNetLayers(nn.Module):
    """The layers under the names and in the shapes of the file; `SyncNet` computes with them."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *(nn.Conv2d(1, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(1, 1)),
            *(nn.Conv2d(64, 192, 3, padding=1), nn.BatchNorm2d(192), nn.ReLU(), nn.MaxPool2d(3, (1, 2))),
            *(nn.Conv2d(192, 384, 3, padding=1), nn.BatchNorm2d(384), nn.ReLU()),
            *(nn.Conv2d(384, 256, 3, padding=1), nn.BatchNorm2d(256), nn.ReLU()),
            *(nn.Conv2d(256, 256, 3, padding=1), nn.BatchNorm2d(256), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(256, 512, (5, 4)), nn.BatchNorm2d(512), nn.ReLU()),
        )
        self.netfcaud = _fully_connected()
        self.netfclip = _fully_connected()
        wide, plain = (1, 2, 2), (0, 1, 1)  # stride or padding in time, height, width
        self.netcnnlip = nn.Sequential(
            *(nn.Conv3d(3, 96, (5, 7, 7), wide), nn.BatchNorm3d(96), nn.ReLU(), nn.MaxPool3d((1, 3, 3), wide)),
            *(nn.Conv3d(96, 256, (1, 5, 5), wide, plain), nn.BatchNorm3d(256), nn.ReLU()),
            nn.MaxPool3d((1, 3, 3), wide, plain),
            *(nn.Conv3d(256, 256, (1, 3, 3), padding=plain), nn.BatchNorm3d(256), nn.ReLU()),
            *(nn.Conv3d(256, 256, (1, 3, 3), padding=plain), nn.BatchNorm3d(256), nn.ReLU()),
            *(nn.Conv3d(256, 256, (1, 3, 3), padding=plain), nn.BatchNorm3d(256), nn.ReLU()),
            nn.MaxPool3d((1, 3, 3), wide),
            *(nn.Conv3d(256, 512, (1, 6, 6)), nn.BatchNorm3d(512), nn.ReLU()),
        )


def _conv2d(conv: nn.Conv2d | nn.Conv3d, norm: nn.BatchNorm2d | nn.BatchNorm3d) -> nn.Conv2d:
    """Return a convolution and the normalisation after it as one convolution in two dimensions.

    Frames in time become channels, the first frame's three first; red, green, blue is taken instead of the reverse.
    """
    assert norm.running_mean is not None and norm.running_var is not None  # as every norm here has
    fused, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    weight: Tensor = fused
    if weight.ndim == 5:
        weight = (weight.flip(1) if weight.shape[1] == 3 else weight).transpose(1, 2).flatten(1, 2)
    outputs, channels, height, width = weight.shape
    padding = _last_two([int(size) for size in conv.padding])
    flat = nn.Conv2d(channels, outputs, (height, width), _last_two(conv.stride), padding)
    flat.weight, flat.bias = nn.Parameter(weight), bias
    return flat


def _last_two(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[-2], size[-1])


def _folded(layers: nn.Sequential) -> Iterator[nn.Module]:
    """Yield the layers of a convolutional tower in two dimensions, without normalisation."""
    every = list(layers)
    for layer, following in zip(every, [*every[1:], None], strict=True):
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            assert isinstance(following, nn.BatchNorm2d | nn.BatchNorm3d)
            yield _conv2d(layer, following)
        elif isinstance(layer, nn.ReLU):
            yield nn.ReLU(inplace=True)
        elif isinstance(layer, nn.MaxPool2d | nn.MaxPool3d) and _last_two(layer.kernel_size) != (1, 1):
            yield nn.MaxPool2d(_last_two(layer.kernel_size), _last_two(layer.stride), _last_two(layer.padding))


class _Tower(nn.Module):
    """Windows [N, C, H, W] to embeddings [N, 1024]."""

    def __init__(self, convolutions: nn.Sequential, connected: nn.Sequential) -> None:
        super().__init__()
        first, norm, _, last = connected
        assert isinstance(first, nn.Linear) and isinstance(norm, nn.BatchNorm1d)
        self.convolutions = nn.Sequential(*_folded(convolutions))
        self.first, self.last = fuse_linear_bn_eval(first, norm), last

    def forward(self, x: Tensor) -> Tensor:
        """Return float32 [N, 1024]."""
        out: Tensor = self.last(F.relu(self.first(self.convolutions(x).flatten(1)), inplace=True))
        return out


class SyncNet:
    """The published network, ready to run.

    Args:
        layers: its weights; left as they are.
        device: "cpu", "cuda" ...
    """

    def __init__(self, layers: SyncNetLayers, device: str = "cpu") -> None:
        self.device = torch.device(device)
        layers.eval()
        self._lip = _Tower(layers.netcnnlip, layers.netfclip).eval().requires_grad_(False).to(self.device)
        self._audio = _Tower(layers.netcnnaud, layers.netfcaud).eval().requires_grad_(False).to(self.device)
        for tower in (self._lip, self._audio):
            convert_conv2d_weight_memory_format(tower, torch.channels_last)

    def lips(self, crops: NDArray[np.uint8]) -> Tensor:
        """Embed every five frames in a row.

        Args:
            crops: uint8 RGB [T, 224, 224, 3], 25 frames a second.

        Returns:
            float32 [T - 4, 1024] on the device, none where T < 5; row i looks at frames i .. i + 4.

        Raises:
            ValueError: another shape or type.
        """
        if crops.dtype.name != "uint8" or crops.ndim != 4 or crops.shape[1:] != (LIP_SIDE, LIP_SIDE, 3):
            raise ValueError(
                f"crops are {crops.dtype} {crops.shape}, the rule is uint8 [T, {LIP_SIDE}, {LIP_SIDE}, 3], RGB, 0..255."
            )
        if len(crops) < LIP_FRAMES:
            return torch.empty(0, DIMENSIONS, device=self.device)
        with exact_inference():
            frames = torch.tensor(crops, device=self.device)
            windows = frames.unfold(0, LIP_FRAMES, 1).permute(0, 1, 2, 4, 3)  # [T - 4, 224, 224, 5, 3], a view
            parts = torch.split(windows, _LIP_BATCH.get(self.device.type, _GPU_BATCH))
            # [N, 15, 224, 224], channels last in memory
            return torch.cat([self._lip(part.flatten(3).permute(0, 3, 1, 2).float()) for part in parts])

    def audio(self, mfcc: NDArray[np.float32]) -> Tensor:
        """Embed 20 rows of MFCC for every four.

        Args:
            mfcc: float32 [F, 13] as `lt_eval.media.spectra.mfcc` gives them.

        Returns:
            float32 [n, 1024] on the device, n = (F - 20) // 4 + 1 whole windows or none; row i looks at rows
            4 i .. 4 i + 19, which begin where frame i begins and end 0.215 s later.

        Raises:
            ValueError: another shape.
        """
        if mfcc.ndim != 2 or mfcc.shape[1] != COEFFICIENTS:
            raise ValueError(f"MFCC are {mfcc.shape}, the rule is [F, {COEFFICIENTS}].")
        if len(mfcc) < AUDIO_ROWS:
            return torch.empty(0, DIMENSIONS, device=self.device)
        with exact_inference():
            rows = torch.tensor(mfcc, device=self.device, dtype=torch.float32)
            windows = rows.unfold(0, AUDIO_ROWS, ROWS_PER_FRAME)[:, None]  # [n, 1, 13, 20], a view
            parts = torch.split(windows, _AUDIO_BATCH.get(self.device.type, _GPU_BATCH))
            return torch.cat([self._audio(part.contiguous(memory_format=torch.channels_last)) for part in parts])


def load_syncnet(path: Path, device: str = "cpu") -> SyncNet:
    """Return the network of a file laid out as syncnet_v2.model.

    Raises:
        WeightsError: the file is laid out otherwise.
    """
    layers = SyncNetLayers()
    load_strictly(layers, read_state_dict(path), path)
    return SyncNet(layers, device)
