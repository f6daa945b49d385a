"""Sync-C and Sync-D: how well lips follow speech, by SyncNet (Chung and Zisserman, ACCV workshops 2016).

    clip at 25 fps -> face boxes -> tracks within shots -> 224 x 224 crops -> SyncNet <- 16 kHz audio
    per track: distances at shifts of -15 .. +15 frames -> offset, Sync-C, Sync-D
    per clip: the longest track; of equally long ones the larger face

Two modes that give two different numbers. "reference" takes the steps, thresholds, quirks and codecs of
joonson/syncnet_python 6efbb1c, on which published numbers rest; "direct" is the same mathematics on the decoded frames.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np

from lt_eval import weights as weight_files
from lt_eval.errors import SilentAudioError, UnscorableError, WeightsError
from lt_eval.fingerprint import of_decoding
from lt_eval.interfaces import Clip
from lt_eval.media.clip import MediaClip
from lt_eval.media.decode import read_audio
from lt_eval.media.spectra import mfcc, pcm16
from lt_eval.metrics.face_boxes import Detector, Footage, Source, available, boxes_of
from lt_eval.metrics.faces import FaceTrack, crop_face, smoothed, tracks_in
from lt_eval.metrics.feature_sets import check_choice, feature_key
from lt_eval.metrics.shots import shots_of
from lt_eval.metrics.sync_distances import MAX_SHIFT, SAMPLES_PER_FRAME, SyncResult, sync_of, window_count
from lt_eval.metrics.sync_rate import FPS, at_25_fps, placing_of
from lt_eval.records import Column, Score
from lt_eval.store import key_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from lt_eval.records import Frames, Sample, Turn

SILENT_PEAK = 1e-3
"""Sound that never leaves -60 dB of full scale counts as silence."""

LEAST_WINDOWS = MAX_SHIFT + 1
"""With fewer, the farthest shifts compare lips with zeros alone; with one or two, upstream's Sync-C is exactly 0."""

_WINDOWS_AT_ONCE = 256
_LIP_FRAMES = 5

_SOURCES = (
    *("sync.py", "sync_rate.py", "sync_distances.py", "faces.py", "shots.py", "face_boxes.py"),
    *("../media/haar.py", "../media/spectra.py", "nets/inference.py"),
)
"""Code that every score depends on."""

_FACES: Mapping[str, tuple[Source, ...]] = {
    "auto": ("manifest", "sidecar", "s3fd"),
    "manifest": ("manifest",),
    "sidecar": ("sidecar",),
    "s3fd": ("s3fd",),
    "haar": ("haar",),
}


_BOXES = {
    "manifest": "stated by the data set",
    "sidecar": "stated beside the clip",
    "s3fd": f"found by S3FD ({weight_files.entry('s3fd').file}, scale 0.25, score over 0.9)",
    "haar": "found by OpenCV's Haar cascade",
}


class LipSyncNet(Protocol):
    """What embeds lips and speech: the official network, the slim one, or another."""

    def lips(self, crops: NDArray[np.uint8]) -> Tensor:
        """Return float32 [T - 4, D] of uint8 RGB [T, 224, 224, 3]."""
        ...

    def audio(self, mfcc: NDArray[np.float32]) -> Tensor:
        """Return float32 [n, D] of [F, 13]; row i looks at rows 4 i .. 4 i + 19."""
        ...


class _Scored(NamedTuple):
    track: FaceTrack
    plain: SyncResult
    masked: SyncResult | None


