"""What a user can write is documented: every flag, every key of a specification, every metric and failure reason."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import typer.main

from lt_eval import errors
from lt_eval.cli import app
from lt_eval.records import MediaPolicy
from lt_eval.registry import BUILTIN
from lt_eval.spec import ExecutionPolicy, MethodSpec, RunSpec, build

ROOT = Path(__file__).resolve().parents[1]
DOCS = {path.name: path.read_text() for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")]}
ALL = "\n".join(DOCS.values())


def test_every_flag_is_documented() -> None:
    flags: set[str] = set()
    groups = [typer.main.get_command(app)]
    for command in groups:
        groups.extend(getattr(command, "commands", {}).values())
        for parameter in command.params:
            flags.update(flag for flag in parameter.opts if flag.startswith("--"))
    missing = sorted(flag for flag in flags - {"--help", "--version"} if not re.search(rf"{flag}\b", ALL))
    assert len(flags) > 20 and missing == []


@pytest.mark.parametrize("kind", [RunSpec, MediaPolicy, ExecutionPolicy, MethodSpec])
def test_every_key_of_a_specification_is_documented(kind: type) -> None:
    names = {field.name for field in dataclasses.fields(kind)} - {"execution", "dataset", "methods", "media", "name"}
    assert [name for name in sorted(names) if not re.search(rf"\b{name} = ", DOCS["running.md"])] == []


def test_the_specification_on_the_page_is_accepted() -> None:
    import tomllib

    (block,) = re.findall(r"```toml\n(.*?)```", DOCS["running.md"], flags=re.S)
    spec = build(tomllib.loads(block))
    assert spec.dataset.name == "hdtf" and len(spec.methods) == 2


def test_every_metric_and_data_set_is_documented() -> None:
    for kind in ("metrics", "datasets"):
        assert [name for name in BUILTIN[kind] if f"`{name}`" not in ALL] == []


def test_every_reason_of_a_media_failure_is_documented() -> None:
    kinds = errors.MediaError.__subclasses__()
    assert [kind.reason for kind in kinds if f"`{kind.reason}`" not in DOCS["running.md"]] == []


@pytest.mark.parametrize("name", sorted(DOCS))
def test_links_between_pages_lead_somewhere(name: str) -> None:
    folder = ROOT if name == "README.md" else ROOT / "docs"
    targets = re.findall(r"\]\(([^)#:]+)\)", DOCS[name])
    assert [target for target in targets if not (folder / target).exists()] == []
