"""Is our iResNet-50 the published one? Unit vectors against the authors' code, same seeded weights, same pictures.

    git clone --depth 1 https://github.com/deepinsight/insightface CLONE
    python benchmarks/parity/arcface.py CLONE

`recognition/arcface_torch/backbones/iresnet.py` (MIT) is loaded from the clone, which is not part of `make parity`: no
package on PyPI holds it. Weights are made in its state-dict layout and read by our loader from a file, as a published
`backbone.pth` is. Last line: JSON. Exit status 1 where a difference is above its limit.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers import compare, report
from torch.nn import functional as F

from lt_eval.metrics.nets.inference import seeded_state
from lt_eval.metrics.nets.iresnet import load_arcface

FILE = "recognition/arcface_torch/backbones/iresnet.py"


def theirs(clone: Path) -> Any:
    """Return the authors' module."""
    path = clone / FILE
    if not path.is_file():
        raise SystemExit(f"{path} does not exist: give a clone of deepinsight/insightface.")
    spec = importlib.util.spec_from_file_location("their_iresnet", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> int:
    """Compare three seeded pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path, help="of deepinsight/insightface")
    network = theirs(parser.parse_args().clone).iresnet50().eval()
    network.load_state_dict(seeded_state(network, 3))
    faces = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "backbone.pth"
        torch.save(network.state_dict(), path)
        ours = torch.from_numpy(load_arcface(path, "cpu").embed(faces))
    with torch.inference_mode():
        pixels = torch.from_numpy(faces).permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.5)
        expected = F.normalize(network(pixels), dim=1)
    return report([compare("ArcFace iResNet-50", ours, expected, 1e-5)])


if __name__ == "__main__":
    sys.exit(main())
