"""Lines over time: every value where it belongs, gaps where there is none, and names that tell lines apart."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

from lt_eval.protocols.longform_spec import SIX
from lt_eval.records import GROUND_TRUTH, Column
from lt_eval.report.lines import Point, plot, standalone, styles

COLUMN = Column("higher", digits=3)


def points(*values: float | None) -> list[Point]:
    return [Point(0.25 + 0.5 * place, value) for place, value in enumerate(values)]


def test_a_line_has_every_value_and_a_gap_where_there_is_none() -> None:
    drawn = plot("Identity", COLUMN, {"a": points(0.9, 0.8, None, 0.6, 0.5)})
    assert drawn is not None and drawn.title == "Identity ↑"
    root = ElementTree.fromstring(drawn.svg)
    lines = [node for node in root.iter() if node.tag.endswith("polyline")][1:]  # the first is the legend's
    assert [len(line.attrib["points"].split()) for line in lines] == [2, 2]
    dots = [node for node in root.iter() if node.tag.endswith("circle")]
    heights = [float(dot.attrib["cy"]) for dot in dots]
    assert len(dots) == 4 and heights == sorted(heights)
    assert "from 0.900 to 0.500" in drawn.svg


def test_what_nobody_has_is_not_drawn() -> None:
    assert plot("FID", COLUMN, {"a": points(None, None)}) is None
    drawn = plot("FID", COLUMN, {GROUND_TRUTH: points(None), "a": points(3.0)})
    assert drawn is not None and "Ground Truth" not in drawn.svg


def test_a_line_looks_as_its_legend_says_where_another_has_no_value() -> None:
    drawn = plot("FID", COLUMN, {"a": points(None, None), "b": points(1.0, 2.0)})
    assert drawn is not None
    root = ElementTree.fromstring(drawn.svg)
    legend, line = (node for node in root.iter() if node.tag.endswith("polyline"))
    assert legend.attrib["stroke"] == line.attrib["stroke"]


def test_every_configuration_looks_different_and_splits_share_a_colour() -> None:
    look = styles([GROUND_TRUTH, *SIX])
    assert len(set(look.values())) == 7 and look[GROUND_TRUTH] == 'class="truth"'
    colours = {name: re.findall("#[0-9a-f]+", text) for name, text in look.items() if name != GROUND_TRUTH}
    assert colours["3+2 relative"] == colours["3+2 absolute"] != colours["1+4 relative"]
    assert "dash" in look["3+2 absolute"] and "dash" not in look["3+2 relative"]


def test_names_cannot_break_the_drawing_and_a_file_of_many_is_one() -> None:
    several = [plot(f"<{n}>", COLUMN, {'"<b>&': points(0.1, 0.1), "b": points(0.1)}) for n in range(3)]
    root = ElementTree.fromstring(standalone([one for one in several if one is not None]))
    inner = [node for node in root if node.tag.endswith("svg")]
    assert len(inner) == 3 and all(node.attrib["height"] and node.attrib["width"] for node in inner)
    assert "var(--ink,#" in "".join(root.itertext())
