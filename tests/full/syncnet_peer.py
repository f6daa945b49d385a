"""syncnet-python, the package on PyPI, set up for tests: seeded weights, and a detector that is told what it sees."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "parity" / "sync.py"

Detections = Sequence[Sequence[Sequence[float]]]
"""By frame: faces as [left, top, right, bottom] in pixels, the surest first."""


@functools.cache
def parity() -> ModuleType:
    """Return the script that compares stage by stage."""
    if str(SCRIPT.parent) not in sys.path:  # as when it is run, it imports what lies beside it
        sys.path.append(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("full_parity_sync", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def as_published() -> Iterator[None]:
    """Run the package without its warnings and its printing."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def write_weights(folder: Path) -> dict[str, str]:
    """Save seeded weights in the published layouts; return the package's options that name them."""
    script = parity()
    torch.save(script.syncnet_state(), folder / "syncnet_v2.model")
    torch.save(script.s3fd_state(), folder / "sfd_face.pth")
    return {"syncnet_weights": str(folder / "syncnet_v2.model"), "s3fd_weights": str(folder / "sfd_face.pth")}


def new_pipeline(options: dict[str, Any]) -> Any:
    """Return the package's pipeline as a user makes it."""
    with as_published():
        from syncnet_python import SyncNetPipeline

        return SyncNetPipeline(options, device="cpu")


class Told:
    """Stands for S3FD: the boxes of one frame after the other."""

    def __init__(self, detections: Detections) -> None:
        self._next = iter(detections)

    def detect_faces(self, image: Any, conf_th: float, scales: list[float]) -> np.ndarray[Any, Any]:
        """Return float [N, 5]; none when all has been told."""
        boxes = next(self._next, [])
        return np.array([[*box, 0.99] for box in boxes]).reshape(-1, 5)


class Counting:
    """Stands for SyncNet: notes how many pictures of each track it is given, and answers in turn."""

    def __init__(self, *answers: tuple[int, float, float]) -> None:
        self._answers = iter(answers)
        self.pictures: list[int] = []

    def evaluate(self, opt: Any) -> tuple[int, float, float]:
        """Return offset, Sync-C, Sync-D."""
        self.pictures.append(len(list(Path(opt.tmp_dir).glob("*.jpg"))))
        return next(self._answers, (0, 5.0, 8.0))


def infer(pipeline: Any, clip: Path, detections: Detections, network: Any = None) -> tuple[Any, ...]:
    """Run the package on a clip with boxes that are known; `network` stands for SyncNet where given."""
    told = SimpleNamespace(cfg=pipeline.cfg, s3fd=Told(detections), syncnet=network or pipeline.syncnet)
    for name in ("_track", "_iou", "_crop", "_extract_audio_from_video"):
        setattr(told, name, getattr(pipeline, name))
    with as_published(), quiet_commands():
        found = type(pipeline).inference(told, str(clip))
    assert isinstance(found, tuple)
    return found


@contextmanager
def quiet_commands() -> Iterator[None]:
    """Keep the banners of ffmpeg, which the package leaves on, out of the tests' output."""
    opened = subprocess.Popen.__init__

    def silent(self: Any, *given: Any, **options: Any) -> None:
        options["stderr"] = options.get("stderr") or subprocess.DEVNULL
        opened(self, *given, **options)

    subprocess.Popen.__init__ = silent  # type: ignore[method-assign]
    try:
        yield
    finally:
        subprocess.Popen.__init__ = opened  # type: ignore[method-assign]


def ffmpeg_version() -> str:
    """Return the version of the ffmpeg command, such as "5.1.9-0+deb12u1"; empty without one."""
    try:
        done = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True)
    except OSError:
        return ""
    return done.stdout.split()[2]


def evaluated(pipeline: Any, folder: Path, crops: Any, sound: Any) -> tuple[int, float, float]:
    """Score crops, uint8 RGB [T, 224, 224, 3], and sound, int16, with the package's SyncNet."""
    import cv2
    from scipy.io import wavfile

    for index, crop in enumerate(crops):
        cv2.imwrite(str(folder / f"{index:06d}.jpg"), crop[..., ::-1])
    wavfile.write(folder / "audio.wav", 16_000, sound)
    evaluate: Callable[[Any], tuple[int, float, float]] = pipeline.syncnet.evaluate
    with as_published():
        return evaluate(SimpleNamespace(tmp_dir=str(folder), batch_size=20, vshift=15))
