"""A specification is taken whole or refused with a message that is enough to go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lt_eval.errors import SpecError
from lt_eval.records import MediaPolicy
from lt_eval.spec import ExecutionPolicy, MethodSpec, MetricSpec, RunSpec, build, merge, parse_setting, read_toml

REPOSITORY = Path(__file__).resolve().parents[1]


def test_an_empty_specification_is_the_default_one() -> None:
    assert build({}) == RunSpec()


def test_every_table_reaches_its_record() -> None:
    spec = build(
        {
            "metrics": ["fid"],
            "metric": {"fid": {"preprocess": "clean"}},
            "dataset": {"name": "hdtf", "root": "data/hdtf"},
            "method": {"ours": {"clips": "out/ours", "model_size": "1.3B"}},
            "media": {"fps": 16, "size": 512},
            "execution": {"workers": 2},
        }
    )
    assert spec.metrics == (MetricSpec("fid", {"preprocess": "clean"}),)
    assert (spec.dataset.name, dict(spec.dataset.options)) == ("hdtf", {"root": "data/hdtf"})
    assert spec.methods == (MethodSpec("ours", clips="out/ours", model_size="1.3B"),)
    assert spec.media == MediaPolicy(fps=16.0, size=512)
    assert spec.execution == ExecutionPolicy(workers=2)


def test_native_frame_rate_is_no_rate() -> None:
    assert build({"media": {"fps": "native"}}).media.fps is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"metrcs": ["fid"]}, ["metrcs", "Did you mean 'metrics'"]),
        ({"media": {"fsp": 25}}, ["fsp", "'fps'"]),
        ({"media": {"fps": "fast"}}, ["media.fps", "native"]),
        ({"media": {"fps": 0}}, ["1..240"]),
        ({"media": {"size": 3}}, ["16..4096"]),
        ({"media": {"fit": "stretch"}}, ["media.fit", "'crop'", "'letterbox'", "'squash'"]),
        ({"weights": "oficial"}, ["weights", "'official'"]),
        ({"metrics": []}, ["metrics", "list"]),
        ({"metrics": "fid"}, ["metrics", "list"]),
        ({"metric": {"fdi": {}}}, ["fdi", "Did you mean", "'fid'"]),
        ({"method": {"ours": {}}}, ["ours", "clips", "generator"]),
        ({"method": {"ours": {"clips": "a", "generator": "b"}}}, ["ours", "not both"]),
        ({"method": {"ground-truth": {"clips": "a"}}}, ["ground-truth"]),
        ({"method": {"a/b": {"clips": "a"}}}, ["slash"]),
        ({"execution": {"workers": 0}}, ["workers", "at least 1"]),
        ({"execution": {"workers": True}}, ["workers", "whole number"]),
        ({"execution": {"ray_address": "x"}}, ["ray"]),
        ({"limit": 0}, ["limit"]),
        ({"seed": "one"}, ["seed", "whole number"]),
        ({"dataset": "hdtf"}, ["[dataset]"]),
        ({"method": {"a": {"clips": "x"}, "b": {"clips": "y"}}, "baseline": "c"}, ["baseline", "a, b"]),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, dict) else "",
)
def test_a_mistake_is_named_with_its_rule(data: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SpecError) as error:
        build(data)
    for word in words:
        assert word in str(error.value)


def test_a_flag_overrides_only_its_own_key() -> None:
    below = {"media": {"fps": 25, "size": 512}, "seed": 1}
    assert merge(below, {"media": {"fps": 16}}) == {"media": {"fps": 16, "size": 512}, "seed": 1}
    assert below["media"] == {"fps": 25, "size": 512}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.b=1", {"a": {"b": 1}}),
        ("a=true", {"a": True}),
        ("a=[1, 2]", {"a": [1, 2]}),
        ("a=plain words", {"a": "plain words"}),
        ("a.b = 2.5", {"a": {"b": 2.5}}),
        ("path=/x/y=z", {"path": "/x/y=z"}),
        ('path=C:\\a "b"', {"path": 'C:\\a "b"'}),
        ("metric.my.module:Class.x=1", {"metric": {"my.module:Class": {"x": 1}}}),
        ('method."a b".model_size=1.3B', {"method": {"a b": {"model_size": "1.3B"}}}),
    ],
)
def test_a_setting_is_a_dotted_key_and_a_value(text: str, value: dict[str, Any]) -> None:
    assert parse_setting(text) == value


@pytest.mark.parametrize("text", ["a", "=1", "a..b=1", ".a=1", "metric.my:Class"])
def test_a_setting_without_key_or_value_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="KEY=VALUE"):
        parse_setting(text)


def test_an_unreadable_or_malformed_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.toml"):
        read_toml(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("a = ")
    with pytest.raises(SpecError, match=r"broken\.toml: not a TOML file"):
        read_toml(broken)


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("benchmarks/*.toml")), ids=lambda path: path.name)
def test_the_specifications_that_we_ship_are_accepted(path: Path) -> None:
    assert build(read_toml(path)).dataset.name in {"hdtf", "avspeech", "celebvhq"}


def test_there_is_a_specification_for_each_data_set_of_table_1() -> None:
    names = {build(read_toml(path)).dataset.name for path in REPOSITORY.glob("benchmarks/table1_*.toml")}
    assert names == {"hdtf", "avspeech", "celebvhq"}
