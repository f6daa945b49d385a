"""The contracts of ClipMetric and SetMetric, clause by clause."""

from __future__ import annotations

import hashlib
import json
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lt_eval.errors import SampleError
from lt_eval.interfaces import HasFingerprint, HasFloor, HasFootnotes, HasInfluence
from lt_eval.records import Column, Sample, Score
from lt_eval.testing.contract import Contract, name_of
from lt_eval.testing.fakes import ArrayClip, toy_clip, toy_samples

if TYPE_CHECKING:
    from lt_eval.interfaces import Clip, ClipMetric, SetMetric
    from lt_eval.records import Features


def check_clip_metric(factory: Callable[[], ClipMetric], clips: Sequence[Clip] = ()) -> None:
    """Check the contract of ClipMetric.

    Args:
        factory: makes the metric with its default options; `functools.partial(Metric, option=1)` sets others.
        clips: what it can score; none stands for two made-up clips with a portrait, a moving mouth and audio.

    Raises:
        ConformanceError: a clause does not hold.
    """
    contract = Contract(f"ClipMetric {name_of(factory)}")
    metric = contract.call("the factory makes a metric with no arguments", factory)
    columns = _check_columns(contract, metric)
    samples = toy_samples(clips or [toy_clip(seed=seed) for seed in range(2)])
    before = [_digest(sample.clip) for sample in samples]
    scores = [_score(contract, metric, sample, columns) for sample in samples]
    for sample, score in zip(samples, scores, strict=True):
        contract.require(
            not isinstance(score, SampleError),
            "score returns values for a clip that can be scored (pass `clips` that it can)",
            f"{type(score).__name__}: {score} for {sample.clip.path}",
        )
    _check_untouched(contract, "score", samples, before)
    copy = _check_pickles(contract, metric)
    for name, other in (("the same metric", metric), ("a second one", factory()), ("a pickled copy", copy)):
        again = [_score(contract, other, sample, columns) for sample in reversed(samples)][::-1]
        contract.require(
            again == scores,
            "score depends on its sample alone",
            f"{scores}, then from {name}, last clip first, {again}",
        )
    for hard in _hard_clips():
        _score(contract, metric, toy_samples([hard])[0], columns)
    _check_optional(contract, factory, metric)


def check_set_metric(
    factory: Callable[[], SetMetric], generated: Sequence[Clip] = (), reference: Sequence[Clip] = ()
) -> None:
    """Check the contract of SetMetric, and of HasInfluence and HasFloor where it offers them.

    Args:
        factory: makes the metric with its default options.
        generated: clips of a method; none stands for three made-up ones.
        reference: clips to compare with; none stands for four made-up ones.

    Raises:
        ConformanceError: a clause does not hold.
    """
    contract = Contract(f"SetMetric {name_of(factory)}")
    metric = contract.call("the factory makes a metric with no arguments", factory)
    columns = _check_columns(contract, metric)
    clips = [*(generated or [toy_clip(seed=seed) for seed in range(3)])]
    clips += reference or [toy_clip(seed=seed) for seed in range(3, 7)]
    split = len(generated) or 3
    samples = toy_samples(clips)
    before = [_digest(clip) for clip in clips]
    features = [_features(contract, metric, clip) for clip in clips]
    for clip, one in zip(clips, features, strict=True):
        contract.require(
            not isinstance(one, SampleError),
            "features returns an array for a clip that has some (pass clips that have)",
            f"{type(one).__name__}: {one} for {clip.path}",
        )
    widths = {one.shape[1] for one in features}
    contract.require(len(widths) == 1, "features of all clips have one width D", widths)
    _check_untouched(contract, "features", samples, before)
    copy = _check_pickles(contract, metric)
    for name, other in (("the same metric", metric), ("a pickled copy", copy)):
        again = _features(contract, other, clips[0])
        contract.require(
            np.array_equal(again, features[0]), "features depend on the clip alone", f"other values from {name}"
        )
    _check_distance(contract, metric, columns, features[:split], features[split:])
    for hard in _hard_clips():
        _features(contract, metric, hard)
    _check_optional(contract, factory, metric)


def _digest(clip: Clip) -> str:
    digest = hashlib.sha256(clip.frames.tobytes())
    try:
        digest.update(clip.audio.tobytes())
    except SampleError:
        digest.update(b"no audio")
    return digest.hexdigest()


def _hard_clips() -> list[ArrayClip]:
    """Return clips that a run will meet: a metric scores them or raises a SampleError, and never returns NaN."""
    clip = toy_clip(seconds=1.0, size=96)
    silence = np.zeros_like(clip.audio)
    return [
        ArrayClip(clip.frames, path=Path("without_audio.mp4")),
        ArrayClip(clip.frames, silence, path=Path("silent.mp4")),
        ArrayClip(clip.frames[:1], clip.audio[:640], path=Path("one_frame.mp4")),
        ArrayClip(np.zeros_like(clip.frames), clip.audio, path=Path("black.mp4")),
        ArrayClip(clip.frames[:, :33, :51], clip.audio, path=Path("odd_size.mp4")),
    ]


def _check_columns(contract: Contract, metric: ClipMetric | SetMetric) -> set[str]:
    columns = contract.call("columns can be read", lambda: metric.columns)
    contract.require(isinstance(columns, Mapping), "columns is a mapping of name to Column", type(columns).__name__)
    contract.require(len(columns) > 0, "there is at least one column", "none")
    for name, column in columns.items():
        contract.require(isinstance(name, str) and name != "", "a column's name is a non-empty string", repr(name))
        contract.require(isinstance(column, Column), "a column is an lt_eval.records.Column", f"{name}: {column!r}")
    return set(columns)


