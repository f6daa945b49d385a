"""FVD: the Frechet distance between 16-frame windows of two sets of clips, in I3D logits (arXiv 1812.01717).

    clip -> windows of 16 frames, one every `stride` frames -> 224 x 224, -1..1 -> I3D (Kinetics), 400 logits a window
    all windows of all clips pooled -> mean and covariance of each side -> distance

Two files hold the same network: i3d_torchscript.pt (universome/stylegan-v 3fecd69, resizes and scales inside) and
i3d_pretrained_400.pt (wilson1yan/VideoGPT 733d2b1, the layout of piergiaj/pytorch-i3d). Values fall with the number of
windows even between equal distributions: read them beside their floor.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from lt_eval import weights as weight_files
from lt_eval.errors import UnscorableError, WeightsError
from lt_eval.metrics import preprocess as pre
from lt_eval.metrics.feature_sets import FeatureDistances, Statistic, check_choice, feature_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from lt_eval.interfaces import Clip, Influence
    from lt_eval.records import Column, Features, Frames

WINDOW = 16
"""Frames a window: what every published FVD16 uses."""

_PUBLISHED = ("i3d", "i3d-state-dict")

_SOURCES = ("fvd.py", "preprocess.py", "nets/inference.py")
"""Code that features depend on, beside the network's own."""


@dataclass(frozen=True)
class FVD:
    """Frechet video distance over windows of 16 frames.

    Attributes:
        weights: "official", or "builtin" (a small seeded network; nothing to download, columns named apart).
        weights_file: a file of your own in the official layout; the columns then carry its name.
        stride: frames from one window to the next; 16 does not overlap. What is behind the last window is left out.
        ddof: covariances divide by N - ddof; StyleGAN-V uses 0, VideoGPT 1.
        infinity: whether the extrapolation to infinitely many clips is a column too.
        batch: windows a forward pass; results do not depend on it beyond 1e-5.
        device: "auto", "cpu", "cuda" ...
        seed: of the subsets behind the floor and the extrapolation.

    Raises:
        ValueError: a value that none of these is.
    """

    weights: Literal["official", "builtin"] = "official"
    weights_file: str = ""
    stride: int = WINDOW
    ddof: int = 1
    infinity: bool = False
    batch: int = 8
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("weights", self.weights, ("official", "builtin"))
        check_choice("ddof", self.ddof, (0, 1))
        if self.batch < 1 or self.stride < 1:
            raise ValueError(f"batch is {self.batch} and stride {self.stride}; the rule is at least 1 for both.")
        if self.weights == "builtin" and self.weights_file:
            raise ValueError("builtin weights have no file; leave out weights_file.")

    @property
    def _tag(self) -> str:
        if self.weights == "builtin":
            return " (builtin)"
        return f" ({Path(self.weights_file).name})" if self.weights_file else ""

    @property
    def _distances(self) -> FeatureDistances:
        statistics: dict[str, Statistic] = {f"FVD{self._tag}": "frechet"}
        if self.infinity:
            statistics[f"FVD-inf{self._tag}"] = "infinity"
        return FeatureDistances(statistics, self.ddof, self.seed)

    @property
    def columns(self) -> Mapping[str, Column]:
        """FVD and FVD-inf, marked with what makes them another number than the published one."""
        return self._distances.columns(more_digits=1 if self.weights == "builtin" else 0)

    def features(self, clip: Clip) -> Features:
        """Return float32 [windows, D]: 400 (builtin: 64) features a window.

        Raises:
            UnscorableError: the clip is shorter than one window.
            MediaError: it cannot be decoded.
            WeightsError: the official weights are absent or not the published ones.
        """
        from lt_eval.metrics.nets.inference import exact_inference, resolve_device

        frames = clip.frames
        windows = pre.windows(len(frames), WINDOW, self.stride)
        if not windows:
            raise UnscorableError(
                "clip_too_short", f"{clip.path} has {len(frames)} frames; an FVD window is {WINDOW} frames."
            )
        device = resolve_device(self.device)
        network = self._network(device)
        with exact_inference():
            rows = [
                network([frames[window] for window in windows[start : start + self.batch]]).float().cpu().numpy()
                for start in range(0, len(windows), self.batch)
            ]
        return np.concatenate(rows)

    def _network(self, device: str) -> Callable[[Sequence[Frames]], Tensor]:
        if self.weights == "builtin":
            return functools.partial(_builtin_features, device=device)
        path = self._file
        return _i3d(path, path.stat().st_mtime_ns, device)

    @property
    def _file(self) -> Path:
        if not self.weights_file:
            return weight_files.require(*_PUBLISHED)
        path = Path(self.weights_file).expanduser()
        if not path.is_file():
            raise WeightsError(f"weights_file {path} does not exist; leave the option out for the published weights.")
        return path

    def distance(self, generated: Sequence[Features], reference: Sequence[Features]) -> Mapping[str, float]:
        """Return the value of each column; pure numpy."""
        return self._distances.distance(generated, reference)

    def influence(self, generated: Sequence[Features], reference: Sequence[Features]) -> Mapping[str, Influence]:
        """Return each clip's pull on FVD."""
        return self._distances.influence(generated, reference)

    def floor(self, reference: Sequence[Features], clips: int) -> Mapping[str, float]:
        """Return the FVD that two samples of the reference's distribution would have."""
        return self._distances.floor(reference, clips)

    @property
    def fingerprint(self) -> str:
        """Of network, weights file and windows; raises WeightsError where the weights are missing."""
        if self.weights == "builtin":
            return feature_key("builtin", self.stride, sources=(*_SOURCES, "nets/builtin.py"))
        digest = weight_files.sha256_of(self._file) if self.weights_file else weight_files.digest_of(self._file)
        return feature_key(digest, self.stride, sources=(*_SOURCES, "nets/i3d.py"))

    @property
    def footnotes(self) -> Sequence[str]:
        """How FVD was computed."""
        names = ", ".join(self.columns)
        common = f"{WINDOW}-frame windows every {self.stride} frames, covariance divided by N - {self.ddof}"
        if self.weights == "builtin":
            return (f"{names}: seeded random network, not comparable with published FVD; {common}.",)
        if self.weights_file:
            file = f"own weights {Path(self.weights_file).name}"
        else:
            file = weight_files.present(*_PUBLISHED).file
        return (f"{names}: I3D Kinetics-400 logits of {file}, 224x224 bilinear, -1..1, {common}.",)