@dataclass(frozen=True)
class Sync:
    """Sync-C, Sync-D and offset of the longest face track of a clip.

    Attributes:
        weights: "official", or "builtin" (a slim network trained on drawn faces; columns named apart).
        weights_file: a file of your own in the layout of syncnet_v2.model; the columns then carry its name.
        mode: "reference" (published numbers), "direct", or "auto": direct for builtin weights, else reference.
        faces: where face boxes come from: "manifest", "sidecar", "s3fd", "haar", or "auto": the first of the manifest,
            a sidecar and a detector, which is S3FD, or the Haar cascade with builtin weights.
        audio: "clip" is the clip's own track, which a viewer hears; "driving" what the avatar was driven with.
        masked: whether Sync-C and Sync-D without the zero padding beyond the clip's ends are columns too.
        min_track: a face must be seen in more frames than this, at 25 fps; below 20 it is sound and pictures that must
            go on for LEAST_WINDOWS, 21 frames.
        min_face_px: a face must on average be wider or higher than this.
        device: "auto", "cpu", "cuda" ...

    Raises:
        ValueError: a value that none of these is.
    """

    weights: Literal["official", "builtin"] = "official"
    weights_file: str = ""
    mode: Literal["auto", "reference", "direct"] = "auto"
    faces: Literal["auto", "manifest", "sidecar", "s3fd", "haar"] = "auto"
    audio: Literal["clip", "driving"] = "clip"
    masked: bool = False
    min_track: int = 100
    min_face_px: int = 100
    device: str = "auto"

    def __post_init__(self) -> None:
        check_choice("weights", self.weights, ("official", "builtin"))
        check_choice("mode", self.mode, ("auto", "reference", "direct"))
        check_choice("faces", self.faces, tuple(_FACES))
        check_choice("audio", self.audio, ("clip", "driving"))
        if self.min_track < 0 or self.min_face_px < 0:
            raise ValueError(f"min_track {self.min_track} and min_face_px {self.min_face_px}: the rule is 0 or more.")
        if self.weights == "builtin" and self.weights_file:
            raise ValueError("builtin weights have no file; leave out weights_file.")

    # What the columns are -------------------------------------------------------------------------------------------

    @property
    def _builtin(self) -> bool:
        return self.weights == "builtin"

    @property
    def _mode(self) -> str:
        return ("direct" if self._builtin else "reference") if self.mode == "auto" else self.mode

    @property
    def _tag(self) -> str:
        words = ["builtin"] if self._builtin else [Path(self.weights_file).name] if self.weights_file else []
        usual = "direct" if self._builtin else "reference"
        words += [self._mode] if self._mode != usual else []
        return f" ({', '.join(words)})" if words else ""

    @property
    def columns(self) -> Mapping[str, Column]:
        """Sync-C, Sync-D, the offset and whether it is at most one frame, marked with what makes them other numbers."""
        found = {
            "Sync-C": Column("higher"),
            "Sync-D": Column("lower", minimum=0.0),
            "Sync offset": Column("neither", unit="frames"),
            "Sync in time": Column("higher", unit="share"),
        }
        if self.masked:
            found |= {"Sync-C masked": Column("higher"), "Sync-D masked": Column("lower", minimum=0.0)}
        return {name + self._tag: column for name, column in found.items()}

    # One clip -------------------------------------------------------------------------------------------------------

    def score(self, sample: Sample) -> Score:
        """Return the values of the longest face track, and in the details those of every track.

        Raises:
            UnscorableError: no_face, face_too_small, track_too_short, clip_too_short, no_face_boxes, bad_face_boxes,
                face_outside, no_driving_audio.
            NoAudioError: there is no sound.
            SilentAudioError: no sample exceeds SILENT_PEAK.
            MediaError: the clip cannot be decoded.
            WeightsError: official weights are absent or not the published ones.
        """
        turn = sample.dialogue.turns[sample.turn]
        with at_25_fps(sample.clip) as clip:
            source = available(clip, turn, self._sources)
            footage = self._footage(clip, turn)
            frames, windows = len(footage.pictures), window_count(len(footage.pictures), len(footage.audio))
            if windows < LEAST_WINDOWS or frames <= self.min_track:
                raise UnscorableError("clip_too_short", self._too_short(clip.path, frames, len(footage.audio)))
            boxes = boxes_of(
                footage, clip, turn, source, placing_of(clip, source), self._detector, self._detector_key(source)
            )
            tracks = self._kept_tracks(tracks_in(footage.shots, boxes), boxes, clip.path)
            scored = [one for track in tracks if (one := self._scored(footage, track)) is not None]
        if not scored:
            raise UnscorableError(
                "clip_too_short",
                f"{clip.path}: no face is seen and heard for {(LEAST_WINDOWS + 5) / FPS:.2f} s; the sound ends before.",
            )
        chosen = max(range(len(scored)), key=lambda k: (len(scored[k].track), scored[k].track.size_px, -k))
        height, width = footage.pictures[0].shape[:2]
        return Score(
            {name + self._tag: value for name, value in _values(scored[chosen]).items()},
            {
                "faces": source,
                "mode": self._mode,
                "chosen": chosen,
                "tracks": [_track_details(one, width, height) for one in scored],
                "frame_confidence": [round(value, 4) for value in scored[chosen].plain.frame_confidence],
            },
        )

    def _too_short(self, path: Path, frames: int, samples: int) -> str:
        least = LEAST_WINDOWS + 5
        return (
            f"{path} has {frames} frames at 25 fps and {samples / 16_000:.2f} s of sound; Sync needs more than "
            f"{max(self.min_track, least - 1)} frames (option min_track) and {least / FPS:.2f} s of sound."
        )

    def _footage(self, clip: Clip, turn: Turn) -> Footage:
        speech = self._speech(clip, turn)
        if self._mode == "reference":
            from lt_eval.metrics.sync_reference import reference_footage

            footage = reference_footage(clip, speech)
        else:
            audio = pcm16(clip.audio if speech is None else read_audio(speech))
            footage = Footage(clip.frames, np.arange(len(clip.frames)), shots_of(clip.frames), audio)
        if not len(footage.audio) or np.abs(footage.audio.astype(np.int32)).max() < SILENT_PEAK * 32768:
            raise SilentAudioError(
                clip.path if speech is None else speech,
                f"has sound that never exceeds {SILENT_PEAK:g} of full scale",
                "Give a clip that can be heard, or leave Sync out.",
            )
        if not isinstance(clip, MediaClip):
            return footage
        words = (self._mode, clip.sha256, clip.policy, clip.content, of_decoding(), feature_key(sources=self._code))
        # Sound decides by how many frames the pictures of the reference mode are late.
        return replace(footage, key=key_of(*words, footage.instants[:8].tolist()))

    def _speech(self, clip: Clip, turn: Turn) -> Path | None:
        if self.audio == "clip":
            return None
        if turn.speech is None:
            raise UnscorableError(
                "no_driving_audio", f"{clip.path}: the data set names no driving audio; use audio='clip'."
            )
        return turn.speech

    def _kept_tracks(
        self, tracks: Sequence[FaceTrack], boxes: Sequence[NDArray[np.float64]], path: Path
    ) -> list[FaceTrack]:
        if not tracks:
            raise UnscorableError("no_face", f"{path}: no face is seen in any of {len(boxes)} frames at 25 fps.")
        long = [track for track in tracks if track.seen > self.min_track]
        if not long:
            most = max(track.seen for track in tracks)
            raise UnscorableError(
                "track_too_short",
                f"{path}: no face is seen in one shot in more than {self.min_track} frames; the best one is in {most} "
                f"of {len(boxes)}. Option min_track lowers the bound, and makes other numbers.",
            )
        large = [track for track in long if track.size_px > self.min_face_px]
        if not large:
            raise UnscorableError(
                "face_too_small",
                f"{path}: no face is larger than {self.min_face_px} pixels; the largest has "
                f"{max(track.size_px for track in long):.0f}.",
            )
        return large

    def _scored(self, footage: Footage, track: FaceTrack) -> _Scored | None:
        """Return the result of one track, None where its sound is too short."""
        samples = footage.audio[track.first * SAMPLES_PER_FRAME : track.end * SAMPLES_PER_FRAME]
        count = window_count(len(track), len(samples))
        if count < LEAST_WINDOWS:
            return None
        pictures = footage.pictures
        crops: Iterator[Frames] = (
            crop_face(pictures[number], x, y, half) for number, (x, y, half) in enumerate(smoothed(track), track.first)
        )
        if self._mode == "reference":
            from lt_eval.metrics.sync_reference import round_trip

            crops = round_trip(crops)
        network = self._network
        lips = _lips(network, crops, count)
        audio = network.audio(mfcc(samples))[:count]
        return _Scored(track, sync_of(lips, audio), sync_of(lips, audio, masked=True) if self.masked else None)

    # Networks -------------------------------------------------------------------------------------------------------

    @property
    def _network(self) -> LipSyncNet:
        from lt_eval.metrics.nets.inference import resolve_device

        device = resolve_device(self.device)
        if self._builtin:
            from lt_eval.metrics.nets.slim_syncnet import builtin_syncnet

            return builtin_syncnet(device)
        path = self._file
        return _syncnet(path, path.stat().st_mtime_ns, device)

    @property
    def _file(self) -> Path:
        if not self.weights_file:
            return weight_files.require("syncnet")
        path = Path(self.weights_file).expanduser()
        if not path.is_file():
            raise WeightsError(f"weights_file {path} does not exist; leave the option out for the published weights.")
        return path

    @property
    def _sources(self) -> tuple[Source, ...]:
        if self._builtin and self.faces == "auto":
            return ("manifest", "sidecar", "haar")
        return _FACES[self.faces]

    def _detector(self) -> Detector:
        from lt_eval.metrics.nets.inference import resolve_device

        path = weight_files.require("s3fd")
        return _s3fd(path, path.stat().st_mtime_ns, resolve_device(self.device))

    def _detector_key(self, source: Source) -> str:
        return weight_files.digest_of(weight_files.require("s3fd")) if source == "s3fd" else ""

    @property
    def _code(self) -> tuple[str, ...]:
        return (
            *_SOURCES,
            *(["sync_reference.py", "sync_mp3.py"] if self._mode == "reference" else []),
            *(["nets/s3fd.py"] if "s3fd" in self._sources else []),
            "nets/slim_syncnet.py" if self._builtin else "nets/syncnet.py",
        )

    @property
    def fingerprint(self) -> str:
        """Of networks, their weights, code and options; raises WeightsError where weights are missing."""
        digests = [self._network_digest(), self._detector_key("s3fd") if "s3fd" in self._sources else ""]
        options = (self._mode, self.faces, self.audio, self.masked, self.min_track, self.min_face_px)
        return feature_key(digests, options, sources=self._code)

    def _network_digest(self) -> str:
        if self._builtin:
            from lt_eval.metrics.nets.slim_syncnet import WEIGHTS

            return weight_files.sha256_of(WEIGHTS)
        if self.weights_file:
            return weight_files.sha256_of(self._file)
        wanted = ["syncnet", *(["s3fd"] if "s3fd" in self._sources else [])]
        absent = [name for name in wanted if not weight_files.path_of(name).is_file()]
        if len(absent) > 1:
            raise weight_files.missing(*((name,) for name in absent))
        return weight_files.digest_of(self._file)

    @property
    def footnotes(self) -> Sequence[str]:
        """How Sync was computed."""
        names = ", ".join(self.columns)
        if self._builtin:
            network = "slim SyncNet trained on drawn faces, not comparable with published values"
        else:
            file = Path(self.weights_file).name if self.weights_file else weight_files.entry("syncnet").file
            network = f"SyncNet {file}"
        how = {
            "reference": "reference mode (codecs and steps of joonson/syncnet_python from our 25 fps file)",
            "direct": "direct mode (no codec between the decoded frames and the network)",
        }[self._mode]
        heard = "the clip's own audio" if self.audio == "clip" else "the driving audio"
        boxes = ", else ".join(_BOXES[source] for source in self._sources)
        notes = [
            f"{names}: {network}, {how}, {heard}, frames at 25 a second whatever the run's rate; value of the longest "
            f"face track within a shot (seen in over {self.min_track} frames, larger than {self.min_face_px} pixels), "
            "of equally long ones of the larger face; offsets are negative where sound is late.",
            f"Face boxes of Sync: {boxes}.",
        ]
        if self.masked:
            notes.append("Sync masked: shifts compare only windows that exist, without zeros beyond the clip's ends.")
        return notes

    def findings(self, details: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        """Return where the face boxes of the scored clips came from, and how many clips had several face tracks."""
        used = Counter(str(one["faces"]) for one in details)
        notes = [
            f"Face boxes of Sync in this run: {', '.join(f'{_BOXES[s]}: {_clips(used[s])}' for s in sorted(used))}."
        ]
        if several := sum(len(one["tracks"]) > 1 for one in details):
            notes.append(f"Sync: {_clips(several)} with several face tracks, of which the longest counts.")
        return notes if used else []


def _clips(count: int) -> str:
    return f"{count} clip{'s' if count > 1 else ''}"


# Tracks ---------------------------------------------------------------------------------------------------------------


def _lips(network: LipSyncNet, crops: Iterator[Frames], windows: int) -> Tensor:
    """Embed the first windows of five crops, a bounded number of crops at a time."""
    import torch

    rows, held = [], list[Any]()
    for crop in itertools.islice(crops, windows + _LIP_FRAMES - 1):
        held.append(crop)
        if len(held) == _WINDOWS_AT_ONCE + _LIP_FRAMES - 1:
            rows.append(network.lips(np.stack(held)))
            held = held[_WINDOWS_AT_ONCE:]
    if len(held) >= _LIP_FRAMES:
        rows.append(network.lips(np.stack(held)))
    return torch.cat(rows)


def _values(scored: _Scored) -> dict[str, float]:
    plain, masked = scored.plain, scored.masked
    found = {
        "Sync-C": plain.confidence,
        "Sync-D": plain.distance,
        "Sync offset": float(plain.offset_frames),
        "Sync in time": float(abs(plain.offset_frames) <= 1),
    }
    if masked is not None:
        found |= {"Sync-C masked": masked.confidence, "Sync-D masked": masked.distance}
    return found


def _track_details(scored: _Scored, width: int, height: int) -> dict[str, Any]:
    box = scored.track.boxes.mean(axis=0) / [width, height, width, height]
    details: dict[str, Any] = {
        "frames": [scored.track.first, scored.track.end],
        "seen": scored.track.seen,
        "shot": scored.track.shot,
        "box": [round(float(edge), 4) for edge in box],
        "offset": scored.plain.offset_frames,
        "confidence": scored.plain.confidence,
        "distance": scored.plain.distance,
    }
    if scored.masked is not None:
        details |= {"confidence_masked": scored.masked.confidence, "distance_masked": scored.masked.distance}
    return details


# One network a process; the time of the file is part of the key, so that a replaced file is read anew.


@functools.cache
def _syncnet(path: Path, modified_ns: int, device: str) -> LipSyncNet:
    from lt_eval.metrics.nets.syncnet import load_syncnet

    return load_syncnet(path, device)


@functools.cache
def _s3fd(path: Path, modified_ns: int, device: str) -> Detector:
    from lt_eval.metrics.nets.s3fd import load_s3fd

    return load_s3fd(path, device)
