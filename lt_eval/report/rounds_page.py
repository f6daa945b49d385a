"""The HTML report of a multi-round run: tables, how far the judge can be trusted, and every conversation.

A conversation shows the videos of all methods turn by turn, both sides' words, and what the judge wrote and gave on
each dimension; those on which methods differ most come first. One folder, opens from the disk, no network.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_eval.records import DIMENSIONS
from lt_eval.report.clips import ClipKey, place
from lt_eval.report.html import GENERATOR, refuse_foreign
from lt_eval.report.rounds_tables import is_judged, tables
from lt_eval.store import atomic_write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lt_eval.records import AnsweredTurn, Conversation, Summary, Verdict
    from lt_eval.report.rounds import RoundsRun

_PAGE = Path(__file__).parent / "page"
_USER = "user"
"""The folder of the user's spoken lines."""


@dataclass(frozen=True)
class RoundsReport:
    """What the page shows: the run, its two tables, and the statistics as `statistics.json` has them."""

    run: RoundsRun
    percentiles: Summary
    raw: Summary
    statistics: Mapping[str, Any]


def write_rounds(report: RoundsReport, out: Path, *, with_paper: str | None = None) -> Path:
    """Write the report into the folder `out` and return its index.html, which is written last.

    Videos lie under clips/METHOD/SCENARIO-turnN.mp4. Nothing in `out` is deleted.

    Args:
        report: of one run.
        out: a new folder, an empty one, or that of an earlier report.
        with_paper: "table2" or "all" sets the published rows beside.

    Raises:
        UsageError: `out` is something else.
        StoreError: `out` cannot be written.
        StorageFullError: the disk is full.
    """
    refuse_foreign(out)
    placed = place(_sources(report.run), out, "clips")
    content = _render(report, placed, with_paper)
    index_html = out / "index.html"
    with atomic_write(index_html) as file:
        file.write(content)
    return index_html


def _sources(run: RoundsRun) -> dict[ClipKey, Path]:
    found: dict[ClipKey, Path] = {}
    for conversation in run.conversations:
        for index, turn in enumerate(conversation.turns):
            if turn.video:
                found[conversation.method, conversation.scenario, index] = turn.video
            if turn.user_audio:
                found.setdefault((_USER, conversation.scenario, index), turn.user_audio)
    return found


