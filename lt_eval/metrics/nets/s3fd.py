"""S3FD: where the faces are, as the lip-sync pipeline of SyncNet looks for them.

Zhang et al., "S3FD: Single Shot Scale-invariant Face Detector", arXiv 1708.05237. State-dict layout, numbers and order
of boxes are those of sfd_face.pth in `detectors/s3fd` of joonson/syncnet_python 6efbb1c (MIT): VGG-16, six maps, one
prior box a place, softmax, decoding, two suppressions of overlaps. `benchmarks/parity/sync.py` compares every stage.

Only candidates above the threshold are decoded into faces: weaker ones can neither be returned nor suppress stronger
ones, so leaving them out changes nothing.

Shapes: N frames, P priors (sum of the six maps' places), H x W of the frames.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import convert_conv2d_weight_memory_format

from lt_eval.metrics.nets.inference import exact_inference, load_strictly, read_state_dict

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MEAN_RGB = (123.0, 117.0, 104.0)
STEPS = (4, 8, 16, 32, 64, 128)
"""Pixels between the places of each map; a prior box is four steps wide."""
VARIANCES = (0.1, 0.2)
FLOOR = 0.05
"""Scores below it are never faces, whatever the threshold."""
MOST_CANDIDATES = 5000
MOST_FACES = 750
FIRST_OVERLAP = 0.3
SECOND_OVERLAP = 0.1

LEAST_SIDE = 28
"""Pixels of the network's input, below which its last map is empty."""

_CONVOLUTIONS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
"""Channels of VGG-16; 0 halves the map."""
_TAPS = {15: "L2Norm3_3", 22: "L2Norm4_3", 29: "L2Norm5_3"}
"""Layers of VGG after which a map is taken, and the normalisation that it passes."""
_BATCH = {"cpu": 4}
_GPU_BATCH = 64


class L2Norm(nn.Module):
    """Scale each place to length 1, then each channel by its weight."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, C, h, w]."""
        length = x.pow(2).sum(dim=1, keepdim=True).sqrt() + 1e-10
        return self.weight[:, None, None] * (x / length)


def _vgg() -> nn.ModuleList:
    layers: list[nn.Module] = []
    channels = 3
    for index, outputs in enumerate(_CONVOLUTIONS):
        if outputs:
            layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU(inplace=True)]
            channels = outputs
        else:
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=index == 9))
    layers += [nn.Conv2d(512, 1024, 3, padding=6, dilation=6), nn.ReLU(inplace=True)]
    return nn.ModuleList([*layers, nn.Conv2d(1024, 1024, 1), nn.ReLU(inplace=True)])


class S3FDLayers(nn.Module):
    """float32 RGB [N, 3, h, w] minus its mean to what the heads say of every prior box."""

    def __init__(self) -> None:
        super().__init__()
        self.vgg = _vgg()
        self.L2Norm3_3, self.L2Norm4_3, self.L2Norm5_3 = L2Norm(256, 10.0), L2Norm(512, 8.0), L2Norm(512, 5.0)
        self.extras = nn.ModuleList(
            layer
            for channels, inner, outputs in ((1024, 256, 512), (512, 128, 256))
            for layer in (nn.Conv2d(channels, inner, 1), nn.Conv2d(inner, outputs, 3, stride=2, padding=1))
        )
        widths = (256, 512, 512, 1024, 512, 256)
        self.loc = nn.ModuleList(nn.Conv2d(width, 4, 3, padding=1) for width in widths)
        self.conf = nn.ModuleList(
            nn.Conv2d(width, classes, 3, padding=1) for width, classes in zip(widths, (4, 2, 2, 2, 2, 2), strict=True)
        )

    def maps(self, x: Tensor) -> list[Tensor]:
        """Return the six maps, finest first."""
        found = []
        for index, layer in enumerate(self.vgg):
            x = layer(x)
            if index in _TAPS:
                # before the next layer, which may write into x
                found.append(getattr(self, _TAPS[index])(x))
        found.append(x)
        for index, layer in enumerate(self.extras):
            x = F.relu(layer(x), inplace=True)
            if index % 2:
                found.append(x)
        return found

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, tuple[tuple[int, int], ...]]:
        """Return offsets [N, P, 4], logits of (background, face) [N, P, 2] and height and width of each map."""
        offsets, logits, sizes = [], [], []
        for level, (features, loc, conf) in enumerate(zip(self.maps(x), self.loc, self.conf, strict=True)):
            both = conf(features)
            if level == 0:  # three kinds of background, of which the likeliest counts
                both = torch.cat((both[:, :3].amax(dim=1, keepdim=True), both[:, 3:]), dim=1)
            offsets.append(loc(features).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4)))
            logits.append(both.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 2)))
            sizes.append((features.shape[2], features.shape[3]))
        return torch.cat(offsets, dim=1), torch.cat(logits, dim=1), tuple(sizes)


