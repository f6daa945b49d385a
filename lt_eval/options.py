"""Values that a user sets, against the annotations of what takes them.

    min_track: int = 100         --set metric.sync.min_track=abc
    metric.sync.min_track = 'abc': it must be a whole number.

Checked are int, float, str, bool, Literal, None, unions and sequences of these, and tables; a value for anything else
is handed on as it is. A whole number serves as a float, and a list as a tuple.
"""

from __future__ import annotations

import functools
import inspect
import math
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from lt_eval.errors import SpecError

_WORDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text, in quotes",
    bool: "true or false",
    type(None): "left out",
}

_REFUSED = object()

_FOR_TYPE_CHECKERS: dict[str, Any] = {"Mapping": Mapping, "Sequence": Sequence, "Any": Any, "Literal": Literal}
"""What many modules import for type checkers alone."""


def checked(hint: Any, value: Any, where: str) -> Any:
    """Return a value as its annotation wants it.

    Args:
        hint: the annotation, as an object.
        value: what was set.
        where: the option's full name, for the message.

    Raises:
        SpecError: the value is of another type, or none of the choices.
    """
    found = _fitted(hint, value)
    if found is _REFUSED:
        raise SpecError(f"{where} = {value!r}: it must be {_rule(hint)}.")
    return found


def annotations_of(factory: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotation of each parameter, as an object; those that are absent or cannot be resolved are left out.

    One that names what only type checkers import must not cost the others their check.
    """
    while isinstance(factory, functools.partial):
        factory = factory.func
    found: dict[str, Any] = {}
    places = [*reversed(factory.__mro__)] if inspect.isclass(factory) else [factory]
    for place in places:
        names = {} if place is object else dict(inspect.get_annotations(place))
        own = vars(place).get("__init__") if inspect.isclass(place) else None
        # A dataclass writes its __init__ itself, with the annotations of its bases as bare texts.
        if inspect.isfunction(own) and not hasattr(place, "__dataclass_fields__"):
            names |= inspect.get_annotations(own)
        scope = _FOR_TYPE_CHECKERS | vars(sys.modules.get(place.__module__, types))
        for name, hint in names.items():
            found.pop(name, None)
            try:
                found[name] = eval(hint, scope) if isinstance(hint, str) else hint
            except Exception:  # whatever an unresolvable annotation raises
                continue
    known = _parameters(factory)
    return {name: hint for name, hint in found.items() if name in known}


def _parameters(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(factory).parameters
    except ValueError:  # some C types have none
        return {}


def _fitted(hint: Any, value: Any) -> Any:
    """Return the value, converted where that loses nothing, or _REFUSED."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value if any(value == choice and type(value) is type(choice) for choice in inner) else _REFUSED
    if origin in (Union, types.UnionType):
        # a kind that takes the value as it is comes before one that converts it
        fits = [fit for fit in (_fitted(kind, value) for kind in inner) if fit is not _REFUSED]
        return next((fit for fit in fits if type(fit) is type(value)), fits[0] if fits else _REFUSED)
    if origin in (list, tuple, Sequence) and (origin is not tuple or inner[1:] == (...,)):
        return _fitted_each(origin, inner[0], value)
    if (origin or hint) in (dict, Mapping):
        return value if isinstance(value, Mapping) else _REFUSED
    if hint is float and type(value) in (int, float):
        return float(value) if math.isfinite(value) else _REFUSED
    if hint in (None, *_WORDS):
        return value if type(value) is (type(None) if hint is None else hint) else _REFUSED
    return value


def _fitted_each(origin: Any, hint: Any, value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return _REFUSED
    entries = [_fitted(hint, entry) for entry in value]
    if any(entry is _REFUSED for entry in entries):
        return _REFUSED
    return tuple(entries) if origin is tuple else entries


def _rule(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return _any_of([repr(choice) for choice in inner])
    if origin in (Union, types.UnionType):
        return _any_of([_rule(kind) for kind in inner])
    if origin in (list, tuple, Sequence):
        return f"a list, each entry {_rule(inner[0])}"
    if (origin or hint) in (dict, Mapping):
        return "a table"
    return _WORDS.get(hint, f"of type {getattr(hint, '__name__', hint)}")


def _any_of(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
