"""The judge of a multi-round run, as a plugin has it, and ours behind HTTP.

A judge under a registered name (kind "judges") or as module:Class is an object with
`judge(conversations, progress) -> list[Verdict]`; the vision-language judge of `lt_eval.judge` is "vlm".
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_eval.errors import SpecError
from lt_eval.judge.options import JudgeOptions
from lt_eval.registry import create, load
from lt_eval.report.rounds import JudgeInfo
from lt_eval.spec import record_of, refuse_unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import httpx

    from lt_eval.protocols.rounds_spec import Choice
    from lt_eval.records import Conversation, Verdict

    Report = Callable[[str, int, int, str], None]

VLM = "vlm"
REPLIES = "replies.sqlite"
"""In the run folder: every raw reply of the judge."""


@dataclass(frozen=True)
class Judged:
    """What came of judging."""

    verdicts: tuple[Verdict, ...]
    info: JudgeInfo


def judge_options(options: Mapping[str, Any]) -> JudgeOptions:
    """Return the options of the vision-language judge from a table of a specification.

    Raises:
        SpecError: an unknown key, or a value outside its range.
    """
    lists: dict[str, Any] = {}
    rest = dict(options)
    for name in ("servers", "dimensions"):
        value = rest.pop(name, None)
        if value is None:
            continue
        if not isinstance(value, str | list | tuple) or not all(isinstance(item, str) for item in value):
            raise SpecError(f"judge.{name} = {value!r}: a text, or a list of texts, is needed.")
        lists[name] = tuple(value.replace(",", " ").split()) if isinstance(value, str) else tuple(value)
    refuse_unknown(rest, {field.name for field in fields(JudgeOptions)}, "[judge]")
    return replace(record_of(JudgeOptions, rest, "judge"), **lists)


def check_judge(choice: Choice, root: Path, transport: httpx.AsyncBaseTransport | None = None) -> None:
    """Find out whether the judge can be asked, before hours are spent on what it is to judge.

    Raises:
        UsageError: no server answers and none is remembered, or an option cannot be used.
    """
    if choice.name != VLM:
        load("judges", choice.name)
        return
    from lt_eval.judge.panel import Panel
    from lt_eval.judge.replies import ReplyStore
    from lt_eval.judge.rubric import load_rubrics

    options = judge_options(choice.options)
    load_rubrics(options.prompts, options.dimensions)

    async def facts() -> None:
        with ReplyStore(root / REPLIES) as replies:
            async with Panel(options, transport) as panel:
                await panel.facts(replies)

    asyncio.run(facts())


def ask_judge(
    choice: Choice,
    conversations: Sequence[Conversation],
    root: Path,
    progress: Report,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Judged:
    """Return a verdict for every conversation, dimension and repeat.

    Args:
        choice: which judge.
        conversations: all of the run.
        root: the run folder; replies are kept there.
        progress: told of every verdict.
        transport: another way to the servers than the network (tests).

    Raises:
        UsageError: no server answers, or the options cannot be used.
    """
    if choice.name != VLM:
        made = create("judges", choice.name, choice.options)
        verdicts = tuple(made.judge(conversations, progress))
        return Judged(verdicts, JudgeInfo(choice.name, repeats=1 + max((v.repeat for v in verdicts), default=0)))
    from lt_eval.judge.replies import ReplyStore
    from lt_eval.judge.rubric import load_rubrics, prompt_hashes
    from lt_eval.judge.scoring import judge

    options = judge_options(choice.options)
    rubrics = load_rubrics(options.prompts, options.dimensions)
    with ReplyStore(root / REPLIES) as replies:
        found = tuple(judge(conversations, options, replies, progress, transport=transport))
        facts = replies.known_server(f"{options.servers[0]} {options.model}".strip()) or {}
    form = next(iter(rubrics.values())).format
    info = JudgeInfo(
        model=facts.get("root") or facts.get("model") or options.model,
        server=facts.get("version", ""),
        prompts=dict(prompt_hashes(rubrics)),
        revision=options.revision,
        scale=(form.minimum, form.maximum),
        repeats=options.repeats,
        frames=options.max_frames,
        size_px=options.side_px // options.grid_px * options.grid_px,
        temperature=options.temperature,
        top_p=options.top_p,
        seed=options.seed,
        two_step=options.scoring == "two-step",
        expected=options.scoring == "two-step",
    )
    return Judged(found, info)