def _check_values(contract: Contract, clause: str, values: object, columns: set[str]) -> None:
    contract.require(isinstance(values, Mapping), f"{clause} is a mapping of column to value", type(values).__name__)
    assert isinstance(values, Mapping)
    contract.require(set(values) == columns, f"{clause} has exactly the columns {sorted(columns)}", sorted(values))
    for name, value in values.items():
        plain = isinstance(value, (int, float)) and not isinstance(value, bool)
        contract.require(plain, f"{clause} holds Python floats: use float(x)", f"{name}: {type(value).__name__}")
        contract.require(
            math.isfinite(value),
            f"{clause} is finite; where there is no value, raise UnscorableError",
            f"{name}: {value}",
        )


def _score(contract: Contract, metric: ClipMetric, sample: Sample, columns: set[str]) -> Any:
    clause = f"score({sample.clip.path.name})"
    values = contract.call(
        f"{clause} returns values or raises a SampleError", metric.score, sample, allowed=(SampleError,)
    )
    if isinstance(values, SampleError):
        return values
    scored = values if isinstance(values, Score) else Score(values)
    _check_values(contract, clause, scored.values, columns)
    rule = f"the details of {clause} are JSON types: finite numbers, texts, lists, objects"
    kept = contract.call(rule, lambda: json.dumps(dict(scored.details), allow_nan=False))
    return {**scored.values, "details": kept}


def _features(contract: Contract, metric: SetMetric, clip: Clip) -> Any:
    clause = f"features({clip.path.name})"
    found = contract.call(
        f"{clause} returns an array or raises a SampleError", metric.features, clip, allowed=(SampleError,)
    )
    if isinstance(found, SampleError):
        return found
    contract.require(isinstance(found, np.ndarray), f"{clause} is a numpy array", type(found).__name__)
    contract.require(
        found.dtype == np.float32 and found.ndim == 2 and min(found.shape) > 0,
        f"{clause} is float32 [N, D] with N, D > 0",
        f"{found.dtype} {list(found.shape)}",
    )
    contract.require(
        bool(np.isfinite(found).all()), f"{clause} is finite", f"{np.sum(~np.isfinite(found))} values are not"
    )
    return found


def _check_distance(
    contract: Contract,
    metric: SetMetric,
    columns: set[str],
    generated: Sequence[Features],
    reference: Sequence[Features],
) -> None:
    kept = [one.copy() for one in (*generated, *reference)]
    results = []
    for clause, left, right in (
        ("distance(generated, reference)", generated, reference),
        ("distance(generated, reference), again", generated, reference),
        ("distance(x, x)", reference, reference),
        ("distance of a redraw, clips twice", [*generated, generated[0]], [*reference, reference[0]]),
    ):
        values = contract.call(f"{clause} returns values", metric.distance, left, right)
        _check_values(contract, clause, values, columns)
        results.append(dict(values))
    contract.require(
        all(np.array_equal(a, b) for a, b in zip(kept, (*generated, *reference), strict=True)),
        "distance does not change the features it is given",
        "changed ones",
    )
    contract.require(results[0] == results[1], "distance depends on its arguments alone", results[:2])
    if isinstance(metric, HasInfluence):
        _check_influence(contract, metric, columns, generated, reference)
    if isinstance(metric, HasFloor):
        floor = contract.call("floor returns values", metric.floor, reference, len(reference))
        contract.require(set(floor) <= columns, f"floor has no columns but {sorted(columns)}", sorted(floor))
        _check_values(contract, "floor", floor, set(floor))


def _check_influence(
    contract: Contract,
    metric: HasInfluence,
    columns: set[str],
    generated: Sequence[Features],
    reference: Sequence[Features],
) -> None:
    found = contract.call("influence returns values", metric.influence, generated, reference)
    contract.require(set(found) <= columns, f"influence has no columns but {sorted(columns)}", sorted(found))
    for name, influence in found.items():
        for side, clips, values in (
            ("generated", generated, influence.generated),
            ("reference", reference, influence.reference),
        ):
            clause = f"influence of {name} on the {side} side"
            contract.require(
                values.shape == (len(clips),), f"{clause} has a value a clip", f"{values.shape} of {len(clips)}"
            )
            total, size = float(np.sum(values)), float(np.sum(np.abs(values)))
            contract.require(
                math.isfinite(total) and abs(total) <= 1e-6 * max(size, 1e-12), f"{clause} sums to zero", total
            )


def _check_untouched(contract: Contract, method: str, samples: Sequence[Sample], before: Sequence[str]) -> None:
    changed = [str(s.clip.path) for s, digest in zip(samples, before, strict=True) if _digest(s.clip) != digest]
    contract.require(not changed, f"{method} leaves frames and audio as they are: other metrics share them", changed)


def _check_pickles(contract: Contract, metric: Any) -> Any:
    clause = "it can be pickled, also after use: runs with workers send it to them"
    return contract.call(clause, lambda: pickle.loads(pickle.dumps(metric)))


def _check_optional(contract: Contract, factory: Callable[[], object], metric: object) -> None:
    if isinstance(metric, HasFingerprint):
        one, two = metric.fingerprint, getattr(factory(), "fingerprint", None)
        contract.require(isinstance(one, str) and one != "", "fingerprint is a non-empty string", repr(one))
        contract.require(one == two, "fingerprint is the same for the same options", f"{one!r}, then {two!r}")
    if isinstance(metric, HasFootnotes):
        notes = metric.footnotes
        contract.require(
            not isinstance(notes, str) and all(isinstance(note, str) for note in notes),
            "footnotes is a sequence of strings",
            repr(notes),
        )
