"""Prompts: the same tokens in every process, encoded once, and a sentence where the large encoder is not installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lt_eval.errors import MissingExtraError, WeightsError
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
    """Python's own hash of a string is not; a row that moved would make trained tables useless."""
    assert bucket("<nod>", 1024) == 68
    assert {bucket(f"<{number}>", 8) for number in range(200)} == set(range(8))


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


@pytest.fixture
def tiny_umt5(tmp_path: Path) -> Path:
    """A random umt5 encoder of the transformers layout, with a tokenizer of whole words beside it."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "person": 4, "nods": 5, "smiles": 6}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    model.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    marks = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=model, **marks).save_pretrained(tmp_path / "tokenizer")
    torch.manual_seed(0)
    config = transformers.UMT5Config(vocab_size=7, d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4)
    transformers.UMT5EncoderModel(config).save_pretrained(tmp_path / "text_encoder")
    return tmp_path / "text_encoder"


def test_umt5_pads_with_zeros_and_knows_no_neighbours(tiny_umt5: Path) -> None:
    encode = Umt5(tiny_umt5, tokens=9, dtype=torch.float32)
    prompts = ["a person nods", "  a &amp; person\n smiles ", ""]
    together = encode(prompts)
    assert together.shape == (3, 9, 16) and together.dtype == torch.float32
    lengths = [int(tokens.abs().sum(dim=1).count_nonzero()) for tokens in together]
    assert lengths == [4, 5, 1]
    assert not together[0, 4:].any()
    for index, prompt in enumerate(prompts):
        torch.testing.assert_close(encode([prompt])[0], together[index])


def test_a_folder_without_an_encoder_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(WeightsError, match="holds no umt5 encoder"):
        Umt5(tmp_path)
