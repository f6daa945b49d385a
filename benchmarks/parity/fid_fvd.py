"""Are our feature networks the published ones? Features against those of the public code, same weights, same frames.

    python benchmarks/parity/fid_fvd.py                                   # installs the public packages beside, once
    python benchmarks/parity/fid_fvd.py --pytorch-fid CLONE --clean-fid CLONE --i3d CLONE/pytorch_i3d.py

Compared are preprocessing and network together, uint8 frames in, features out: pytorch-fid, clean-fid's resize, and the
public I3D ports. The packages go to a folder outside the repository (pip install --target --no-deps), never into this
environment: torchvision's wheel is built for one version of torch, and pytorch-fid needs only the skeleton of its
Inception, which is plain Python.

Last line: JSON. Exit status 1 where a difference is above its limit.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lt_eval.metrics import preprocess
from lt_eval.metrics.nets.i3d import InceptionI3d, load_i3d
from lt_eval.metrics.nets.inception import InceptionV3, load_inception
from lt_eval.metrics.nets.inference import exact_inference, seeded_state

if TYPE_CHECKING:
    from lt_eval.records import Frames

PACKAGES = ("torchvision==0.28.0", "pytorch-fid==0.3.0", "clean-fid==0.1.35", "cd-fvd==0.1.1")
"""torchvision 0.28 goes with torch 2.13."""


@dataclass(frozen=True)
class Comparison:
    """Largest difference of one pair of implementations, and how large the values themselves are."""

    name: str
    max_abs_difference: float
    limit: float
    values_mean_abs: float
    shape: tuple[int, ...]

    @property
    def holds(self) -> bool:
        """Whether the difference is within its limit and the values are not degenerate."""
        return self.max_abs_difference <= self.limit and self.values_mean_abs > 1e-2


def compare(name: str, ours: Tensor, theirs: Tensor, limit: float) -> Comparison:
    """Return the comparison of two tensors of equal shape."""
    if ours.shape != theirs.shape:
        raise SystemExit(f"{name}: shapes differ, {tuple(ours.shape)} here and {tuple(theirs.shape)} there")
    difference = float((ours - theirs).abs().max())
    return Comparison(name, difference, limit, float(theirs.abs().mean()), tuple(ours.shape))


def install(folder: Path) -> Path:
    """Put the public packages into a folder, once."""
    marker = folder / "installed.txt"
    if not marker.is_file() or marker.read_text().split() != list(PACKAGES):
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(folder)]
        subprocess.run([*command, *PACKAGES], check=True, stdout=sys.stderr)
        marker.write_text("\n".join(PACKAGES))
    return folder


def import_file(path: Path, name: str) -> ModuleType:
    """Import one file without its package, whose other modules need more packages."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SystemExit(f"{path} is not there")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def torchvision_from(folder: Path) -> Iterator[None]:
    """Make torchvision importable from a folder. Its compiled operators, which no one calls here, need not load."""
    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def moving_frames(count: int, height: int, width: int, seed: int = 0) -> Frames:
    """Return uint8 frames with smooth shading, edges and grain that drift over time."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    frames = np.empty((count, height, width, 3), np.uint8)
    for index in range(count):
        shading = 110 + 60 * np.sin(x / 37 + index / 5) + 50 * np.cos(y / 23 - index / 7)
        box = 70.0 * ((abs(x - width / 2 - 3 * index) < width / 6) & (abs(y - height / 2) < height / 5))
        colour = np.stack([shading + box, 0.8 * shading - box, 255 - shading], axis=2)
        frames[index] = np.clip(colour + rng.normal(0, 8, colour.shape), 0, 255)
    return frames


def inception_comparisons(upstream: Any, frames: Frames, folder: Path) -> list[Comparison]:
    """Compare with pytorch-fid: ToTensor, its own resizing and network, seeded weights in place of the download."""
    state = seeded_state(InceptionV3())
    torch.save(state, folder / "inception.pth")
    upstream.load_state_dict_from_url = lambda *_, **__: state
    theirs = upstream.InceptionV3([3]).eval()
    ours = load_inception(folder / "inception.pth")
    scaled = torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous().div(255)
    with exact_inference():
        published = theirs(scaled)[0].flatten(1)
        return [compare("pytorch-fid features", ours(preprocess.pytorch_fid(frames)), published, 1e-5)]


def clean_comparisons(upstream: ModuleType, frames: Frames) -> list[Comparison]:
    """Compare with clean-fid's resizing, on 0..255."""
    resize: Callable[[NDArray[np.uint8]], NDArray[np.float32]] = upstream.make_resizer(
        "PIL", False, "bicubic", (299, 299)
    )
    theirs = torch.from_numpy(np.stack([resize(frame) for frame in frames])).permute(0, 3, 1, 2)
    return [compare("clean-fid resize, levels 0..255", preprocess.clean_resize(frames), theirs, 1e-4)]


