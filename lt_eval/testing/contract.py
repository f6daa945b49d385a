"""How a broken clause is reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class ConformanceError(AssertionError):
    """A plugin breaks a clause of its contract."""


@dataclass(frozen=True)
class Contract:
    """Whose contract it is; turns what does not hold into a ConformanceError."""

    subject: str

    def require(self, holds: bool, clause: str, seen: object) -> None:
        """Raise unless the clause holds."""
        if not holds:
            raise ConformanceError(f"{self.subject} breaks its contract: {clause}. Seen: {seen}.")

    def call(
        self, clause: str, function: Callable[..., Any], *args: Any, allowed: tuple[type[Exception], ...] = ()
    ) -> Any:
        """Return the result, or the exception if it is one that the contract allows."""
        try:
            return function(*args)
        except allowed as error:
            return error
        except Exception as error:
            raise ConformanceError(
                f"{self.subject} breaks its contract: {clause}. Seen: {type(error).__name__}: {error}."
            ) from error


def name_of(factory: Callable[[], object]) -> str:
    """Return what to call a factory in a message."""
    return str(getattr(getattr(factory, "func", factory), "__name__", factory))
