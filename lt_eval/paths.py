"""Where lt-eval keeps what can be made or fetched again.

$LT_EVAL_CACHE          the folder, where set
$XDG_CACHE_HOME/lt-eval else, where set
~/.cache/lt-eval        else

weights/                official networks; $LT_EVAL_WEIGHTS names another folder
data/                   prepared data sets; $LT_EVAL_DATA names another folder
"""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the cache folder; it need not exist."""
    if own := os.environ.get("LT_EVAL_CACHE"):
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "lt-eval"


def weights_dir() -> Path:
    """Return the folder of weight files; it need not exist."""
    own = os.environ.get("LT_EVAL_WEIGHTS")
    return Path(own).expanduser() if own else cache_dir() / "weights"


def data_dir() -> Path:
    """Return the folder of prepared data sets; it need not exist."""
    own = os.environ.get("LT_EVAL_DATA")
    return Path(own).expanduser() if own else cache_dir() / "data"


def faces_sidecar(clip: Path) -> Path:
    """Return where the face boxes of one clip may lie beside it: `anna.mp4` has `anna.faces.json`."""
    return clip.with_name(f"{clip.stem}.faces.json")
