"""Prompts as tokens: a learned table for the small model, umt5-xxl for the large one, and a cache of what it said."""

from __future__ import annotations

import functools
import hashlib
import html
import itertools
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from lt_eval.errors import MissingExtraError, WeightsError
from lt_eval.store import atomic_write

_PROBE_BYTES = 1 << 20


def word_pieces(word: str) -> list[str]:
    """Return a word and its letter triples, marked at both ends: words with a stem in common share some."""
    marked = f"<{word}>"
    return [marked, *(marked[at : at + 3] for at in range(len(marked) - 2))] if len(marked) > 3 else [marked]


def bucket(piece: str, buckets: int) -> int:
    """Return the table row of a piece: the same on every machine and in every process."""
    return int.from_bytes(hashlib.blake2b(piece.encode(), digest_size=8).digest(), "big") % buckets


class PromptTable(nn.Module):
    """A small learned encoder of motion prompts ("She smiles and nods"), for models trained together with it.

    It lies beside the transformer (`networks.Parts`), whose state is that of the public layout alone.

    Token 0 is the mean of all pieces of the prompt; tokens 1 .. L - 1 are the means of as many runs of its words, in
    order. An empty prompt, or a run without words, is a token of zeros.

    Args:
        rows: of the table; pieces are hashed to them.
        width: of a token.
        tokens: L.
    """

    def __init__(self, rows: int, width: int, tokens: int) -> None:
        super().__init__()
        self.rows, self.tokens = rows, tokens
        self.weight = nn.Parameter(torch.randn(rows, width) * 0.5)

    def forward(self, prompts: Sequence[str] | Tensor) -> Tensor:
        """Return [B, L, width] for B prompts, or for their `averages`, [B, L, rows]."""
        told = prompts if isinstance(prompts, Tensor) else averages(prompts, self.tokens, self.rows)
        with torch.autocast(self.weight.device.type, enabled=False):
            return told.to(self.weight) @ self.weight


def averages(prompts: Sequence[str], tokens: int, rows: int) -> Tensor:
    """Return what `PromptTable` averages as a matrix, [B, L, rows] float32 on the CPU: prompts as numbers alone."""
    return torch.stack([_averages(prompt, tokens, rows) for prompt in prompts])


@functools.lru_cache(maxsize=1024)
def _averages(prompt: str, tokens: int, rows: int) -> Tensor:
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", prompt).casefold())
    runs = tokens - 1
    bounds = [len(words) * at // runs for at in range(runs + 1)] if runs else []
    groups = [words, *(words[start:stop] for start, stop in itertools.pairwise(bounds))]
    found = torch.zeros(tokens, rows)
    for token, group in enumerate(groups):
        hit = [bucket(piece, rows) for word in group for piece in word_pieces(word)]
        for row in hit:
            found[token, row] += 1 / len(hit)
    return found


def clean_prompt(prompt: str) -> str:
    """Return a prompt as Wan2.1 cleans it (`wan/modules/tokenizers.py`, "whitespace"), but for mending its encoding."""
    return " ".join(html.unescape(html.unescape(prompt)).split())


class Umt5:
    """umt5-xxl's encoder, from a folder in the layout of transformers.

    Args:
        folder: of the encoder, its tokenizer's files in it or in `tokenizer` beside it.
        tokens: length to which a prompt is cut or padded.
        device: of the encoder.
        dtype: of the encoder.

    Raises:
        MissingExtraError: transformers is not installed.
        WeightsError: the folder does not hold such an encoder.
    """

    def __init__(
        self, folder: Path, *, tokens: int = 512, device: str = "cpu", dtype: torch.dtype = torch.bfloat16
    ) -> None:
        try:
            import transformers
        except ImportError as cause:
            raise MissingExtraError("The text encoder umt5-xxl", "text", str(cause)) from cause
        beside = folder.parent / "tokenizer"
        try:
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
                beside if beside.is_dir() else folder, local_files_only=True
            )
            encoder: Any = transformers.UMT5EncoderModel.from_pretrained(folder, dtype=dtype, local_files_only=True)
        except (OSError, ValueError) as cause:
            first = (str(cause).splitlines() or [""])[0].rstrip(".")
            raise WeightsError(
                f"{folder} holds no umt5 encoder with a tokenizer ({type(cause).__name__}: {first}). Give the folder "
                "text_encoder of Wan-AI/Wan2.1-T2V-1.3B-Diffusers with tokenizer beside it."
            ) from cause
        self._encoder = encoder.eval().to(device)
        self.tokens = tokens

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """Return [B, L, 4096]: hidden states, zero from the end of each prompt on."""
        given = self._tokenizer(
            [clean_prompt(prompt) for prompt in prompts],
            padding="max_length",
            max_length=self.tokens,
            truncation=True,
            add_special_tokens=True,
            return_attention_mask=True,
            return_tensors="pt",
        ).to(self._encoder.device)
        hidden: Tensor = self._encoder(given.input_ids, attention_mask=given.attention_mask).last_hidden_state
        mask: Tensor = given.attention_mask  # [B, L]
        return hidden * mask[:, :, None].to(hidden.dtype)  # [B, L, D]


def folder_digest(folder: Path) -> str:
    """Return what tells one folder of weights from another: names, sizes, and the first, middle and last MiB of files.

    Reading all of umt5-xxl takes longer than encoding a prompt with it.
    """
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
        size = file.stat().st_size
        digest.update(f"{file.relative_to(folder)}\0{size}\0".encode())
        with file.open("rb") as stream:
            for at in sorted({0, max(size // 2 - _PROBE_BYTES // 2, 0), max(size - _PROBE_BYTES, 0)}):
                stream.seek(at)
                digest.update(stream.read(_PROBE_BYTES))
    return digest.hexdigest()


class TextCache:
    """Encoded prompts on disk, one file each, named by the hash of model and prompt.

    Args:
        folder: made when first written to.
        model: what identifies encoder, its weights and its options (`folder_digest`).
        encoder: makes the encoder; called on the first prompt that is not there, never for one that is.
    """

    def __init__(self, folder: Path, model: str, encoder: Callable[[], Callable[[Sequence[str]], Tensor]]) -> None:
        self.folder, self.model = folder, model
        self._make = encoder
        self._encoder: Callable[[Sequence[str]], Tensor] | None = None

    def path_of(self, prompt: str) -> Path:
        """Return where a prompt's tokens are kept."""
        return self.folder / (hashlib.sha256(f"{self.model}\0{prompt}".encode()).hexdigest() + ".safetensors")

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """Return [B, L, D] for B prompts; each is encoded by itself, so that neighbours cannot change it."""
        return torch.cat([self._one(prompt) for prompt in prompts])

    def _one(self, prompt: str) -> Tensor:
        path = self.path_of(prompt)
        if path.is_file():
            try:
                return load_file(path)["text"]
            except (SafetensorError, KeyError):
                path.unlink()  # damaged since; encoded again
        if self._encoder is None:
            self._encoder = self._make()
        text = self._encoder([prompt]).cpu().contiguous()  # [1, L, D]
        with atomic_write(path, "wb") as file:
            file.write(save({"text": text}))
        return text
