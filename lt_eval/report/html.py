"""The HTML report: one folder that holds everything it shows and opens from the disk, without a network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_eval.errors import StoreError, UsageError
from lt_eval.records import GROUND_TRUTH, MethodInfo
from lt_eval.report.clips import REFERENCE, ClipKey, place, safe_name, sources
from lt_eval.report.facts import facts
from lt_eval.report.plots import distributions, is_pull
from lt_eval.report.runs import Run, failures
from lt_eval.report.table import differences, label, method_label, tell_apart, titled, wide
from lt_eval.store import atomic_write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lt_eval.records import Row

GENERATOR = "lt-eval report"
"""What index.html states as its maker; only such a page is ever written over."""

_PAGE = Path(__file__).parent / "page"


def write(runs: Sequence[Run], out: Path, *, with_paper: str | None = None) -> Path:
    """Write the report of one or more runs into the folder `out` and return its index.html, which is written last.

    Clips lie under clips/METHOD/SAMPLE.mp4 (clips/DATASET/METHOD/ with several runs). Nothing in `out` is deleted.

    Args:
        runs: at least one.
        out: a new folder, an empty one, or that of an earlier report.
        with_paper: a published table to show beside them: "table1", "table2", "table3" or "all".

    Raises:
        UsageError: `out` is something else, or there is no run.
        StoreError: `out` cannot be written.
        StorageFullError: the disk is full.
    """
    if not runs:
        raise UsageError("A report needs at least one run folder.")
    refuse_foreign(out)
    views = []
    for index, run in enumerate(_told_apart(runs)):
        under = "clips" if len(runs) == 1 else f"clips/{index + 1}-{safe_name(run.summary.dataset)}"
        views.append(_view(run, place(sources(run), out, under)))
    content = _render(runs, views, with_paper)
    index_html = out / "index.html"
    with atomic_write(index_html) as file:
        file.write(content)
    return index_html


def _names(runs: Sequence[Run]) -> list[str]:
    return [run.folder.absolute().name for run in runs]


def _told_apart(runs: Sequence[Run]) -> list[Run]:
    """Return the runs under the titles that their blocks have in the tables."""
    summaries = tell_apart([titled(run.summary) for run in runs], _names(runs))
    return [replace(run, summary=summary) for run, summary in zip(runs, summaries, strict=True)]


def refuse_foreign(out: Path) -> None:
    """Refuse to write a report where something else lies: a file, a run folder, another page."""
    page = out / "index.html"
    if out.exists() and not out.is_dir():
        raise StoreError(f"{out}: is a file, and an HTML report is a folder. Choose another --out.")
    if any((out / name).exists() for name in ("rows.jsonl", "multiround.json")):
        raise UsageError(f"{out}: is a run folder. Give the report one of its own: --out {out / 'report'}.")
    if page.exists() and GENERATOR not in page.read_text(encoding="utf-8", errors="replace")[:2000]:
        raise UsageError(f"{page}: was not written by lt-eval and is not overwritten. Choose another --out.")


def _render(runs: Sequence[Run], views: Sequence[Mapping[str, Any]], with_paper: str | None) -> str:
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    environment = Environment(loader=FileSystemLoader(_PAGE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    summaries = [run.summary for run in runs]
    return environment.get_template("report.html.j2").render(
        generator=GENERATOR,
        css=Markup((_PAGE / "report.css").read_text(encoding="utf-8")),
        js=Markup("".join((_PAGE / name).read_text(encoding="utf-8") for name in ("common.js", "report.js"))),
        table=wide(summaries, names=_names(runs), with_paper=with_paper),
        differences=differences(summaries, names=_names(runs)),
        runs=[{"index": index, **_section(run)} for index, run in enumerate(_told_apart(runs))],
        views=views,
    )


def _section(run: Run) -> dict[str, Any]:
    failed = failures(run)
    lines = _grouped(failed)
    reasons = [line["reason"] for line in lines]  # as often as the page has lines, whatever the number of metrics
    return {
        "dataset": run.summary.dataset,
        "name": run.folder.absolute().name,
        "facts": facts(run),
        "manifest": json.dumps(run.manifest, indent=2, ensure_ascii=False),
        "plots": distributions(run.summary),
        "failures": lines,
        "reasons": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
        "methods": len([m for m in run.summary.methods if m.name != GROUND_TRUTH]),
        "clips": len(_clips(run)),
    }


def _grouped(failed: Sequence[Row]) -> list[dict[str, Any]]:
    """Put the metrics that failed on one clip for one reason on one line."""
    lines: dict[tuple[str, str, int, str, str], list[str]] = {}
    for row in failed:
        if row.failure:
            key = (row.method, row.sample, row.turn, row.failure.reason, row.failure.message)
            lines.setdefault(key, []).append(row.metric)
    return [
        {"method": method_label(m), "sample": _clip_name(s, t), "reason": r, "message": message, "metrics": metrics}
        for (m, s, t, r, message), metrics in lines.items()
    ]


def _view(run: Run, videos: Mapping[ClipKey, str]) -> dict[str, Any]:
    """Return what the page's script shows clip by clip, as JSON types."""
    columns = [(name, column) for name, column in run.summary.columns.items() if _has_clips(run, name)]
    rows: dict[ClipKey, list[Row]] = {}
    for row in run.rows:
        rows.setdefault((row.method, row.sample, row.turn), []).append(row)
    methods = sorted(run.summary.methods, key=lambda m: m.name != GROUND_TRUTH)
    names = [name for name, _ in columns]
    return {
        "dataset": run.summary.dataset,
        "methods": [method_label(method.name) for method in methods],
        "truth": [method.name == GROUND_TRUTH for method in methods].index(True) if _has_truth(methods) else -1,
        "columns": [
            {"label": label(n, c), "better": c.better, "digits": c.digits, "pull": is_pull(c)} for n, c in columns
        ],
        "clips": [
            {
                "id": _clip_name(sample, turn),
                "reference": videos.get((REFERENCE, sample, turn)) or videos.get((GROUND_TRUTH, sample, turn)),
                "methods": [
                    _clip(run, rows.get((m.name, sample, turn), []), videos.get((m.name, sample, turn)), names)
                    for m in methods
                ],
            }
            for sample, turn in _clips(run)
        ],
    }