def _builtin_features(windows: Sequence[Frames], device: str) -> Tensor:
    import torch

    from lt_eval.metrics.nets.builtin import builtin_i3d

    side = pre.BUILTIN_WINDOW_SIDE
    prepared = [pre.area(window, side, device).transpose(0, 1) for window in windows]  # each [3, 16, side, side]
    features: Tensor = builtin_i3d(device)(torch.stack(prepared).contiguous())
    return features


@functools.cache
def _i3d(path: Path, modified_ns: int, device: str) -> Callable[[Sequence[Frames]], Tensor]:
    """Load a network once a process; the time of the file is part of the key, so that a replaced file is read anew."""
    import torch

    from lt_eval.metrics.nets.i3d import load_i3d, load_i3d_torchscript
    from lt_eval.metrics.nets.inference import is_torchscript

    if is_torchscript(path):
        script = load_i3d_torchscript(path, device)
        if _resizes_alike(script, device):
            return lambda windows: script(torch.stack([pre.i3d_levels(w, device) for w in windows]))
        return functools.partial(_resized_inside, script, device=device)
    network = load_i3d(path, device)
    return lambda windows: network(torch.stack([pre.i3d(w, device) for w in windows]))


def _resizes_alike(script: Callable[[Tensor], Tensor], device: str) -> bool:
    """Return whether a program gives the same features of a window that it resizes and of one that we resized.

    Only then may large frames be kept from it, which costs less memory. Grain stretched in one direction and shrunk in
    the other shows any other filter, and any other place of the pixels.
    """
    from lt_eval.metrics.nets.inference import exact_inference

    grain = np.random.default_rng(0).integers(0, 256, (WINDOW, 160, 288, 3), dtype=np.uint8)
    with exact_inference():
        theirs = _resized_inside(script, [grain], device)
        ours = script(pre.i3d_levels(grain, device)[None])
    return bool((ours - theirs).abs().max() <= 1e-5 * theirs.abs().max().clamp(min=1))


def _resized_inside(script: Callable[[Tensor], Tensor], windows: Sequence[Frames], device: str) -> Tensor:
    """Return the features of windows that the program resizes itself, as few at a time as their size demands."""
    import torch

    step = max(1, pre.PART_PIXELS // math.prod(windows[0].shape[:3]))
    parts = [windows[start : start + step] for start in range(0, len(windows), step)]
    return torch.cat([script(torch.stack([pre.to_tensor(w, device).transpose(0, 1) for w in part])) for part in parts])
