"""A portrait is read as RGB, or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lt_eval.errors import MissingClipError, NotAVideoError
from lt_eval.media.still import read_image


def test_colours_come_in_the_order_rgb(tmp_path: Path) -> None:
    import cv2

    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[..., 0] = 200
    cv2.imwrite(str(tmp_path / "red.png"), pixels[..., ::-1])
    assert (read_image(tmp_path / "red.png") == pixels).all()


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingClipError, match=r"none\.png"):
        read_image(tmp_path / "none.png")
    for content in (b"", b"text"):
        (tmp_path / "bad.png").write_bytes(content)
        with pytest.raises(NotAVideoError, match=r"bad\.png.*PNG or JPEG"):
            read_image(tmp_path / "bad.png")