def _render(report: RoundsReport, placed: Mapping[ClipKey, str], with_paper: str | None) -> str:
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    environment = Environment(loader=FileSystemLoader(_PAGE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    run = report.run
    percentiles, *others = tables([report.percentiles], [report.raw], (), with_paper)
    raw = others.pop(0) if is_judged([report.raw]) else None
    return environment.get_template("rounds.html.j2").render(
        generator=GENERATOR,
        css=Markup("".join((_PAGE / name).read_text(encoding="utf-8") for name in ("report.css", "rounds.css"))),
        js=Markup("".join((_PAGE / name).read_text(encoding="utf-8") for name in ("common.js", "rounds.js"))),
        percentiles=percentiles,
        raw=raw,
        differences=others[0] if others else None,
        run=run,
        name=run.folder.absolute().name,
        dimensions=[name for name in DIMENSIONS if name in report.statistics["dimensions"]],
        statistics=report.statistics,
        coverage=report.statistics["coverage"],
        conversations=_conversations(run, placed),
        scale=run.manifest.judge.scale if run.manifest.judge else (1, 5),
        facts=_facts(report),
        manifest=json.dumps(run.manifest.to_json(), indent=2, ensure_ascii=False),
    )


def _conversations(run: RoundsRun, placed: Mapping[ClipKey, str]) -> list[dict[str, Any]]:
    """Return a dictionary a scenario, the one on which methods differ most first."""
    held = {(c.method, c.scenario): c for c in run.conversations}
    verdicts: dict[tuple[str, str, str], list[Verdict]] = {}
    for verdict in sorted(run.verdicts, key=lambda each: each.repeat):
        verdicts.setdefault((verdict.scenario, verdict.dimension, verdict.method), []).append(verdict)
    methods = [method.name for method in run.manifest.methods]
    found = [_conversation(scenario, methods, held, verdicts, placed) for scenario in run.manifest.scenarios]
    order = sorted(range(len(found)), key=lambda index: (-found[index]["spread"], index))
    return [{**found[index], "place": index} for index in order]


def _conversation(
    scenario: str,
    methods: Sequence[str],
    held: Mapping[tuple[str, str], Conversation],
    verdicts: Mapping[tuple[str, str, str], Sequence[Verdict]],
    placed: Mapping[ClipKey, str],
) -> dict[str, Any]:
    given = {dim: [verdicts.get((scenario, dim, method), ()) for method in methods] for dim in DIMENSIONS}
    means = {dim: [_mean(each) for each in of_methods] for dim, of_methods in given.items()}
    spreads = {dim: _spread(values) for dim, values in means.items()}
    conversations = [held.get((method, scenario)) for method in methods]
    longest = max((c.turns for c in conversations if c), key=len, default=())
    known = [spread for spread in spreads.values() if spread is not None]
    return {
        "id": scenario,
        "spread": sum(known) / len(known) if known else 0.0,
        "spreads": {dim: spread for dim, spread in spreads.items() if spread is not None},
        "means": means,
        "verdicts": {dim: of_methods for dim, of_methods in given.items() if any(of_methods)},
        "failures": [(m, c.failure) for m, c in zip(methods, conversations, strict=True) if c and c.failure],
        "turns": [
            {
                "user": turn.user_text,
                "heard": turn.user_transcript,
                "audio": placed.get((_USER, scenario, index)),
                "takes": [
                    _take(c, method, index, placed.get((method, scenario, index)))
                    for method, c in zip(methods, conversations, strict=True)
                ],
            }
            for index, turn in enumerate(longest)
        ],
    }


def _take(conversation: Conversation | None, method: str, index: int, video: str | None) -> dict[str, Any]:
    turn = conversation.turns[index] if conversation and index < len(conversation.turns) else None
    absent = "No video."
    if turn is None:
        absent = "This turn was not answered."
    elif turn.video and not video:
        absent = f"The video is no longer at {turn.video}."
    return {"method": method, "video": video, "absent": absent, "said": turn and turn.transcript, "cost": _cost(turn)}


def _cost(turn: AnsweredTurn | None) -> str:
    if turn is None:
        return ""
    parts = []
    if turn.latency_s is not None:
        talker = "" if turn.talker_s is None else f", the talker {turn.talker_s:.2f} s of it"
        parts.append(f"first frame after {turn.latency_s:.2f} s{talker}")
    if turn.frames is not None and turn.fps:
        parts.append(f"{turn.frames / turn.fps:.1f} s long")
    return "; ".join(parts)


def _mean(verdicts: Sequence[Verdict]) -> float | None:
    scores = [verdict.score for verdict in verdicts if verdict.status == "ok" and verdict.score is not None]
    return sum(scores) / len(scores) if scores else None


def _spread(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) - min(known) if len(known) > 1 else None


def _facts(report: RoundsReport) -> list[tuple[str, str]]:
    """Return (name, value) pairs of what a reader must know before the numbers, leaving out what is not known."""
    manifest, statistics = report.run.manifest, report.statistics
    judge, heard = manifest.judge, manifest.transcripts
    session = manifest.sessions[-1] if manifest.sessions else {}
    pairs = [
        ("Run", report.run.folder.absolute().name),
        ("Scenarios", f"{manifest.scenario_set}, {len(manifest.scenarios)}, sha256 {manifest.scenario_hash}"),
        ("Judge", f"{judge.model} {judge.revision}".strip() if judge else f"none: {manifest.no_judge}"),
        ("Server", judge.server if judge else ""),
        ("Frames", f"up to {judge.frames} a video, {judge.size_px} px" if judge else ""),
        ("Sampling", f"T {judge.temperature:g}, top-p {judge.top_p:g}, seed {judge.seed}" if judge else ""),
        ("Judgments (K)", str(judge.repeats) if judge else ""),
        ("Prompts", ", ".join(f"{name} {digest}" for name, digest in judge.prompts.items()) if judge else ""),
        ("Transcripts", f"{heard.backend} {heard.model}".strip() if heard else ""),
        (
            "User WER",
            f"{heard.user_wer:.1%} of {heard.user_words} words" if heard and heard.user_wer is not None else "",
        ),
        ("Pool", (statistics["reference_pool"] or "these methods") if judge else ""),
        ("Percentile", statistics["percentile"] if judge else ""),
        ("Seed", str(manifest.seed)),
        ("Software", ", ".join(f"{name} {version}" for name, version in session.get("versions", {}).items())),
        ("Command", shlex.join(str(part) for part in session.get("command", []))),
        ("Measured", str(session.get("created", ""))),
    ]
    return [(name, value) for name, value in pairs if value]