@functools.lru_cache(maxsize=16)
def priors(height: int, width: int, sizes: tuple[tuple[int, int], ...]) -> Tensor:
    """Return float32 [P, 4]: centre x, centre y, width, height of each prior box, in fractions of the network's input.

    Args:
        height: of the input.
        width: of the input.
        sizes: height and width of each map.
    """
    levels = []
    for step, (rows, columns) in zip(STEPS, sizes, strict=True):
        y, x = np.mgrid[:rows, :columns]
        centre_x, centre_y = (x + 0.5) / (width / step), (y + 0.5) / (height / step)
        level = np.broadcast_arrays(centre_x, centre_y, 4 * step / width, 4 * step / height)
        levels.append(np.stack(level, axis=-1).reshape(-1, 4))
    return torch.from_numpy(np.concatenate(levels).astype(np.float32))


def decode(offsets: Tensor, boxes: Tensor) -> Tensor:
    """Return float32 [..., 4]: left, top, right, bottom in fractions, from offsets [..., 4] to prior boxes [..., 4]."""
    centres = boxes[..., :2] + offsets[..., :2] * VARIANCES[0] * boxes[..., 2:]
    spans = boxes[..., 2:] * torch.exp(offsets[..., 2:] * VARIANCES[1])
    corner = centres - spans / 2
    return torch.cat((corner, spans + corner), dim=-1)


def prepare(frames: NDArray[np.uint8], scale: float, device: torch.device) -> Tensor:
    """Return float32 [N, 3, h, w], channels last in memory: frames shrunk linearly as uint8, minus the mean colour."""
    small = [cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR) for frame in frames]
    x = torch.from_numpy(np.stack(small)).to(device).permute(0, 3, 1, 2).float()
    return x - torch.tensor(MEAN_RGB, device=device)[:, None, None]


def strongest_apart(boxes: NDArray[np.floating], order: NDArray[np.intp], overlap: float) -> list[int]:
    """Return which boxes stay when each suppresses the later ones that it overlaps by more than `overlap` (IoU).

    Args:
        boxes: [n, 4] left, top, right, bottom; computed in their own precision.
        order: of the n boxes, strongest first.
        overlap: 0..1.
    """
    left, top, right, bottom = boxes.T
    kept = []
    with np.errstate(all="ignore"):  # of infinite boxes the overlap is no number, and they are suppressed
        area = (right - left) * (bottom - top)
        while len(order):
            first, order = order[0], order[1:]
            kept.append(int(first))
            across = np.minimum(right[order], right[first]) - np.maximum(left[order], left[first])
            down = np.minimum(bottom[order], bottom[first]) - np.maximum(top[order], top[first])
            shared = np.maximum(across, 0) * np.maximum(down, 0)
            order = order[shared / (area[order] - shared + area[first]) <= overlap]
    return kept


