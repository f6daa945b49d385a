"""What can be chosen about judging. Frozen; everything that changes an answer is also part of the key of its reply."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from lt_eval.errors import SpecError
from lt_eval.records import DIMENSIONS

FRAMES_MODES = ("portable", "paper")
MOST_REPAIRS = 3
ORDERS = ("rubric-last", "rubric-first")
SCORINGS = ("boxed", "two-step")
STRUCTURES = ("none", "regex")
MEDIA = ("inline", "file")


@dataclass(frozen=True)
class JudgeOptions:
    """How conversations are judged.

    Attributes:
        servers: base URLs of OpenAI-compatible servers of one and the same model, with or without /v1, separated by
            commas where given as one string.
        model: name under which the server serves the judge; "" takes the only one that it serves.
        revision: of the judge's weights, for the record; a server does not tell.
        api_key_env: name of the environment variable that holds the key; "" sends none.
        dimensions: which of the nine, in order, or one text; the first one warms the server's prefix cache.
        repeats: judgments of each dimension, with different seeds.
        seed: of the first repeat.
        temperature: of sampling (the paper's 0.1).
        top_p: of sampling (the paper's 0.9).
        max_tokens: cap of one reply; a reply that reaches it is a failure, not an answer.
        frames: "portable", at most 2 a second, which every server keeps; or "paper", 32 whatever the length, for
            which the server must be started as `lt-eval judge serve --frames paper` does.
        max_frames: of one video.
        side_px: longer side of a frame, rounded down to `grid_px`.
        grid_px: what the model's patches tile: 32 for Qwen3-VL.
        order: "rubric-last" lets nine dimensions share one prefix; "rubric-first" costs nine times as much.
        scoring: "boxed" takes the score from the reply; "two-step" asks again for the score alone, constrained, with
            probabilities.
        structured: "regex" has the server allow nothing but the score (for models that do not follow instructions).
        prompts: folder of rubric files; "" is ours.
        media: "inline" sends clips in the request; "file" sends file:// addresses, for a server on the same machine
            that was started with --allowed-local-media-path.
        reuse_media: send a clip once and its id from then on, where the server keeps clips by id (vLLM).
        repairs: further tries, with other seeds, of a reply without a score.
        tries: of one request, where the connection fails or the server is busy or broken.
        concurrency: most requests at a time to one server; it adapts below that.
        conversations: most conversations at a time on one server, so that their prefixes fit into its cache.
        timeout_s: without an answer for this long a request has failed.
        ask: False only reads the replies that are kept.
    """

    servers: tuple[str, ...] | str = ("http://127.0.0.1:8000/v1",)
    model: str = ""
    revision: str = ""
    api_key_env: str = ""
    dimensions: tuple[str, ...] | str = DIMENSIONS
    repeats: int = 1
    seed: int = 0
    temperature: float = 0.1
    top_p: float = 0.9
    max_tokens: int = 1024
    frames: Literal["portable", "paper"] = "portable"
    max_frames: int = 32
    side_px: int = 784
    grid_px: int = 32
    order: Literal["rubric-last", "rubric-first"] = "rubric-last"
    scoring: Literal["boxed", "two-step"] = "boxed"
    structured: Literal["none", "regex"] = "none"
    prompts: str = ""
    media: Literal["inline", "file"] = "inline"
    reuse_media: bool = False
    repairs: int = 3
    tries: int = 5
    concurrency: int = 32
    conversations: int = 4
    timeout_s: float = 600.0
    ask: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            SpecError: an option outside its range.
        """
        given = self.servers.split(",") if isinstance(self.servers, str) else self.servers
        servers = tuple(base_url(server) for server in given if server.strip())
        object.__setattr__(self, "servers", servers)
        named = self.dimensions.replace(",", " ").split() if isinstance(self.dimensions, str) else self.dimensions
        object.__setattr__(self, "dimensions", tuple(named))
        if not servers:
            raise SpecError("judge: no server is named. Give --judge-server http://HOST:PORT; `lt-eval judge serve`.")
        unknown = [name for name in self.dimensions if name not in DIMENSIONS]
        if unknown or not self.dimensions:
            raise SpecError(f"judge: dimensions {list(self.dimensions)} must be some of {', '.join(DIMENSIONS)}.")
        for name, known in (
            ("frames", FRAMES_MODES),
            ("order", ORDERS),
            ("scoring", SCORINGS),
            ("structured", STRUCTURES),
            ("media", MEDIA),
        ):
            if getattr(self, name) not in known:
                raise SpecError(f"judge: {name} = {getattr(self, name)!r} must be one of {', '.join(known)}.")
        for name in ("repeats", "max_tokens", "max_frames", "grid_px", "tries", "concurrency", "conversations"):
            if getattr(self, name) < 1:
                raise SpecError(f"judge: {name} = {getattr(self, name)} must be at least 1.")
        if self.side_px < self.grid_px:
            raise SpecError(f"judge: side_px = {self.side_px} must be at least one grid cell of {self.grid_px} px.")
        if self.repairs not in range(MOST_REPAIRS + 1):
            raise SpecError(f"judge: repairs = {self.repairs} must be 0 to 3: more tries shift the distribution.")
        if not 0 <= self.temperature <= 2 or not 0 < self.top_p <= 1 or self.timeout_s <= 0:
            raise SpecError(
                f"judge: temperature {self.temperature} must be 0 to 2, top_p {self.top_p} above 0 and at most 1, "
                f"timeout_s {self.timeout_s} above 0."
            )

    def api_key(self) -> str:
        """Return the key from the environment, or ""; raises SpecError where the named variable is not set."""
        return key_from(self.api_key_env)


def key_from(variable: str) -> str:
    """Return a server's key from an environment variable, or "" where none is named.

    Raises:
        SpecError: the variable is not set.
    """
    key = os.environ.get(variable, "") if variable else ""
    if variable and not key:
        raise SpecError(
            f"The environment variable {variable} is to hold a server's key and is not set. export {variable}=..., or "
            "leave out api_key_env."
        )
    return key


def base_url(given: str) -> str:
    """Return a server's address without the /v1 that OpenAI's clients append.

    Raises:
        SpecError: not an http address, or one that holds a password.
    """
    url = given.strip().rstrip("/").removesuffix("/v1")
    if not url.startswith(("http://", "https://")):
        raise SpecError(f"judge: server {given!r} must begin with http:// or https://, as in http://127.0.0.1:8000.")
    if "@" in url.split("/")[2]:  # not repeated here either
        raise SpecError("judge: a server's address holds a name or password, and manifests hold it. Use api_key_env.")
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0) and not re.search(r"\s", url)
    except ValueError:
        usable = False
    if not usable:
        raise SpecError(f"judge: server {given!r} is no address, as http://127.0.0.1:8000 is one.")
    return url
