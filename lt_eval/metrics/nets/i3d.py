"""I3D (Inflated Inception-v1) on Kinetics-400 as FVD uses it: 400 logits of a 16-frame window.

Carreira and Zisserman, arXiv 1705.07750. State-dict layout and numbers are those of i3d_pretrained_400.pt, which
wilson1yan/VideoGPT 733d2b1 (MIT) converted from tf.hub and loads into the port of piergiaj/pytorch-i3d 05783d1
(Apache-2.0). VideoGPT changed the port's eps of batch normalisation from 1e-3 to 1e-5, and means the logits over time.

Shapes: N windows, C channels, T frames, H = W = side of the map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lt_eval.errors import WeightsError
from lt_eval.metrics.nets.inference import load_strictly, read_state_dict, read_torchscript

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CLASSES = 400
EPS = 1e-5
"""Of batch normalisation in VideoGPT's port; piergiaj's has 1e-3."""

Size = tuple[int, int, int]


def _pad_same(x: Tensor, kernel: Size, stride: Size) -> Tensor:
    """Pad with zeros as TensorFlow's SAME does: ceil(size / stride) positions, the odd pixel behind."""
    amounts: list[int] = []
    for size, width, step in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        total = max(width - (size % step or step), 0)
        amounts += [total // 2, total - total // 2]
    return F.pad(x, amounts)


class Unit3D(nn.Module):
    """Convolution with SAME padding, batch normalisation, ReLU; `logits` has a bias and neither of the others."""

    def __init__(
        self, channels: int, outputs: int, kernel: int = 1, stride: int = 1, *, eps: float = EPS, bare: bool = False
    ) -> None:
        super().__init__()
        self.kernel: Size = (kernel, kernel, kernel)
        self.stride: Size = (stride, stride, stride)
        self.conv3d = nn.Conv3d(channels, outputs, kernel, stride=stride, bias=bare)
        self.bn = None if bare else nn.BatchNorm3d(outputs, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs, T / stride, H / stride, H / stride], rounded up."""
        x = self.conv3d(_pad_same(x, self.kernel, self.stride))
        return x if self.bn is None else F.relu(self.bn(x), inplace=True)


class MaxPool(nn.Module):
    """Maximum with SAME padding: the padding is zero and counts, which after a ReLU is as if it did not."""

    def __init__(self, kernel: Size, stride: Size) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """Return the maxima."""
        return F.max_pool3d(_pad_same(x, self.kernel, self.stride), self.kernel, self.stride)


class Mixed(nn.Module):
    """Inception block: 1x1 | 1x1 3x3 | 1x1 3x3 | max pool 1x1."""

    def __init__(self, channels: int, outputs: tuple[int, int, int, int, int, int], eps: float) -> None:
        super().__init__()
        point, reduce_1, wide_1, reduce_2, wide_2, pooled = outputs
        self.b0 = Unit3D(channels, point, eps=eps)
        self.b1a = Unit3D(channels, reduce_1, eps=eps)
        self.b1b = Unit3D(reduce_1, wide_1, 3, eps=eps)
        self.b2a = Unit3D(channels, reduce_2, eps=eps)
        self.b2b = Unit3D(reduce_2, wide_2, 3, eps=eps)
        self.b3a = MaxPool((3, 3, 3), (1, 1, 1))
        self.b3b = Unit3D(channels, pooled, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Return the four branches, concatenated."""
        return torch.cat((self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))), dim=1)


class InceptionI3d(nn.Module):
    """float32 [N, 3, T, 224, 224] in -1..1 to float32 [N, 400]: logits, averaged over time. T >= 9.

    Args:
        eps: of batch normalisation.
    """

    def __init__(self, eps: float = EPS) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit3D(3, 64, 7, 2, eps=eps)
        self.MaxPool3d_2a_3x3 = MaxPool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Unit3D(64, 64, eps=eps)
        self.Conv3d_2c_3x3 = Unit3D(64, 192, 3, eps=eps)
        self.MaxPool3d_3a_3x3 = MaxPool((1, 3, 3), (1, 2, 2))
        self.Mixed_3b = Mixed(192, (64, 96, 128, 16, 32, 32), eps)
        self.Mixed_3c = Mixed(256, (128, 128, 192, 32, 96, 64), eps)
        self.MaxPool3d_4a_3x3 = MaxPool((3, 3, 3), (2, 2, 2))
        self.Mixed_4b = Mixed(480, (192, 96, 208, 16, 48, 64), eps)
        self.Mixed_4c = Mixed(512, (160, 112, 224, 24, 64, 64), eps)
        self.Mixed_4d = Mixed(512, (128, 128, 256, 24, 64, 64), eps)
        self.Mixed_4e = Mixed(512, (112, 144, 288, 32, 64, 64), eps)
        self.Mixed_4f = Mixed(528, (256, 160, 320, 32, 128, 128), eps)
        self.MaxPool3d_5a_2x2 = MaxPool((2, 2, 2), (2, 2, 2))
        self.Mixed_5b = Mixed(832, (256, 160, 320, 32, 128, 128), eps)
        self.Mixed_5c = Mixed(832, (384, 192, 384, 48, 128, 128), eps)
        self.logits = Unit3D(1024, CLASSES, bare=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of each window."""
        x = self.MaxPool3d_2a_3x3(self.Conv3d_1a_7x7(x))  # [N, 64, T/2, 56, 56]
        x = self.MaxPool3d_3a_3x3(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)))  # [N, 192, T/2, 28, 28]
        x = self.MaxPool3d_4a_3x3(self.Mixed_3c(self.Mixed_3b(x)))  # [N, 480, T/4, 14, 14]
        x = self.Mixed_4f(self.Mixed_4e(self.Mixed_4d(self.Mixed_4c(self.Mixed_4b(x)))))  # [N, 832, T/4, 14, 14]
        x = self.Mixed_5c(self.Mixed_5b(self.MaxPool3d_5a_2x2(x)))  # [N, 1024, T/8, 7, 7]
        x = self.logits(F.avg_pool3d(x, (2, 7, 7), stride=1))  # [N, 400, T/8 - 1, 1, 1]
        return x.mean(dim=(2, 3, 4))


def load_i3d(path: Path, device: str = "cpu", *, eps: float = EPS) -> InceptionI3d:
    """Return the network of a state dict, i3d_pretrained_400.pt.

    Args:
        path: the file.
        device: "cpu", "cuda" ...
        eps: of batch normalisation.

    Raises:
        WeightsError: the file is laid out otherwise.
    """
    network = InceptionI3d(eps)
    load_strictly(network, read_state_dict(path), path)
    return network.eval().requires_grad_(False).to(device)


def load_i3d_torchscript(path: Path, device: str = "cpu") -> Callable[[Tensor], Tensor]:
    """Return the program of i3d_torchscript.pt: float32 [N, 3, T, H, W] in 0..255, any size, to float32 [N, 400].

    It is called as universome/stylegan-v 3fecd69 calls it: resized to 224 and scaled to -1..1 inside, no softmax.

    Raises:
        WeightsError: the file does not hold that program.
    """
    script = read_torchscript(path, device)
    switches = {"rescale": True, "resize": True, "return_features": True}
    known = {argument.name for argument in script.forward.schema.arguments}
    if not switches.keys() <= known:
        missing = ", ".join(sorted(switches.keys() - known))
        raise WeightsError(f"{path} is not the I3D program of StyleGAN-V: its forward takes no {missing}.")
    return lambda windows: script(windows, **switches).reshape(len(windows), CLASSES)
