"""No transcriber: the words are those that the scenario and the system under test state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lt_eval.errors import UnscorableError

if TYPE_CHECKING:
    from lt_eval.records import Audio


@dataclass(frozen=True)
class Given:
    """Hears nothing. `hear` knows it and takes the stated words."""

    @property
    def fingerprint(self) -> str:
        """Constant: what is stated does not depend on a model."""
        return "given"

    def transcribe(self, audio: Audio) -> str:
        """Refuse.

        Raises:
            UnscorableError: always.
        """
        raise UnscorableError("not_transcribed", "transcripts are given, and none was given for this sound")
