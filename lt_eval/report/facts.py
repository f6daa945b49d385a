"""What a reader must know of a run before its numbers: from the manifest, leaving out what it does not say."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lt_eval.report.runs import Run


def facts(run: Run) -> list[tuple[str, str]]:
    """Return (name, value) pairs for people: data set, policy, seed, weights, versions, hardware, command."""
    manifest = run.manifest
    spec = _table(manifest.get("spec"))
    dataset = _table(manifest.get("dataset"))
    pairs = [
        ("Run", str(run.folder.absolute().name)),
        ("Data set", _joined(dataset.get("name", run.summary.dataset), _prefixed("version ", dataset.get("version")))),
        ("Clips", str(len(dataset.get("samples", ())) or "")),
        ("Media", _media(_table(spec.get("media")))),
        ("Metrics", "; ".join(_metric(_table(m)) for m in manifest.get("metrics", []))),
    ]
    return [(name, value) for name, value in (*pairs, *how_it_ran(manifest)) if value]


def how_it_ran(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return weights, seed, device and what the last session ran on, of a manifest; a value may be empty."""
    spec = _table(manifest.get("spec"))
    sessions = [_table(session) for session in manifest.get("sessions", [])]
    last = sessions[-1] if sessions else _table(manifest)
    return [
        ("Weights", _said(spec.get("weights"))),
        ("Seed", _said(spec.get("seed"))),
        ("Device", _said(spec.get("device"))),
        ("Hardware", _hardware(_table(last.get("hardware")))),
        ("Software", ", ".join(f"{name} {version}" for name, version in _table(last.get("versions")).items())),
        ("Command", shlex.join(str(part) for part in last.get("command", []))),
        ("Measured", _joined(last.get("created"), f"in {len(sessions)} sessions" if len(sessions) > 1 else "")),
    ]


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _said(value: object) -> str:
    return "" if value is None else str(value)


def _prefixed(prefix: str, value: object) -> str:
    return f"{prefix}{value}" if value else ""


def _joined(*parts: object) -> str:
    return ", ".join(str(part) for part in parts if part)


def _media(media: Mapping[str, Any]) -> str:
    if not media:
        return ""
    rate = f"{media['fps']:g} fps" if media.get("fps") else "own frame rate"
    size = f"{media['size']} px square ({media.get('fit', 'crop')})" if media.get("size") else "own size"
    first = "frame 0 left out" if media.get("skip_first_frame") else "frame 0 counted"
    return _joined(rate, size, first, _prefixed("decoded by ", media.get("decoder")))


def _metric(metric: Mapping[str, Any]) -> str:
    options = ", ".join(f"{key} {value}" for key, value in _table(metric.get("options")).items())
    return f"{metric.get('name', '')}" + (f" ({options})" if options else "")


def _hardware(hardware: Mapping[str, Any]) -> str:
    gpus: Sequence[object] = hardware.get("gpus") or ()
    cores = f"{hardware['cores']} cores" if hardware.get("cores") else ""
    memory = f"{hardware['memory_gib']:g} GiB" if hardware.get("memory_gib") else ""
    return _joined(*gpus, hardware.get("cpu"), cores, memory, hardware.get("system"), hardware.get("machine"))
