"""Frozen reference pools: percentiles of later runs against one stated pool, so that they can be compared.

A pool is good for the judge and the prompts it was made with, and for no other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lt_eval.errors import SpecError, StoreError
from lt_eval.stats.pooled import Pool
from lt_eval.store import atomic_write

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
"""Of the file."""


@dataclass(frozen=True)
class ReferencePool:
    """What a frozen pool says of itself.

    Attributes:
        name: what reports call it.
        judge: id of the judge's model, with its revision where known.
        prompts: dimension -> hash of its rubric.
        pools: dimension -> mean, deviation and number of the scores.
        methods: whose scores are in it.
        scenarios: how many scenarios each was judged on.
        repeats: judgments a scenario that were averaged.
    """

    name: str
    judge: str
    prompts: Mapping[str, str]
    pools: Mapping[str, Pool]
    methods: tuple[str, ...] = field(default=())
    scenarios: int = 0
    repeats: int = 1


def write_reference_pool(path: Path, reference: ReferencePool) -> None:
    """Write the pool as JSON, whole or not at all."""
    data = {
        "format": FORMAT,
        "name": reference.name,
        "judge": reference.judge,
        "prompts": dict(reference.prompts),
        "pools": {name: {"mu": p.mean, "sigma": p.deviation, "n": p.n} for name, p in reference.pools.items()},
        "methods": list(reference.methods),
        "scenarios": reference.scenarios,
        "repeats": reference.repeats,
    }
    with atomic_write(path) as file:
        file.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def read_reference_pool(path: Path) -> ReferencePool:
    """Read a pool as `write_reference_pool` wrote it.

    Raises:
        StoreError: the file is absent, no JSON, of another format, or lacks what a pool must say.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        raise StoreError(f"{path}: is no reference pool ({cause}). One is made with a run's --write-pool.") from cause
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        raise StoreError(f"{path}: is no reference pool of format {FORMAT}. One is made with a run's --write-pool.")
    try:
        return ReferencePool(
            name=str(data["name"]),
            judge=str(data["judge"]),
            prompts={str(name): str(digest) for name, digest in data["prompts"].items()},
            pools={str(name): _pool(path, name, given) for name, given in data["pools"].items()},
            methods=tuple(map(str, data.get("methods", ()))),
            scenarios=int(data.get("scenarios", 0)),
            repeats=int(data.get("repeats", 1)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as cause:
        raise StoreError(
            f"{path}: a reference pool names name, judge, prompts and, a dimension, mu, sigma and n; "
            f"here {cause} is missing or of the wrong kind. Make it again."
        ) from cause


def require_same_judge(
    reference: ReferencePool, *, judge: str, prompts: Mapping[str, str], dimensions: Iterable[str] = ()
) -> None:
    """Refuse a pool of another judge or of other prompts: its scores are on another scale.

    Args:
        reference: the frozen pool.
        judge: id of the judge's model of the run at hand.
        prompts: dimension -> hash of its rubric there; every one of them must be the pool's.
        dimensions: further ones that the pool must have scores of; a judge of one's own may name no prompts.

    Raises:
        SpecError: they differ.
    """
    advice = "Judge again with the pool's, or leave the pool out: percentiles are then within this run only."
    if reference.judge != judge:
        raise SpecError(f"the pool {reference.name!r} is of judge {reference.judge!r}, this run of {judge!r}. {advice}")
    other = [name for name, digest in prompts.items() if reference.prompts.get(name) != digest]
    if other:
        raise SpecError(f"the pool {reference.name!r} was made with other prompts of {', '.join(other)}. {advice}")
    lacking = [name for name in dict.fromkeys((*prompts, *dimensions)) if name not in reference.pools]
    if lacking:
        raise SpecError(f"the pool {reference.name!r} has no scores of {', '.join(lacking)}. {advice}")


def _pool(path: Path, name: str, given: Mapping[str, Any]) -> Pool:
    pool = Pool(float(given["mu"]), float(given["sigma"]), int(given["n"]))
    if not (math.isfinite(pool.mean) and math.isfinite(pool.deviation) and pool.deviation >= 0 and pool.n > 0):
        raise StoreError(
            f"{path}: mu and sigma of {name} must be finite, sigma at least 0, n at least 1; given {pool}."
        )
    return pool
