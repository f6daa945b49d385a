"""The servers of one judge: the same model everywhere, each conversation always at the same one."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from lt_eval.errors import UsageError
from lt_eval.judge.client import ServerClient, ServerFacts
from lt_eval.judge.schedule import AdaptiveLimit, Asker, RejectedError, TransportError, pick

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    import httpx

    from lt_eval.judge.options import JudgeOptions
    from lt_eval.judge.replies import ReplyStore


class Panel:
    """Asks the servers of `JudgeOptions`; use as an async context manager.

    Args:
        options: which servers and how.
        transport: another way to them than the network (tests).
    """

    def __init__(self, options: JudgeOptions, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._options = options
        key = options.api_key()
        self.clients = {
            url: ServerClient(url, key, options.timeout_s, transport)
            for url in options.servers  # one transport may serve all
        }
        self._askers = {
            url: Asker(AdaptiveLimit(options.concurrency), options.tries, random.Random(url)) for url in self.clients
        }
        self._places = {url: asyncio.Semaphore(options.conversations) for url in self.clients}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for client in self.clients.values():
            await self._stack.enter_async_context(client)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def server_of(self, key: str) -> str:
        """Return the server that a conversation goes to."""
        return pick(list(self.clients), key)

    def place(self, server: str) -> asyncio.Semaphore:
        """Return the places for conversations at a server."""
        return self._places[server]

    async def chat(self, server: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a raw completion; raises TransportError after all tries, RejectedError at once."""
        return await self._askers[server].ask(lambda: self.clients[server].chat(body))

    async def tokenize(self, server: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the tokens of a request; raises as `chat`."""
        return await self._askers[server].ask(lambda: self.clients[server].tokenize(body))

    async def facts(self, replies: ReplyStore | None = None) -> ServerFacts:
        """Return who answers, the same at every server; from the store where nobody answers now.

        Raises:
            UsageError: a server that is not there, refuses, or serves another model than the first.
        """
        found = [await self._facts_of(url, replies) for url in self.clients]
        for url, facts in zip(self.clients, found, strict=True):
            if facts != found[0]:
                raise UsageError(
                    f"{url} serves {facts}, and {self._options.servers[0]} {found[0]}. All servers of one judge must "
                    "run the same model at the same version: scores of two judges do not mix."
                )
        return found[0]

    async def _facts_of(self, url: str, replies: ReplyStore | None) -> ServerFacts:
        asked = f"{url} {self._options.model}".strip()
        known = replies.known_server(asked) if replies is not None else None
        try:
            if not self._options.ask:
                raise TransportError(f"{url}: not asked, as asked for")
            client = self.clients[url]
            facts = await self._askers[url].ask(lambda: client.facts(self._options.model))
        except TransportError as error:
            if known is None:
                raise UsageError(
                    f"judge: {error}. Start a server with `lt-eval judge serve`, or name one that runs."
                ) from error
            return ServerFacts(known["model"], known["root"], known["version"])
        except RejectedError as error:
            hint = "Name the environment variable that holds the key: api_key_env" if error.status in (401, 403) else ""
            raise UsageError(f"judge: {error}. {hint or 'Is it an OpenAI-compatible server?'}") from error
        if replies is not None:
            replies.remember_server(asked, {"model": facts.model, "root": facts.root, "version": facts.version})
        return ServerFacts(facts.model, facts.root, facts.version)
