"""How a canonical clip travels in a request: whole, by file address, or by an id that the server has seen before."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lt_eval.judge.canonical import CanonicalClip
    from lt_eval.judge.options import JudgeOptions


def media_part(clip: CanonicalClip, options: JudgeOptions, *, known: bool = False) -> dict[str, Any]:
    """Return the content part of one video.

    Args:
        clip: what to send.
        options: `media` and `reuse_media` are used.
        known: the server keeps this clip already, send its id only.
    """
    if known:
        return {"type": "video_url", "video_url": None, "uuid": clip.sha256}
    if options.media == "file":
        url = clip.path.resolve().as_uri()
    else:
        url = "data:video/mp4;base64," + base64.b64encode(clip.path.read_bytes()).decode()
    part: dict[str, Any] = {"type": "video_url", "video_url": {"url": url}}
    return part | {"uuid": clip.sha256} if options.reuse_media else part


def described(clips: Sequence[CanonicalClip]) -> list[dict[str, Any]]:
    """Return parts that name clips by content instead of holding them: what keys and kept requests are made of."""
    return [{"type": "video_url", "sha256": clip.sha256} for clip in clips]
