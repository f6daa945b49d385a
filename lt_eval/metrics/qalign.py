"""Q-Align: picture quality (IQA) and aesthetics (ASE) as a large vision-language model rates them (arXiv 2312.17090).

    clip -> evenly spaced frames -> squared, 448 x 448 -> vision tower and abstractor, once a frame
    per prompt: "How would you rate the quality | aesthetics of this image?" -> probabilities of five answers
    excellent 5, good 4, fair 3, poor 2, bad 1, weighted -> 1..5 a frame -> mean over frames

Parity: pyiqa 0.1.16 (`create_metric("qalign")`) with CLIP's Pillow preprocessing, in float32. Published code computes
in float16, its softmax too, which alone moves a score by up to 0.003; ours takes the softmax in float32.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from lt_eval import fingerprint
from lt_eval import weights as weight_files
from lt_eval.errors import UnscorableError, WeightsError
from lt_eval.metrics.feature_sets import check_choice, feature_key
from lt_eval.records import Column, Score

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from lt_eval.records import Frames, Sample

    Scorer = Callable[[Sequence[Frames]], NDArray[np.float32]]
    """uint8 RGB frames to float32 [N, 2] in 1..5: quality, aesthetics."""

_PUBLISHED = "one-align"

_SOURCES = {
    "native": (
        "qalign_inputs.py",
        "nets/one_align.py",
        "nets/mplug_owl2.py",
        "nets/mplug_owl2_vision.py",
        "nets/mplug_owl2_config.py",
        "nets/shards.py",
        "nets/inference.py",
    ),
    "pyiqa": ("qalign_pyiqa.py",),
}
"""Code that scores depend on, beside this file."""

_LIBRARIES = {"native": ("pillow", "sentencepiece"), "pyiqa": ("pillow", "pyiqa", "transformers")}


@dataclass(frozen=True)
class QAlign:
    """IQA and ASE of a clip, each in 1..5.

    Attributes:
        weights: "official"; with "builtin" there is no value, since no small network rates pictures.
        weights_file: a folder of your own in the layout of q-future/one-align; the columns then carry its name.
        frames: how many, evenly spaced from the first to the last; 0 takes all. A shorter clip gives all it has.
        loader: "native" (our network), or "pyiqa" (extra; licensed PolyForm-Noncommercial-1.0.0), one frame at a time.
        dtype: "float16" as the published code, "bfloat16", "float32" (33 GB), or "auto": float16 on CUDA, else float32.
        batch: frames a forward pass; results do not depend on it beyond 1e-4 in float32.
        device: "auto", "cpu", "cuda" ...

    Raises:
        ValueError: a value that none of these is.
    """

    weights: Literal["official", "builtin"] = "official"
    weights_file: str = ""
    frames: int = 16
    loader: Literal["native", "pyiqa"] = "native"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    batch: int = 16
    device: str = "auto"

    def __post_init__(self) -> None:
        check_choice("weights", self.weights, ("official", "builtin"))
        check_choice("loader", self.loader, ("native", "pyiqa"))
        check_choice("dtype", self.dtype, ("auto", "float32", "float16", "bfloat16"))
        if self.frames < 0 or self.batch < 1:
            raise ValueError(
                f"frames is {self.frames} and batch {self.batch}; the rule is 0 (all) or more, and 1 or more."
            )
        if self.weights == "builtin" and self.weights_file:
            raise ValueError("builtin weights have no file; leave out weights_file.")

    @property
    def columns(self) -> Mapping[str, Column]:
        """IQA and ASE, marked with the folder's name where the weights are your own."""
        tag = f" ({Path(self.weights_file).name})" if self.weights_file else ""
        return {f"{name}{tag}": Column("higher", minimum=1.0, maximum=5.0) for name in ("IQA", "ASE")}

    @property
    def unavailable(self) -> str:
        """Why there is no value with builtin weights."""
        if self.weights != "builtin":
            return ""
        return f"no builtin network rates pictures; with official weights: lt-eval weights fetch {_PUBLISHED} (16.4 GB)"

    def score(self, sample: Sample) -> Score:
        """Return the mean over frames of each column; the details hold every frame's.

        Raises:
            UnscorableError: the clip has no frame, or the network gave no finite number.
            MediaError: it cannot be decoded.
            WeightsError: the weights are absent, not the published ones, or there are none (builtin).
            MissingExtraError: pyiqa is asked for and not installed.
        """
        frames = sample.clip.frames
        if len(frames) == 0:
            raise UnscorableError("clip_too_short", f"{sample.clip.path} has no frame to score; Q-Align needs one.")
        chosen = evenly(len(frames), self.frames)
        distinct, places = _distinct(frames, chosen)
        scorer = self._scorer()
        rated = np.concatenate(
            [
                scorer([frames[i] for i in distinct[start : start + self.batch]])
                for start in range(0, len(distinct), self.batch)
            ]
        )[places]
        if not np.isfinite(rated).all():
            raise UnscorableError(
                "not_finite",
                f"{sample.clip.path}: Q-Align in {self._dtype} gave a score that is no number; try dtype float32.",
            )
        details: dict[str, list[float]] = {"frame_indices": [int(index) for index in chosen]}
        for name, values in zip(self.columns, rated.T, strict=True):
            details[name] = [round(float(value), 5) for value in values]
        return Score(dict(zip(self.columns, map(float, rated.mean(axis=0, dtype=np.float64)), strict=True)), details)

    def _scorer(self) -> Scorer:
        from lt_eval.metrics.nets.inference import resolve_device

        folder = self._folder
        stamps = tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in _files(folder))
        return _load(self.loader, folder, stamps, resolve_device(self.device), self._dtype)

    @property
    def _folder(self) -> Path:
        if self.weights == "builtin":
            raise WeightsError(f"Q-Align: {self.unavailable}.")
        if not self.weights_file:
            return weight_files.require_folder(_PUBLISHED)
        path = Path(self.weights_file).expanduser()
        if not path.is_dir():
            raise WeightsError(
                f"weights_file {path} is no folder; Q-Align needs one with config.json, the tokenizer and the weights. "
                "Leave the option out for the published ones."
            )
        return path

    @property
    def _dtype(self) -> str:
        if self.dtype != "auto":
            return self.dtype
        from lt_eval.metrics.nets.inference import resolve_device

        return "float16" if resolve_device(self.device).startswith("cuda") else "float32"

    @property
    def fingerprint(self) -> str:
        """Of weights, frames, precision and code; raises WeightsError where the weights are missing."""
        if self.weights == "builtin":
            return feature_key("builtin", sources=("qalign.py",))
        folder = self._folder
        if self.weights_file:
            digests = [(file.name, fingerprint.of_file(file)) for file in _files(folder)]
        else:
            digests = [(name, weight_files.verify(name)) for name in weight_files.expand(_PUBLISHED)]
        if self.loader == "pyiqa":
            from lt_eval.metrics.qalign_pyiqa import require_pyiqa

            require_pyiqa()
        libraries = [(name, version(name)) for name in _LIBRARIES[self.loader]]
        facts = (digests, self.frames, self.loader, self._dtype, libraries)
        return feature_key(*facts, sources=("qalign.py", *_SOURCES[self.loader]))

    @property
    def footnotes(self) -> Sequence[str]:
        """How the columns were computed, and under what licence; nothing of columns that stay empty."""
        if self.weights == "builtin":
            return ()
        names = ", ".join(self.columns)
        frames = f"{self.frames} evenly spaced frames" if self.frames else "all frames"
        if self.weights_file:
            source = f"own weights {Path(self.weights_file).name}"
        else:
            source = "q-future/one-align (MIT by its model card, S-Lab non-commercial by its code repository)"
        precision = f"{self._dtype}, softmax in float32"
        if self.loader == "pyiqa":
            precision = f"{self._dtype} by pyiqa {version('pyiqa')} (PolyForm-Noncommercial-1.0.0)"
        return (
            f'{names}: Q-Align {source}, 1 to 5, prompts "quality" and "aesthetics", mean over {frames} of a clip, '
            f"padded to a square and resized by Pillow's bicubic filter, {precision}.",
        )


