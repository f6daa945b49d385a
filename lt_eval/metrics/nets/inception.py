"""InceptionV3 as FID uses it: the network of TensorFlow's inception-2015-12-05, 2048 pooled features a picture.

Szegedy et al., arXiv 1512.00567. State-dict layout, shapes and numbers are those of
pt_inception-2015-12-05-6726825d.pth as mseitzer/pytorch-fid b9c1811 (Apache-2.0) loads it: torchvision's names, 1008
classes, and two things unlike torchvision's network:

    average pooling in blocks 5, 6 and 7b divides by the pixels inside the picture only (count_include_pad false)
    block 7c pools by maximum

Shapes: N pictures, C channels, H = W = side of the map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import convert_conv2d_weight_memory_format, fuse_conv_bn_eval

from lt_eval.errors import WeightsError
from lt_eval.metrics.nets.inference import is_torchscript, load_strictly, read_state_dict, read_torchscript

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FEATURES = 2048
CLASSES = 1008


class Conv(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(
        self,
        channels: int,
        outputs: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, outputs, kernel, stride=stride, padding=padding, bias=False)
        self.bn: nn.BatchNorm2d | nn.Identity = nn.BatchNorm2d(outputs, eps=1e-3)

    def fold(self) -> None:
        """Move the normalisation into the convolution: features change by 1e-6, a pass takes a tenth less time."""
        if isinstance(self.bn, nn.BatchNorm2d):
            self.conv, self.bn = fuse_conv_bn_eval(self.conv, self.bn), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs, H', W']."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


def _mean_pool(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class Mixed5(nn.Module):
    """35 x 35: 1x1 | 5x5 | 3x3 3x3 | mean pool; 64 + 64 + 96 + `pooled` channels."""

    def __init__(self, channels: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(channels, 64, 1)
        self.branch5x5_1 = Conv(channels, 48, 1)
        self.branch5x5_2 = Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Conv(channels, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, padding=1)
        self.branch_pool = Conv(channels, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, 224 + pooled, 35, 35]."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        branches = (self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double, self.branch_pool(_mean_pool(x)))
        return torch.cat(branches, dim=1)


class Reduce6(nn.Module):
    """35 x 35 to 17 x 17: 3x3 | 3x3 3x3 | max pool; 384 + 96 + the input's channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = Conv(channels, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, 480 + channels, 17, 17]."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat((self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)), dim=1)


class Mixed6(nn.Module):
    """17 x 17: 1x1 | 1x7 7x1 | 7x1 1x7 7x1 1x7 | mean pool; 4 x 192 channels, `inner` within the branches."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        across: tuple[tuple[int, int], tuple[int, int]] = ((1, 7), (0, 3))  # kernel, padding
        down: tuple[tuple[int, int], tuple[int, int]] = ((7, 1), (3, 0))
        self.branch1x1 = Conv(768, 192, 1)
        self.branch7x7_1 = Conv(768, inner, 1)
        self.branch7x7_2 = Conv(inner, inner, across[0], padding=across[1])
        self.branch7x7_3 = Conv(inner, 192, down[0], padding=down[1])
        self.branch7x7dbl_1 = Conv(768, inner, 1)
        self.branch7x7dbl_2 = Conv(inner, inner, down[0], padding=down[1])
        self.branch7x7dbl_3 = Conv(inner, inner, across[0], padding=across[1])
        self.branch7x7dbl_4 = Conv(inner, inner, down[0], padding=down[1])
        self.branch7x7dbl_5 = Conv(inner, 192, across[0], padding=across[1])
        self.branch_pool = Conv(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, 768, 17, 17]."""
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat((self.branch1x1(x), single, double, self.branch_pool(_mean_pool(x))), dim=1)


class Reduce7(nn.Module):
    """17 x 17 to 8 x 8: 3x3 | 1x7 7x1 3x3 | max pool; 320 + 192 + 768 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = Conv(768, 192, 1)
        self.branch3x3_2 = Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Conv(768, 192, 1)
        self.branch7x7x3_2 = Conv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = Conv(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, 1280, 8, 8]."""
        long = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat((self.branch3x3_2(self.branch3x3_1(x)), long, F.max_pool2d(x, 3, stride=2)), dim=1)


class Mixed7(nn.Module):
    """8 x 8: 1x1 | 3x3 split in 1x3 and 3x1 | the same after 3x3 | pool; 320 + 768 + 768 + 192 channels."""

    def __init__(self, channels: int, *, pool_by_maximum: bool) -> None:
        super().__init__()
        self.pool_by_maximum = pool_by_maximum
        self.branch1x1 = Conv(channels, 320, 1)
        self.branch3x3_1 = Conv(channels, 384, 1)
        self.branch3x3_2a = Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = Conv(channels, 448, 1)
        self.branch3x3dbl_2 = Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = Conv(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, 2048, 8, 8]."""
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.pool_by_maximum else _mean_pool(x)
        branches = (
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(pooled),
        )
        return torch.cat(branches, dim=1)


class InceptionV3(nn.Module):
    """float32 [N, 3, 299, 299] in -1..1 to float32 [N, 2048]. `fc` is part of the file's layout and not used."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)
        self.Mixed_5b = Mixed5(192, pooled=32)
        self.Mixed_5c = Mixed5(256, pooled=64)
        self.Mixed_5d = Mixed5(288, pooled=64)
        self.Mixed_6a = Reduce6(288)
        self.Mixed_6b = Mixed6(128)
        self.Mixed_6c = Mixed6(160)
        self.Mixed_6d = Mixed6(160)
        self.Mixed_6e = Mixed6(192)
        self.Mixed_7a = Reduce7()
        self.Mixed_7b = Mixed7(1280, pool_by_maximum=False)
        self.Mixed_7c = Mixed7(2048, pool_by_maximum=True)
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean of the last map over the picture."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # [N, 64, 147, 147]
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))  # [N, 192, 71, 71]
        x = F.max_pool2d(x, 3, stride=2)  # [N, 192, 35, 35]
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))  # [N, 288, 35, 35]
        x = self.Mixed_6a(x)  # [N, 768, 17, 17]
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  # [N, 2048, 8, 8]
        return x.mean(dim=(2, 3))


def load_inception(path: Path, device: str = "cpu") -> Callable[[Tensor], Tensor]:
    """Return the network of a file: float32 [N, 3, 299, 299] in -1..1 to float32 [N, 2048].

    Args:
        path: pt_inception-2015-12-05-6726825d.pth, or NVIDIA's TorchScript inception-2015-12-05.pt, whose `layers` take
            the same input (as clean-fid e88c4d6 calls them).
        device: "cpu", "cuda" ...

    Raises:
        WeightsError: the file is neither.
    """
    if is_torchscript(path):
        script = read_torchscript(path, device)
        if not hasattr(script, "layers"):
            raise WeightsError(f"{path} is a program without `layers`, so not NVIDIA's inception-2015-12-05.pt.")
        return lambda x: script.layers(x).reshape(len(x), FEATURES)
    network = InceptionV3()
    load_strictly(network, read_state_dict(path), path)
    network.eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, Conv):
            module.fold()
    network.to(device)
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    return network
