"""Identity: whether the face of a clip is still that of the portrait, by the cosine of face embeddings.

    portrait -> face box -> 112 x 112 -> network -> unit vector p
    evenly spaced frames -> face boxes -> 112 x 112 -> network -> unit vectors f
    Identity = mean of f . p; Identity worst = the least of them

The portrait is the picture that the clip was made from; where there is none, the first frame of the true clip. With
"official" weights the network is ArcFace's (arXiv 1801.07698), the usual choice of such a similarity (CSIM, ID-SIM);
pictures are aligned by boxes and not by landmarks (`face_alignment`), so values lie somewhat below those of pipelines
with landmarks and compare with each other only. "builtin" is a slim network that knows drawn faces.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from lt_eval import weights as weight_files
from lt_eval.errors import UnscorableError, WeightsError
from lt_eval.media.still import read_image
from lt_eval.metrics import clip_faces
from lt_eval.metrics.clip_faces import BOXES, Faces, face_of_picture, faces_in, sources_of, spread
from lt_eval.metrics.face_alignment import aligned_face
from lt_eval.metrics.feature_sets import check_choice, feature_key
from lt_eval.records import Column, Score

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lt_eval.metrics.face_boxes import Source
    from lt_eval.records import Frames, Sample

_SOURCES = ("identity.py", "face_alignment.py", "nets/inference.py", *clip_faces.CODE)


class FaceNet(Protocol):
    """What embeds faces: ArcFace's network, the slim one, or another."""

    def embed(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return unit vectors [N, D] of uint8 RGB [N, 112, 112, 3]."""
        ...


@dataclass(frozen=True)
class Identity:
    """Cosine between the portrait's face and the faces of a clip.

    Attributes:
        weights: "official" or "arcface", which are the same (ArcFace's iResNet-50, non-commercial research only), or
            "builtin" (a slim network trained on drawn faces; columns named apart).
        weights_file: an iResNet-50 of your own in the layout of ArcFace's backbone.pth; the columns then carry its
            name.
        faces: where face boxes come from: "manifest", "sidecar", "s3fd", "haar", or "auto": the first of the manifest,
            a sidecar and a detector, which is S3FD, or the Haar cascade with builtin weights.
        frames: how many evenly spaced frames are looked at; 0 is all.
        device: "auto", "cpu", "cuda" ...

    Raises:
        ValueError: a value that none of these is.
    """

    weights: Literal["official", "arcface", "builtin"] = "official"
    weights_file: str = ""
    faces: Faces = "auto"
    frames: int = 16
    device: str = "auto"

    def __post_init__(self) -> None:
        check_choice("weights", self.weights, ("official", "arcface", "builtin"))
        check_choice("faces", self.faces, tuple(clip_faces.CHOICES))
        if self.frames < 0:
            raise ValueError(f"frames is {self.frames}; the rule is 0, which is all, or more.")
        if self._builtin and self.weights_file:
            raise ValueError("builtin weights have no file; leave out weights_file.")

    @property
    def _builtin(self) -> bool:
        return self.weights == "builtin"

    @property
    def _tag(self) -> str:
        name = "builtin" if self._builtin else Path(self.weights_file).name
        return f" ({name})" if name else ""

    @property
    def columns(self) -> Mapping[str, Column]:
        """The mean and the least cosine, marked with what makes them another number than ArcFace's."""
        return {
            f"{name}{self._tag}": Column("higher", digits=3, minimum=-1.0, maximum=1.0)
            for name in ("Identity", "Identity worst")
        }

    @property
    def _sources(self) -> tuple[Source, ...]:
        return sources_of(self.faces, builtin=self._builtin)

    # One clip -------------------------------------------------------------------------------------------------------

    def score(self, sample: Sample) -> Score:
        """Return both cosines, and in the details the one of every frame that was looked at.

        Raises:
            UnscorableError: no_portrait, no_face (the portrait has none, or fewer than half of the frames have one),
                no_face_boxes, bad_face_boxes, face_outside, clip_too_short.
            MediaError: a file cannot be decoded.
            WeightsError: official weights are absent or not the published ones.
        """
        clip, turn = sample.clip, sample.dialogue.turns[sample.turn]
        if len(clip.frames) == 0:
            raise UnscorableError("clip_too_short", f"{clip.path} has no frame to look at.")
        portrait = self._portrait(sample)
        numbers = spread(len(clip.frames), self.frames)
        source, faces = faces_in(clip, turn, numbers, self._sources, self.device)
        seen = [(number, face) for number, face in zip(numbers, faces, strict=True) if face is not None]
        if 2 * len(seen) < len(numbers):
            raise UnscorableError(
                "no_face",
                f"{clip.path}: a face is seen in {len(seen)} of {len(numbers)} frames; at least half are needed. Boxes "
                f"are {BOXES[source]}.",
            )
        pictures = np.stack([portrait, *(aligned_face(clip.frames[number], face) for number, face in seen)])
        vectors = self._network.embed(pictures).astype(np.float64)
        cosines = np.clip(vectors[1:] @ vectors[0], -1.0, 1.0)
        return Score(
            {f"Identity{self._tag}": float(cosines.mean()), f"Identity worst{self._tag}": float(cosines.min())},
            {
                "faces": source,
                "frames": [int(number) for number, _ in seen],
                "looked_at": len(numbers),
                "cosines": [round(float(cosine), 4) for cosine in cosines],
            },
        )

    def _portrait(self, sample: Sample) -> Frames:
        """Return the aligned face that the clip is compared with, uint8 RGB [112, 112, 3]."""
        dialogue, turn = sample.dialogue, sample.dialogue.turns[sample.turn]
        if dialogue.portrait is not None:
            picture = read_image(dialogue.portrait)
            return aligned_face(picture, face_of_picture(picture, dialogue.portrait, self._sources, self.device))
        if turn.reference is None:
            raise UnscorableError(
                "no_portrait",
                f"{dialogue.id}: the data set names neither a portrait nor a true clip that identity could be compared "
                "with; a folder of your own gets portraits by --set dataset.portraits=FOLDER.",
            )
        picture, face = clip_faces.first_face(sample.clip, turn.reference, turn, self._sources, self.device)
        if face is None:
            raise UnscorableError("no_face", f"{turn.reference}: no face is seen in the first frame of the true clip.")
        return aligned_face(picture, face)

    # Networks -------------------------------------------------------------------------------------------------------

    @property
    def _network(self) -> FaceNet:
        from lt_eval.metrics.nets.inference import resolve_device

        device = resolve_device(self.device)
        if self._builtin:
            from lt_eval.metrics.nets.slim_facenet import builtin_facenet

            return builtin_facenet(device)
        path = self._file
        return _arcface(path, path.stat().st_mtime_ns, device)

    @property
    def _file(self) -> Path:
        if not self.weights_file:
            return weight_files.require("arcface")
        path = Path(self.weights_file).expanduser()
        if not path.is_file():
            raise WeightsError(f"weights_file {path} does not exist; leave the option out for the published weights.")
        return path

    @property
    def fingerprint(self) -> str:
        """Of the network, its weights, code and options; raises WeightsError where weights are missing."""
        if self._builtin:
            from lt_eval.metrics.nets.slim_facenet import WEIGHTS

            digest = weight_files.sha256_of(WEIGHTS)
        else:
            digest = weight_files.sha256_of(self._file) if self.weights_file else weight_files.digest_of(self._file)
        code = (*_SOURCES, "nets/slim_facenet.py" if self._builtin else "nets/iresnet.py")
        return feature_key(digest, clip_faces.detector_key(self._sources), self.faces, self.frames, sources=code)

    @property
    def footnotes(self) -> Sequence[str]:
        """How identity was computed."""
        names = ", ".join(self.columns)
        if self._builtin:
            network = "slim network trained on drawn faces, which says nothing of real ones"
        else:
            network = f"ArcFace iResNet-50 {self.weights_file or weight_files.entry('arcface').file}"
        looked = f"{self.frames} evenly spaced frames" if self.frames else "all frames"
        boxes = ", else ".join(BOXES[source] for source in self._sources)
        return (
            f"{names}: cosine between the portrait's face and those of {looked}, mean and least; {network}; faces cut "
            f"by their boxes ({boxes}) and not aligned by landmarks.",
        )

    def findings(self, details: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        """Return where the face boxes came from, and in how many frames no face was seen."""
        used = Counter(str(one["faces"]) for one in details)
        if not used:
            return []
        boxes = ", ".join(f"{BOXES[source]}: {used[source]} clips" for source in BOXES if source in used)
        unseen = sum(int(one["looked_at"]) - len(one["frames"]) for one in details)
        looked = sum(int(one["looked_at"]) for one in details)
        lost = f" In {unseen} of {looked} frames no face was seen, and these count for nothing." if unseen else ""
        return [f"Face boxes of Identity in this run: {boxes}.{lost}"]


@functools.cache
def _arcface(path: Path, modified_ns: int, device: str) -> FaceNet:
    """Load a network once a process; the time of the file is part of the key, so that a replaced file is read anew."""
    from lt_eval.metrics.nets.iresnet import load_arcface

    return load_arcface(path, device)
