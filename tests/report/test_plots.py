from __future__ import annotations

import itertools
import re
import statistics
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lt_eval.report.plots import distributions, quantile, ticks
from tests.report.fixtures import CLIPS, COLUMNS, VALUES, builtin_only, summary

finite = st.floats(-1e6, 1e6)


@given(finite, finite)
@example(0.0, 5e-324)
@example(0.0, 1e-307)
def test_ticks_are_few_even_and_inside(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    marks = ticks(low, high)
    assert len(marks) <= 6
    slack = (high - low) * 1e-6
    assert all(low - slack <= mark <= high + slack for mark in marks)
    steps = [after - before for before, after in itertools.pairwise(marks)]
    assert all(step == pytest.approx(steps[0], rel=1e-6) for step in steps)


@given(st.lists(finite, min_size=2, max_size=30))
def test_quartiles_are_those_of_the_inclusive_method(values: list[float]) -> None:
    expected = statistics.quantiles(values, n=4, method="inclusive")
    assert [quantile(sorted(values), q) for q in (0.25, 0.5, 0.75)] == pytest.approx(expected, abs=1e-6)


def test_one_plot_a_column_with_every_clip_inside_the_drawing() -> None:
    plots = distributions(summary())
    assert len(plots) == len(COLUMNS)
    assert [plot.subtitle.startswith("pull") for plot in plots] == [c.fixed_by_reference for c in COLUMNS.values()]
    for plot, name in zip(plots, COLUMNS, strict=True):
        root = ElementTree.fromstring(plot.svg)
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        dots = root.findall(".//circle")
        assert len(dots) == len(CLIPS) * sum(values.get(name) is not None for values in VALUES.values())
        assert all(0 < float(d.attrib["cx"]) < width and 0 < float(d.attrib["cy"]) < height for d in dots)


def test_higher_values_lie_further_right() -> None:
    root = ElementTree.fromstring(distributions(summary())[0].svg)
    pairs = [(float(d.attrib["data-tip"].rsplit(": ", 1)[1]), float(d.attrib["cx"])) for d in root.findall(".//circle")]
    assert [x for _, x in sorted(pairs)] == sorted(x for _, x in pairs)


def test_colours_are_left_to_the_page() -> None:
    assert not any(re.search(r"#[0-9a-f]{3}|rgb|fill=|stroke=", plot.svg) for plot in distributions(summary()))


def test_no_values_of_clips_means_no_plot() -> None:
    assert distributions(builtin_only()) == []
