"""FID: the Frechet distance between the frames of two sets of clips, in Inception features (arXiv 1706.08500).

    clip -> frames -> 299 x 299 -> Inception (pt_inception-2015-12-05), 2048 pooled features a frame
    all frames of all clips pooled -> mean and covariance of each side -> distance

Parity: mseitzer/pytorch-fid b9c1811 (Apache-2.0), or GaParmar/clean-fid e88c4d6 (MIT) with `preprocess="clean"`. KID
(arXiv 1801.01401) and the extrapolation to infinitely many clips (arXiv 1911.07023) come from the same features.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from lt_eval import weights as weight_files
from lt_eval.errors import UnscorableError, WeightsError
from lt_eval.metrics import preprocess as pre
from lt_eval.metrics.feature_sets import FeatureDistances, Statistic, check_choice, feature_key
from lt_eval.metrics.kid import MAX_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from lt_eval.interfaces import Clip, Influence
    from lt_eval.records import Column, Features, Frames

_PUBLISHED = {"pytorch-fid": ("inception", "inception-torchscript"), "clean": ("inception-torchscript", "inception")}
"""Preprocessing -> the file its publisher uses, and the other copy of the same network that serves as well."""

_SOURCES = ("fid.py", "preprocess.py", "nets/inference.py")
"""Code that features depend on, beside the network's own."""


@dataclass(frozen=True)
class FID:
    """Frechet and kernel Inception distance over all frames.

    Attributes:
        weights: "official", or "builtin" (a small seeded network; nothing to download, columns named apart).
        preprocess: "pytorch-fid" or "clean"; builtin weights have a preprocessing of their own.
        weights_file: a file of your own in the official layout; the columns then carry its name.
        ddof: covariances divide by N - ddof; 1 is pytorch-fid's.
        kid: whether the kernel distance is a column too.
        infinity: whether the extrapolation to infinitely many clips is a column too.
        batch: frames a forward pass; results do not depend on it beyond 1e-5.
        device: "auto", "cpu", "cuda" ...
        seed: of the subsets behind the floor and the extrapolation.

    Raises:
        ValueError: a value that none of these is.
    """

    weights: Literal["official", "builtin"] = "official"
    preprocess: Literal["pytorch-fid", "clean"] = "pytorch-fid"
    weights_file: str = ""
    ddof: int = 1
    kid: bool = True
    infinity: bool = True
    batch: int = 32
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("weights", self.weights, ("official", "builtin"))
        check_choice("preprocess", self.preprocess, tuple(_PUBLISHED))
        check_choice("ddof", self.ddof, (0, 1))
        if self.batch < 1:
            raise ValueError(f"batch is {self.batch}; the rule is at least one frame a forward pass.")
        if self.weights == "builtin" and (self.preprocess != "pytorch-fid" or self.weights_file):
            raise ValueError("builtin weights have their own preprocessing and no file; leave out both options.")

    @property
    def _tag(self) -> str:
        words = ["builtin"] if self.weights == "builtin" else []
        words += [Path(self.weights_file).name] if self.weights_file else []
        words += ["clean"] if self.preprocess == "clean" else []
        return f" ({', '.join(words)})" if words else ""

    @property
    def _distances(self) -> FeatureDistances:
        statistics: dict[str, Statistic] = {f"FID{self._tag}": "frechet"}
        if self.kid:
            statistics[f"KID{self._tag}"] = "kernel"
        if self.infinity:
            statistics[f"FID-inf{self._tag}"] = "infinity"
        return FeatureDistances(statistics, self.ddof, self.seed)

    @property
    def columns(self) -> Mapping[str, Column]:
        """FID, KID and FID-inf, marked with what makes them another number than the published one."""
        return self._distances.columns(more_digits=1 if self.weights == "builtin" else 0)

    def features(self, clip: Clip) -> Features:
        """Return float32 [T, D]: 2048 (builtin: 192) features a frame.

        Raises:
            UnscorableError: the clip has no frame left to score.
            MediaError: it cannot be decoded.
            WeightsError: the official weights are absent or not the published ones.
        """
        from lt_eval.metrics.nets.inference import exact_inference, resolve_device

        frames = clip.frames
        if len(frames) == 0:
            raise UnscorableError("clip_too_short", f"{clip.path} has no frame to score; FID needs at least one.")
        device = resolve_device(self.device)
        network = self._network(device)
        with exact_inference():
            rows = [
                network(self._prepare(frames[start : start + self.batch], device)).float().cpu().numpy()
                for start in range(0, len(frames), self.batch)
            ]
        return np.concatenate(rows)

    def _prepare(self, frames: Frames, device: str) -> Tensor:
        if self.weights == "builtin":
            return pre.area(frames, pre.BUILTIN_FRAME_SIDE, device)
        return pre.clean(frames, device) if self.preprocess == "clean" else pre.pytorch_fid(frames, device)

    def _network(self, device: str) -> Callable[[Tensor], Tensor]:
        if self.weights == "builtin":
            from lt_eval.metrics.nets.builtin import builtin_inception

            return builtin_inception(device)
        path = self._file
        return _inception(path, path.stat().st_mtime_ns, device)

    @property
    def _file(self) -> Path:
        if not self.weights_file:
            return weight_files.require(*_PUBLISHED[self.preprocess])
        path = Path(self.weights_file).expanduser()
        if not path.is_file():
            raise WeightsError(f"weights_file {path} does not exist; leave the option out for the published weights.")
        return path

    def distance(self, generated: Sequence[Features], reference: Sequence[Features]) -> Mapping[str, float]:
        """Return the value of each column; pure numpy."""
        return self._distances.distance(generated, reference)

    def influence(self, generated: Sequence[Features], reference: Sequence[Features]) -> Mapping[str, Influence]:
        """Return each clip's pull on each column."""
        return self._distances.influence(generated, reference)

    def floor(self, reference: Sequence[Features], clips: int) -> Mapping[str, float]:
        """Return the FID and KID that two samples of the reference's distribution would have."""
        return self._distances.floor(reference, clips)

    @property
    def fingerprint(self) -> str:
        """Of network, weights file and preprocessing; raises WeightsError where the weights are missing."""
        if self.weights == "builtin":
            return feature_key("builtin", sources=(*_SOURCES, "nets/builtin.py"))
        digest = weight_files.sha256_of(self._file) if self.weights_file else weight_files.digest_of(self._file)
        return feature_key(digest, self.preprocess, sources=(*_SOURCES, "nets/inception.py"))

    @property
    def footnotes(self) -> Sequence[str]:
        """How FID was computed."""
        names = ", ".join(self.columns)
        common = f"all frames pooled, covariance divided by N - {self.ddof}"
        if self.kid:
            common += f", KID of at most {MAX_ROWS:,} evenly chosen frames a side"
        if self.weights == "builtin":
            return (f"{names}: seeded random network, not comparable with published FID; {common}.",)
        picture = {
            "pytorch-fid": "bilinear 299x299 without antialiasing (pytorch-fid)",
            "clean": "antialiased bicubic 299x299 (clean-fid)",
        }[self.preprocess]
        if self.weights_file:
            file = f"own weights {Path(self.weights_file).name}"
        else:
            file = weight_files.present(*_PUBLISHED[self.preprocess]).file
        return (f"{names}: Inception {file}, {picture}, {common}.",)


@functools.cache
def _inception(path: Path, modified_ns: int, device: str) -> Callable[[Tensor], Tensor]:
    """Load a network once a process; the time of the file is part of the key, so that a replaced file is read anew."""
    from lt_eval.metrics.nets.inception import load_inception

    return load_inception(path, device)