def i3d_comparisons(name: str, upstream: ModuleType, windows: list[Frames], folder: Path) -> list[Comparison]:
    """Compare with a public I3D port, frames prepared as VideoGPT prepares square ones."""
    state = seeded_state(InceptionI3d())
    torch.save(state, folder / "i3d.pt")
    theirs: Any = upstream.InceptionI3d(400, in_channels=3).eval()
    theirs.load_state_dict(state)
    ours = load_i3d(folder / "i3d.pt", eps=theirs.Conv3d_1a_7x7.bn.eps)
    prepared = []
    for window in windows:
        x = torch.from_numpy(window).permute(0, 3, 1, 2).float() / 255
        x = torch.nn.functional.interpolate(x, size=(224, 224), mode="bilinear", align_corners=False)
        prepared.append((x - 0.5).transpose(0, 1) * 2)
    with exact_inference():
        published = theirs(torch.stack(prepared))
        published = published.mean(dim=2) if published.ndim == 3 else published
        mine = ours(torch.stack([preprocess.i3d(window) for window in windows]))
    return [compare(f"{name} logits (eps {theirs.Conv3d_1a_7x7.bn.eps:g})", mine, published, 1e-5)]


def main() -> int:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = Path.home() / ".cache" / "lt-eval" / "parity"
    parser.add_argument("--packages", type=Path, default=cache, help=f"folder for {', '.join(PACKAGES)}")
    parser.add_argument("--pytorch-fid", type=Path, help="a clone to use instead of the package")
    parser.add_argument("--clean-fid", type=Path, help="a clone to use instead of the package")
    parser.add_argument("--i3d", type=Path, action="append", default=[], help="further pytorch_i3d.py files")
    options = parser.parse_args()
    packages = install(options.packages)
    fid = options.pytorch_fid / "src" if options.pytorch_fid else packages
    clean = options.clean_fid or packages
    ports = [packages / "cdfvd/third_party/i3d/pytorch_i3d.py", *options.i3d]

    frames = moving_frames(16, 512, 512)
    windows = [moving_frames(16, 256, 256, seed) for seed in (1, 2)]
    comparisons: list[Comparison] = []
    with tempfile.TemporaryDirectory() as scratch, torchvision_from(packages):
        folder = Path(scratch)
        pytorch_fid = import_file(fid / "pytorch_fid" / "inception.py", "pytorch_fid_inception")
        comparisons += inception_comparisons(pytorch_fid, frames[:4], folder)
        resize = import_file(clean / "cleanfid" / "resize.py", "cleanfid_resize")
        comparisons += clean_comparisons(resize, frames[:4])
        for path in ports:
            port = import_file(path, "pytorch_i3d")
            comparisons += i3d_comparisons(f"{path.parents[2].name}/{path.parent.name}", port, windows, folder)
    for found in comparisons:
        print(
            f"{'ok  ' if found.holds else 'FAIL'} {found.name:48} max abs difference {found.max_abs_difference:.2e} "
            f"(limit {found.limit:.0e}, mean |value| {found.values_mean_abs:.3f}, {found.shape})",
            file=sys.stderr,
        )
    print(json.dumps([asdict(found) for found in comparisons]))
    return 0 if all(found.holds for found in comparisons) else 1


if __name__ == "__main__":
    sys.exit(main())
