"""One OpenAI-compatible server over HTTP. Knows addresses and status codes, nothing of judging.

Nothing here is logged. Messages of errors hold the address, the status and what the server said, cut short; never the
key and never what was sent.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import httpx

from lt_eval.errors import UsageError
from lt_eval.judge.schedule import RejectedError, TransportError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

LONGEST_MESSAGE = 300
CONNECT_TIMEOUT_S = 10.0

BROKEN_OFF = ("abort", "error")
"""Why vLLM says it stopped where it was shut down or failed in the middle: no answer of the judge's."""


@dataclass(frozen=True)
class ServerFacts:
    """Who answers: what a reply's key must hold of a server.

    Attributes:
        model: the name under which the judge is served.
        root: what the server loaded under that name.
        version: of the server; "" where it does not tell.
        longest: tokens of prompt and answer together; None where it does not tell.
    """

    model: str
    root: str
    version: str
    longest: int | None = None


class ServerClient:
    """Sends requests to one server; use as an async context manager.

    Args:
        url: base address without /v1.
        key: sent as a bearer token; "" sends none.
        timeout_s: without a byte for this long a request has failed.
        transport: another way to the server than the network (tests).
    """

    def __init__(
        self, url: str, key: str = "", timeout_s: float = 600.0, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.url, self._key = url, key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S), pool=None)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        self._http = httpx.AsyncClient(headers=headers, timeout=timeout, transport=transport, limits=limits)

    def __repr__(self) -> str:
        return f"ServerClient({self.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def chat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the raw completion of a chat request.

        Raises:
            TransportError: no answer, 429 or 5xx.
            RejectedError: any other 4xx.
        """
        answer = await self.request("POST", "/v1/chat/completions", body)
        if not isinstance(answer.get("choices"), list) or not answer["choices"]:
            raise TransportError(f"{self.url}: an answer without choices", 200)
        first = answer["choices"][0]
        if isinstance(first, dict) and first.get("finish_reason") in BROKEN_OFF:
            raise TransportError(f"{self.url}: an answer that the server broke off", 200)
        return answer

    async def tokenize(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return vLLM's tokens of a chat request; raises as `chat`, RejectedError 404 where there is no such page."""
        return await self.request("POST", "/tokenize", body)

    async def facts(self, model: str = "") -> ServerFacts:
        """Return who answers.

        Args:
            model: the wanted name; "" takes the only one.

        Raises:
            UsageError: the server does not serve that model, or several and none is named.
            TransportError: no answer, 429 or 5xx.
            RejectedError: any other 4xx.
        """
        listed = (await self.request("GET", "/v1/models")).get("data") or []
        served = {str(entry.get("id")): entry for entry in listed if isinstance(entry, dict)}
        # adapters are listed beside the model that they adapt
        whole = [name for name, entry in served.items() if not entry.get("parent")]
        name = model or (whole[0] if len(whole) == 1 else "")
        if name not in served:
            asked = f"model {model!r} is not served" if model else "several models are served and none is named"
            raise UsageError(f"{self.url}: {asked}. It serves: {', '.join(served) or 'nothing'}.")
        try:
            version = str((await self.request("GET", "/version")).get("version", ""))
        except RejectedError:
            version = ""
        entry = served[name]
        longest = entry.get("max_model_len")
        return ServerFacts(
            name, str(entry.get("root") or ""), version, int(longest) if isinstance(longest, int) else None
        )

    async def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the JSON object that a page answers; raises as `chat`."""
        try:
            answer = await self._http.request(method, self.url + path, json=body)
        except httpx.RequestError as error:
            raise TransportError(f"{self.url}: no answer ({type(error).__name__})") from error
        if answer.status_code == 429 or answer.status_code >= 500:
            message = f"{self.url}: HTTP {answer.status_code} ({self._said(answer)})"
            raise TransportError(message, answer.status_code, _retry_after_s(answer))
        if answer.status_code >= 300:
            raise RejectedError(f"{self.url}: HTTP {answer.status_code} ({self._said(answer)})", answer.status_code)
        try:
            data = answer.json()
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise TransportError(f"{self.url}: an answer that is not JSON", answer.status_code) from error
        if not isinstance(data, dict):
            raise TransportError(f"{self.url}: an answer that is not a JSON object", answer.status_code)
        return data

    def _said(self, answer: httpx.Response) -> str:
        """Return the server's own words about an error; one that does not know a key may repeat it."""
        said = _said(answer)
        return (said.replace(self._key, "***") if self._key else said)[:LONGEST_MESSAGE]


def _said(answer: httpx.Response) -> str:
    """Return the server's own words about an error, without what was sent."""
    try:
        data = answer.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return answer.reason_phrase
    error = data.get("error", data) if isinstance(data, dict) else {}
    message = error.get("message") if isinstance(error, dict) else None
    # a validation error quotes its input, and that may be a whole conversation
    text = str(message or answer.reason_phrase).partition("'input'")[0]
    return text


def _retry_after_s(answer: httpx.Response) -> float | None:
    given = answer.headers.get("retry-after", "").strip()
    if not given:
        return None
    try:
        return max(0.0, float(given))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - time.time())
    except ValueError:
        return None
