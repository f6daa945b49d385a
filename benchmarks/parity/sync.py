"""Are our Sync-C and Sync-D the published ones? Every stage against the public code: same weights, same input.

    python benchmarks/parity/sync.py                            # installs the public packages beside, once
    python benchmarks/parity/sync.py --syncnet-python CLONE     # of joonson/syncnet_python, instead of the package

Compared are MFCC, embeddings of lips and audio, distances, offset and confidence given the same embeddings, the
detector's input and raw output, boxes given the same raw output (ties, crowds and infinite boxes included), faces found
in frames, and the score of a whole track. The weights are seeded: the published ones need not be at hand.

The packages go to a folder outside the repository (pip install --target --no-deps). Only the files that compute are
imported: not the pipeline, which needs more packages. Last line: JSON. Exit status 1 where a difference is above its
limit.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from peers import install
from scipy import signal
from scipy.io import wavfile
from torch import Tensor

from lt_eval.media.spectra import mfcc
from lt_eval.metrics.nets import s3fd
from lt_eval.metrics.nets.inference import seeded_state
from lt_eval.metrics.nets.syncnet import SyncNet, SyncNetLayers
from lt_eval.metrics.sync_distances import sync_of, window_count
from lt_eval.paths import cache_dir

PACKAGES = ("python_speech_features==0.6", "syncnet-python==0.2.3")
FPS, RATE_HZ, SHIFT = 25, 16_000, 15


@dataclass(frozen=True)
class Comparison:
    """Largest difference of one pair of implementations, its limit, and how large the values themselves are.

    `relative` says that difference and limit are fractions of the length of an embedding.
    """

    name: str
    difference: float
    limit: float
    values_mean_abs: float
    shape: tuple[int, ...]
    relative: bool = False

    @property
    def holds(self) -> bool:
        """Whether the difference is within its limit and the values are not degenerate."""
        return self.difference <= self.limit and self.values_mean_abs > 1e-3


@dataclass(frozen=True)
class Upstream:
    """The public functions and classes."""

    mfcc: Any
    network: Any
    instance: Any
    detector: Any
    detector_nets: Any
    boxes: Any


def compare(name: str, ours: Any, theirs: Any, limit: float) -> Comparison:
    """Return the comparison of two arrays; infinite where their shapes differ."""
    mine, published = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    same_shape = mine.shape == published.shape
    difference = float(np.abs(mine - published).max(initial=0)) if same_shape else float("inf")
    return Comparison(name, difference, limit, float(np.abs(published).mean()), published.shape)


def compare_embeddings(name: str, ours: Tensor, theirs: Tensor, limit: float) -> Comparison:
    """Return the largest distance of two embeddings of the same window, as a fraction of their length."""
    distances = (ours - theirs).norm(dim=1) / theirs.norm(dim=1)
    return Comparison(name, float(distances.max()), limit, float(theirs.abs().mean()), tuple(theirs.shape), True)


def default_packages() -> Path:
    """Return the folder of the public packages."""
    return cache_dir() / "parity-sync"


def import_file(path: Path, name: str, *, package: bool = False) -> ModuleType:
    """Import one file, or one folder as a package, without what lies above it."""
    file = path / "__init__.py" if package else path
    search = [str(path)] if package else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=search)
    if spec is None or spec.loader is None or not file.is_file():
        raise SystemExit(f"{file} is not there")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def importable(folder: Path, **stubs: ModuleType) -> Iterator[None]:
    """Make a folder importable, and names that upstream imports and does not call."""
    added = {name: module for name, module in stubs.items() if name not in sys.modules}
    sys.modules.update(added)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in added:
            del sys.modules[name]


def load_upstream(packages: Path, clone: Path | None = None) -> Upstream:
    """Import the files of syncnet-python, or of a clone of joonson/syncnet_python."""
    root = clone or packages / "syncnet_python"
    name = "public_clone" if clone else "public_package"
    torchvision = ModuleType("torchvision")
    torchvision.transforms = None  # type: ignore[attr-defined]
    model = import_file(root / "SyncNetModel.py", f"{name}_model")
    with importable(packages, torchvision=torchvision, SyncNetModel=model):
        features = importlib.import_module("python_speech_features")
        instance = import_file(root / "SyncNetInstance.py", f"{name}_instance")
        detector = import_file(root / "detectors" / "s3fd", f"{name}_s3fd", package=True)
        nets, boxes = (importlib.import_module(f"{name}_s3fd.{part}") for part in ("nets", "box_utils"))
    if clone and not hasattr(np, "int"):
        boxes.np = SimpleNamespace(**{**vars(np), "int": int})  # type: ignore[attr-defined]  # removed in numpy 1.24
    return Upstream(features.mfcc, model.S, instance, detector, nets, boxes)


@contextmanager
def as_published() -> Iterator[None]:
    """Run public code: without its warnings, without gradients."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield


