"""Before GPU time is spent: does the server serve the judge, keep every frame, and does the judge see them?

Frames are counted in the server's own tokens of a request (vLLM's /tokenize): one pad a grid cell and pair of frames,
one run of pads a pair. Sight is proven by a question whose answer must differ between a black video and another.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lt_eval.errors import UsageError
from lt_eval.judge.canonical import CanonicalClip, ClipRules, canonical_clip, still_clip
from lt_eval.judge.media import media_part
from lt_eval.judge.panel import Panel
from lt_eval.judge.prompt import messages_of
from lt_eval.judge.replies import Reply
from lt_eval.judge.schedule import RejectedError, TransportError
from lt_eval.records import AnsweredTurn, Conversation

if TYPE_CHECKING:
    import httpx

    from lt_eval.judge.client import ServerFacts
    from lt_eval.judge.options import JudgeOptions
    from lt_eval.records import Frames

PAD = "<|video_pad|>"
CARD_SECONDS = (30, 5)
"""A video that 2 frames a second would exceed the cap of, and one that the cap would exceed."""

SAME = 1e-6
QUESTION = "Watch the video. A: its picture is black from beginning to end. B: it is not. Answer with one letter."


@dataclass(frozen=True)
class Preflight:
    """What was found.

    Attributes:
        server: who answers.
        frame_pairs: that the server makes of the videos, and that it should; None where it does not tell.
        video_tokens: the same, for grid cells.
        prompt_tokens: of the request.
        black_of_black: probability that the judge gives to "black" for a black video; None where not told.
        black_of_real: and for the other one.
        problems: what must be mended before a run.
        warnings: what could not be proven.
    """

    server: ServerFacts
    frame_pairs: tuple[int, int] | None = None
    video_tokens: tuple[int, int] | None = None
    prompt_tokens: int | None = None
    black_of_black: float | None = None
    black_of_real: float | None = None
    problems: tuple[str, ...] = field(default_factory=tuple)
    warnings: tuple[str, ...] = field(default_factory=tuple)


def preflight(
    options: JudgeOptions,
    conversation: Conversation | None = None,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    clips: Path | None = None,
) -> Preflight:
    """Ask the servers and return what was found.

    Args:
        options: of the run to come.
        conversation: of that run; None sends test cards of 30 and 5 s.
        transport: another way to the servers than the network (tests).
        clips: folder of canonical clips; None is the cache folder.

    Raises:
        UsageError: no server answers, or not with the model.
        MediaError: a video of the conversation cannot be read.
    """
    return asyncio.run(_preflight(options, conversation, transport, clips))


async def _preflight(
    options: JudgeOptions,
    conversation: Conversation | None,
    transport: httpx.AsyncBaseTransport | None,
    clips: Path | None,
) -> Preflight:
    rules = ClipRules.of(options)
    with tempfile.TemporaryDirectory(prefix="lt-eval-") as name:
        if conversation is None:
            shown = test_cards(rules, Path(name))
            conversation = Conversation("test", "cards", tuple(AnsweredTurn("?", transcript="") for _ in shown))
        else:
            videos = [turn.video for turn in conversation.turns if turn.video is not None]
            shown = [canonical_clip(video, rules, clips) for video in videos]
        if not shown:
            raise UsageError("preflight: the conversation has no video. Give one that is finished.")
        black = still_clip(Path(name) / "black.mp4", np.zeros_like(_read(shown[0])), shown[0].fps)
        async with Panel(options, transport) as panel:
            facts = await panel.facts()
            counted = [await _count(panel, url, facts, options, conversation, shown) for url in panel.clients]
            seen = [await _sight(panel, url, facts, options, black, shown[0]) for url in panel.clients]
    problems = [text for found in (*counted, *seen) for text in found.problems]
    warnings = [text for found in (*counted, *seen) for text in found.warnings]
    first, sight = counted[0], seen[0]
    return Preflight(
        facts,
        first.frame_pairs,
        first.video_tokens,
        first.prompt_tokens,
        sight.black_of_black,
        sight.black_of_real,
        tuple(problems),
        tuple(warnings),
    )


def test_cards(rules: ClipRules, folder: Path) -> list[CanonicalClip]:
    """Write canonical clips of the two lengths: stripes that move."""
    from fractions import Fraction

    cards = []
    width, height = rules.size(1, 1)
    for seconds in CARD_SECONDS:
        count = rules.count(Fraction(seconds), 25 * seconds)
        x = np.arange(width)[None, None, :, None] // 16
        moves = np.arange(count)[:, None, None, None]
        stripes = ((x + moves) % 2 * 200 + 28).astype(np.uint8)
        frames = np.broadcast_to(stripes, (count, height, width, 3))
        cards.append(still_clip(folder / f"card{seconds}.mp4", np.ascontiguousarray(frames), count / seconds))
    return cards


def _read(clip: CanonicalClip) -> Frames:
    return np.zeros((clip.frames, clip.height, clip.width, 3), np.uint8)


async def _count(
    panel: Panel,
    url: str,
    facts: ServerFacts,
    options: JudgeOptions,
    conversation: Conversation,
    shown: list[CanonicalClip],
) -> Preflight:
    """Compare the frames that a server makes of the videos with those that are in them."""
    messages = messages_of(conversation, [media_part(clip, options) for clip in shown], None)
    try:
        answer = await panel.tokenize(url, {"model": facts.model, "messages": messages, "return_token_strs": True})
    except RejectedError as error:
        if error.status in (404, 405):
            return Preflight(facts, warnings=(f"{url} has no /tokenize: how many frames it keeps is not proven",))
        return Preflight(facts, problems=(f"{error}. A conversation does not get through",))
    except TransportError as error:
        return Preflight(facts, problems=(str(error),))
    words, count = answer.get("token_strs"), answer.get("count")
    prompt_tokens = count if isinstance(count, int) else None
    if not isinstance(words, list) or PAD not in words:
        return Preflight(
            facts, prompt_tokens=prompt_tokens, warnings=(f"{url} does not name its tokens: frames are not proven",)
        )
    runs = sum(word == PAD and before != PAD for before, word in itertools.pairwise(["", *words]))
    pairs = runs, sum(math.ceil(clip.frames / 2) for clip in shown)
    tokens = words.count(PAD), sum(clip.video_tokens(options.grid_px) for clip in shown)
    problems = []
    if pairs[0] != pairs[1]:
        problems.append(
            f"{url} makes {pairs[0]} pairs of frames out of {pairs[1]}. Start it as `lt-eval judge serve --frames "
            f"{options.frames}` does, or judge with frames = 'portable'"
        )
    elif tokens[0] != tokens[1]:
        problems.append(
            f"{url} makes {tokens[0]} tokens of the pictures instead of {tokens[1]}: it resizes them. Set side_px and "
            "grid_px to what the model takes"
        )
    return Preflight(facts, pairs, tokens, prompt_tokens, problems=tuple(problems))


async def _sight(
    panel: Panel, url: str, facts: ServerFacts, options: JudgeOptions, black: CanonicalClip, real: CanonicalClip
) -> Preflight:
    """Ask the same about a black video and another one."""
    shares: list[float | None] = []
    words: list[str] = []
    for clip in (black, real):
        content = [media_part(clip, options), {"type": "text", "text": QUESTION}]
        body: dict[str, Any] = {
            "model": facts.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0.0,
            "max_tokens": 1,
            "structured_outputs": {"choice": ["A", "B"]},
            "logprobs": True,
            "top_logprobs": 5,
        }
        try:
            reply = Reply("", {}, await panel.chat(url, body), 0.0)
        except (RejectedError, TransportError) as error:
            return Preflight(facts, problems=(str(error),))
        shares.append(_share_of_a(reply.logprobs))
        words.append(reply.text.strip()[:1].upper())
    black_share, real_share = shares
    found = Preflight(facts, black_of_black=black_share, black_of_real=real_share)
    if black_share is None or real_share is None:
        if words == ["A", "B"]:
            return found
        text = f"{url} calls a black video {words[0]!r} and a real one {words[1]!r}, where A is black and B is not"
        return Preflight(facts, warnings=(text,))
    if abs(black_share - real_share) < SAME:
        text = f"{url} answers a black video exactly as a real one: the pictures do not reach the model"
        return Preflight(facts, None, None, None, black_share, real_share, problems=(text,))
    if not black_share > 0.5 > real_share:
        text = (
            f"{url} takes a black video for black with probability {black_share:.2f} and a real one with "
            f"{real_share:.2f}: this judge does not tell them apart"
        )
        return Preflight(facts, None, None, None, black_share, real_share, warnings=(text,))
    return found


def _share_of_a(logprobs: dict[str, float]) -> float | None:
    mass = {"A": 0.0, "B": 0.0}
    for token, logprob in logprobs.items():
        if token.strip() in mass:
            mass[token.strip()] += math.exp(logprob)
    total = sum(mass.values())
    return mass["A"] / total if total > 0 else None
