"""What a bundle says of itself, read without torch and only as far as the file's header goes."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

TEACHER = "teacher"
"""Stage of a bundle that holds a teacher; every other is a student's."""


def stage_of(path: Path | None) -> str:
    """Return the stage of a distillation that a bundle is of; empty where a file says nothing of the kind."""
    if path is None or path.suffix != ".safetensors" or not path.is_file():
        return ""
    try:
        with safe_open(path, framework="numpy") as file:
            card = json.loads((file.metadata() or {}).get("card", "{}"))
    except (SafetensorError, OSError, ValueError):
        return ""
    return str(card.get("stage", "")) if isinstance(card, dict) else ""
