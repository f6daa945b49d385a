from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lt_eval.errors import MissingExtraError, SpecError, UnknownNameError
from lt_eval.registry import BUILTIN, create, load, parameters, targets

PLUGIN = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Metric:
    threshold: float
    every: int = 1

    def __post_init__(self):
        if self.every < 1:
            raise ValueError(f"every is {self.every}; it must be at least 1")

def metric(**options):
    return options

NUMBER = 3
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that can be imported while the test runs."""
    (tmp_path / "registry_plugin.py").write_text(PLUGIN)
    (tmp_path / "registry_plugin_on_ray.py").write_text("import ray\n")
    (tmp_path / "registry_plugin_on_nothing.py").write_text("import a_package_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "registry_plugin"
    for name in [name for name in sys.modules if name.startswith("registry_plugin")]:
        del sys.modules[name]


@pytest.mark.parametrize("kind", BUILTIN)
def test_every_name_of_ours_has_a_factory(kind: str) -> None:
    for name in BUILTIN[kind]:
        assert callable(load(kind, name))


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("metrics", "fif", "There is no metric called 'fif'. Did you mean 'fid'?"),
        ("datasets", "hdft", "There is no dataset called 'hdft'. Did you mean 'hdtf'?"),
        ("metrics", "xyzzy", "Known: .*fid, fvd"),
        ("metrics", "xyzzy", "A path module:attribute also works"),
    ],
)
def test_an_unknown_name_is_answered_with_what_is_known(kind: str, name: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        load(kind, name)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("registry_plugin:Metrik", "registry_plugin.*has no attribute 'Metrik'"),
        ("registry_plugin_of_none:Metric", "No module named 'registry_plugin_of_none'"),
        ("registry_plugin_on_nothing:Metric", "No module named 'a_package_that_nobody_has'"),
        ("registry_plugin:NUMBER", "is of type int, not a class or function"),
    ],
)
@pytest.mark.usefixtures("plugin")
def test_a_path_that_leads_nowhere_says_where_it_ends(target: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        load("metrics", target)


@pytest.mark.usefixtures("plugin")
def test_a_missing_extra_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoRay:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            if name == "ray":
                raise ModuleNotFoundError("No module named 'ray'", name="ray")

    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NoRay, *sys.meta_path])
    with pytest.raises(MissingExtraError, match=r"pip install 'lt-eval\[ray\]'"):
        load("metrics", "registry_plugin_on_ray:Metric")


def test_options_are_the_factorys_parameters(plugin: str) -> None:
    made = create("metrics", f"{plugin}:Metric", {"threshold": 0.5, "every": 2})
    assert (made.threshold, made.every) == (0.5, 2)
    assert list(parameters(load("metrics", f"{plugin}:Metric"))) == ["threshold", "every"]


def test_an_unknown_option_is_answered_with_the_nearest(plugin: str) -> None:
    with pytest.raises(SpecError, match=r"has no option 'treshold'\. Did you mean 'threshold'\?"):
        create("metrics", f"{plugin}:Metric", {"treshold": 0.5})


def test_a_required_option_is_asked_for(plugin: str) -> None:
    with pytest.raises(SpecError, match=r"needs the option 'threshold': --set metric\..*threshold=VALUE"):
        create("metrics", f"{plugin}:Metric", {"every": 2})


def test_a_value_that_a_factory_refuses_is_the_users_to_mend(plugin: str) -> None:
    with pytest.raises(SpecError, match="every is 0; it must be at least 1"):
        create("metrics", f"{plugin}:Metric", {"threshold": 0.5, "every": 0})


def test_what_the_run_offers_reaches_only_those_that_ask_and_yields_to_the_user(plugin: str) -> None:
    offered = {"every": 3, "device": "cpu"}
    assert create("metrics", f"{plugin}:Metric", {"threshold": 0.5}, offered=offered).every == 3
    assert create("metrics", f"{plugin}:Metric", {"threshold": 0.5, "every": 4}, offered=offered).every == 4


@dataclass(frozen=True)
class Point:
    name: str
    value: str


def test_a_plugin_of_the_same_name_and_target_is_no_clash(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = BUILTIN["metrics"]["fid"]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [Point("fid", ours), Point("new", "a:B")])
    assert targets("metrics")["fid"] == ours
    assert targets("metrics")["new"] == "a:B"


def test_a_name_that_is_taken_is_refused_with_both_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """And only that name: one clumsy package must not take every metric away."""
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [Point("fid", "theirs:FID")])
    both = f"{BUILTIN['metrics']['fid']} and theirs:FID"
    with pytest.raises(UnknownNameError, match=both):
        load("metrics", "fid")
    assert targets("metrics")["fid"] == both
    assert callable(load("metrics", "fvd"))


def test_a_module_in_the_current_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "registry_plugin_here.py").write_text("class Metric: pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert load("metrics", "registry_plugin_here:Metric").__name__ == "Metric"


def test_a_module_that_breaks_at_import_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "registry_plugin_broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownNameError, match=r"registry_plugin_broken.*ZeroDivisionError"):
        load("metrics", "registry_plugin_broken:Metric")


def test_a_private_parameter_is_no_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "registry_plugin_private.py").write_text("def metric(every=1, _lock=None):\n    return every\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert list(parameters(load("metrics", "registry_plugin_private:metric"))) == ["every"]
    with pytest.raises(SpecError, match="no option '_lock'"):
        create("metrics", "registry_plugin_private:metric", {"_lock": 1})
