"""Every error a user can meet, as one tree.

    LtEvalError
    ├── UsageError                  unusable input: the command stops with exit code 2
    │   ├── SpecError               a run specification or an option is wrong
    │   ├── UnknownNameError        no metric, dataset, generator ... of that name
    │   ├── MissingExtraError       an optional dependency is not installed
    │   ├── DatasetError            a data set is absent, incomplete or changed
    │   ├── ConditionError          a portrait, audio or prompt that no generator can be driven with
    │   ├── WeightsError            a weight file is absent, damaged or not the published one
    │   ├── UnjudgedError           a judge failed where a score is needed
    │   └── StoreError              a run folder cannot be used
    │       ├── RunBusyError        another process is writing to it
    │       └── StorageFullError    the disk is full
    └── SampleError                 one clip cannot be scored: a row with a reason, the run goes on
        ├── MediaError              the file cannot be decoded as asked
        │   ├── MissingClipError    there is no such file
        │   ├── NotAVideoError      not a media file at all
        │   ├── NoVideoError        no video stream, or one without a single frame
        │   ├── DamagedError        the stream breaks off or does not decode
        │   ├── NoAudioError        no audio stream, or one without a single sample
        │   └── SilentAudioError    every sample is zero or below hearing
        └── UnscorableError         a metric has no value for this clip (no face, too short ...)

Messages say what was given, what the rule is and what to do next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pathlib import Path


class LtEvalError(Exception):
    """Base of every error that is a user's to mend. The message is complete: no traceback is needed."""


class UsageError(LtEvalError):
    """The input cannot be used at all; the command exits with code 2."""


class SpecError(UsageError):
    """A run specification or an option holds something it must not."""


class UnknownNameError(UsageError):
    """A name that no registry entry, file or import path answers to."""


class MissingExtraError(UsageError):
    """An optional dependency is needed and not installed."""

    def __init__(self, what: str, extra: str, cause: str = "") -> None:
        detail = f" ({cause})" if cause else ""
        super().__init__(f"{what} needs an optional package{detail}. Install it with: pip install 'lt-eval[{extra}]'")


class DatasetError(UsageError):
    """A data set is absent, incomplete, or not what its manifest says."""


class ConditionError(UsageError):
    """A portrait, audio or prompt that a generator cannot be driven with."""


class WeightsError(UsageError):
    """A weight file is absent, damaged, or not the published one."""


class MissingWeightsError(WeightsError):
    """Weight files are not on this machine.

    Attributes:
        wanted: each as `lt-eval weights fetch` takes it, then what serves as well.
    """

    def __init__(self, wanted: tuple[tuple[str, ...], ...], message: str) -> None:
        super().__init__(message)
        self.wanted = wanted

    def __reduce__(self) -> tuple[type[MissingWeightsError], tuple[tuple[tuple[str, ...], ...], str]]:
        return type(self), (self.wanted, str(self))


class UnjudgedError(UsageError):
    """A judge gave no score where the table needs one, and leaving it out was not allowed."""


class StoreError(UsageError):
    """A run folder cannot be read, written or continued."""


class RunBusyError(StoreError):
    """Another process holds the run folder."""


class StorageFullError(StoreError):
    """The disk has no room for what must be written."""


class SampleError(LtEvalError):
    """One clip cannot be scored. It becomes a row whose reason is `reason`; the run goes on."""

    reason: ClassVar[str] = "unscorable"


class MediaError(SampleError):
    """A file cannot be decoded as asked.

    Args:
        path: the file.
        finding: what was found there, as a clause ("holds no video stream").
        remedy: what the user can do, as a sentence.
    """

    reason: ClassVar[str] = "media"

    def __init__(self, path: Path | str, finding: str, remedy: str) -> None:
        self.path, self.finding, self.remedy = str(path), finding, remedy
        super().__init__(f"{path}: {finding}. {remedy}")

    def __reduce__(self) -> tuple[type[MediaError], tuple[str, str, str]]:
        return type(self), (self.path, self.finding, self.remedy)


class MissingClipError(MediaError):
    """There is no readable file at that path."""

    reason: ClassVar[str] = "missing_clip"


class NotAVideoError(MediaError):
    """The file is not a media container."""

    reason: ClassVar[str] = "not_a_video"


class NoVideoError(MediaError):
    """The container holds no video stream, or one without a single frame."""

    reason: ClassVar[str] = "no_video"


class DamagedError(MediaError):
    """The stream breaks off or cannot be decoded."""

    reason: ClassVar[str] = "damaged"


class NoAudioError(MediaError):
    """The container holds no audio stream, or one without a single sample."""

    reason: ClassVar[str] = "no_audio"


class SilentAudioError(MediaError):
    """The audio stream holds nothing that can be heard."""

    reason: ClassVar[str] = "silent_audio"


class UnscorableError(SampleError):
    """A metric has no value for this clip.

    Args:
        reason: a short code for the row ("no_face", "clip_too_short").
        message: the whole story for the reader of the table.
    """

    def __init__(self, reason: str, message: str) -> None:
        self.code = reason
        super().__init__(message)

    def __reduce__(self) -> tuple[type[UnscorableError], tuple[str, str]]:
        return type(self), (self.code, str(self))


def reason_of(error: SampleError) -> str:
    """Return the code that a failure row carries for this error."""
    return error.code if isinstance(error, UnscorableError) else error.reason
