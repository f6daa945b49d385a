"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

MEDIA = Path(__file__).resolve().parents[2] / "shared" / "media"


@pytest.fixture
def real_media() -> Path:
    """The folder of real clips beside the checkout; a user's clone has none, and the test is skipped."""
    if not MEDIA.is_dir():
        pytest.skip(f"real clips are not here: {MEDIA}")
    return MEDIA
