"""Names to factories. Listing imports nothing; a broken plugin fails only when it is named.

A name is one of ours (BUILTIN), an installed entry point of group `lt_eval.<kind>`, or a path `module:attribute`.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lt_eval.errors import MissingExtraError, SpecError, UnknownNameError
from lt_eval.options import annotations_of, checked

KINDS = ("metrics", "datasets", "generators", "systems", "talkers", "speakers", "transcribers", "judges")

BUILTIN: Mapping[str, Mapping[str, str]] = {
    "metrics": {
        "fid": "lt_eval.metrics.fid:FID",
        "fvd": "lt_eval.metrics.fvd:FVD",
        "identity": "lt_eval.metrics.identity:Identity",
        "appearance": "lt_eval.metrics.appearance:Appearance",
        "sync": "lt_eval.metrics.sync:Sync",
        "qalign": "lt_eval.metrics.qalign:QAlign",
        "motion": "lt_eval.metrics.motion:Motion",
        "likeness": "lt_eval.metrics.likeness:Likeness",
    },
    "datasets": {
        "avspeech": "lt_eval.datasets.prepared:AVSpeech",
        "celebvhq": "lt_eval.datasets.prepared:CelebVHQ",
        "demo": "lt_eval.datasets.demo:Demo",
        "folder": "lt_eval.datasets.folder:Folder",
        "hdtf": "lt_eval.datasets.prepared:HDTF",
    },
    "systems": {
        "reference": "lt_eval.systems.reference:Reference",
        "results-folder": "lt_eval.systems.results:ResultsFolder",
    },
    "talkers": {
        "openai": "lt_eval.systems.chat:ChatTalker",
        "qwen-omni": "lt_eval.systems.omni:OmniTalker",
        "scripted": "lt_eval.systems.scripted:ScriptedTalker",
    },
    "speakers": {
        "command": "lt_eval.systems.speakers:CommandSpeaker",
        "espeak": "lt_eval.systems.speakers:EspeakSpeaker",
        "formant": "lt_eval.systems.speakers:FormantSpeaker",
    },
    "generators": {
        "external-command": "lt_eval.bench.adapters.command:ExternalCommand",
        "http-stream": "lt_eval.bench.adapters.http:HttpStream",
        "reference": "lt_eval.generator.reference:ReferenceGenerator",
        "teacher": "lt_eval.generator.many_step:ManyStepGenerator",
    },
    "transcribers": {
        "funasr": "lt_eval.judge.transcribe.paraformer:FunASR",
        "given": "lt_eval.judge.transcribe.given:Given",
        "openai": "lt_eval.judge.transcribe.openai_server:OpenAITranscriber",
    },
    "judges": {"vlm": "lt_eval.judge.plugin:VLMJudge"},
}

EXTRAS = {"decord": "decord", "ray": "ray"}
"""Import name -> the extra of ours that installs it."""

Factory = Callable[..., Any]


def _claims(kind: str) -> dict[str, list[str]]:
    """Return name -> every target that claims it, ours first."""
    from importlib.metadata import entry_points  # a tenth of a second: only when names are looked up

    claims = {name: [target] for name, target in BUILTIN.get(kind, {}).items()}
    for point in entry_points(group=f"lt_eval.{kind}"):
        known = claims.setdefault(point.name, [])
        if point.value not in known:
            known.append(point.value)
    return dict(sorted(claims.items()))


def targets(kind: str) -> dict[str, str]:
    """Return name -> "module:attribute" of everything registered under a kind, without importing any of it.

    Where several packages claim one name, all their targets are listed; `load` refuses it.
    """
    return {name: " and ".join(claims) for name, claims in _claims(kind).items()}


def suggestion(name: str, known: Mapping[str, object] | list[str]) -> str:
    """Return " Did you mean 'x'?" where something close is known, else the list of what is."""
    close = difflib.get_close_matches(name, list(known), n=2)
    if close:
        return f" Did you mean {' or '.join(map(repr, close))}?"
    return f" Known: {', '.join(known)}." if known else ""


def load(kind: str, name: str) -> Factory:
    """Import and return the factory behind a name.

    Raises:
        UnknownNameError: nothing answers to the name, several packages do, or its target cannot be imported.
        MissingExtraError: importing it needs an extra that is not installed.
    """
    target = name if ":" in name else _registered(kind, name)
    what = f"{kind.rstrip('s')} {name!r} ({target})"
    module_name, _, attribute = target.partition(":")
    here = str(Path.cwd())
    if ":" in name and here not in sys.path:
        sys.path.append(here)  # a console script does not look in the current folder, where a user's own module lies
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as cause:
        missing = (cause.name or "").split(".")[0]
        if missing in EXTRAS:
            raise MissingExtraError(f"{kind.rstrip('s')} {name!r}", EXTRAS[missing], str(cause)) from cause
        raise UnknownNameError(f"{what} cannot be imported: {cause}.") from cause
    except Exception as cause:  # whatever a plugin's module does at import is for its author to mend
        raise UnknownNameError(f"{what} cannot be imported: {type(cause).__name__}: {cause}.") from cause
    if not callable(found):
        raise UnknownNameError(f"{target} is of type {type(found).__name__}, not a class or function that makes one.")
    factory: Factory = found
    return factory


def _registered(kind: str, name: str) -> str:
    claims = _claims(kind)
    if name not in claims:
        hint = suggestion(name, claims)
        raise UnknownNameError(
            f"There is no {kind.rstrip('s')} called {name!r}.{hint} A path module:attribute also works."
        )
    if len(claims[name]) > 1:
        raise UnknownNameError(
            f"Several {kind} are called {name!r}: {' and '.join(claims[name])}. "
            "Uninstall one of the packages, or name the one you want as module:attribute."
        )
    return claims[name][0]


def parameters(factory: Factory) -> dict[str, inspect.Parameter]:
    """Return the options of a factory: its keyword parameters by name, but for private ones (_name)."""
    try:
        found = inspect.signature(factory).parameters
        return {name: parameter for name, parameter in found.items() if not name.startswith("_")}
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
        SpecError: an option that the factory does not have, a value of another type than the parameter's annotation, or
            one that the factory refuses.
    """
    factory = load(kind, name)
    known = parameters(factory)
    called = f"{kind.rstrip('s')} {name!r}"
    for key in options:
        if key not in known:
            raise SpecError(f"{called} has no option {key!r}.{suggestion(key, known)}")
    # metrics and data sets have one place for options; those of others stand where their user is named
    where = {"metrics": f"metric.{name}.", "datasets": "dataset."}.get(kind, f"{called}: ")
    hints = annotations_of(factory)
    fitted = {key: checked(hints.get(key, Any), value, f"{where}{key}") for key, value in options.items()}
    chosen = {key: value for key, value in (offered or {}).items() if key in known} | fitted
    absent = [
        key
        for key, parameter in known.items()
        if parameter.default is parameter.empty
        and key not in chosen
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    if absent:
        raise SpecError(f"{called} needs the option {absent[0]!r}{_way_to_set(kind, where, absent[0])}.")
    try:
        return factory(**chosen)
    except (TypeError, ValueError) as cause:
        raise SpecError(f"{called} refused its options {chosen}: {cause}") from cause


def _way_to_set(kind: str, where: str, key: str) -> str:
    if kind in {"metrics", "datasets"}:
        return f": --set {where}{key}=VALUE"
    if kind == "generators":
        return f": --set {key}=VALUE of bench and generate, or [method.NAME.options] of a specification"
    return ", and it was not given"
