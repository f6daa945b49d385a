"""What the full environment is built for."""

from __future__ import annotations

from importlib.metadata import distributions

from tests.full.packages import require

require("pyiqa", "syncnet_python", "scenedetect", "python_speech_features")


def test_one_opencv_only() -> None:
    names = {str(one.metadata["Name"]).lower() for one in distributions()}
    assert {name for name in names if "opencv" in name} == {"opencv-python-headless"}
