"""Names to factories. Listing imports nothing; a broken plugin fails only when it is named.

A name is one of ours (BUILTIN), an installed entry point of group `lt_eval.<kind>`, or a path `module:attribute`.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from lt_eval.errors import MissingExtraError, SpecError, UnknownNameError

KINDS = ("metrics", "datasets", "generators", "systems", "talkers", "transcribers", "judges")

BUILTIN: Mapping[str, Mapping[str, str]] = {
    "metrics": {
        "fid": "lt_eval.metrics.fid:FID",
        "fvd": "lt_eval.metrics.fvd:FVD",
    },
    "datasets": {
        "avspeech": "lt_eval.datasets.prepared:AVSpeech",
        "celebvhq": "lt_eval.datasets.prepared:CelebVHQ",
        "demo": "lt_eval.datasets.demo:Demo",
        "folder": "lt_eval.datasets.folder:Folder",
        "hdtf": "lt_eval.datasets.prepared:HDTF",
    },
}

EXTRAS = {"decord": "decord", "ray": "ray"}
"""Import name -> the extra of ours that installs it."""

Factory = Callable[..., Any]


def targets(kind: str) -> dict[str, str]:
    """Return name -> "module:attribute" of everything registered under a kind, without importing any of it.

    Raises:
        UnknownNameError: a plugin claims a name that is taken; both targets are named.
    """
    from importlib.metadata import entry_points  # a tenth of a second: only when names are looked up

    found = dict(BUILTIN.get(kind, {}))
    for point in entry_points(group=f"lt_eval.{kind}"):
        if point.name in found and found[point.name] != point.value:
            raise UnknownNameError(
                f"Two {kind} are called {point.name!r}: {found[point.name]} and {point.value}. "
                "Uninstall one of the packages, or name the one you want as module:attribute."
            )
        found[point.name] = point.value
    return dict(sorted(found.items()))


def suggestion(name: str, known: Mapping[str, object] | list[str]) -> str:
    """Return " Did you mean 'x'?" where something close is known, else the list of what is."""
    close = difflib.get_close_matches(name, list(known), n=2)
    if close:
        return f" Did you mean {' or '.join(map(repr, close))}?"
    return f" Known: {', '.join(known)}." if known else ""


def load(kind: str, name: str) -> Factory:
    """Import and return the factory behind a name.

    Raises:
        UnknownNameError: nothing answers to the name, or its target does not exist.
        MissingExtraError: importing it needs an extra that is not installed.
    """
    known = targets(kind) if ":" not in name else {}
    target = name if ":" in name else known.get(name)
    if target is None:
        hint = suggestion(name, known)
        raise UnknownNameError(
            f"There is no {kind.rstrip('s')} called {name!r}.{hint} A path module:attribute also works."
        )
    module_name, _, attribute = target.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as cause:
        missing = (cause.name or "").split(".")[0]
        if missing in EXTRAS:
            raise MissingExtraError(f"{kind.rstrip('s')} {name!r}", EXTRAS[missing], str(cause)) from cause
        raise UnknownNameError(f"{kind.rstrip('s')} {name!r} ({target}) cannot be imported: {cause}.") from cause
    except (ImportError, AttributeError) as cause:
        raise UnknownNameError(f"{kind.rstrip('s')} {name!r} ({target}) cannot be imported: {cause}.") from cause
    if not callable(found):
        raise UnknownNameError(f"{target} is a {type(found).__name__}, not a class or function that makes one.")
    factory: Factory = found
    return factory


def parameters(factory: Factory) -> dict[str, inspect.Parameter]:
    """Return the options of a factory: its keyword parameters by name."""
    try:
        return dict(inspect.signature(factory).parameters)
    except ValueError:  # some C types have no signature: no options can be offered
        return {}


def create(kind: str, name: str, options: Mapping[str, Any], *, offered: Mapping[str, Any] | None = None) -> Any:
    """Make the object behind a name.

    Args:
        kind: one of KINDS.
        name: registered name or module:attribute.
        options: what the user set; every key must be a parameter of the factory.
        offered: what the run offers (weights, device, seed); passed where the factory has such a parameter.

    Raises:
        SpecError: an option that the factory does not have, or a value that it refuses.
    """
    factory = load(kind, name)
    known = parameters(factory)
    for key in options:
        if key not in known:
            raise SpecError(f"{kind.rstrip('s')} {name!r} has no option {key!r}.{suggestion(key, known)}")
    chosen = {key: value for key, value in (offered or {}).items() if key in known} | dict(options)
    absent = [
        key
        for key, parameter in known.items()
        if parameter.default is parameter.empty
        and key not in chosen
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    if absent:
        raise SpecError(
            f"{kind.rstrip('s')} {name!r} needs the option {absent[0]!r}; set it as {name}.{absent[0]}=VALUE."
        )
    try:
        return factory(**chosen)
    except (TypeError, ValueError) as cause:
        raise SpecError(f"{kind.rstrip('s')} {name!r} refused its options {chosen}: {cause}") from cause
