"""Prompts: the same tokens in every process, encoded once, and a sentence where the large encoder is not installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lt_eval.errors import MissingExtraError
from lt_eval.generator.text import PromptTable, TextCache, Umt5, bucket, clean_prompt, folder_digest, word_pieces


def table(tokens: int = 4) -> PromptTable:
    torch.manual_seed(0)
    return PromptTable(64, 8, tokens)


def test_tokens_have_one_shape_and_know_case_and_order_of_words() -> None:
    encode = table()
    prompts = ["a person nods", "A  Person, nods!", "nods person a", "", "a " * 500]
    tokens = encode(prompts)
    assert tokens.shape == (5, 4, 8)
    assert torch.equal(tokens[0], tokens[1])
    assert torch.allclose(tokens[0, 0], tokens[2, 0]) and not torch.equal(tokens[0, 1], tokens[2, 1])
    assert not tokens[3].any()
    assert torch.equal(encode(["a person nods"])[0], tokens[0])


def test_every_word_counts_however_long_the_prompt() -> None:
    encode, words = table(), [f"word{number}" for number in range(40)]
    whole = encode([" ".join(words)])
    for at in range(0, 40, 7):
        assert not torch.equal(encode([" ".join([*words[:at], "other", *words[at + 1 :]])]), whole)


def test_words_of_one_stem_are_closer_than_others() -> None:
    assert word_pieces("nod") == ["<nod>", "<no", "nod", "od>"]
    shared = set(word_pieces("nodding")) & set(word_pieces("nods"))
    assert shared == {"<no", "nod"}


def test_rows_are_the_same_in_every_process() -> None:
    """Python's own hash of a string is not."""
    code = "from lt_eval.generator.text import bucket; print(bucket('<nod>', 1024))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(out) == bucket("<nod>", 1024)


def test_the_table_learns() -> None:
    encode = table()
    encode(["she smiles"]).sum().backward()
    assert encode.weight.grad is not None and encode.weight.grad.abs().sum() > 0


def test_prompts_are_cleaned_as_upstream_does() -> None:
    assert clean_prompt("  A &amp;amp; B\n\tspeak ") == "A & B speak"


class Counting:
    """Stands for an encoder: tells prompts apart by their length, and counts."""

    def __init__(self) -> None:
        self.made, self.asked = 0, list[str]()

    def make(self) -> Callable[[Sequence[str]], Tensor]:
        self.made += 1
        return self.encode

    def encode(self, prompts: Sequence[str]) -> Tensor:
        self.asked += prompts
        return torch.stack([torch.full((3, 2), float(len(prompt)), dtype=torch.bfloat16) for prompt in prompts])


def test_a_prompt_is_encoded_once_for_each_model(tmp_path: Path) -> None:
    first, second, other = Counting(), Counting(), Counting()
    cache = TextCache(tmp_path / "text", "model a", first.make)
    tokens = cache(["one", "three", "one"])
    assert first.asked == ["one", "three"] and first.made == 1
    again = TextCache(tmp_path / "text", "model a", second.make)(["three", "one"])
    assert second.made == 0
    assert torch.equal(again, tokens[[1, 0]]) and again.dtype == torch.bfloat16
    TextCache(tmp_path / "text", "model b", other.make)(["one"])
    assert other.asked == ["one"]
    assert len(list((tmp_path / "text").iterdir())) == 3


def test_a_damaged_entry_is_made_again(tmp_path: Path) -> None:
    counting = Counting()
    cache = TextCache(tmp_path, "model", counting.make)
    before = cache(["one"])
    cache.path_of("one").write_bytes(b"\x00" * 5)
    assert torch.equal(cache(["one"]), before)
    assert counting.asked == ["one", "one"]


def test_a_folder_of_weights_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(5 << 20))
    (tmp_path / "config.json").write_text("{}")
    before = folder_digest(tmp_path)
    assert folder_digest(tmp_path) == before
    (tmp_path / "model.safetensors").write_bytes(bytes((5 << 20) - 1) + b"\x01")
    assert folder_digest(tmp_path) != before


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lt-eval\[text\]'"):
        Umt5(tmp_path)