def _clips(run: Run) -> list[tuple[str, int]]:
    """Return the clips in the data set's order."""
    samples = {sample: i for i, sample in enumerate(run.manifest.get("dataset", {}).get("samples", ()))}
    found = {(row.sample, row.turn) for row in run.rows}
    return sorted(found, key=lambda clip: (samples.get(clip[0], len(samples)), clip))


def _clip(run: Run, rows: Sequence[Row], video: str | None, columns: Sequence[str]) -> dict[str, Any]:
    values = {name: value for row in rows for name, value in row.values.items()}
    for row in rows[:1]:
        pulls = run.summary.contributions.get(row.method, {})
        values = {**{name: of[row.sample] for name, of in pulls.items() if row.sample in of}, **values}
    said: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.failure:
            said.setdefault((row.failure.reason, row.failure.message), []).append(row.metric)
    return {
        "video": video,
        "file": next((row.clip for row in rows if row.clip), ""),
        "values": [values.get(name) for name in columns],
        "failures": [[", ".join(metrics), reason, message] for (reason, message), metrics in said.items()],
    }


def _has_clips(run: Run, column: str) -> bool:
    scored = any(of.get(column) for of in run.summary.contributions.values())
    return scored or any(column in row.values for row in run.rows)


def _has_truth(methods: Sequence[MethodInfo]) -> bool:
    return any(method.name == GROUND_TRUTH for method in methods)


def _clip_name(sample: str, turn: int) -> str:
    return f"{sample} · turn {turn + 1}" if turn else sample
