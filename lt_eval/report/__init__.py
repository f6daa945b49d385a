"""Summaries as CSV, LaTeX, HTML, Markdown and plain text. Needs neither torch nor a decoder.

table        Summary -> Table: labels, marks, notes, decided once for all writers
published    the paper's tables as summaries
csv latex markdown text html     one writer per format
write        format name -> writer, to a string or to disk
"""

from lt_eval.report.formats import FORMATS, check, render, write_text
from lt_eval.report.html import write as write_html
from lt_eval.report.runs import Run, read_run
from lt_eval.report.table import Table, differences, wide

__all__ = [
    "FORMATS",
    "Run",
    "Table",
    "check",
    "differences",
    "read_run",
    "render",
    "wide",
    "write_html",
    "write_text",
]
