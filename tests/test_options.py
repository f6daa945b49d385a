"""Values of options against the annotations of what takes them."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from lt_eval.errors import SpecError
from lt_eval.options import annotations_of, checked
from lt_eval.registry import BUILTIN, create, load, parameters


@dataclass(frozen=True)
class Base:
    many: int = 1


@dataclass(frozen=True)
class Made(Base):
    share: float = 0.5
    name: str | None = None
    size: int | Literal["native"] = "native"
    edges: tuple[float, ...] = ()
    words: Sequence[str] = ()
    unknown: NoSuchName = None  # type: ignore[name-defined]  # noqa: F821
    exact: bool = False


def made(many: int, share: float = 0.5, *, anything: Any = None, untold=None) -> tuple[object, ...]:  # type: ignore[no-untyped-def]
    return many, share, anything, untold


class Plain:
    def __init__(self, many: int = 1) -> None:
        self.many = many


@pytest.mark.parametrize(
    ("hint", "given", "kept"),
    [
        (int, 3, 3),
        (float, 3, 3.0),
        (float, 0.5, 0.5),
        (str, "a", "a"),
        (bool, True, True),
        (int | None, None, None),
        (int | None, 4, 4),
        (int | str, "a", "a"),
        (float | None, 4, 4.0),
        (int | float, 4, 4),
        (Literal["a", 2], 2, 2),
        (Literal["a"] | None, None, None),
        (tuple[float, ...], [1, 2.5], (1.0, 2.5)),
        (list[str], ["a"], ["a"]),
        (Sequence[int], [1, 2], [1, 2]),
        (Mapping[str, int], {"a": "x"}, {"a": "x"}),
        (Path, "here", "here"),
        (Any, {"x": 1}, {"x": 1}),
        ("NoSuchName", object, object),
    ],
)
def test_values_of_the_right_type_are_kept(hint: Any, given: Any, kept: Any) -> None:
    found = checked(hint, given, "metric.m.option")
    assert found == kept and type(found) is type(kept)


@pytest.mark.parametrize(
    ("hint", "given", "rule"),
    [
        (int, "abc", "a whole number"),
        (int, 3.0, "a whole number"),
        (int, True, "a whole number"),
        (int, [1], "a whole number"),
        (float, "0.5", "a number"),
        (float, False, "a number"),
        (float, math.nan, "a number"),
        (float, math.inf, "a number"),
        (str, 3, "a text, in quotes"),
        (bool, "true", "true or false"),
        (bool, 1, "true or false"),
        (int | None, "x", "a whole number or left out"),
        (int | str, 0.5, "a whole number or a text"),
        (Literal["a", "b"], "c", "'a' or 'b'"),
        (Literal[1, 2], True, "1 or 2"),
        (tuple[float, ...], 3, "a list, each entry a number"),
        (tuple[float, ...], ["x"], "a list, each entry a number"),
        (Sequence[str], "abc", "a list, each entry a text"),
    ],
)
def test_values_of_another_type_are_refused(hint: Any, given: Any, rule: str) -> None:
    with pytest.raises(SpecError) as caught:
        checked(hint, given, "metric.m.option")
    assert str(caught.value).startswith(f"metric.m.option = {given!r}: it must be {rule}")


@pytest.mark.parametrize("factory", [Made, made, Plain, functools.partial(Made, share=0.1)])
def test_annotations_of_any_kind_of_factory_are_found(factory: Callable[..., Any]) -> None:
    found = annotations_of(factory)
    assert found["many"] is int
    assert "unknown" not in found and "untold" not in found
    if factory is not Plain:
        assert found["share"] is float


NOT = {int: "abc", float: "abc", str: 3, bool: "yes"}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in BUILTIN.items() for name in names])
def test_every_option_of_ours_refuses_a_wrong_type(kind: str, name: str) -> None:
    factory = load(kind, name)
    hints = annotations_of(factory)
    hidden = {field.name for field in dataclasses.fields(factory) if not field.repr} if is_dataclass(factory) else set()
    for option in parameters(factory).keys() - hidden:  # what is hidden is for tests: a transport, a clock
        hint = hints[option]
        wrong = next((value for type_, value in NOT.items() if hint in (type_, type_ | None)), object())
        where = {"metrics": f"metric.{name}.", "datasets": "dataset."}.get(kind, f"{kind[:-1]} '{name}': ")
        with pytest.raises(SpecError, match=rf"^{re.escape(where)}{option} = .*: it must be "):
            create(kind, name, {option: wrong})


def test_whole_numbers_serve_where_numbers_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILTIN["metrics"], "made", f"{__name__}:Made")
    found = create("metrics", "made", {"share": 1, "edges": [1, 2]})
    assert (found.share, found.edges) == (1.0, (1.0, 2.0)) and type(found.share) is float
    assert create("metrics", "made", {"unknown": [1], "exact": True}).unknown == [1]


def test_what_a_run_offers_is_not_the_user_s_and_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILTIN["metrics"], "made", f"{__name__}:Made")
    assert create("metrics", "made", {}, offered={"many": "seven"}).many == "seven"
