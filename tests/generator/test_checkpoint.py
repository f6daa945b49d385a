"""Public checkpoints go in and come out as they were, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lt_eval.errors import StoreError, WeightsError
from lt_eval.generator.checkpoint import load_checkpoint, read_state, save_checkpoint, to_public
from lt_eval.generator.model import Transformer
from tests.generator import nano

CONFIG = nano.MODEL


def public_checkpoint(seed: int = 0) -> dict[str, Tensor]:
    """Return seeded tensors under the names, and in the shapes, of Wan2.1's and OmniAvatar's modules, written out."""
    dim, ffn, text, c = CONFIG.dim, CONFIG.ffn_dim, CONFIG.text_dim, CONFIG.latent_channels
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embedding.weight": (dim, 2 * c + 1, 1, 2, 2),
        "patch_embedding.bias": (dim,),
        "head.modulation": (1, 2, dim),
    }

    def linear(name: str, inside: int, outside: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outside, inside), (outside,)

    linear("text_embedding.0", text, dim)
    linear("text_embedding.2", dim, dim)
    linear("time_embedding.0", CONFIG.freq_dim, dim)
    linear("time_embedding.2", dim, dim)
    linear("time_projection.1", dim, 6 * dim)
    linear("head.head", dim, 4 * c)
    linear("audio_proj.proj", CONFIG.audio_dim, CONFIG.audio_hidden)
    shapes["audio_proj.norm_out.weight"] = shapes["audio_proj.norm_out.bias"] = (CONFIG.audio_hidden,)
    for index, _ in enumerate(CONFIG.audio_layers):
        linear(f"audio_cond_projs.{index}", CONFIG.audio_hidden, dim)
    for layer in range(CONFIG.layers):
        block = f"blocks.{layer}"
        shapes[f"{block}.modulation"] = (1, 6, dim)
        shapes[f"{block}.norm3.weight"] = shapes[f"{block}.norm3.bias"] = (dim,)
        for kind in ("self_attn", "cross_attn"):
            for part in "qkvo":
                linear(f"{block}.{kind}.{part}", dim, dim)
            shapes[f"{block}.{kind}.norm_q.weight"] = shapes[f"{block}.{kind}.norm_k.weight"] = (dim,)
        linear(f"{block}.ffn.0", dim, ffn)
        linear(f"{block}.ffn.2", ffn, dim)
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_public_checkpoint_goes_in_and_comes_out_as_it_was(tmp_path: Path, suffix: str) -> None:
    published = public_checkpoint()
    save_file(published, tmp_path / "in.safetensors")
    torch.save(published, tmp_path / "in.pth")
    made = Transformer(CONFIG)
    load_checkpoint(made, tmp_path / f"in{suffix}")
    assert torch.equal(made.blocks[1].self_attn.qkv.weight[32:64], published["blocks.1.self_attn.k.weight"])  # type: ignore[union-attr, index]
    save_checkpoint(made, tmp_path / f"out{suffix}")
    assert same(read_state(tmp_path / f"out{suffix}"), published)
    again = Transformer(CONFIG)
    load_checkpoint(again, tmp_path / f"out{suffix}")
    assert same(dict(again.state_dict()), dict(made.state_dict()))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"in.safetensors", "in.pth", f"out{suffix}"})


def test_what_is_missing_left_over_or_misshapen_is_listed_and_nothing_is_loaded(tmp_path: Path) -> None:
    state = public_checkpoint()
    del state["blocks.0.self_attn.k.bias"], state["head.modulation"]
    state["img_emb.proj.0.weight"] = torch.zeros(3)
    state["patch_embedding.weight"] = torch.zeros(32, 4, 1, 2, 2)
    save_file(state, tmp_path / "bad.safetensors")
    made = nano.model(CONFIG)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_checkpoint(made, tmp_path / "bad.safetensors")
    text = str(caught.value)
    assert "2 missing: head.modulation, blocks.0.self_attn.k.bias" in text or (
        "2 missing: blocks.0.self_attn.k.bias, head.modulation" in text
    )
    assert "1 left over: img_emb.proj.0.weight" in text
    assert "1 of another shape: patch_embedding.weight (32, 4, 1, 2, 2) instead of (32, 9, 1, 2, 2)" in text
    assert same(dict(made.state_dict()), before)


def test_training_checkpoints_are_opened_and_unwrapped(tmp_path: Path) -> None:
    """`generator_ema` before `generator`, prefixes of wrappers, and an entry by name."""
    ema, raw = public_checkpoint(1), public_checkpoint(2)
    marked = {f"model._fsdp_wrapped_module.{name}": value for name, value in ema.items()}
    torch.save(
        {"generator": {f"model.{n}": v for n, v in raw.items()}, "generator_ema": marked, "step": 7}, tmp_path / "a.pt"
    )
    assert same(read_state(tmp_path / "a.pt"), ema)
    assert same(read_state(tmp_path / "a.pt", "generator"), raw)
    with pytest.raises(WeightsError, match="no entry 'critic'; it has generator, generator_ema, step"):
        read_state(tmp_path / "a.pt", "critic")


def test_shards_make_one_checkpoint(tmp_path: Path) -> None:
    state = public_checkpoint()
    names = list(state)
    for number, part in enumerate((names[:10], names[10:]), 1):
        save_file(
            {name: state[name] for name in part},
            tmp_path / f"diffusion_pytorch_model-0000{number}-of-00002.safetensors",
        )
    made = Transformer(CONFIG)
    load_checkpoint(made, tmp_path)
    assert same(to_public(made.state_dict()), state)


def test_low_rank_updates_over_a_base(tmp_path: Path) -> None:
    """OmniAvatar's way: Wan2.1's file, then a file of updates and of what replaces the base's."""
    base, rank, alpha = public_checkpoint(), 4, 8.0
    audio = {name: base.pop(name) for name in list(base) if name.startswith("audio")}
    patch = torch.randn(base["patch_embedding.weight"].shape)
    base["patch_embedding.weight"] = base["patch_embedding.weight"][:, :4].clone()
    down, up = torch.randn(rank, 32), torch.randn(64, rank)
    update = {
        "blocks.0.ffn.0.lora_A.default.weight": down,
        "blocks.0.ffn.0.lora_B.default.weight": up,
        "patch_embedding.weight": patch,
        **audio,
    }
    save_file(base, tmp_path / "wan.safetensors")
    torch.save(update, tmp_path / "pytorch_model.pt")
    made, files = Transformer(CONFIG), (tmp_path / "wan.safetensors", tmp_path / "pytorch_model.pt")
    load_checkpoint(made, *files, lora_alpha=alpha)
    merged = to_public(made.state_dict())
    torch.testing.assert_close(merged["blocks.0.ffn.0.weight"], base["blocks.0.ffn.0.weight"] + 2 * up @ down)
    assert torch.equal(merged["patch_embedding.weight"], patch)
    with pytest.raises(WeightsError, match="1 low-rank updates; give lora_alpha"):
        load_checkpoint(made, *files)
    with pytest.raises(WeightsError, match=r"lacks its weight blocks\.0\.ffn\.0\.weight"):
        load_checkpoint(made, files[1], lora_alpha=alpha)


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return print, ("executed",)


def test_files_that_are_no_weights_are_refused_and_not_executed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"a": Malicious()}, tmp_path / "bad.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("bad.pth", "cannot be read"),
        ("cut.safetensors", "cannot be read"),
        ("list.pt", "holds a list"),
        ("none.pth", "There is no checkpoint"),
        ("empty", "holds no weights"),
    ):
        with pytest.raises(WeightsError, match=message):
            read_state(tmp_path / name)
    assert "executed" not in capsys.readouterr().out
    with pytest.raises(WeightsError, match=r"ends in '\.onnx'"):
        save_checkpoint(nano.model(), tmp_path / "model.onnx")


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        save_checkpoint(nano.model(), tmp_path / "file" / "model.safetensors")
