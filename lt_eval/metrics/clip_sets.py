"""What every distance between two sets of clips needs: checked features, and results remembered for one set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import finalize, ref

import numpy as np

from lt_eval.errors import UnscorableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from lt_eval.records import Features

T = TypeVar("T")


def checked_clips(clips: Iterable[Features]) -> Iterator[Features]:
    """Yield every clip in order; raise UnscorableError for features that no distance can be taken of."""
    width: int | None = None
    for index, clip in enumerate(clips):
        if clip.ndim != 2 or (width is not None and clip.shape[1] != width):
            raise UnscorableError(
                "feature_shape",
                f"features of clip {index} have shape {clip.shape}, expected [N, {width or 'D'}]: "
                "all clips of both sides must come from one network. Clear the cached features and run again.",
            )
        width = clip.shape[1]
        if not np.isfinite(clip).all():
            raise UnscorableError(
                "features_not_finite",
                f"features of clip {index} hold NaN or infinity; a distance of them means nothing. "
                "Look at that clip and at the precision the network runs in.",
            )
        yield clip
    if width is None:
        raise UnscorableError("no_clips", "a distance between sets needs clips on both sides; one side has none.")


def check_widths(generated: int, reference: int) -> None:
    """Refuse to compare features of unlike width."""
    if generated != reference:
        raise UnscorableError(
            "feature_shape",
            f"generated features are {generated} wide and reference features {reference}: they come from different "
            "networks. Clear the cached features and run again.",
        )


class Memo(Generic[T]):
    """Results for one or two sets, kept for as long as the very objects live.

    Only sets that are hashable and weakly referable are remembered, such as a lazy reader of stored features: those do
    not change. Lists may, and are computed anew each time.
    """

    def __init__(self) -> None:
        self._results: dict[tuple[int, ...], T] = {}

    def get(self, make: Callable[[], T], *sets: Sequence[Features]) -> T:
        """Return what `make` returned for these sets, calling it the first time."""
        if not all(_is_lasting(clips) for clips in sets):
            return make()
        key = tuple(id(clips) for clips in sets)
        if key not in self._results:
            self._results[key] = make()
            for clips in sets:
                finalize(clips, self._results.pop, key, None).atexit = False
        return self._results[key]


def _is_lasting(clips: object) -> bool:
    try:
        hash(clips)
        ref(clips)
    except TypeError:
        return False
    return True