def faces_of(
    scores: NDArray[np.float32], boxes: NDArray[np.float32], width: int, height: int, threshold: float
) -> NDArray[np.float32]:
    """Return the faces of one frame, strongest first.

    Equal scores stand in the order in which torch's and numpy's own sorting leave them, as upstream: neither promises
    one, and it differs between processors. At most 750 faces; upstream crashes where there are as many.

    Args:
        scores: float32 [P], 0..1.
        boxes: float32 [P, 4] in fractions.
        width: of the frame.
        height: of the frame.
        threshold: least score of a face.

    Returns:
        float32 [n, 5]: left, top, right, bottom in pixels, not clipped to the frame, and score.
    """
    likely = scores > np.float32(FLOOR)
    scores, boxes = scores[likely], boxes[likely]
    order = torch.from_numpy(scores).sort().indices.numpy()[::-1][:MOST_CANDIDATES]
    order = order[scores[order] > np.float32(threshold)]
    kept = strongest_apart(boxes, order, FIRST_OVERLAP)[:MOST_FACES]
    pixels = boxes[kept] * np.array([width, height, width, height], np.float32)
    faces = np.column_stack((pixels, scores[kept])).astype(np.float64)
    return faces[strongest_apart(faces[:, :4], faces[:, 4].argsort()[::-1], SECOND_OVERLAP)].astype(np.float32)


class S3FD:
    """The published detector, ready to run.

    Args:
        layers: its weights.
        device: "cpu", "cuda" ...
    """

    def __init__(self, layers: S3FDLayers, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self._layers = layers.eval().requires_grad_(False).to(self.device)
        convert_conv2d_weight_memory_format(self._layers, torch.channels_last)

    def raw(self, x: Tensor) -> tuple[Tensor, Tensor, tuple[tuple[int, int], ...]]:
        """Return what the network says of `prepare`d frames: see `S3FDLayers.forward`."""
        found: tuple[Tensor, Tensor, tuple[tuple[int, int], ...]] = self._layers(x)
        return found

    def detect(
        self, frames: NDArray[np.uint8], scale: float = 0.25, threshold: float = 0.9
    ) -> list[NDArray[np.float32]]:
        """Return the faces of every frame, as upstream's `detect_faces(frame, conf_th=threshold, scales=[scale])`.

        A frame that equals the one before is not looked at again: its faces are the same array. Frames that are less
        than 28 pixels high or wide once shrunk have no faces; upstream crashes.

        Args:
            frames: uint8 RGB [T, H, W, 3].
            scale: by which frames are shrunk before (linear, without antialiasing).
            threshold: a face scores more; below 0.05 it has no effect.

        Returns:
            One float32 [n, 5] a frame: left, top, right, bottom in pixels and score, strongest first.

        Raises:
            ValueError: another shape or type.
        """
        if frames.dtype.name != "uint8" or frames.ndim != 4 or frames.shape[3] != 3:
            raise ValueError(f"frames are {frames.dtype} {frames.shape}, the rule is uint8 RGB [T, H, W, 3], 0..255.")
        height, width = frames.shape[1:3]
        if min(round(height * scale), round(width * scale)) < LEAST_SIDE:
            return [np.empty((0, 5), np.float32)] * len(frames)
        fresh = [i for i in range(len(frames)) if i == 0 or not np.array_equal(frames[i], frames[i - 1])]
        found: list[NDArray[np.float32]] = []
        step = _BATCH.get(self.device.type, _GPU_BATCH)
        for start in range(0, len(fresh), step):
            scores, boxes = self.candidates(frames[fresh[start : start + step]], scale)
            found += [faces_of(*pair, width, height, threshold) for pair in zip(scores, boxes, strict=True)]
        which = np.searchsorted(fresh, np.arange(len(frames)), side="right") - 1
        return [found[i] for i in which]

    def candidates(self, frames: NDArray[np.uint8], scale: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scores [N, P] and boxes [N, P, 4] in fractions of uint8 RGB frames [N, H, W, 3], of all priors."""
        with exact_inference():
            x = prepare(frames, scale, self.device)
            offsets, logits, sizes = self.raw(x)
            boxes = decode(offsets, priors(x.shape[2], x.shape[3], sizes).to(self.device))
            return logits.softmax(dim=-1)[..., 1].cpu().numpy(), boxes.cpu().numpy()


def load_s3fd(path: Path, device: str = "cpu") -> S3FD:
    """Return the detector of a file laid out as sfd_face.pth.

    Raises:
        WeightsError: the file is laid out otherwise.
    """
    layers = S3FDLayers()
    load_strictly(layers, read_state_dict(path), path)
    return S3FD(layers, device)