def evenly(count: int, wanted: int) -> NDArray[np.intp]:
    """Return the indices of `wanted` of `count` frames, the first and the last among them; 0 wants all.

    A single frame is the middle one.
    """
    if wanted == 0 or wanted >= count:
        return np.arange(count)
    if wanted == 1:
        return np.array([count // 2])
    return np.round(np.linspace(0, count - 1, wanted)).astype(np.intp)


def _distinct(frames: Frames, chosen: NDArray[np.intp]) -> tuple[list[int], list[int]]:
    """Return indices of different pictures, and for each chosen frame the place of its picture among them."""
    seen: dict[bytes, int] = {}
    distinct: list[int] = []
    places: list[int] = []
    for index in chosen:
        digest = hashlib.blake2b(np.ascontiguousarray(frames[index]).data, digest_size=16).digest()
        if digest not in seen:
            seen[digest] = len(distinct)
            distinct.append(int(index))
        places.append(seen[digest])
    return distinct, places


def _files(folder: Path) -> list[Path]:
    """Return the files of a checkpoint that a score depends on."""
    kinds = ("*.json", "*.model", "*.safetensors", "*.bin")
    return sorted(file for kind in kinds for file in folder.glob(kind))


@functools.lru_cache(maxsize=1)
def _load(loader: str, folder: Path, stamps: object, device: str, dtype: str) -> Scorer:
    """Load a checkpoint once a process; sizes and times of its files are part of the key, so a new one is read anew."""
    if loader == "pyiqa":
        from lt_eval.metrics.qalign_pyiqa import PyiqaProcess

        return PyiqaProcess(folder, device, dtype).scores
    from lt_eval.metrics.nets.one_align import load_one_align

    return load_one_align(folder, device, dtype).scores