def pictures(count: int, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return uint8 [count, height, width, 3]: coarse colour that changes over time, and grain."""
    rng = np.random.default_rng(seed)
    frames = np.empty((count, height, width, 3), np.uint8)
    start, drift = rng.normal(128, 70, (2, 9, 9, 3))
    for index in range(count):
        coarse = start * np.cos(index / 6) + drift * np.sin(index / 6)
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        frames[index] = np.clip(smooth + rng.normal(0, 9, smooth.shape), 0, 255)
    return frames


def speech(samples: int, seed: int = 0) -> NDArray[np.int16]:
    """Return int16 [samples]: harmonics of a wandering pitch, noise and a pause of digital silence."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / RATE_HZ
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 1.7 * t)) / RATE_HZ
    voice = sum(np.sin(k * phase) / k for k in range(1, 12)) * (1 + np.sin(2 * np.pi * 3.1 * t))
    sound = 4000 * voice + rng.normal(0, 300, samples)
    sound[samples // 3 : samples // 3 + samples // 10] = 0
    return np.clip(sound, -32768, 32767).astype(np.int16)


def syncnet_state(seed: int = 0) -> dict[str, Tensor]:
    """Return seeded weights of SyncNet whose embeddings are of size one for levels 0..255 and for MFCC."""
    state = seeded_state(SyncNetLayers(), seed)
    state["netcnnlip.0.weight"] /= 128
    state["netcnnaud.0.weight"] /= 16
    return state


def s3fd_state(seed: int = 0) -> dict[str, Tensor]:
    """Return seeded weights of S3FD that find a few boxes of sensible sizes in every frame."""
    state = seeded_state(s3fd.S3FDLayers(), seed)
    state["vgg.0.weight"] /= 64
    for key, value in state.items():
        if key.endswith("weight") and key.startswith(("conf", "loc")):
            value *= 8.0 if key.startswith("conf") else 0.5
    return state


def against_mfcc(upstream: Upstream) -> list[Comparison]:
    """Compare MFCC of lengths about the borders of a window, and of five seconds."""
    lengths = (1, 399, 400, 401, 560, 561, 5 * RATE_HZ - 1, 5 * RATE_HZ, 5 * RATE_HZ + 81)
    sounds = [speech(5 * RATE_HZ + 81)[-length:] for length in lengths]
    with as_published():
        theirs = [upstream.mfcc(sound, RATE_HZ) for sound in sounds]
    ours = [mfcc(sound) for sound in sounds]
    if [len(rows) for rows in ours] != [len(rows) for rows in theirs]:
        return [Comparison("MFCC", float("inf"), 1e-5, 1.0, (0,))]
    return [compare("MFCC", np.concatenate(ours), np.concatenate(theirs), 1e-5)]


def against_embeddings(upstream: Upstream, frames: int = 30) -> list[Comparison]:
    """Compare the two towers, batches and windows as upstream makes them."""
    state = syncnet_state()
    network = upstream.network().eval()
    network.load_state_dict(state)
    layers = SyncNetLayers()
    layers.load_state_dict(state)
    ours = SyncNet(layers)
    crops, sound = pictures(frames, 224, 224), speech(frames * 640)
    count = window_count(frames, len(sound))
    with as_published():
        bgr = torch.from_numpy(np.ascontiguousarray(crops[..., ::-1]).transpose(3, 0, 1, 2)[None].astype(float)).float()
        rows = torch.from_numpy(upstream.mfcc(sound, RATE_HZ).T[None, None].astype(float)).float()
        lips, audio = [], []
        for first in range(0, count, 20):
            batch = range(first, min(count, first + 20))
            lips.append(network.forward_lip(torch.cat([bgr[:, :, i : i + 5] for i in batch])))
            audio.append(network.forward_aud(torch.cat([rows[..., 4 * i : 4 * i + 20] for i in batch])))
    pairs = (
        ("lips", ours.lips(crops)[:count], torch.cat(lips)),
        ("audio", ours.audio(mfcc(sound))[:count], torch.cat(audio)),
    )
    found = [compare_embeddings(f"embeddings of {name}, relative", mine, theirs, 1e-5) for name, mine, theirs in pairs]
    return found + [compare(f"embeddings of {name}", mine, theirs, 1e-4) for name, mine, theirs in pairs]


def against_distances(upstream: Upstream) -> list[Comparison]:
    """Compare everything that follows from the same embeddings, for short and long tracks and planted shifts."""
    found = []
    for count, shift in ((1, 0), (8, 2), (46, -15), (121, 3), (300, -7)):
        generator = torch.Generator().manual_seed(count)
        lips = torch.randn(count, 1024, generator=generator)
        audio = lips.roll(shift, dims=0) + 0.7 * torch.randn(count, 1024, generator=generator)
        with as_published():
            rows = upstream.instance.calc_pdist(lips, audio, vshift=SHIFT)
            means = torch.mean(torch.stack(rows, 1), 1)
            least, best = torch.min(means, 0)
            median = torch.median(means)
            frames = signal.medfilt(median.numpy() - np.stack([row[best].numpy() for row in rows]), kernel_size=9)
        theirs = [*means.tolist(), float(least), float(median - least), float(SHIFT - best), *frames.tolist()]
        mine = sync_of(lips, audio)
        ours = [*mine.mean_distances, mine.distance, mine.confidence, mine.offset_frames, *mine.frame_confidence]
        found.append(compare(f"distances, {count} windows, planted {shift}", ours, theirs, 0.0))
    return found


def against_evaluate(upstream: Upstream, scratch: Path, frames: int = 40) -> list[Comparison]:
    """Compare the score of a whole track with `SyncNetInstance.evaluate` (of the package: the clone's wants CUDA)."""
    state = syncnet_state()
    crops, sound = pictures(frames, 224, 224), speech(frames * 640 - 700)
    for index, crop in enumerate(crops):
        cv2.imwrite(str(scratch / f"{index:06d}.jpg"), crop)
    wavfile.write(scratch / "audio.wav", RATE_HZ, sound)
    network = upstream.network()
    network.load_state_dict(state)
    with as_published():
        options = SimpleNamespace(tmp_dir=str(scratch), batch_size=20, vshift=SHIFT)
        theirs = upstream.instance.SyncNetInstance(network, "cpu").evaluate(options)
    layers = SyncNetLayers()
    layers.load_state_dict(state)
    ours = SyncNet(layers)
    read = [cv2.imread(str(path)) for path in sorted(scratch.glob("*.jpg"))]
    count = window_count(frames, len(sound))
    lips = ours.lips(np.stack([np.ascontiguousarray(picture[..., ::-1]) for picture in read if picture is not None]))
    mine = sync_of(lips[:count], ours.audio(mfcc(sound))[:count])
    values = (mine.offset_frames, mine.confidence, mine.distance)
    return [compare("offset, Sync-C, Sync-D of a track", values, theirs, 1e-4)]


def _published_detector(upstream: Upstream, network: Any) -> Any:
    """Return upstream's S3FD about a network, without its constructor, which reads a file."""
    detector = upstream.detector.S3FD.__new__(upstream.detector.S3FD)
    detector.net, detector.device = network, "cpu"
    return detector


class _Recorder:
    """Stands where upstream turns raw output into boxes, and keeps what comes there."""

    def forward(self, offsets: Tensor, scores: Tensor, boxes: Tensor) -> Tensor:
        self.seen = offsets, scores, boxes
        return torch.zeros(1, 2, 750, 5)


def _detectors(upstream: Upstream) -> tuple[Any, s3fd.S3FD]:
    state = s3fd_state()
    network = upstream.detector_nets.S3FDNet(device="cpu").eval()
    network.load_state_dict(state)
    layers = s3fd.S3FDLayers()
    layers.load_state_dict(state)
    return _published_detector(upstream, network), s3fd.S3FD(layers)


def against_raw(upstream: Upstream, sizes: tuple[tuple[int, int], ...] = ((512, 512), (270, 354))) -> list[Comparison]:
    """Compare the detector's input, prior boxes, offsets and scores."""
    theirs, ours = _detectors(upstream)
    theirs.net.detect = _Recorder()
    found = []
    for height, width in sizes:
        frames = pictures(2, height, width)
        inputs: list[Tensor] = []
        hook = theirs.net.register_forward_pre_hook(lambda _, given, inputs=inputs: inputs.append(given[0].clone()))
        raw = []
        with as_published():
            for frame in frames:
                theirs.detect_faces(frame, conf_th=0.9, scales=[0.25])
                raw.append(theirs.net.detect.seen)
        hook.remove()
        offsets, scores = (torch.cat([each[part] for each in raw]) for part in (0, 1))
        x = s3fd.prepare(frames, 0.25, ours.device)
        with torch.inference_mode():
            mine, logits, maps = ours.raw(x)
        name = f"S3FD {width}x{height}"
        boxes = s3fd.priors(x.shape[2], x.shape[3], maps)
        found += [compare(f"{name} input", x, torch.cat(inputs), 0.0), compare(f"{name} priors", boxes, raw[0][2], 0.0)]
        found.append(compare(f"{name} offsets", mine, offsets, 2e-5))
        found.append(compare(f"{name} scores", logits.softmax(dim=-1), scores, 1e-5))
    return found


def raw_cases(priors: int, seeds: int = 3) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
    """Yield raw outputs that ask something of the suppression: name, offsets [P, 4], face scores [P].

    Upstream crashes at 750 faces a frame: with many priors, boxes are made wide enough to leave fewer.
    """
    wide = np.array([0, 0, 1, 1], np.float32) * (8 if priors > s3fd.MOST_CANDIDATES else 0)
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        offsets = rng.normal(0, 1.5, (priors, 4)).astype(np.float32)
        yield f"sparse {seed}", offsets, rng.beta(0.2, 1, priors).astype(np.float32)
        yield f"crowded {seed}", 2 * offsets + wide, rng.uniform(0.85, 1, priors).astype(np.float32)
        ties = (np.round(rng.uniform(0.8, 1, priors) * 64) / 64).astype(np.float32)
        yield f"ties {seed}", 2 * offsets + wide, ties
        yield f"few ties {seed}", offsets, np.where(rng.random(priors) < 0.01, ties, 0).astype(np.float32)
        infinite = np.where(rng.random((priors, 4)) < 0.01, 5000, offsets).astype(np.float32)
        yield f"infinite {seed}", infinite, rng.beta(0.2, 1, priors).astype(np.float32)
    yield "none", offsets, np.zeros(priors, np.float32)
    yield "one", offsets, np.eye(1, priors, 7, dtype=np.float32)[0]


def against_boxes(upstream: Upstream, height: int = 360, width: int = 512, seeds: int = 3) -> list[Comparison]:
    """Compare faces given the same raw output: decoding, both suppressions, order."""
    maps = tuple((-(-height // (16 << k)), -(-width // (16 << k))) for k in range(6))
    boxes = s3fd.priors(height // 4, width // 4, maps)
    blank = np.zeros((height, width, 3), np.uint8)
    found = []
    for name, offsets, scores in raw_cases(len(boxes), seeds):
        both = torch.from_numpy(np.stack([1 - scores, scores], axis=1)[None])
        with as_published():
            output = upstream.boxes.Detect().forward(torch.from_numpy(offsets)[None], both, boxes)
            network = torch.nn.Module()
            network.forward = lambda _, output=output: output
            theirs = _published_detector(upstream, network).detect_faces(blank, conf_th=0.9, scales=[0.25])
        decoded = s3fd.decode(torch.from_numpy(offsets), boxes).numpy()
        ours = s3fd.faces_of(scores, decoded, width, height, 0.9)
        # one more value, so that there is something to compare where no face is; infinite edges are equal
        mine, published = (np.append(np.nan_to_num(faces, posinf=1e30, neginf=-1e30), 1.0) for faces in (ours, theirs))
        found.append(compare(f"boxes of {len(boxes)}, {name}: {len(theirs)} faces", mine, published, 0.0))
    return found


def against_faces(upstream: Upstream, shape: tuple[int, int, int] = (4, 512, 512)) -> list[Comparison]:
    """Compare faces found in frames, in pixels and scores; `shape` is their number, height and width."""
    theirs, ours = _detectors(upstream)
    frames = pictures(*shape)
    with as_published():
        published = [theirs.detect_faces(frame, conf_th=0.9, scales=[0.25]) for frame in frames]
    mine = ours.detect(frames)
    return [
        compare(f"faces of frame {i}: {len(pair[1])}", *pair, 5e-3)
        for i, pair in enumerate(zip(mine, published, strict=True))
    ]


def compare_all(upstream: Upstream, *, whole_track: bool) -> list[Comparison]:
    """Run every comparison."""
    found = against_mfcc(upstream) + against_embeddings(upstream) + against_distances(upstream)
    if whole_track:
        with tempfile.TemporaryDirectory() as folder:
            found += against_evaluate(upstream, Path(folder))
    found += against_raw(upstream) + against_boxes(upstream) + against_boxes(upstream, 1080, 1920, seeds=1)
    return found + against_faces(upstream)


def main() -> int:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, default=default_packages(), help=f"folder for {', '.join(PACKAGES)}")
    parser.add_argument("--syncnet-python", type=Path, help="a clone of joonson/syncnet_python")
    options = parser.parse_args()
    upstream = load_upstream(install(options.packages, PACKAGES, alone=True), options.syncnet_python)
    comparisons = compare_all(upstream, whole_track=options.syncnet_python is None)
    for found in comparisons:
        kind = "relative" if found.relative else "absolute"
        print(
            f"{'ok  ' if found.holds else 'FAIL'} {found.name:44} {kind} difference {found.difference:.2e} "
            f"(limit {found.limit:.0e}, mean |value| {found.values_mean_abs:.3f}, {found.shape})",
            file=sys.stderr,
        )
    print(json.dumps([asdict(found) for found in comparisons]))
    return 0 if all(found.holds for found in comparisons) else 1


if __name__ == "__main__":
    sys.exit(main())
