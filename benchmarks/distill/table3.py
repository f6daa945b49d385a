"""Table 3 of the paper at mini scale: six recipes that differ in what the paper's rows differ in, trained and measured.

    python benchmarks/distill/table3.py train   --out results/table3 --seeds 0 1 2 --jobs 3 --device cuda --workers 16
    python benchmarks/distill/table3.py measure --out results/table3
    python benchmarks/distill/table3.py report  --out results/table3

A row is a file of table3/: changes to the recipe that --recipe names, which is the final configuration. What rows have
in common is made once, by the first row that needs it, and read in place by the others: codec and teacher by all,
portraits by a seed, trajectories by conditions, ODE students by conditions and length, as in the paper. A seed is
another draw of everything after the teacher.

    OUT/
        teacher/               codec and teacher
        seed-0/baseline/ ...   one folder of `lt-eval distill` a row, with baseline.safetensors
        logs/                  one file a stage
        people/  seed-0/measured/   whom the rows are measured on, and a run of `lt-eval single`

Every command continues where it was stopped. Exit status 1: a stage failed, and its log says why; 2: unusable input.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import table3_report
from people import (
    FIRST_SEED,
    People,
    at_least,
    clips_of,
    flat,
    generator_config,
    known_recipes,
    refuse_seen,
    score,
    without_traceback,
)

from lt_eval.distill.recipe import Recipe, build, facts
from lt_eval.distill.stages import MAKES
from lt_eval.errors import SpecError
from lt_eval.generator.networks import resolve_device
from lt_eval.spec import merge, parse_setting, read_toml
from lt_eval.store import key_of, only_writer, read_json

HERE = Path(__file__).parent
ROWS = ("baseline", "curated", "converged", "aggressive", "final", "uncurated")
"""Files of table3/, in the order of the paper's table."""

