"""Fixtures shared by all tests."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

with contextlib.suppress(ImportError):  # the full environment has none, nor tests that need it
    from hypothesis import settings

    settings.register_profile("ci", derandomize=True)
    if os.environ.get("CI") == "true":  # new examples are looked for where somebody can act on them
        settings.load_profile("ci")

MEDIA = Path(__file__).resolve().parents[2] / "shared" / "media"


@pytest.fixture
def real_media() -> Path:
    """The folder of real clips beside the checkout; a user's clone has none, and the test is skipped."""
    if not MEDIA.is_dir():
        pytest.skip(f"real clips are not here: {MEDIA}")
    return MEDIA
