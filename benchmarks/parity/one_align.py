"""A small checkpoint in the layout of q-future/one-align: seeded weights, a tokenizer of its own, a few megabytes.

    python benchmarks/parity/one_align.py OUT                       # 448 pixels, 2 layers of each part
    python benchmarks/parity/one_align.py OUT --image-size 56 --shards 2 --format bin

Published programs open it as they open the published one, so scores can be compared where the real weights are not at
hand. It says nothing about pictures.
"""

from __future__ import annotations

import argparse
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import sentencepiece
import torch
from safetensors.torch import save_file
from torch import Tensor

from lt_eval.metrics.nets.mplug_owl2 import MplugOwl2
from lt_eval.metrics.nets.mplug_owl2_config import OwlConfig, owl_config
from lt_eval.metrics.qalign_inputs import CLIP_MEAN, CLIP_STD, LEVELS, PROMPT

Form = Literal["safetensors", "bin"]


def config_of(
    image_size: int = 448, width: int = 64, layers: int = 2, vision_width: int = 64, vision_layers: int = 2
) -> dict[str, Any]:
    """Return a config.json as the published one is written, with small sizes."""
    vision = {
        "model_type": "mplug_owl_vision_model",
        "hidden_size": vision_width,
        "intermediate_size": 4 * vision_width,
        "num_hidden_layers": vision_layers,
        "num_attention_heads": 4,
        "image_size": image_size,
        "patch_size": 14,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-6,
        "attention_dropout": 0.0,
    }
    abstractor = {
        "model_type": "mplug_owl_visual_abstract",
        "hidden_size": vision_width,
        "encoder_hidden_size": vision_width,
        "intermediate_size": 3 * vision_width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_learnable_queries": 64,
        "grid_size": image_size // 14,
        "layer_norm_eps": 1e-6,
        "attention_probs_dropout_prob": 0.0,
    }
    return {
        "architectures": ["MPLUGOwl2LlamaForCausalLM"],
        "model_type": "mplug_owl2",
        "attention_bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "max_position_embeddings": 2048,
        "num_attention_heads": 4,
        "num_hidden_layers": layers,
        "num_key_value_heads": 4,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-6,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "use_cache": True,
        "visual_config": {"visual_model": vision, "visual_abstractor": abstractor},
    }


def tokenizer_model(words: Sequence[str] = LEVELS) -> bytes:
    """Return a sentencepiece model set up as LLaMA's is, in which each of `words` is one token.

    "quality" occurs in its text and "aesthetics" does not, so the two prompts differ in length.
    """
    prompts = PROMPT.format(task="quality").replace("<|image|>", "").split("\n")
    lines = [line for line in prompts if line] * 4 + [f"{word} {other}" for word in words for other in words] * 3
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=512,
        hard_vocab_limit=False,
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        character_coverage=1.0,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def weights_of(config: OwlConfig, seed: int = 0) -> dict[str, Tensor]:
    """Return random tensors of the network's layout with which different pictures get clearly different scores."""
    with torch.device("meta"):
        layout = MplugOwl2(config).state_dict()
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, like in sorted(layout.items()):
        noise = torch.randn(like.shape, generator=generator)
        if "norm" in key or "ffn_ln" in key:
            state[key] = 0.1 * noise + (1.0 if key.endswith("weight") else 0.0)
        elif key.endswith("bias"):
            state[key] = 0.02 * noise
        elif like.ndim > 1 and key.endswith("weight") and "embed_tokens" not in key:
            state[key] = noise * 2.0 / math.sqrt(like[0].numel())
        else:  # tables of positions and tokens: small beside what the layers add
            state[key] = 0.3 * noise
    return state


def write_weights(state: Mapping[str, Tensor], folder: Path, form: Form = "safetensors", shards: int = 1) -> None:
    """Write tensors as model hubs do: one file, or several and an index."""
    stem, suffix = ("model", "safetensors") if form == "safetensors" else ("pytorch_model", "bin")
    keys = sorted(state)
    names = [f"{stem}.{suffix}"]
    if shards > 1:
        names = [f"{stem}-{part + 1:05d}-of-{shards:05d}.{suffix}" for part in range(shards)]
        places = {key: names[index * shards // len(keys)] for index, key in enumerate(keys)}
        index = {"metadata": {"total_size": sum(t.nbytes for t in state.values())}, "weight_map": places}
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))
    for part, name in enumerate(names):
        held = {key: state[key].contiguous() for i, key in enumerate(keys) if i * shards // len(keys) == part}
        if form == "safetensors":
            save_file(held, folder / name, metadata={"format": "pt"})
        else:
            torch.save(held, folder / name)


def write_checkpoint(
    folder: Path,
    *,
    image_size: int = 448,
    seed: int = 0,
    form: Form = "safetensors",
    shards: int = 1,
    add_bos_token: bool | None = True,
    words: Sequence[str] = LEVELS,
    **sizes: int,
) -> Path:
    """Write a checkpoint and return its folder.

    Args:
        folder: made where it is not there.
        image_size: side of the squared picture, a multiple of 14.
        seed: of the weights.
        form: of the weight files.
        shards: how many.
        add_bos_token: as tokenizer_config.json states it; None leaves it out.
        words: what is one token each.
        sizes: of `config_of`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(tokenizer_model(words))
    vocabulary = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model")).get_piece_size()
    config = config_of(image_size, **sizes) | {"vocab_size": vocabulary}
    tokenizer: dict[str, Any] = {
        "add_eos_token": False,
        "legacy": True,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
        "padding_side": "right",
        "tokenizer_class": "LlamaTokenizer",
    }
    if add_bos_token is not None:
        tokenizer["add_bos_token"] = add_bos_token
    pictures = {
        "crop_size": image_size,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": list(CLIP_MEAN),
        "image_std": list(CLIP_STD),
        "resample": 3,
        "size": image_size,
    }
    for name, content in (("config", config), ("tokenizer_config", tokenizer), ("preprocessor_config", pictures)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2))
    write_weights(weights_of(owl_config(config, folder / "config.json"), seed), folder, form, shards)
    return folder


def main() -> None:
    """Write one checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--image-size", type=int, default=448)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", choices=("safetensors", "bin"), default="safetensors")
    parser.add_argument("--shards", type=int, default=1)
    given = parser.parse_args()
    print(
        write_checkpoint(
            given.out, image_size=given.image_size, seed=given.seed, form=given.format, shards=given.shards
        )
    )


if __name__ == "__main__":
    main()