NEEDS = {
    "codec": (),
    "teacher": ("codec",),
    "curate": (),
    "ode-pairs": ("curate", "codec", "teacher"),
    "ode-init": ("ode-pairs",),
    "dmd": ("curate", "codec", "teacher", "ode-init"),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One row: what it is called in the paper, and its whole recipe as tables."""

    name: str
    paper: str
    tables: Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """One stage in one folder.

    Attributes:
        folder: the --out of `lt-eval distill`.
        stage: of it.
        tables: the recipe, what it shares included.
        needs: (folder, stage) that must have ended before.
    """

    folder: Path
    stage: str
    tables: Mapping[str, Any]
    needs: frozenset[tuple[Path, str]]

    @property
    def key(self) -> tuple[Path, str]:
        """What others need it by."""
        return self.folder, self.stage

    def finished(self) -> bool:
        """Return whether this very recipe has come to the end of the stage in this folder."""
        recipe = build(self.tables)
        claimed = self.folder / "recipe.json"
        home, name = MAKES[self.stage]
        made = self.folder / home / name if self.stage != "dmd" else self.folder / f"{recipe.name}.safetensors"
        return made.is_file() and claimed.is_file() and key_of(read_json(claimed)) == key_of(facts(recipe))


def read_rows(base: Mapping[str, Any]) -> list[Row]:
    """Return all rows as changes to a recipe's tables.

    Raises:
        SpecError: a file of table3/ that is none, or rows that do not share codec and teacher.
    """
    rows = []
    for name in ROWS:
        row = read_toml(HERE / "table3" / f"{name}.toml")
        tables = merge(base, {**row["set"], "name": name})
        for key, factor in row.get("times", {}).items():
            value: Any = build(tables)
            for part in key.split("."):
                value = getattr(value, part)
            scaled = max(1, round(value * factor)) if isinstance(value, int) else value * factor
            tables = merge(tables, parse_setting(f"{key}={scaled!r}"))
        rows.append(Row(name, row["paper"], tables))
    if len({_of_the_teacher(facts(build(row.tables))) for row in rows}) > 1:
        raise SpecError("rows of Table 3 share one codec and one teacher; set neither of them in a row.")
    return rows


def _of_the_teacher(known: Mapping[str, Any]) -> str:
    parts = ("preset", "generator", "material", "codec", "codec_weights", "teacher", "audio_weight")
    return key_of(*(known.get(name) for name in parts))


def check_teacher(folder: Path, rows: Sequence[Row]) -> None:
    """Refuse a folder whose codec and teacher another recipe has made.

    Raises:
        SpecError: it holds none, or those of another recipe.
    """
    claimed = folder / "recipe.json"
    if not claimed.is_file():
        raise SpecError(f"--teacher {folder}: no recipe was carried out there. Give the --out of an lt-eval distill.")
    if _of_the_teacher(read_json(claimed)) != _of_the_teacher(facts(build(rows[0].tables))):
        raise SpecError(
            f"--teacher {folder}: its codec and teacher were made by another recipe than these rows are changes to. "
            "Give that one as --recipe, with the same --set."
        )


def _keys(recipe: Recipe) -> dict[str, str]:
    """Return of each stage that rows may share what decides it."""
    known = facts(recipe)
    conditions = known["conditions"]
    curate = key_of(recipe.seed, conditions["people"], conditions["damaged_share"], conditions["bounds"])
    pairs = key_of(curate, conditions["curated"], conditions["pairs"], known["ode"]["held_out"], known["pairs"])
    return {"curate": curate, "ode-pairs": pairs, "ode-init": key_of(pairs, known["ode"])}


def plan(
    rows: Sequence[Row], seeds: Sequence[int], out: Path, chosen: Sequence[str], teacher: Path | None = None
) -> list[Task]:
    """Return the stages that the chosen rows need, each after those that it needs.

    Args:
        rows: all of them, whatever is chosen, so that a stage always has the same owner.
        seeds: of the rows; the teacher has the recipe's own.
        out: the folder of everything.
        chosen: names of rows.
        teacher: a folder of `lt-eval distill` that has codec and teacher already; None makes them here.
    """
    tasks = []
    if teacher is None:
        teacher = out / "teacher"
        tables = merge(rows[0].tables, {"name": "teacher"})
        tasks = [Task(teacher, "codec", tables, frozenset()), Task(teacher, "teacher", tables, _key(teacher, "codec"))]
    for seed in seeds:
        owners: dict[str, Path] = {}
        for row in rows:
            folder = out / f"seed-{seed}" / row.name
            tables = merge(row.tables, {"seed": seed})
            homes = {"codec": teacher, "teacher": teacher, "dmd": folder}
            homes |= {stage: owners.setdefault(key, folder) for stage, key in _keys(build(tables)).items()}
            shared = {stage: str(home.absolute()) for stage, home in homes.items() if home != folder}
            before: frozenset[tuple[Path, str]] = frozenset()  # one process at a time works in a folder
            for stage in NEEDS:
                if homes[stage] == folder:
                    needs = {(homes[need], need) for need in NEEDS[stage]} & {task.key for task in tasks}
                    tasks.append(Task(folder, stage, merge(tables, {"shared": shared}), before | needs))
                    before = _key(folder, stage)
    wanted = {(out / f"seed-{seed}" / name, "dmd") for seed in seeds for name in chosen}
    for task in reversed(tasks):  # a task comes after those that it needs
        wanted |= task.needs if task.key in wanted else set()
    return [task for task in tasks if task.key in wanted]


def _key(folder: Path, stage: str) -> frozenset[tuple[Path, str]]:
    return frozenset({(folder, stage)})


def command(task: Task, more: Sequence[str]) -> list[str]:
    """Return the command line of a stage: the whole recipe as settings, so that it can be repeated by hand."""
    settings = [word for key, value in flat(task.tables) for word in ("--set", f"{key}={value}")]
    return [sys.executable, "-m", "lt_eval", "distill", task.stage, "--out", str(task.folder), *settings, *more]


def train(tasks: Sequence[Task], logs: Path, jobs: int, more: Sequence[str]) -> list[Task]:
    """Carry out tasks in parallel processes, each when what it needs is there; return those that failed.

    Stages that need a failed one are left out; the others go on.
    """
    logs.mkdir(parents=True, exist_ok=True)
    waiting = [task for task in tasks if not task.finished()]
    ended = {task.key for task in tasks} - {task.key for task in waiting}
    running: dict[subprocess.Popen[bytes], Task] = {}
    failed: list[Task] = []
    try:
        while running or any(task.needs <= ended for task in waiting):
            for task in [task for task in waiting if task.needs <= ended][: jobs - len(running)]:
                waiting.remove(task)
                with _log(logs, task).open("ab") as log:
                    running[subprocess.Popen(command(task, more), stdout=log, stderr=log)] = task
                _say(f"begun: {_log(logs, task).stem}")
            time.sleep(0.05)
            for process in [process for process in running if process.poll() is not None]:
                task = running.pop(process)
                ended |= {task.key} if process.returncode == 0 else set()
                failed += [task] if process.returncode else []
                _say(f"{'FAILED' if process.returncode else 'ended'}: {_log(logs, task).stem}")
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
    for task in failed:
        _say(f"{task.folder}, {task.stage} failed; {_log(logs, task)} says why.")
    if waiting:
        _say(f"{len(waiting)} stages that need them were not begun. Once that is mended the same command goes on.")
    return failed


def _log(logs: Path, task: Task) -> Path:
    return logs / f"{task.folder.parent.name}-{task.folder.name}-{task.stage}.log"


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def trained_rows(rows: Sequence[Row], out: Path, seed: int) -> dict[str, Path]:
    """Return the bundle of each row of a seed, by the paper's name; what has not been trained is said and left out.

    Raises:
        SpecError: no row has been trained.
    """
    bundles = {row.paper: out / f"seed-{seed}" / row.name / f"{row.name}.safetensors" for row in rows}
    trained = {name: path for name, path in bundles.items() if path.is_file()}
    if not trained:
        raise SpecError(f"{out / f'seed-{seed}'}: no row was trained with seed {seed}. Run table3.py train first.")
    for name in bundles.keys() - trained.keys():
        _say(f"seed {seed}: {name} has not been trained and is left out.")
    return trained


def measure(
    rows: Sequence[Row], seeds: Sequence[int], out: Path, people: People, *, teacher: Path | None = None, device: str
) -> list[Path]:
    """Measure what was trained, a run of `lt-eval single` a seed; return the run folders.

    Raises:
        SpecError: a recipe has seen these people, or no row of a seed has been trained.
    """
    refuse_seen(people, known_recipes() | {row.name: build(row.tables) for row in rows})
    recipe = build(rows[0].tables)
    config = generator_config(recipe, out / "generator.toml")
    many_steps = {
        "config": config,
        "weights": str(((teacher or out / "teacher") / "teacher" / "teacher.safetensors").absolute()),
        "steps": recipe.pairs.trajectory_steps,
        "guidance": recipe.pairs.guidance,
    }
    folders, bundles = [], {seed: trained_rows(rows, out, seed) for seed in seeds}
    people.draw()
    for seed, trained in bundles.items():
        methods: dict[str, Mapping[str, Any]] = {
            name: {"generator": "reference", "options": {"config": config, "weights": str(path.absolute())}}
            for name, path in trained.items()
        }
        methods[table3_report.TEACHER] = {"generator": "teacher", "options": many_steps}
        methods[table3_report.FROZEN] = clips_of(people.frozen)
        folders.append(out / f"seed-{seed}" / "measured")
        score(people, methods, folders[-1], device=device)
    return folders


def _rows_of(given: argparse.Namespace) -> list[Row]:
    tables = read_toml(given.recipe)
    for text in given.setting:
        tables = merge(tables, parse_setting(text))
    return read_rows(tables)


def _people_of(given: argparse.Namespace, rows: Sequence[Row]) -> People:
    config = build(rows[0].tables).config()
    return People(str(given.out / "people"), given.first_seed, given.people, given.seconds, config.size, config.fps)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "measure", "report"))
    parser.add_argument("--out", type=Path, required=True, help="folder of everything")
    parser.add_argument("--recipe", type=Path, default=HERE / "mini-cpu.toml", help="the final configuration")
    parser.add_argument("--set", dest="setting", action="append", default=[], metavar="KEY=VALUE", help="of the recipe")
    parser.add_argument("--teacher", type=Path, help="folder of lt-eval distill that has this codec and teacher")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--jobs", type=int, default=1, help="stages at a time")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw people, of each stage")
    parser.add_argument("--threads", type=int, help="numerical threads of each stage")
    parser.add_argument("--people", type=int, default=16, help="measured; 16 or more for figures to publish")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="of these people")
    parser.add_argument("--seconds", type=float, default=5.0, help="of their clips")
    parser.add_argument("--to", type=Path, default=Path("results/table3_mini"), help="where the report goes")
    return parser


def checked(given: argparse.Namespace, rows: Sequence[Row]) -> None:
    """Refuse what cannot be carried out before anything is begun.

    Raises:
        SpecError: names the option.
    """
    for name, value in (("--jobs", given.jobs), ("--workers", given.workers), ("--people", given.people)):
        at_least(name, value, 1)
    resolve_device(given.device)
    if given.teacher is not None:
        check_teacher(given.teacher, rows)


def carried_out() -> int:
    """Train, measure or report."""
    given = _parser().parse_args()
    rows = _rows_of(given)
    checked(given, rows)
    if given.what == "train":
        more = ["--device", given.device, "--workers", str(given.workers)]
        more += ["--threads", str(given.threads)] if given.threads else []
        tasks = plan(rows, given.seeds, given.out, given.rows, given.teacher)
        with only_writer(given.out):
            return 1 if train(tasks, given.out / "logs", given.jobs, more) else 0
    if given.what == "measure":
        people = _people_of(given, rows)
        measure(rows, given.seeds, given.out, people, teacher=given.teacher, device=given.device)
        return 0
    runs = [given.out / f"seed-{seed}" / "measured" for seed in given.seeds]
    missing = [run for run in runs if not (run / "manifest.json").is_file()]
    if missing:
        raise SpecError(f"{missing[0]} holds no measurements. Run table3.py measure --out {given.out} first.")
    recipes = {row.paper: build(row.tables) for row in rows}
    print(table3_report.write(runs, recipes, given.to))
    return 0


def main() -> int:
    """Train, measure or report, or say what is wrong with what was given."""
    return without_traceback(carried_out)


if __name__ == "__main__":
    sys.exit(main())
