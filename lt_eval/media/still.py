"""A picture that is not a clip: a portrait."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lt_eval.errors import MissingClipError, NotAVideoError

if TYPE_CHECKING:
    from lt_eval.records import Frames


def read_image(path: Path) -> Frames:
    """Return a picture as uint8 RGB [H, W, 3].

    Raises:
        MissingClipError: there is no readable file.
        NotAVideoError: it is no picture.
    """
    import cv2

    try:
        data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except OSError as cause:
        raise MissingClipError(path, f"cannot be read ({cause.strerror})", "Check the path.") from cause
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise NotAVideoError(path, "is not a picture that can be decoded", "Use PNG or JPEG.")
    return np.ascontiguousarray(image[:, :, ::-1]).astype(np.uint8, copy=False)
