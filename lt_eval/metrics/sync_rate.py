"""Clips at the 25 frames a second that SyncNet needs, whatever the run's rate, and where stated boxes lie in them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from lt_eval.media.clip import MediaClip
from lt_eval.media.probe import probe
from lt_eval.media.resample import exact_rate, source_of_each
from lt_eval.metrics.face_boxes import Placing, Source

if TYPE_CHECKING:
    from lt_eval.interfaces import Clip
    from lt_eval.records import Audio, Frames

FPS = 25.0


class _Resampled:
    """A clip that lives in memory, at 25 frames a second by the rule of `media.resample`."""

    fps = FPS

    def __init__(self, clip: Clip) -> None:
        self.path, self._clip = clip.path, clip

    @functools.cached_property
    def frames(self) -> Frames:
        rate, count = exact_rate(self._clip.fps), len(self._clip.frames)
        return self._clip.frames[source_of_each([k / rate for k in range(count)], count / rate, exact_rate(FPS))]

    @property
    def audio(self) -> Audio:
        return self._clip.audio


@contextlib.contextmanager
def at_25_fps(clip: Clip) -> Iterator[Clip]:
    """Yield the clip where its rate is 25, else one of the same file at 25 for as long as it is needed."""
    if isinstance(clip, MediaClip):
        if clip.policy.fps == FPS:
            yield clip
            return
        with MediaClip(clip.path, replace(clip.policy, fps=FPS), clip.content) as view:
            yield view
    else:
        yield clip if clip.fps == FPS else _Resampled(clip)


def placing_of(clip: Clip, source: Source) -> Placing | None:
    """Return how the fractions of a file of boxes lie in a clip; None where they are those of the frames."""
    if source not in ("manifest", "sidecar") or not isinstance(clip, MediaClip):
        return None
    facts = probe(clip.path)
    return Placing(facts.width, facts.height, clip.policy, clip.content, 1 / facts.fps if facts.fps else 0.0)
