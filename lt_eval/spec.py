"""RunSpec: what is run, as one frozen record. A TOML file plus a few flags make it; unknown keys are refused.

    protocol = "single"
    weights = "official"
    metrics = ["fid", "fvd", "sync", "qalign"]

    [dataset]
    name = "hdtf"

    [metric.fid]
    preprocess = "clean"

    [method.ours]
    clips = "out/ours"
    model_size = "1.3B"

Paths mean the same in the file as on the command line: they are relative to the current folder.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

from lt_eval.errors import SpecError
from lt_eval.options import checked
from lt_eval.records import GROUND_TRUTH, MediaPolicy
from lt_eval.registry import suggestion

T = TypeVar("T")

SPEED = "speed"
"""Among the metrics: the throughput and latency that every generator is measured by anyway; alone, nothing else."""


@dataclass(frozen=True)
class DatasetSpec:
    """A data set by its registered name; `options` are the keyword arguments of its factory."""

    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MetricSpec:
    """A metric by its registered name; `options` are the keyword arguments of its factory."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MethodSpec:
    """One row of the table: finished clips, or a generator that makes them.

    Attributes:
        name: what the row is called.
        clips: folder of clips named by sample id.
        generator: registered name or module:Class; `options` are its keyword arguments.
        model_size: for the table's column, as text ("1.3B").
        options: of the generator.
    """

    name: str
    clips: str | None = None
    generator: str | None = None
    model_size: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ExecutionPolicy:
    """Where and how wide a run is executed. It changes how long a run takes, never what it finds.

    Attributes:
        executor: worker processes on this machine, or Ray (extra).
        workers: tasks at a time; 1 with "local" is this process itself.
        threads: numerical threads per worker; None shares the cores of this machine out. The last bits of a float
            depend on it.
        ray_address: a running cluster; None starts Ray on this machine for the run.
        retries: how often a task is tried again after its worker died.
        gpu: Ray only: reserve a share of the cluster's GPUs for each worker, where it has some.
    """

    executor: Literal["local", "ray"] = "local"
    workers: int = 1
    threads: int | None = None
    ray_address: str | None = None
    retries: int = 2
    gpu: bool = True

    def __post_init__(self) -> None:
        if self.executor not in ("local", "ray"):
            raise SpecError(f"There is no executor {self.executor!r}. Known: local, ray.")
        for name, value, least in (
            ("workers", self.workers, 1),
            ("threads", self.threads, 1),
            ("retries", self.retries, 0),
        ):
            if value is not None and value < least:
                raise SpecError(f"{name} is {value}; it must be at least {least}.")
        if self.ray_address is not None and self.executor != "ray":
            raise SpecError(f"A Ray address ({self.ray_address}) needs the executor ray; it is {self.executor}.")


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides a run's numbers, and where it is executed.

    Attributes:
        protocol: the recipe.
        dataset: what is compared with.
        methods: rows of the table, in order.
        metrics: columns of the table, in order; none where `speed` alone was asked for.
        weights: "official" networks, or "builtin" ones (nothing to download, columns named apart); "auto" means
            builtin for the demo data set and official for every other.
        media: how every clip is read.
        seed: of sampling, bootstrap and generation.
        limit: only the first so many items of the data set.
        device: "auto", "cpu", "cuda" ...
        baseline: the method that others are compared with in pairs; the first one by default.
        warmups: generations before the first that is timed.
        generator_timeout_s: a generator that gives no sign of life for so long is ended, and its clip has failed.
        execution: workers.
    """

    protocol: Literal["single"] = "single"
    dataset: DatasetSpec = DatasetSpec()
    methods: tuple[MethodSpec, ...] = ()
    metrics: tuple[MetricSpec, ...] = tuple(map(MetricSpec, ("fid", "fvd", "sync", "qalign")))
    weights: Literal["auto", "official", "builtin"] = "auto"
    media: MediaPolicy = field(default_factory=MediaPolicy)
    seed: int = 0
    limit: int | None = None
    device: str = "auto"
    baseline: str | None = None
    warmups: int = 1
    generator_timeout_s: float = 1800.0
    execution: ExecutionPolicy = ExecutionPolicy()

    def to_json(self) -> dict[str, Any]:
        """Return the spec as JSON types."""
        return dataclasses.asdict(self)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a specification file.

    Raises:
        SpecError: the file is absent, unreadable or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as cause:
        raise SpecError(f"{path}: the specification cannot be read ({cause.strerror}).") from cause
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
        raise SpecError(f"{path}: not a TOML file: {cause}.") from cause


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return `below` with `above` laid over it, table by table."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def parse_setting(text: str) -> dict[str, Any]:
    """Turn "metric.fid.preprocess=clean" into nested tables; key and value are TOML, or the value a plain string.

    The option of a metric named by its path needs no quotes: metric.my.module:Class.option=1.

    Raises:
        SpecError: there is no "=" or no key.
    """
    key, equals, raw = text.partition("=")
    key = key.strip()
    if key.startswith("metric.") and ":" in key and '"' not in key:
        name, _, option = key.removeprefix("metric.").rpartition(".")
        key = f"metric.{json.dumps(name)}.{option}"
    for value in (raw, json.dumps(raw)) if equals else ():
        try:
            return tomllib.loads(f"{key} = {value}")
        except tomllib.TOMLDecodeError:
            continue
    raise SpecError(f"--set {text!r}: write it as KEY=VALUE, for example --set metric.fid.preprocess=clean.")


def build(data: Mapping[str, Any]) -> RunSpec:
    """Check the tables of a specification and return it as a record.

    Raises:
        SpecError: an unknown key (with a suggestion), a wrong type, or a rule that the values break.
    """
    data = dict(data)
    options = table_of(data.pop("metric", {}), "metric")
    names = data.pop("metrics", None)
    if names is None:
        names = [metric.name for metric in RunSpec.metrics]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not names:
        raise SpecError(f'metrics = {names!r}: a list of metric names is needed, such as ["fid", "fvd"].')
    names = [name for name in names if name != SPEED]
    for name in options:
        if name not in names:
            raise SpecError(f"[metric.{name}] sets options of a metric that does not run.{suggestion(name, names)}")
    metrics = tuple(
        MetricSpec(name, table_of(options.get(name, {}), f"metric.{name}")) for name in dict.fromkeys(names)
    )

    methods = tuple(_method(name, table) for name, table in table_of(data.pop("method", {}), "method").items())
    dataset = dict(table_of(data.pop("dataset", {}), "dataset"))
    dataset_name = dataset.pop("name", "")
    if not isinstance(dataset_name, str):
        raise SpecError(f"dataset.name = {dataset_name!r}: a name is needed.")
    media = _media(table_of(data.pop("media", {}), "media"))
    execution = record_of(ExecutionPolicy, table_of(data.pop("execution", {}), "execution"), "execution")
    known = {f.name for f in dataclasses.fields(RunSpec)} - {"methods"} | {"metric", "method"}
    refuse_unknown(data, known, "the specification")
    rest = record_of(RunSpec, data, "")
    spec = dataclasses.replace(
        rest,
        dataset=DatasetSpec(dataset_name, dataset),
        methods=methods,
        metrics=metrics,
        media=media,
        execution=execution,
    )
    _check(spec)
    return spec


def _method(name: str, table: Any) -> MethodSpec:
    table = dict(table_of(table, f"method.{name}"))
    options = table_of(table.pop("options", {}), f"method.{name}.options")
    table.pop("name", None)
    method = record_of(MethodSpec, {"name": name, **table}, f"method.{name}")
    if (method.clips is None) == (method.generator is None):
        raise SpecError(f"method {name!r}: give either clips = FOLDER or generator = NAME, and not both.")
    check_method_name(name)
    return dataclasses.replace(method, options=options)


def check_method_name(name: str) -> None:
    """Refuse a method's name that cannot be a row of the table and a folder.

    Raises:
        SpecError: it is taken, empty, too long, or no name of a folder.
    """
    if name == GROUND_TRUTH or not name or len(name) > 100 or name.startswith(".") or set(name) & set("/\\\0\n\r"):
        raise SpecError(
            f"method {name[:120]!r}: the name is a row of the table and a folder; it cannot be {GROUND_TRUTH!r}, "
            "be empty or longer than 100 characters, start with a dot, or hold a slash, a backslash or a line break."
        )


def _media(table: Mapping[str, Any]) -> MediaPolicy:
    table = dict(table)
    if table.get("fps") == "native":
        table["fps"] = None
    elif isinstance(table.get("fps", 25.0), str):
        raise SpecError(f'media.fps = {table["fps"]!r}: a number of frames a second, or "native".')
    policy = record_of(MediaPolicy, table, "media")
    if policy.fps is not None and not 1 <= policy.fps <= 240:
        raise SpecError(f'media.fps = {policy.fps:g}: frames a second must lie in 1..240, or be "native".')
    if policy.size is not None and not 16 <= policy.size <= 4096:
        raise SpecError(f"media.size = {policy.size}: the side of the canonical frame must lie in 16..4096 pixels.")
    return policy


def _check(spec: RunSpec) -> None:
    if spec.limit is not None and spec.limit < 1:
        raise SpecError(f"limit = {spec.limit}: at least 1 item is needed.")
    if spec.warmups < 0:
        raise SpecError(f"warmups = {spec.warmups}: it cannot be negative.")
    if not spec.generator_timeout_s > 0:
        raise SpecError(f"generator_timeout_s = {spec.generator_timeout_s:g}: it must be longer than 0 seconds.")
    names = [method.name for method in spec.methods]
    if spec.baseline is not None and names and spec.baseline not in names:
        raise SpecError(f"baseline = {spec.baseline!r} is no method of this run.{suggestion(spec.baseline, names)}")


def table_of(value: Any, where: str) -> Mapping[str, Any]:
    """Return a table of a specification; raises SpecError where there is something else."""
    if not isinstance(value, Mapping):
        raise SpecError(f"{where} = {value!r}: a table [{where}] is needed here.")
    return value


def refuse_unknown(data: Mapping[str, Any], known: set[str], where: str) -> None:
    """Refuse a key that a table does not have, with a suggestion; raises SpecError."""
    for key in data:
        if key not in known:
            raise SpecError(f"{where} has no key {key!r}.{suggestion(key, sorted(known))}")


def record_of(kind: type[T], data: Mapping[str, Any], where: str) -> T:
    """Return a record made of a table, every value checked against its annotation; raises SpecError."""
    hints = get_type_hints(kind)
    refuse_unknown(data, set(hints), f"[{where}]" if where else "the specification")
    prefix = f"{where}." if where else ""
    return kind(**{key: checked(hints[key], value, f"{prefix}{key}") for key, value in data.items()})
