from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lt_eval.records import Summary
from lt_eval.report import latex, render, wide
from tests.report.fixtures import builtin_only, summary

DOCUMENT = r"""\documentclass[10pt,twocolumn]{article}
\usepackage[margin=0.75in]{geometry}
\usepackage{booktabs,graphicx}
\begin{document}
%s
\end{document}
"""


def test_every_special_character_is_escaped() -> None:
    assert latex.escape("a%b_c&d#e{f}g$") == r"a\%b\_c\&d\#e\{f\}g\$"
    assert latex.escape("~^\\") == r"\textasciitilde{}\textasciicircum{}\textbackslash{}"
    assert latex.escape("↑↓–") == r"$\uparrow$$\downarrow$--"
    assert latex.escape("two\nlines\x07") == "two lines"


def test_arrows_marks_and_intervals() -> None:
    content = latex.render(wide([summary()]))
    assert r"FID $\downarrow$" in content and r"Sync-C $\uparrow$" in content
    assert r"\textbf{10.85}" in content and r"\underline{13.68}" in content
    assert r"{\tiny {[}9.77, 11.94{]}}" in content
    assert "9.77" not in latex.render(wide([summary()]), intervals=False)


def test_the_packages_it_needs_are_named() -> None:
    assert latex.render(wide([builtin_only()])).startswith("% needs \\usepackage{booktabs}\n")
    scaled = latex.render(wide([summary()], with_paper="all"))
    assert r"\resizebox" in scaled and scaled.startswith("% needs \\usepackage{booktabs,graphicx}\n")


@pytest.mark.parametrize("paper", [None, "all"])
@pytest.mark.parametrize("summaries", [[summary()], [summary(), builtin_only()]], ids=["one", "two"])
def test_it_compiles(tmp_path: Path, summaries: list[Summary], paper: str | None) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    for intervals in (True, False):
        content = render("latex", summaries, with_paper=paper, intervals=intervals)
        (tmp_path / "table.tex").write_text(DOCUMENT % content, encoding="utf-8")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
        assert done.returncode == 0, done.stdout[-2000:]
        assert (tmp_path / "table.pdf").is_file()
        assert "Overfull" not in done.stdout
