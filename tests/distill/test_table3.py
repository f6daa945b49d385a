"""Table 3 at nano size: rows share what the paper's rows share, and go from nothing to a page."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lt_eval.distill.recipe import build
from lt_eval.distill.stages import Workshop, run_stage
from lt_eval.errors import SpecError
from lt_eval.records import Cell, Column, MethodInfo, Summary
from lt_eval.spec import parse_setting
from tests.distill.test_command import RECIPE
from tests.scripts import BENCHMARKS, script

FOLDER = BENCHMARKS / "distill"


@pytest.fixture(scope="module")
def table3() -> ModuleType:
    return script("distill", "table3")


@pytest.fixture(scope="module")
def people(table3: ModuleType) -> ModuleType:
    return script("distill", "people")


@pytest.fixture(scope="module")
def report(table3: ModuleType) -> ModuleType:
    return script("distill", "table3_report")


# What a row is -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["mini-cpu.toml", "mini-gpu.toml"])
def test_rows_differ_in_what_the_papers_rows_differ_in(table3: ModuleType, base: str) -> None:
    rows = table3.read_rows(table3.read_toml(FOLDER / base))
    recipes = [build(row.tables) for row in rows]
    final = build(table3.read_toml(FOLDER / base))
    steps, rates, critics = (final.ode.loop.steps, final.dmd.student.learning_rate, final.dmd.critic.learning_rate)
    assert [r.conditions.curated for r in recipes] == [False, True, True, True, True, False]
    assert [r.ode.loop.steps / steps for r in recipes] == [0.2, 0.2, 1, 1, 1, 1]
    assert [r.dmd.student.learning_rate / rates for r in recipes] == [0.5, 0.5, 0.5, 1, 1, 1]
    assert [r.dmd.critic.learning_rate / critics for r in recipes] == [0.5, 0.5, 0.5, 1, 1, 1]
    scales = [r.dmd.teacher_guidance / final.dmd.teacher_guidance for r in recipes]
    assert scales == pytest.approx([4 / 6] * 4 + [1, 1])
    assert {row.name: build({**row.tables, "name": final.name}) == final for row in rows} == {
        name: name == "final" for name in table3.ROWS
    }


def test_rows_have_the_papers_names_in_the_papers_order(table3: ModuleType, report: ModuleType) -> None:
    rows = table3.read_rows({})
    assert [row.paper for row in rows] == [method.name for method in report.read_published("table3")[0].methods]


# What is made once ---------------------------------------------------------------------------------------------------


def test_stages_are_shared_where_the_papers_are(table3: ModuleType, tmp_path: Path) -> None:
    tasks = table3.plan(table3.read_rows({}), [0, 1], tmp_path, table3.ROWS)
    made = {f"{task.folder.relative_to(tmp_path)} {task.stage}" for task in tasks}
    each = {
        "baseline curate", "baseline ode-pairs", "baseline ode-init", "baseline dmd",
        "curated ode-pairs", "curated ode-init", "curated dmd",
        "converged ode-init", "converged dmd",
        "aggressive dmd", "final dmd",
        "uncurated ode-init", "uncurated dmd",
    }  # fmt: skip
    assert made == {"teacher codec", "teacher teacher"} | {f"seed-{seed}/{task}" for seed in (0, 1) for task in each}
    shared = {task.folder.name: build(task.tables).shared for task in tasks if task.folder.parent.name == "seed-0"}
    assert Path(shared["final"]["ode-init"]) == Path(shared["aggressive"]["ode-init"]) == tmp_path / "seed-0/converged"
    assert Path(shared["uncurated"]["ode-pairs"]) == tmp_path / "seed-0/baseline"
    assert all(Path(found["teacher"]) == tmp_path / "teacher" for found in shared.values())


def test_every_stage_comes_after_what_it_needs(table3: ModuleType, tmp_path: Path) -> None:
    done: set[tuple[Path, str]] = set()
    for task in table3.plan(table3.read_rows({}), [0, 1], tmp_path, table3.ROWS):
        assert task.needs <= done, task.key
        done.add(task.key)


def test_a_row_brings_along_what_it_needs_and_no_more(table3: ModuleType, tmp_path: Path) -> None:
    tasks = table3.plan(table3.read_rows({}), [3], tmp_path, ["final"])
    assert [(task.folder.name, task.stage) for task in tasks] == [
        ("teacher", "codec"), ("teacher", "teacher"), ("baseline", "curate"),
        ("curated", "ode-pairs"), ("converged", "ode-init"), ("final", "dmd"),
    ]  # fmt: skip
    given = table3.plan(table3.read_rows({}), [3], tmp_path, ["final"], tmp_path / "elsewhere")
    assert [task.stage for task in given] == ["curate", "ode-pairs", "ode-init", "dmd"]
    assert build(given[-1].tables).shared["teacher"] == str(tmp_path / "elsewhere")


def test_a_command_line_says_the_whole_recipe(table3: ModuleType, tmp_path: Path) -> None:
    base = {"generator": {"stream": {"rope": "absolute"}}, "dmd": {"critic_loss": "x0"}}
    for task in table3.plan(table3.read_rows(base), [1], tmp_path, table3.ROWS):
        words = table3.command(task, [])
        tables: dict[str, Any] = {}
        for text in [word for place, word in enumerate(words) if words[place - 1] == "--set"]:
            tables = table3.merge(tables, parse_setting(text))
        assert build(tables) == build(task.tables)


def test_rows_that_do_not_share_a_teacher_are_refused(table3: ModuleType, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table3, "HERE", tmp_path)
        (tmp_path / "table3").mkdir()
        for number, name in enumerate(table3.ROWS):
            (tmp_path / "table3" / f"{name}.toml").write_text(f'paper = "x"\n[set.teacher]\nbatch = {8 + number}\n')
        with pytest.raises(SpecError, match="share one codec and one teacher"):
            table3.read_rows({})


def test_a_teacher_of_another_recipe_is_refused(table3: ModuleType, tmp_path: Path) -> None:
    rows = table3.read_rows({})
    with pytest.raises(SpecError, match="no recipe was carried out there"):
        table3.check_teacher(tmp_path, rows)
    for tables, fits in (({"seed": 3, "ode": {"batch": 3}}, True), ({"teacher": {"batch": 3}}, False)):
        Workshop(build(tables), tmp_path / str(fits), lambda *_: None).claim("curate")
    table3.check_teacher(tmp_path / "True", rows)
    with pytest.raises(SpecError, match="made by another recipe"):
        table3.check_teacher(tmp_path / "False", rows)


def test_a_stage_that_fails_takes_those_that_need_it_with_it(
    table3: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(task: Any, more: object) -> list[str]:
        fails = (task.folder.name, task.stage) == ("curated", "ode-pairs")
        return [sys.executable, "-c", f"import sys; print({task.stage!r}); sys.exit({int(fails)})"]

    monkeypatch.setattr(table3, "command", command)
    tasks = table3.plan(table3.read_rows({}), [0], tmp_path, table3.ROWS)
    failed = table3.train(tasks, tmp_path / "logs", 3, [])
    said = capsys.readouterr().err
    assert [(task.folder.name, task.stage) for task in failed] == [("curated", "ode-pairs")]
    assert (tmp_path / "logs" / "seed-0-uncurated-dmd.log").read_text() == "dmd\n"
    assert not (tmp_path / "logs" / "seed-0-final-dmd.log").exists()
    assert "6 stages that need them were not begun" in said


# Whom it is measured on ----------------------------------------------------------------------------------------------


def test_nobody_is_measured_who_was_trained_on(people: ModuleType) -> None:
    recipes = people.known_recipes()
    assert {"mini-cpu.toml", "mini-gpu.toml"} <= set(recipes)
    people.refuse_seen(people.People("x", people=1000), recipes)
    for options in (recipes["mini-gpu.toml"].material, recipes["mini-cpu.toml"].conditions.people):
        last = options.first_seed + options.people - 1
        with pytest.raises(SpecError, match="they have been seen"):
            people.refuse_seen(people.People("x", first_seed=last), recipes)
    with pytest.raises(SpecError, match=r"material of .*\.toml has 7000000"):
        people.refuse_seen(people.People("x", first_seed=recipes["mini-cpu.toml"].material.first_seed - 15), recipes)


def test_people_are_drawn_once_and_are_whole_again_after_an_interruption(people: ModuleType, tmp_path: Path) -> None:
    def made() -> Any:
        return people.People(str(tmp_path), people=2, seconds=1.0, size=64)

    first = made()
    first.draw()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    marks = {path: path.stat().st_mtime_ns for path in before}
    (tmp_path / "items" / f"{first[1].id}.json").unlink()
    (tmp_path / "speech" / f"{first[1].id}.wav").unlink()
    again = made()
    assert [dialogue.id for dialogue in (again[0], again[1])] == [first[0].id, first[1].id]
    assert {path: path.read_bytes() for path in before} == before
    assert all(path.stat().st_mtime_ns == mark for path, mark in marks.items() if first[0].id in path.name)
    assert made().version == first.version != people.People(str(tmp_path), people=3, seconds=1.0, size=64).version


# What the page says --------------------------------------------------------------------------------------------------


def test_people_who_were_half_made_again_are_made_again(people: ModuleType, tmp_path: Path) -> None:
    def some(size: int) -> Any:
        return people.People(str(tmp_path), people=1, seconds=1.0, size=size)

    first = some(64)[0].turns[0].reference
    held = first.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(people, "write_picture", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            len(some(96)), some(96)[0]
    assert first.read_bytes() != held  # of the other size by now
    assert some(64)[0].turns[0].reference.read_bytes() == held


def summary(names: list[str], values: dict[str, list[float]]) -> Summary:
    cells = tuple(
        Cell("d", name, f"{column} (builtin)", value, low=value - 1, high=value + 1)
        for column, row in values.items()
        for name, value in zip(names, row, strict=True)
    )
    columns = {f"{column} (builtin)": Column("lower") for column in values}
    return Summary("d", tuple(MethodInfo(name) for name in names), columns, cells)


def test_an_effect_is_a_difference_of_neighbours_and_agrees_by_its_sign(report: ModuleType) -> None:
    (paper,) = report.read_published("table3")
    names = [method.name for method in paper.methods]
    seeds = [summary(names, {"FID": [9, 7, 5, 6, 7, 8.0]}), summary(names, {"FID": [9, 10, 5, 4, 7, 6.0]})]
    found = report.effects(seeds, paper, names)
    assert [effect.change for effect in found] == names[1:] and {effect.column for effect in found} == {"FID"}
    assert [effect.paper for effect in found] == pytest.approx([-12.2, -3.23, 0.43, 1.58, 10.21])
    assert [effect.ours for effect in found] == [(-2, 1), (-2, -5), (1, -1), (1, 3), (1, -1)]
    assert [effect.agreeing for effect in found] == [1, 2, 1, 2, 1]
    without = summary([names[0], names[2]], {"FID": [1, 2.0]})  # the row between was not trained
    assert report.effects([without], paper, names) == []


# From nothing to a page ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_row_goes_from_nothing_to_a_page(
    table3: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LT_EVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", f"{FOLDER.parents[1]}:{FOLDER}")
    (tmp_path / "nano.toml").write_text(RECIPE)
    to, out, teacher = tmp_path / "published", tmp_path / "out", tmp_path / "before"
    for stage in ("codec", "teacher"):
        run_stage(stage, Workshop(build(tomllib.loads(RECIPE)), teacher, lambda *_: None))

    def run(what: str, *words: str) -> int:
        line = [what, "--out", out, "--recipe", tmp_path / "nano.toml", "--teacher", teacher, "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", ["table3.py", *map(str, line), *words, "--to", str(to)])
        found: int = table3.main()
        return found

    assert run("train", "--rows", "uncurated", "--jobs", "2", "--threads", "1") == 0
    assert [path.stem for path in out.glob("seed-0/*/*.safetensors")] == ["uncurated"]
    capsys.readouterr()
    assert run("train", "--rows", "uncurated") == 0  # nothing is left to do
    assert "begun" not in capsys.readouterr().err
    assert run("measure", "--people", "2", "--seconds", "2.2") == 0
    assert "Baseline has not been trained and is left out" in capsys.readouterr().err
    assert run("report") == 0
    page = (to / "README.md").read_text()
    names = ("ground-truth", "Teacher, many steps", "Frozen portrait")
    for name in (*names, "Final Configuration without Curated Multimodal Conditions"):
        assert f"| {name} |" in page
    assert "| 23.89 | 261.19 | 3.85 | 11.42 |" in page and "(0/2)" in page  # no Sync in faces of 64 pixels
    assert {path.name for path in to.iterdir()} == {"README.md", "table.csv", "tidy.csv", "table.tex", "index.html"}
    (to / "README.md").write_text(page.replace("Not written yet", "Curation helps here; formerly: not written yet"))
    assert run("report") == 0
    assert "Curation helps here" in (to / "README.md").read_text()
    assert run("measure", "--first-seed", "7000000") == 2
    assert "they have been seen" in capsys.readouterr().err
