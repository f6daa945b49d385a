"""Is a bundle good enough to ship? The acceptance figures, each with its bound, on people whom no recipe has seen.

    python benchmarks/distill/judge.py --bundle OUT/NAME.safetensors --teacher OUT/teacher/teacher.safetensors

The bundle streams with four steps, as in use. Beside it: the same networks untrained, its many-step teacher, a portrait
that never moves, and the bundle once more, driven by the next person's speech and scored against the true one. All are
measured by one run of `lt-eval single` with builtin weights, which is kept in --work and can be continued.

Exit status 0 whatever is met; 2: unusable input.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from people import (
    FIRST_SEED,
    People,
    at_least,
    clips_of,
    generator_config,
    known_recipes,
    refuse_seen,
    score,
    value_of,
    without_traceback,
)

from lt_eval.distill.recipe import Recipe, read_recipe
from lt_eval.errors import SpecError
from lt_eval.generator.networks import resolve_device
from lt_eval.generator.reference import ReferenceGenerator
from lt_eval.media.decode import read_audio
from lt_eval.media.encode import encode
from lt_eval.media.still import read_image
from lt_eval.protocols.single import Outcome
from lt_eval.records import GROUND_TRUTH
from lt_eval.registry import create
from lt_eval.report import write_text
from lt_eval.report.runs import Run, read_run
from lt_eval.store import read_json, write_json

BUNDLE, UNTRAINED, TEACHER, FROZEN, OTHER = "bundle", "untrained", "teacher", "frozen portrait", "other audio"

SYNC_SHARE = 0.75
IN_TIME_FRAMES = 1
IN_TIME_SHARE = 0.9
CLOSER = 5.0
OF_TEACHER = 1.5
LEAST_SECONDS = 2.2
"""Of a clip: Sync asks for 50 frames of a face, and hears a little beyond them."""


@dataclass(frozen=True)
class Verdict:
    """One figure against its bound.

    Attributes:
        what: it says.
        found: in words and numbers.
        bound: what is asked for.
        met: whether it is; None where it could not be measured.
    """

    what: str
    found: str
    bound: str
    met: bool | None


@dataclass(frozen=True)
class Figures:
    """What the verdicts are made of.

    Attributes:
        values: method -> column -> value; None where no clip has one.
        clips: how many were measured of each method.
        in_time: clips of the bundle whose sound is off by at most one frame; one without a value is not in time.
        fps: at which a viewer watches.
        differences: of Sync-C, a method's minus the bundle's on the clips both have a value of: with its 95 % interval.
        on_gpu: whether it was generated on one, which says nothing about two CPU cores.
    """

    values: Mapping[str, Mapping[str, float | None]]
    clips: int
    in_time: int
    fps: float
    differences: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    on_gpu: bool = False

    def ratio(self, column: str, method: str, of: str) -> float | None:
        """Return one method's value by another's, where both are known and the latter is not 0."""
        above, below = self.values[method][column], self.values[of][column]
        return above / below if above is not None and below else None


def verdicts(figures: Figures) -> list[Verdict]:
    """Return every figure with its bound, in the order of the issue."""
    share, frozen = figures.ratio("Sync-C", BUNDLE, GROUND_TRUTH), figures.ratio("FVD", BUNDLE, FROZEN)
    found = [
        _judged(
            "Sync-C, share of ground truth's", share, "{:.1%}", f"at least {SYNC_SHARE:.0%}", lambda v: v >= SYNC_SHARE
        ),
        Verdict(
            "clips within one frame of their sound",
            f"{figures.in_time} of {figures.clips}",
            f"at least {IN_TIME_SHARE:.0%}",
            figures.in_time >= IN_TIME_SHARE * figures.clips,
        ),
    ]
    for column in ("FID", "FVD"):
        times = figures.ratio(column, UNTRAINED, BUNDLE)
        bound = f"at least {CLOSER:g} times"
        found.append(_judged(f"{column}, untrained by trained", times, "{:.2f}", bound, lambda v: v >= CLOSER))
    for column in ("FID", "FVD"):
        times = figures.ratio(column, BUNDLE, TEACHER)
        bound = f"at most {OF_TEACHER:g} times"
        found.append(_judged(f"{column}, by its teacher's", times, "{:.2f}", bound, lambda v: v <= OF_TEACHER))
    found += [
        _judged("FVD, by a frozen portrait's", frozen, "{:.2f}", "below 1", lambda v: v < 1),
        _above(figures, FROZEN, "Sync-C above a frozen portrait's"),
        _above(figures, OTHER, "Sync-C above that with another clip's speech"),
    ]
    bound = f"at least {figures.fps:g}, by two threads of a CPU"
    rate = figures.values[BUNDLE]["Throughput"]
    speed = _judged("frames a second", rate, "{:.1f}", bound, lambda v: v >= figures.fps)
    on_gpu = replace(speed, found=f"{speed.found} on a GPU", met=None)
    return [*found, on_gpu if figures.on_gpu else speed]


def _judged(what: str, value: float | None, form: str, bound: str, holds: Callable[[float], bool]) -> Verdict:
    if value is None or not math.isfinite(value):
        return Verdict(what, "not measured", bound, None)
    return Verdict(what, form.format(value), bound, holds(value))


def _above(figures: Figures, other: str, what: str) -> Verdict:
    """Judge the bundle's Sync-C against another's: by the paired interval where there is one.

    Where nothing is found of the other, there is nothing that the bundle is not above.
    """
    own, theirs = figures.values[BUNDLE]["Sync-C"], figures.values[other]["Sync-C"]
    shown, met = f"{_number(own)} against {_number(theirs)}", theirs is None or (own is not None and own > theirs)
    if other in figures.differences:
        value, low, high = figures.differences[other]
        shown, met = f"{shown}: {value:+.3g} [{low:+.3g}, {high:+.3g}]", high < 0
    return Verdict(what, shown, "above, 95 % interval of the pairs included", None if own is None else met)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


# Measuring -----------------------------------------------------------------------------------------------------------


def methods_of(
    bundle: str, teacher: str, recipe: Recipe, people: People, work: Path
) -> Mapping[str, Mapping[str, Any]]:
    """Return the methods of the run; whatever is no generator is made here."""
    config = generator_config(recipe, work / "generator.toml")
    many_steps = {"steps": recipe.pairs.trajectory_steps, "guidance": recipe.pairs.guidance}
    return {
        BUNDLE: {"generator": "reference", "options": {"config": config, "weights": bundle}},
        UNTRAINED: {"generator": "reference", "options": {"config": config, "weights": "random"}},
        TEACHER: {"generator": "teacher", "options": {"config": config, "weights": teacher, **many_steps}},
        FROZEN: clips_of(people.frozen),
        OTHER: clips_of(work / "other-audio"),
    }


def other_audio(people: People, generator: ReferenceGenerator, folder: Path) -> None:
    """Let everybody be driven by the speech of the next one; the clip's own track stays the true one.

    What is there of the same people and the same generator is kept.
    """
    made_from = {"people": people.version, "generator": generator.fingerprint}
    record = folder / "made_from.json"
    if record.is_file() and read_json(record) == made_from:
        return
    record.unlink(missing_ok=True)  # from here on its files are of two kinds
    for number in range(len(people)):
        person, other = people[number], people[(number + 1) % len(people)]
        assert person.portrait is not None and other.turns[0].speech is not None and person.turns[0].speech is not None
        speech = read_audio(other.turns[0].speech, generator.sample_rate)
        with generator.session(read_image(person.portrait), prompt=person.prompt, seed=0) as session:
            frames = np.concatenate(list(session.speak([speech])))
        encode(folder / f"{person.id}.mp4", frames, generator.fps, read_audio(person.turns[0].speech))
    write_json(record, made_from)


def figures_of(outcome: Outcome, run: Run, fps: float, *, on_gpu: bool) -> Figures:
    """Return what is judged of a finished run."""
    columns = ("FID", "FVD", "Sync-C", "Sync-D", "Throughput", "Latency")
    names = [method.name for method in outcome.summary.methods]
    values = {name: {column: value_of(outcome, name, column) for column in columns} for name in names}
    offsets = [
        value
        for row in run.rows
        if (row.method, row.metric) == (BUNDLE, "sync")
        for column, value in row.values.items()
        if column.split(" (")[0] == "Sync offset"
    ]
    differences = {
        one.method: (one.value, one.low, one.high)
        for one in outcome.summary.differences
        if (one.baseline, one.column.split(" (")[0]) == (BUNDLE, "Sync-C")
    }
    clips = len(run.manifest["dataset"]["samples"])
    return Figures(values, clips, sum(abs(offset) <= IN_TIME_FRAMES for offset in offsets), fps, differences, on_gpu)


def page(figures: Figures, run: Run, bundle: Path, command: str) -> str:
    """Return the report as Markdown."""
    people, hardware = run.manifest["dataset"]["samples"], run.manifest["sessions"][-1]["hardware"]
    judged = verdicts(figures)
    met = sum(verdict.met is True for verdict in judged)
    lines = [
        f"# Acceptance of {bundle.name}",
        "",
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, on {', '.join(hardware['gpus']) or hardware['cpu']}. "
        f"{len(people)} drawn people and sentences that no recipe has trained on or chosen a checkpoint by "
        f"({people[0]} to {people[-1]}); builtin metrics.",
        "",
        f"**{met} of {len(judged)} are met.** What no clip has a value of is not measured, and not met.",
        "",
        "| | found | asked for | |",
        "|---|---:|---|---|",
    ]
    words = {True: "met", False: "**not met**", None: "not judged"}
    lines += [f"| {one.what} | {one.found} | {one.bound} | {words[one.met]} |" for one in judged]
    columns = list(next(iter(figures.values.values())))
    lines += ["", f"| | {' | '.join(columns)} |", "|---" + "|---:" * len(columns) + "|"]
    lines += [
        f"| {name} | {' | '.join(_number(values[column]) for column in columns)} |"
        for name, values in figures.values.items()
    ]
    lines += [
        "",
        "Throughput in frames a second and Latency in seconds, as `lt-eval single` measures them while it generates. A "
        "person must still look at the clips: none of these figures sees what a person sees.",
    ]
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True, help="teacher/teacher.safetensors of its distillation")
    parser.add_argument("--recipe", type=Path, default=Path(__file__).parent / "mini-cpu.toml", help="that made them")
    parser.add_argument("--people", type=int, default=16)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="of the people")
    parser.add_argument("--seconds", type=float, default=5.0, help="of their clips")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--work", type=Path, default=Path("results/judge"), help="folder of the run and its clips")
    parser.add_argument("--out", type=Path, help="write the report there")
    return parser


def checked(given: argparse.Namespace) -> None:
    """Refuse what cannot be judged before anybody is drawn.

    Raises:
        SpecError: names the option.
    """
    for option, path in (("--bundle", given.bundle), ("--teacher", given.teacher)):
        if not path.is_file():
            raise SpecError(f"{option} {path}: there is no such file. Give one that lt-eval distill wrote.")
    at_least("--people", given.people, 1)
    at_least("--seconds", given.seconds, LEAST_SECONDS)


def judged() -> int:
    """Measure, print and write the report."""
    given = _parser().parse_args()
    checked(given)
    recipe = read_recipe(given.recipe)
    config = recipe.config()
    people = People(str(given.work / "people"), given.first_seed, given.people, given.seconds, config.size, config.fps)
    refuse_seen(people, known_recipes() | {given.recipe.name: recipe})
    people.draw()
    bundle, teacher = (str(path.absolute()) for path in (given.bundle, given.teacher))
    methods = methods_of(bundle, teacher, recipe, people, given.work)
    generator = create("generators", "reference", methods[BUNDLE]["options"], offered={"device": given.device})
    other_audio(people, generator, given.work / "other-audio")
    outcome = score(people, methods, given.work / "run", device=given.device)
    run = read_run(given.work / "run")
    on_gpu = resolve_device(given.device).type != "cpu"
    text = page(
        figures_of(outcome, run, config.fps, on_gpu=on_gpu), run, given.bundle,
        " ".join(["python", "benchmarks/distill/judge.py", *sys.argv[1:]]),
    )  # fmt: skip
    print(text)
    if given.out:
        write_text(given.out, text)
    return 0


def main() -> int:
    """Judge a bundle, or say what is wrong with what was given."""
    return without_traceback(judged)


if __name__ == "__main__":
    sys.exit(main())
