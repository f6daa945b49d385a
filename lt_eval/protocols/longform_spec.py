"""LongSpec: what a run over minutes is made of. A TOML file plus a few flags make it; unknown keys are refused.

generator = "reference"
seconds = 300.0
people = 2

[options]                       # of the generator, in every configuration
weights = "out/mini.safetensors"

[configuration."3+2 relative"]  # left out: the six of section 4
sink = 3
rolling = 2
rope = "relative"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import Any, Literal

from lt_eval.errors import SpecError
from lt_eval.spec import check_method_name, record_of, refuse_unknown, table_of

SIX: Mapping[str, Mapping[str, Any]] = {
    f"{sink}+{rolling} {rope}": {"sink": sink, "rolling": rolling, "rope": rope}
    for sink, rolling in ((3, 2), (1, 4), (0, 5))
    for rope in ("relative", "absolute")
}
"""Five blocks of window in three splits, as the paper's anchor-heavy identity sinks (section 4) are argued for."""

MOST_WINDOWS = 1000


@dataclass(frozen=True)
class LongSpec:
    """Everything that decides a run's numbers.

    Attributes:
        generator: registered name or module:Class.
        options: its keyword arguments, in every configuration.
        configurations: name -> further keyword arguments; empty are the six of the reference generator, or any other
            generator as it is.
        people: how many procedural people are streamed.
        first_seed: of the first person; the next have the next ones. Nobody trains on the default's.
        seconds: of each stream; a multiple of `window_s`.
        window_s: what one point of a line stands for.
        size: side of portraits and true clips in pixels; None is what the generator says, or 256.
        weights: "builtin" or "official" networks of the metrics.
        seed: of the sessions and of intervals.
        limit: only the first so many people.
        device: "auto", "cpu", "cuda" ...
        generator_timeout_s: a generator that gives no sign of life for so long is ended, and its stream has failed.
        threads: numerical threads of the metrics; None is all cores. The last bits of a float depend on it.
    """

    generator: str = "reference"
    options: Mapping[str, Any] = field(default_factory=dict)
    configurations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    people: int = 2
    first_seed: int = 9_000_100
    seconds: float = 300.0
    window_s: float = 30.0
    size: int | None = None
    weights: Literal["builtin", "official"] = "builtin"
    seed: int = 0
    limit: int | None = None
    device: str = "auto"
    generator_timeout_s: float = 1800.0
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, value, least in (
            ("people", self.people, 1),
            ("limit", 1 if self.limit is None else self.limit, 1),
            ("size", 16 if self.size is None else self.size, 16),
            ("first_seed", self.first_seed, 0),
            ("threads", 1 if self.threads is None else self.threads, 1),
        ):
            if value < least:
                raise SpecError(f"{name} is {value}; it must be at least {least}.")
        if self.size is not None and self.size % 2:
            raise SpecError(f"size is {self.size}; it must be even, as H.264 needs.")
        for name, length in (("window_s", self.window_s), ("generator_timeout_s", self.generator_timeout_s)):
            if not length > 0:
                raise SpecError(f"{name} is {length:g}; it must be longer than 0 seconds.")
        count = exact(self.seconds) / exact(self.window_s)
        if count.denominator != 1 or count < 1:
            whole = max(1, round(count)) * self.window_s
            raise SpecError(
                f"seconds is {self.seconds:g} and window_s {self.window_s:g}; the rule is one or more whole windows: "
                f"--seconds {whole:g}, for example."
            )
        if count > MOST_WINDOWS:
            raise SpecError(f"{count} windows of {self.window_s:g} s: at most {MOST_WINDOWS} can be shown.")
        for name in self.configurations:
            check_method_name(name)

    @property
    def windows(self) -> int:
        """How many windows a stream has."""
        return int(exact(self.seconds) / exact(self.window_s))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the people."""
        count = self.people if self.limit is None else min(self.people, self.limit)
        return tuple(range(self.first_seed, self.first_seed + count))

    @property
    def methods(self) -> Mapping[str, Mapping[str, Any]]:
        """Configuration -> all keyword arguments of the generator."""
        default = SIX if self.generator == "reference" else {self.generator.rpartition(":")[2]: {}}
        chosen = self.configurations or default
        return {name: {**self.options, **options} for name, options in chosen.items()}

    def only(self, names: list[str]) -> LongSpec:
        """Return the spec with these configurations alone, in their order.

        Raises:
            SpecError: there is no such configuration.
        """
        from lt_eval.registry import suggestion

        every = self.methods
        for name in names:
            if name not in every:
                raise SpecError(f"There is no configuration {name!r}.{suggestion(name, every)}")
        return replace(self, configurations={name: every[name] for name in names})

    def bounds(self, fps: float) -> tuple[int, ...]:
        """Return the first frame of each window, and the one behind the last."""
        rate = exact(fps)
        return tuple(round(place * exact(self.window_s) * rate) for place in range(self.windows + 1))


def exact(value: float) -> Fraction:
    """Return the short decimal that a float was written as."""
    return Fraction(repr(float(value)))


def build(data: Mapping[str, Any]) -> LongSpec:
    """Check the tables of a specification and return it as a record.

    Raises:
        SpecError: an unknown key (with a suggestion), a wrong type, or a rule that the values break.
    """
    data = dict(data)
    options = table_of(data.pop("options", {}), "options")
    tables = table_of(data.pop("configuration", {}), "configuration")
    configurations = {name: table_of(table, f"configuration.{name}") for name, table in tables.items()}
    known = {one.name for one in fields(LongSpec)} - {"configurations"} | {"configuration"}
    refuse_unknown(data, known, "the specification")
    spec = replace(record_of(LongSpec, data, ""), options=options, configurations=configurations)
    _refuse_overridden(spec)
    return spec


def _refuse_overridden(spec: LongSpec) -> None:
    tables = spec.configurations or replace(spec, options={}).methods
    for name, value in spec.options.items():
        if all(name in table for table in tables.values()):
            raise SpecError(
                f"{name} is {value!r} for all configurations, and each of them sets its own {name}. Leave it out, or "
                "give configurations of your own as tables [configuration.NAME] of a specification."
            )
