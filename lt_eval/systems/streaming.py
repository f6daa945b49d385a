"""Server-sent events of an OpenAI-compatible chat endpoint, and text cut into sentences as it comes.

What a server says in an error may hold the key or the conversation, so only its status reaches a message.
"""

from __future__ import annotations

import functools
import json
import os
import re
from typing import TYPE_CHECKING, Any

from lt_eval.errors import SpecError, UnscorableError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping, Sequence

LONGEST_EVENT_BYTES = 32 * 2**20
"""A line longer than this is no event of a conversation: 32 MiB of base64 are 8 minutes of sound."""

_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)]*\s+|\n+")


def check_url(url: str) -> str:
    """Return the base address without a slash at its end.

    Raises:
        ValueError: it is no http address.
        SpecError: it holds a password; as a ValueError it would be repeated beside the options.
    """
    if not re.match(r"https?://[^\s/]+", url):
        raise ValueError(f"url = {url!r} must be an address such as http://localhost:8000/v1")
    if "@" in url.split("/")[2]:
        raise SpecError("url holds a name or a password, and addresses stand in manifests. Use key_env instead.")
    return url.rstrip("/")


def key_from(variable: str) -> str:
    """Return the key that an environment variable holds; "" for no variable.

    Raises:
        SpecError: the variable is named and not set.
    """
    if not variable:
        return ""
    key = os.environ.get(variable, "")
    if not key:
        raise SpecError(f"The environment variable {variable} is not set. Set it to the endpoint's key.")
    return key


def events(url: str, body: Mapping[str, Any], *, key: str, timeout_s: float) -> Iterator[dict[str, Any]]:
    """Post a streaming chat request and yield its events, until "[DONE]" or the end of the stream.

    Args:
        url: the endpoint, such as http://localhost:8000/v1/chat/completions.
        body: the request.
        key: bearer token; "" for none.
        timeout_s: of connecting, and of the wait for each piece of the answer.

    Raises:
        UnscorableError: the server cannot be reached, refuses, or sends no events; its words are not repeated.
    """
    import httpx

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with (
            httpx.Client(timeout=httpx.Timeout(timeout_s), verify=_trust()) as client,
            client.stream("POST", url, json=body, headers=headers) as response,
        ):
            if response.status_code != 200:
                raise UnscorableError(
                    "talker_failed", f"{url} answered {response.status_code} {response.reason_phrase}.".rstrip()
                )
            yield from _parsed(response.iter_bytes(), url)
    except httpx.TimeoutException:
        raise UnscorableError("talker_timeout", f"{url} sent nothing for {timeout_s:g} s.") from None
    except httpx.HTTPError as cause:
        raise UnscorableError("talker_failed", f"{url} cannot be reached ({type(cause).__name__}).") from None


@functools.cache
def _trust() -> ssl.SSLContext:
    """Read the system's certificates once: it takes longer than many a talker's first word."""
    import httpx

    return httpx.create_ssl_context()


def _parsed(pieces: Iterator[bytes], url: str) -> Iterator[dict[str, Any]]:
    held = b""
    for piece in pieces:
        held += piece
        *lines, held = held.split(b"\n")
        if len(held) > LONGEST_EVENT_BYTES:
            raise UnscorableError("talker_failed", f"{url} sent a line of over {LONGEST_EVENT_BYTES >> 20} MiB.")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            yield _event(data, url)
    if held.startswith(b"data:") and held[5:].strip() not in (b"", b"[DONE]"):
        yield _event(held[5:].strip(), url)


def _event(data: bytes, url: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise UnscorableError("talker_failed", f"{url} sent an event that is not JSON.") from None
    if not isinstance(event, dict) or "error" in event:
        raise UnscorableError("talker_failed", f"{url} reported an error in the middle of its answer.")
    return event


def deltas(event: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return what an event adds to the first choice; nothing for events without choices, such as usage."""
    found = []
    for choice in event.get("choices") or []:
        if isinstance(choice, dict) and choice.get("index", 0) == 0 and isinstance(choice.get("delta"), dict):
            found.append(choice["delta"])
    return found


class Sentences:
    """Cuts text that comes in pieces into sentences, so that each can be spoken before the next is there.

    Args:
        least: characters a sentence should have; shorter ones are joined to the next ("Well. I think ...").
    """

    def __init__(self, least: int = 12) -> None:
        self._least = least
        self._held = ""

    def push(self, text: str) -> list[str]:
        """Take a piece and return the sentences that it finishes."""
        self._held += text
        found, start = [], 0
        for end in _SENTENCE_END.finditer(self._held):
            sentence = self._held[start : end.end()].strip()
            if len(sentence) >= self._least:
                found.append(sentence)
                start = end.end()
        self._held = self._held[start:]
        return found

    def finish(self) -> list[str]:
        """Return what is left."""
        rest, self._held = self._held.strip(), ""
        return [rest] if rest else []
