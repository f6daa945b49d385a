"""RoundsSpec: what a multi-round run is made of. A TOML file plus a few flags make it; unknown keys are refused.

protocol = "multiround"
scenarios = "my_scenarios.jsonl"        # left out: the set that comes with lt-eval

[system.ours]
system = "reference"
options = { talker = "qwen-omni", talker_options = { url = "http://localhost:8091/v1" } }

[system.sora2]
results = "out/sora2"

[judge]
servers = "http://localhost:8000/v1"
repeats = 3

[transcriber]
name = "funasr"
model = "models/paraformer-en"
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lt_eval.errors import SpecError
from lt_eval.spec import (
    ExecutionPolicy,
    MetricSpec,
    check_method_name,
    record_of,
    refuse_unknown,
    table_of,
)

NO_JUDGE = "none"
GIVEN = "given"


@dataclass(frozen=True)
class SystemSpec:
    """One row of the table: an interactive system, or the finished turns of one.

    Attributes:
        name: what the row is called.
        system: registered name or module:Class; `options` are its keyword arguments.
        results: folder of finished turns; short for the system results-folder.
        model_size: for the table's column, as text ("1.3B").
        options: of the system.
    """

    name: str
    system: str | None = None
    results: str | None = None
    model_size: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """A plugin by its registered name or as module:Class, with its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RoundsSpec:
    """Everything that decides a multi-round run's numbers, and where its clips are measured.

    Attributes:
        protocol: the recipe.
        systems: rows of the table, in order.
        scenarios: JSON Lines file; "" is the set that comes with lt-eval.
        demo: only the scenarios marked for a fresh machine, and builtin networks.
        limit: only the first so many scenarios.
        seed: of the systems and of the bootstrap.
        speaker: who says the user's lines that come without sound; "auto" is espeak-ng, else the formant voice.
        transcriber: of both sides: "given" takes the scenario's and the systems' own words.
        judge: "none", "vlm" (a vision-language model behind HTTP), or one of a plugin.
        metrics: signal-level columns, of clips and of whole conversations.
        weights: networks of the metrics, "official" or "builtin"; "auto" means builtin for the demo.
        device: "auto", "cpu", "cuda" ...
        turn_timeout_s: a turn that takes longer has failed.
        warmups: conversations' first turns held before the first that is timed.
        portrait_px: side of drawn portraits, for personas that have none.
        execution: workers that measure clips; conversations are held one after another.
    """

    protocol: Literal["multiround"] = "multiround"
    systems: tuple[SystemSpec, ...] = ()
    scenarios: str = ""
    demo: bool = False
    limit: int | None = None
    seed: int = 0
    speaker: Choice = Choice("auto")
    transcriber: Choice = Choice(GIVEN)
    judge: Choice = Choice(NO_JUDGE)
    metrics: tuple[MetricSpec, ...] = tuple(map(MetricSpec, ("sync", "motion", "likeness")))
    weights: Literal["auto", "official", "builtin"] = "auto"
    device: str = "auto"
    turn_timeout_s: float = 600.0
    warmups: int = 1
    portrait_px: int = 256
    execution: ExecutionPolicy = field(default_factory=ExecutionPolicy)

    def to_json(self) -> dict[str, Any]:
        """Return the spec as JSON types."""
        return dataclasses.asdict(self)


def build_rounds(data: Mapping[str, Any]) -> RoundsSpec:
    """Check the tables of a specification and return it as a record.

    Raises:
        SpecError: an unknown key (with a suggestion), a wrong type, or a rule that the values break.
    """
    data = dict(data)
    systems = tuple(_system(name, table) for name, table in table_of(data.pop("system", {}), "system").items())
    options = table_of(data.pop("metric", {}), "metric")
    names = data.pop("metrics", None)
    if names is None:
        names = [metric.name for metric in RoundsSpec.metrics]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SpecError(f'metrics = {names!r}: a list of metric names is needed, such as ["sync", "motion"].')
    refuse_unknown(options, set(names), "[metric]")
    metrics = tuple(
        MetricSpec(name, table_of(options.get(name, {}), f"metric.{name}")) for name in dict.fromkeys(names)
    )
    choices: dict[str, Any] = {
        name: _choice(data.pop(name), name, default)
        for name, default in (("speaker", "auto"), ("transcriber", GIVEN), ("judge", "vlm"))
        if name in data
    }
    execution = record_of(ExecutionPolicy, table_of(data.pop("execution", {}), "execution"), "execution")
    plain = {f.name for f in dataclasses.fields(RoundsSpec)} - {"systems", "metrics", "execution"}
    known = plain | {"system", "metric", "metrics", "execution"}
    refuse_unknown(data, known, "the specification")
    spec = dataclasses.replace(
        record_of(RoundsSpec, data, ""), systems=systems, metrics=metrics, execution=execution, **choices
    )
    _check(spec)
    return spec


def _system(name: str, table: Any) -> SystemSpec:
    table = dict(table_of(table, f"system.{name}"))
    options = table_of(table.pop("options", {}), f"system.{name}.options")
    table.pop("name", None)
    system = record_of(SystemSpec, {"name": name, **table}, f"system.{name}")
    if (system.system is None) == (system.results is None):
        raise SpecError(f"system {name!r}: give either system = NAME or results = FOLDER, and not both.")
    check_method_name(name)
    return dataclasses.replace(system, options=options)


def _choice(value: Any, where: str, default: str) -> Choice:
    """Read "NAME", or a table with the name and the options."""
    if isinstance(value, str):
        return Choice(value)
    table = dict(table_of(value, where))
    name = table.pop("name", default)
    if not isinstance(name, str) or not name:
        raise SpecError(f"{where}.name = {name!r}: a name is needed.")
    return Choice(name, table)


def _check(spec: RoundsSpec) -> None:
    for name, value, least in (("limit", spec.limit, 1), ("warmups", spec.warmups, 0)):
        if value is not None and value < least:
            raise SpecError(f"{name} = {value}: it must be at least {least}.")
    if not 0 < spec.turn_timeout_s <= 86_400:
        raise SpecError(f"turn_timeout_s = {spec.turn_timeout_s:g}: seconds above 0 and at most a day are needed.")
    if not 64 <= spec.portrait_px <= 2048 or spec.portrait_px % 16:
        raise SpecError(f"portrait_px = {spec.portrait_px}: it must lie in 64..2048 and be a multiple of 16.")
