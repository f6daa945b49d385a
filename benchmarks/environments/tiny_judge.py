"""Write a tiny Qwen3-VL with random weights: a real model for a real server, in tests.

Runs in the judge-server environment:

    PYTHON="$(python benchmarks/environments/build.py --lock benchmarks/environments/judge_server.txt)"
    PYTHONPATH=benchmarks/environments/shim "$PYTHON" benchmarks/environments/tiny_judge.py FOLDER

Two layers of width 64 for text and for vision and one token a byte. What it answers means nothing; how it samples
frames, counts tokens, caches prefixes and follows a constraint is what the full model does.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WIDTH, LAYERS, LONGEST = 64, 2, 65_536

VIDEO_PIXELS = {"shortest_edge": 4_096, "longest_edge": 25_165_824}
"""Fewest and most pixels of a whole video, as published Qwen3-VL models have them; the class's own default shrinks."""

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
PADS = ("<|image_pad|>", "<|video_pad|>")

TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}
{%- for part in message.content -%}
{%- if part.type in ('video', 'video_url') -%}<|vision_start|><|video_pad|><|vision_end|>
{%- elif part.type in ('image', 'image_url') -%}<|vision_start|><|image_pad|><|vision_end|>
{%- elif 'text' in part -%}{{ part.text }}{%- endif -%}
{%- endfor -%}
{% endif %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}
"""


def byte_tokenizer() -> Any:
    """Return a tokenizer with one token a byte and Qwen's special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[*SPECIAL[1:2], *SPECIAL[3:], *PADS],
        chat_template=TEMPLATE,
    )


def config(tokenizer: Any) -> Any:
    """Return the sizes of the network."""
    from transformers import Qwen3VLConfig

    number = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": len(tokenizer) + 8,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": LONGEST,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 5e6,
            "mrope_section": [6, 5, 5],
            "mrope_interleaved": True,
        },
        "bos_token_id": number("<|endoftext|>"),
        "eos_token_id": number("<|im_end|>"),
        "tie_word_embeddings": True,
    }
    vision = {
        "depth": LAYERS,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_heads": 4,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": WIDTH,
        "num_position_embeddings": 48 * 48,
        "deepstack_visual_indexes": [0],
    }
    return Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"),
        tie_word_embeddings=True,
    )


def make(folder: Path, seed: int = 0) -> int:
    """Write the model's directory and return its number of parameters."""
    import torch
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    tokenizer = byte_tokenizer()
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(config(tokenizer))
    model.save_pretrained(folder)
    Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=16, merge_size=2),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(size=VIDEO_PIXELS),
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the model and say how large it is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    print(f"{chosen.folder}: {make(chosen.folder, chosen.seed)} parameters")


if __name__ == "__main__":
    main()
