"""A slim face embedding trained on the procedural talker: whether a face is still the same one, nothing to download.

Of the family of ArcFace (Deng et al., arXiv 1801.07698): a convolutional network from a 112 x 112 face to a unit
vector, trained as a classifier of people by the cosine to one direction a person, with a margin; people it has never
seen are compared by the cosine of their vectors. What is different:

    half the size       112 x 112 pixels are averaged to 56 x 56
    unit vectors of 128 values, half a million weights
    every input by itself   each picture is standardised, and normalisation layers look at one picture only, so no row
                            depends on what is beside it; brightness and contrast of the whole hardly count

Trained by `benchmarks/train/identity.py`; what it was trained on and what it reaches stands in
`benchmarks/train/identity.md`. It knows drawn faces: it says nothing of real ones.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import convert_conv2d_weight_memory_format

from lt_eval.metrics.nets.inference import exact_inference, load_strictly

WEIGHTS = Path(__file__).with_suffix(".safetensors")
"""float16 tensors named as in the state dict; the network computes in float32."""

SIDE = 56
WIDTH = 128
_CHUNK = 64
"""Faces a pass; bounds the memory."""


class SlimFaceNet(nn.Module):
    """uint8 RGB faces [N, 112, 112, 3] to float32 unit vectors [N, 128]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_stage(3, 32, 5, 2),  # [N, 32, 28, 28]
            *_stage(32, 64, 3, 2),  # [N, 64, 14, 14]
            *_stage(64, 64, 3, 1),
            *_stage(64, 96, 3, 2),  # [N, 96, 7, 7]
            *_stage(96, 96, 3, 1),
            *_stage(96, 48, 1, 1),  # [N, 48, 7, 7]
            nn.Flatten(),
            nn.Linear(48 * 49, WIDTH),
        )
        convert_conv2d_weight_memory_format(self.layers, torch.channels_last)  # a quarter faster on CPUs

    def embed(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 unit vectors [N, 128] of aligned faces, uint8 RGB [N, 112, 112, 3].

        Raises:
            ValueError: faces of another type or size.
        """
        if faces.dtype != np.uint8 or faces.shape[1:] != (2 * SIDE, 2 * SIDE, 3):
            raise ValueError(f"faces are {faces.dtype} {list(faces.shape)}, the rule is uint8 [N, 112, 112, 3].")
        device = next(self.parameters()).device
        rows = [np.zeros((0, WIDTH), np.float32)]
        with exact_inference():
            for start in range(0, len(faces), _CHUNK):
                pixels = torch.from_numpy(np.ascontiguousarray(faces[start : start + _CHUNK])).to(device)
                rows.append(self.directions(F.avg_pool2d(pixels.permute(0, 3, 1, 2).float(), 2)).cpu().numpy())
        return np.concatenate(rows)

    def directions(self, pixels: Tensor) -> Tensor:
        """Return unit vectors [N, 128] of pictures float32 [N, 3, 56, 56], 0..255."""
        flat = pixels.flatten(1)
        spread, mean = torch.std_mean(flat, dim=1, correction=0, keepdim=True)
        standard = ((flat - mean) / (spread + 4.0)).view(pixels.shape)
        encoded: Tensor = self.layers(standard.contiguous(memory_format=torch.channels_last))
        return F.normalize(encoded, dim=1)


def _stage(channels: int, outputs: int, side: int, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels, outputs, side, stride=stride, padding=side // 2, bias=False)
    return convolution, nn.GroupNorm(outputs // 8, outputs), nn.ReLU()


def save(network: SlimFaceNet, path: Path) -> None:
    """Write the weights as `load` reads them; the same weights give the same bytes."""
    state = {key: value.detach().cpu().half().contiguous() for key, value in network.state_dict().items()}
    save_file(state, path)


def load(path: Path, device: str) -> SlimFaceNet:
    """Return the network in eval mode on a device.

    Raises:
        WeightsError: the file is laid out in another way.
    """
    network = SlimFaceNet()
    load_strictly(network, {key: value.float() for key, value in load_file(path).items()}, path)
    return network.eval().to(device)


@functools.cache
def builtin_facenet(device: str) -> SlimFaceNet:
    """Return the trained network in eval mode on a device, one a process."""
    return load(WEIGHTS, device)
