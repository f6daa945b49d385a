"""Judge finished conversations: one verdict for each conversation, dimension and repeat, none dropped.

Conversations stay together at one server: its first open question warms the prefix cache, the others follow at once.
What is in the reply store is not asked again, whoever stopped the run and however.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lt_eval.errors import MediaError
from lt_eval.judge.canonical import CanonicalClip, ClipRules, canonical_clip
from lt_eval.judge.media import described, media_part
from lt_eval.judge.options import MOST_REPAIRS
from lt_eval.judge.panel import Panel
from lt_eval.judge.prompt import messages_of
from lt_eval.judge.reading import BOX, Reading, read_choice, read_reply
from lt_eval.judge.replies import Reply
from lt_eval.judge.rubric import Rubric, load_rubrics
from lt_eval.judge.schedule import RejectedError, TransportError
from lt_eval.records import Verdict
from lt_eval.store import key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import httpx

    from lt_eval.judge.client import ServerFacts
    from lt_eval.judge.options import JudgeOptions
    from lt_eval.judge.replies import ReplyStore
    from lt_eval.records import Conversation

    Report = Callable[[str, int, int, str], None]

FROM_WORDS = ("SR", "IC", "LC", "CU", "OIE")
"""Dimensions that the paper judges from the transcript."""

STAGE = "judge"


def judge(
    conversations: Sequence[Conversation],
    options: JudgeOptions,
    replies: ReplyStore,
    progress: Report | None = None,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    clips: Path | None = None,
) -> list[Verdict]:
    """Return every verdict, by conversation, then dimension, then repeat.

    Args:
        conversations: finished ones; those that are not get verdicts that say so.
        options: how to judge.
        replies: what was answered before and what is answered now.
        progress: called with (stage, done, in all, what was done last).
        transport: another way to the servers than the network (tests).
        clips: folder of canonical clips; None is the cache folder.

    Raises:
        UsageError: no server answers and not all replies are kept, servers differ, or a rubric is not usable.
    """
    return asyncio.run(_judge(conversations, options, replies, progress, transport=transport, clips=clips))


async def _judge(
    conversations: Sequence[Conversation],
    options: JudgeOptions,
    replies: ReplyStore,
    progress: Report | None = None,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    clips: Path | None = None,
) -> list[Verdict]:
    """As `judge`, inside a running event loop."""
    rubrics = load_rubrics(options.prompts, options.dimensions)
    async with Panel(options, transport) as panel:
        facts = await panel.facts(replies)
        hearing = _Hearing(options, replies, panel, facts, rubrics, progress, len(conversations), clips)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(hearing.conversation(item)) for item in conversations]
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None
        return [verdict for task in tasks for verdict in task.result()]


class _Hearing:
    """One run of the judge over all conversations."""

    def __init__(
        self,
        options: JudgeOptions,
        replies: ReplyStore,
        panel: Panel,
        facts: ServerFacts,
        rubrics: dict[str, Rubric],
        progress: Report | None,
        conversations: int,
        clips: Path | None,
    ) -> None:
        self.options, self.replies, self.panel, self.facts = options, replies, panel, facts
        self.rubrics, self.rules, self.clips = rubrics, ClipRules.of(options), clips
        self._progress = progress
        self._done, self._total = 0, conversations * len(rubrics) * options.repeats
        self._asking: dict[str, asyncio.Future[Reply]] = {}
        self._encoding = asyncio.Semaphore(1)

    async def conversation(self, conversation: Conversation) -> list[Verdict]:
        """Return the verdicts of one conversation."""
        server = self.panel.server_of(f"{conversation.method}/{conversation.scenario}")
        wanted = [(dimension, repeat) for dimension in self.rubrics for repeat in range(self.options.repeats)]
        async with self.panel.place(server):
            try:
                clips = await self._clips(conversation)
            except _NoVideoError as error:
                return [self._closed(conversation, *one, "generation_failure", str(error)) for one in wanted]
            case = _Case(self, conversation, clips, server)
            first = next((one for one in wanted if case.must_ask(*one)), None)
            early = {} if first is None else {first: await case.verdict(*first)}
            others = [one for one in wanted if one != first]
            late = await asyncio.gather(*(case.verdict(*one) for one in others))
            verdicts = early | dict(zip(others, late, strict=True))
            return [verdicts[one] for one in wanted]

    async def _clips(self, conversation: Conversation) -> list[CanonicalClip]:
        failure = conversation.failure
        if failure is not None:
            raise _NoVideoError(f"{failure.reason}: {failure.message}")
        made = []
        for number, turn in enumerate(conversation.turns, 1):
            if turn.video is None:
                raise _NoVideoError(f"turn {number} has no video")
            try:
                async with self._encoding:
                    made.append(await asyncio.to_thread(canonical_clip, turn.video, self.rules, self.clips))
            except MediaError as error:
                raise _NoVideoError(f"turn {number}: {error}") from error
        if not made:
            raise _NoVideoError("the conversation has no turn")
        return made

    def _closed(self, conversation: Conversation, dimension: str, repeat: int, status: Any, message: str) -> Verdict:
        self.count(conversation, dimension)
        return Verdict(conversation.method, conversation.scenario, dimension, repeat, status, message=message)

    def count(self, conversation: Conversation, dimension: str) -> None:
        """One more verdict is there."""
        self._done += 1
        if self._progress is not None:
            what = f"{conversation.method} {conversation.scenario} {dimension}"
            self._progress(STAGE, self._done, self._total, what)

    async def reply(self, server: str, asked: dict[str, Any], body: Callable[[bool], dict[str, Any]]) -> Reply:
        """Return the reply to what is asked, from the store or from the server; the same question is asked once.

        Args:
            server: where to ask.
            asked: everything that can change the reply, clips by their hashes.
            body: makes the request; its argument tells to send clips by their ids alone.

        Raises:
            TransportError, RejectedError: no reply.
        """
        key = key_of(asked)
        known = self.replies.get(key)
        if known is not None:
            return known
        if not self.options.ask:
            raise TransportError("no reply is kept, and none was asked for")
        if key in self._asking:
            return await asyncio.shield(self._asking[key])
        future = self._asking[key] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody else may be waiting
        try:
            reply = await self._send(server, key, asked, body)
            future.set_result(reply)
        except BaseException as error:
            future.set_exception(error if isinstance(error, Exception) else TransportError("interrupted"))
            raise
        finally:
            del self._asking[key]
        return reply

    async def _send(
        self, server: str, key: str, asked: dict[str, Any], body: Callable[[bool], dict[str, Any]]
    ) -> Reply:
        started = time.perf_counter()
        try:
            raw = await self.panel.chat(server, body(self.options.reuse_media))
        except RejectedError as error:
            if not self.options.reuse_media or error.status != 400:
                raise
            started = time.perf_counter()
            raw = await self.panel.chat(server, body(False))  # the server has not seen a clip yet, or dropped it
        reply = Reply(key, asked, raw, time.perf_counter() - started)
        self.replies.put(reply)
        return reply


class _NoVideoError(Exception):
    """A conversation without all its videos cannot be judged."""


class _Case:
    """One conversation before the judge."""

    def __init__(
        self, hearing: _Hearing, conversation: Conversation, clips: Sequence[CanonicalClip], server: str
    ) -> None:
        self._hearing, self._conversation, self._clips, self._server = hearing, conversation, clips, server
        self._parts: dict[bool, list[dict[str, Any]]] = {}

    def must_ask(self, dimension: str, repeat: int) -> bool:
        """Return whether the first reply of a question is missing."""
        if self._inapplicable(dimension):
            return False
        asked = self._asked(self._hearing.rubrics[dimension], repeat, 0)
        return self._hearing.replies.get(key_of(asked)) is None

    async def verdict(self, dimension: str, repeat: int) -> Verdict:
        """Return one verdict, asking where a reply is missing."""
        conversation, rubric = self._conversation, self._hearing.rubrics[dimension]
        verdict = Verdict(conversation.method, conversation.scenario, dimension, repeat, "not_applicable")
        if why := self._inapplicable(dimension):
            verdict = replace(verdict, message=why)
        else:
            verdict = await self._judged(verdict, rubric)
        self._hearing.count(conversation, dimension)
        return verdict

    def _inapplicable(self, dimension: str) -> str:
        turns = self._conversation.turns
        if dimension == "MVC" and len(turns) < 2:
            return "coherence over several videos, and the conversation has one"
        mute = [str(number) for number, turn in enumerate(turns, 1) if turn.transcript is None]
        if dimension in FROM_WORDS and mute:
            return f"judged from the transcript, and turn {', '.join(mute)} is not transcribed"
        return ""

    async def _judged(self, verdict: Verdict, rubric: Rubric) -> Verdict:
        reading, key = None, ""
        for attempt in range(self._hearing.options.repairs + 1):
            try:
                reading, key = await self._attempt(rubric, verdict.repeat, attempt)
            except (TransportError, RejectedError) as error:
                return replace(verdict, status="transport_error", message=str(error), reply=key)
            if not reading.repairable:
                break
        assert reading is not None
        return replace(
            verdict,
            status=reading.status,
            score=reading.score,
            expected=reading.expected,
            rationale=reading.rationale,
            reply=key,
            message=reading.message,
        )

    async def _attempt(self, rubric: Rubric, repeat: int, attempt: int) -> tuple[Reading, str]:
        """Return what one try comes to, and the key of the reply that it rests on."""
        two_steps = self._hearing.options.scoring == "two-step"
        asked = self._asked(rubric, repeat, attempt)
        reply = await self._hearing.reply(self._server, asked, lambda known: self._body(rubric, asked, known))
        reading = read_reply(reply, rubric.format, score_wanted=not two_steps)
        if not two_steps or reading.status != "ok":
            return reading, reply.key
        asked = self._asked(rubric, repeat, attempt, reading.rationale)
        reply = await self._hearing.reply(self._server, asked, lambda known: self._body(rubric, asked, known))
        return read_choice(reply, rubric.format, reading.rationale), reply.key

    def _asked(self, rubric: Rubric, repeat: int, attempt: int, rationale: str | None = None) -> dict[str, Any]:
        """Return everything that can change a reply; without a clip's or a secret's content."""
        options, facts = self._hearing.options, self._hearing.facts
        if rationale is None:
            sampling: dict[str, Any] = {"max_tokens": options.max_tokens}
            if options.structured == "regex":
                sampling["structured_outputs"] = {"regex": rubric.format.regex}
        else:
            choices = list(rubric.format.choices)
            sampling = {"max_tokens": 1, "structured_outputs": {"choice": choices}}
            sampling |= {"logprobs": True, "top_logprobs": len(choices)}
            sampling |= {"continue_final_message": True, "add_generation_prompt": False}
        sampling |= {"temperature": options.temperature, "top_p": options.top_p}
        # of no option but the seed: a run with fewer repairs must find the replies of one with more
        sampling["seed"] = options.seed + repeat * (MOST_REPAIRS + 1) + attempt
        return {
            "server": {"model": facts.model, "root": facts.root, "version": facts.version},
            "revision": options.revision,
            "dimension": rubric.dimension,
            "repeat": repeat,
            "attempt": attempt,
            "sampling": sampling,
            "messages": self._messages(rubric, described(self._clips), rationale),
        }

    def _body(self, rubric: Rubric, asked: dict[str, Any], known: bool) -> dict[str, Any]:
        """Return the request itself, the clips in it."""
        if known not in self._parts:
            options = self._hearing.options
            self._parts[known] = [media_part(clip, options, known=known) for clip in self._clips]
        rationale = asked["messages"][-1]["content"] if asked["messages"][-1]["role"] == "assistant" else None
        messages = self._messages(rubric, self._parts[known], None)
        if rationale is not None:
            messages.append({"role": "assistant", "content": rationale})
        return {"model": self._hearing.facts.model, "messages": messages, **asked["sampling"]}

    def _messages(
        self, rubric: Rubric, videos: Sequence[dict[str, Any]], rationale: str | None
    ) -> list[dict[str, Any]]:
        messages = messages_of(self._conversation, videos, rubric, self._hearing.options.order)
        if rationale is not None:
            messages.append({"role": "assistant", "content": f"{rationale}\n\n{BOX}"})
        return messages
