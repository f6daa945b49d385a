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
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from peers import Comparison, compare, install, report

from lt_eval.metrics import preprocess
from lt_eval.metrics.nets.i3d import InceptionI3d, load_i3d
from lt_eval.metrics.nets.inception import InceptionV3, load_inception
from lt_eval.metrics.nets.inference import exact_inference, seeded_state
from lt_eval.paths import cache_dir

if TYPE_CHECKING:
    from lt_eval.records import Frames

PACKAGES = ("torchvision==0.28.0", "pytorch-fid==0.3.0", "clean-fid==0.1.35", "cd-fvd==0.1.1")
"""torchvision 0.28 goes with torch 2.13."""


_OPERATORS: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
"""Kept for as long as torchvision may be imported: a library that is collected takes its operators along."""


def import_file(path: Path) -> ModuleType:
    """Import one file without its package, whose other modules need more packages."""
    spec = importlib.util.spec_from_file_location(f"public_{path.parent.name}_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SystemExit(f"{path} is not there")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def torchvision_from(folder: Path) -> Iterator[None]:
    """Make torchvision importable from a folder. Its compiled operators, which no one calls here, need not load."""
    if not hasattr(torch.ops.torchvision, "nms"):
        for operator in ("nms", "qnms"):
            _OPERATORS.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
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


def against_pytorch_fid(frames: Frames, scratch: Path, packages: Path, clone: Path | None = None) -> list[Comparison]:
    """Compare with pytorch-fid: ToTensor, its own resizing and network, seeded weights in place of the download."""
    state = seeded_state(InceptionV3())
    torch.save(state, scratch / "inception.pth")
    ours = load_inception(scratch / "inception.pth")
    scaled = torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous().div(255)
    with torchvision_from(packages), exact_inference():
        upstream: Any = import_file((clone / "src" if clone else packages) / "pytorch_fid" / "inception.py")
        upstream.load_state_dict_from_url = lambda *_, **__: state
        published = upstream.InceptionV3([3]).eval()(scaled)[0].flatten(1)
        return [compare("pytorch-fid features", ours(preprocess.pytorch_fid(frames)), published, 1e-5)]


def against_clean_fid(frames: Frames, packages: Path, clone: Path | None = None) -> list[Comparison]:
    """Compare with clean-fid's resizing, on 0..255."""
    upstream = import_file((clone or packages) / "cleanfid" / "resize.py")
    resize: Callable[[Frames], NDArray[np.float32]] = upstream.make_resizer("PIL", False, "bicubic", (299, 299))
    theirs = torch.from_numpy(np.stack([resize(frame) for frame in frames])).permute(0, 3, 1, 2)
    return [compare("clean-fid resize, levels 0..255", preprocess.clean_resize(frames), theirs, 1e-4)]


def packaged_port(packages: Path) -> Path:
    """Return the I3D port that cd-fvd holds, which is VideoGPT's."""
    return packages / "cdfvd" / "third_party" / "i3d" / "pytorch_i3d.py"


def against_i3d_port(file: Path, windows: list[Frames], scratch: Path) -> list[Comparison]:
    """Compare with a public I3D port, frames prepared as VideoGPT prepares square ones."""
    state = seeded_state(InceptionI3d())
    torch.save(state, scratch / "i3d.pt")
    theirs: Any = import_file(file).InceptionI3d(400, in_channels=3).eval()
    theirs.load_state_dict(state)
    eps = theirs.Conv3d_1a_7x7.bn.eps
    ours = load_i3d(scratch / "i3d.pt", eps=eps)
    prepared = []
    for window in windows:
        x = torch.from_numpy(window).permute(0, 3, 1, 2).float() / 255
        x = torch.nn.functional.interpolate(x, size=(224, 224), mode="bilinear", align_corners=False)
        prepared.append((x - 0.5).transpose(0, 1) * 2)
    with exact_inference():
        published = theirs(torch.stack(prepared))
        published = published.mean(dim=2) if published.ndim == 3 else published  # piergiaj's keeps time
        mine = ours(torch.stack([preprocess.i3d(window) for window in windows]))
    return [compare(f"I3D port {file.parent.name}/{file.name}, eps {eps:g}", mine, published, 1e-5)]


def default_packages() -> Path:
    """Return the folder of the public packages."""
    return cache_dir() / "parity"


def main() -> int:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, default=default_packages(), help=f"folder for {', '.join(PACKAGES)}")
    parser.add_argument("--pytorch-fid", type=Path, help="a clone to use instead of the package")
    parser.add_argument("--clean-fid", type=Path, help="a clone to use instead of the package")
    parser.add_argument("--i3d", type=Path, action="append", default=[], help="further pytorch_i3d.py files")
    options = parser.parse_args()
    packages = install(options.packages, PACKAGES, alone=True)
    frames = moving_frames(4, 512, 512)
    windows = [moving_frames(16, 256, 256, seed) for seed in (1, 2)]
    with tempfile.TemporaryDirectory() as folder:
        comparisons = against_pytorch_fid(frames, Path(folder), packages, options.pytorch_fid)
        comparisons += against_clean_fid(frames, packages, options.clean_fid)
        for file in (packaged_port(packages), *options.i3d):
            comparisons += against_i3d_port(file, windows, Path(folder))
    return report(comparisons)


if __name__ == "__main__":
    sys.exit(main())
