"""iResNet-50, the backbone of published ArcFace models: a face of 112 x 112 pixels to a vector of 512 values.

Additive Angular Margin Loss (Deng et al., arXiv 1801.07698); improved residual blocks of section 3.2.2 there. The state
dict is that of `iresnet50` in recognition/arcface_torch/backbones/iresnet.py of deepinsight/insightface 04a433f (MIT),
whose published `backbone.pth` files fit. Pictures are RGB, (value / 255 - 0.5) / 0.5, as in its inference.py.

Shapes: N faces, C channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lt_eval.metrics.nets.inference import exact_inference, load_strictly, read_state_dict

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIDE = 112
WIDTH = 512
_BLOCKS = ((64, 3), (128, 4), (256, 14), (512, 3))
"""Channels and blocks of each of the four layers, every one of which halves the side."""

_CHUNK = 16


class _Block(nn.Module):
    """Normalise first, one PReLU inside, nothing after the sum; the first of a layer halves rows and columns."""

    def __init__(self, channels: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride > 1:
            point = nn.Conv2d(channels, outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(point, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        beside: Tensor = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.bn3(self.conv2(inner)) + beside
        return out


class IResNet50(nn.Module):
    """float32 [N, 3, 112, 112] in -1..1 to float32 [N, 512]; `embed` takes pictures and gives unit vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        channels = 64
        for number, (outputs, blocks) in enumerate(_BLOCKS, 1):
            layer = [
                _Block(channels if place == 0 else outputs, outputs, 2 if place == 0 else 1) for place in range(blocks)
            ]
            self.add_module(f"layer{number}", nn.Sequential(*layer))
            channels = outputs
        self.bn2 = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels * 49, WIDTH)
        self.features = nn.BatchNorm1d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Return the vectors, of any length."""
        x = self.prelu(self.bn1(self.conv1(x)))  # [N, 64, 112, 112]
        for number in range(1, 1 + len(_BLOCKS)):
            x = self.get_submodule(f"layer{number}")(x)  # [N, 64, 56, 56] ... [N, 512, 7, 7]
        found: Tensor = self.features(self.fc(self.bn2(x).flatten(1)))
        return found

    def embed(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 unit vectors [N, 512] of aligned faces, uint8 RGB [N, 112, 112, 3].

        Raises:
            ValueError: faces of another type or size.
        """
        if faces.dtype != np.uint8 or faces.shape[1:] != (SIDE, SIDE, 3):
            raise ValueError(f"faces are {faces.dtype} {list(faces.shape)}, the rule is uint8 [N, 112, 112, 3].")
        device = self.fc.weight.device
        rows = [np.zeros((0, WIDTH), np.float32)]
        with exact_inference():
            for start in range(0, len(faces), _CHUNK):
                pixels = torch.from_numpy(np.ascontiguousarray(faces[start : start + _CHUNK])).to(device)
                scaled = (pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
                rows.append(F.normalize(self(scaled), dim=1).cpu().numpy())
        return np.concatenate(rows)


def load_arcface(path: Path, device: str) -> IResNet50:
    """Return the network of a published `backbone.pth` in eval mode on a device.

    Raises:
        WeightsError: the file cannot be read, or is no iResNet-50.
    """
    network = IResNet50()
    load_strictly(network, read_state_dict(path), path)
    return network.eval().to(device)
