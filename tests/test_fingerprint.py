"""A stored number is found again only while everything that it depends on is as it was."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from lt_eval import fingerprint


class Plain:
    """A plugin without a repr of its own."""


class Named:
    """A plugin that names what it depends on."""

    fingerprint = "weights-1"


def test_two_objects_made_alike_have_one_fingerprint() -> None:
    assert fingerprint.of_plugin(Plain(), "m:Plain", {"x": 1}) == fingerprint.of_plugin(Plain(), "m:Plain", {"x": 1})
    assert fingerprint.of_plugin(Plain(), "m:Plain", {"x": 1}) != fingerprint.of_plugin(Plain(), "m:Plain", {"x": 2})


def test_a_plugins_own_fingerprint_is_taken() -> None:
    assert fingerprint.of_plugin(Named(), "m:Named", {"x": 1}) == "weights-1"


def test_a_file_that_an_option_names_counts_by_its_content(tmp_path: Path) -> None:
    weights = tmp_path / "w.txt"
    weights.write_text("1")
    before = fingerprint.of_plugin(Plain(), "m:Plain", {"path": str(weights)})
    weights.write_text("22")
    assert fingerprint.of_plugin(Plain(), "m:Plain", {"path": str(weights)}) != before


def test_edited_code_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for body in ("pass", "x = 1"):
        (tmp_path / "edited_plugin.py").write_text(f"class Metric:\n    {body}\n")
        sys.modules.pop("edited_plugin", None)
        importlib.invalidate_caches()
        module = importlib.import_module("edited_plugin")
        found.append(fingerprint.of_plugin(module.Metric(), "edited_plugin:Metric", {}))
    assert found[0] != found[1]


def test_the_code_and_libraries_that_decode_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint.of_decoding.__wrapped__()
    assert fingerprint.of_decoding.__wrapped__() == before
    monkeypatch.setattr(fingerprint, "version", lambda name: "0.0")
    other_libraries = fingerprint.of_decoding.__wrapped__()
    monkeypatch.undo()
    monkeypatch.setattr(fingerprint, "of_file", lambda path: "edited")
    assert len({before, other_libraries, fingerprint.of_decoding.__wrapped__()}) == 3


def test_a_file_that_is_not_there_is_no_error() -> None:
    assert fingerprint.of_file(None) == fingerprint.of_file(Path("/none/such")) == ""
