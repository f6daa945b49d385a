"""The linear codec that training begins as, and what a step of training the codec looks at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lt_eval.distill.codec_stage import (
    MOUTH,
    CodecOptions,
    crops,
    face_weight,
    inside,
    linear_codec,
    measure_codec,
    reconstruction_terms,
    train_codec,
)
from lt_eval.distill.principal import PrincipalOptions, emphasised, principal, with_changes
from lt_eval.distill.talkers import PieceOptions, TalkerOptions, drawing
from lt_eval.distill.training import LoopOptions, OptimiserOptions
from lt_eval.generator.codec import create_codec
from lt_eval.generator.codec_config import MiniCodecConfig
from lt_eval.generator.mini_codec import MiniCodec

MODEL = MiniCodecConfig(
    latent_channels=3, widths=(8, 8), decoder_blocks=(1, 1), encoder_blocks=(1, 1), patch=2, shift=4
)
OPTIONS = CodecOptions(
    people=TalkerOptions(people=5, held_out=2, size=16),
    principal=PrincipalOptions(squares=400),
    loop=LoopOptions(10),
    batch=4,
    crop=8,
    encoder_from=0.35,
    adam=OptimiserOptions(1.5e-3, beta2=0.95, clip_norm=1.0, warmup_steps=2),
    model=MODEL,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def colours() -> NDArray[np.uint8]:
    """Return pieces of five people, each of one colour that stays: squares of rank three."""
    rng = np.random.default_rng(0)
    shown = np.empty((5, 2, 9, 16, 16, 3), np.uint8)
    shown[:] = rng.integers(20, 235, (5, 2, 1, 1, 1, 3))
    return shown


def linear(data: NDArray[np.uint8]) -> MiniCodec:
    codec = create_codec(MODEL, seed=0)
    assert isinstance(codec, MiniCodec)
    codec.set_principal(*linear_codec(data, OPTIONS, 0))
    return codec


def test_components_are_those_of_the_singular_value_decomposition() -> None:
    x = normal(200, 24) * torch.linspace(3, 0.1, 24) + 5
    made = principal(x, 6, 4, PrincipalOptions(motion=1.0, iterations=12), seed=0)
    _, _, exact = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    back = (x - made.mean) @ made.reading.T @ made.writing.T
    torch.testing.assert_close(back, (x - x.mean(0)) @ exact[:6].T @ exact[:6], rtol=0, atol=2e-3)
    latents = (x - made.mean) @ made.reading.T
    torch.testing.assert_close(latents.T.cov(), torch.eye(6), rtol=0, atol=1e-3)


def test_emphasis_of_motion_buys_motion() -> None:
    """What stays has ten times the variance, and the only component goes to what moves once that counts more."""
    stays, moves = torch.zeros(8), torch.zeros(8)
    stays[::2], moves[0], moves[2] = 1.0, 1.0, -1.0  # two values a frame, four frames
    one, other = torch.linalg.qr(normal(300, 2) - normal(300, 2).mean(0))[0].split(1, 1)  # uncorrelated
    x = 10**0.5 * one * stays + other * moves
    for motion, kept in ((1.0, stays), (8.0, moves)):
        made = principal(x, 1, 4, PrincipalOptions(motion=motion), seed=0)
        assert torch.cosine_similarity(made.writing[:, 0], kept, dim=0).abs() > 0.99
    assert torch.equal(emphasised(x[:1], 4, 1.0), x[:1])
    with pytest.raises(ValueError, match="3 squares for 3 components"):
        principal(x[:3], 3, 4, PrincipalOptions(), seed=0)


@torch.no_grad()
def test_pictures_in_the_span_of_the_components_come_back_before_any_training() -> None:
    codec, data = linear(colours()), colours()
    assert measure_codec(codec, torch.from_numpy(data[:3]), 3)["psnr_db"] > 40
    assert measure_codec(create_codec(MODEL, seed=1), torch.from_numpy(data[:3]), 3)["psnr_db"] < 15  # type: ignore[arg-type]
    torch.testing.assert_close(codec.posterior(torch.zeros(1, 3, 9, 16, 16))[1], torch.full((1, 3, 3, 4, 4), -7.0))


def test_what_changes_is_found_and_has_channels_of_its_own() -> None:
    """Squares that stay, but for one smooth picture that comes and goes: its numbers are the changes' alone."""
    side, count = 8, 300
    across = torch.linspace(-1, 1, side)
    wave = across[:, None, None] * across[None, :, None] * torch.ones(side, side, 3)
    picture = torch.nn.functional.normalize(wave.flatten(), dim=0)
    course = normal(count, 4)
    course = course - course.mean(1, keepdim=True)
    x = normal(count, 1, 3 * side**2) + 3 * course[:, :, None] * picture
    made = with_changes(x.flatten(1), 5, 2, 4, PrincipalOptions(change_pool=2), seed=0)
    assert made.basis is not None and made.spread is not None
    torch.testing.assert_close(made.basis @ made.basis.T, torch.eye(2), rtol=0, atol=1e-5)
    assert (made.basis[0] @ picture).abs() > 0.9
    back = made.writing.T.reshape(5, 4, -1)
    assert (back - back.mean(1, keepdim=True)).norm() < 0.1 * back.norm()  # hardly anything is left that moves
    without = principal(x.flatten(1), 5, 4, PrincipalOptions(), seed=0).writing.T.reshape(5, 4, -1)
    assert (without - without.mean(1, keepdim=True)).norm() > 0.3 * without.norm()


def test_a_linear_codec_of_another_size_is_refused() -> None:
    codec = create_codec(MODEL, seed=1)
    assert isinstance(codec, MiniCodec)
    with pytest.raises(ValueError, match=r"give \[192\], \[3, 192\] and \[192, 3\]"):
        codec.set_principal(torch.zeros(192), torch.zeros(192, 3), torch.zeros(3, 192))


def test_changes_are_given_to_both_networks_where_the_codec_has_them_and_refused_elsewhere() -> None:
    model = replace(MODEL, latent_channels=6, change_components=1)
    data = np.random.default_rng(0).integers(0, 256, (5, 2, 9, 16, 16, 3), np.uint8)
    begun = linear_codec(data, replace(OPTIONS, model=model), 0)
    codec, without = create_codec(model, seed=1), create_codec(MODEL, seed=1)
    assert isinstance(codec, MiniCodec) and isinstance(without, MiniCodec)
    codec.set_principal(*begun)
    assert begun.basis is not None and begun.spread is not None
    for net in (codec.encode_net, codec.decode_net):
        assert torch.equal(net.changes.basis, begun.basis) and torch.equal(net.changes.spread, begun.spread)
    none_for_it, narrow = begun._replace(basis=None), begun._replace(basis=begun.basis[:, 1:])
    for one, given in ((codec, none_for_it), (without, begun), (codec, narrow)):
        with pytest.raises(ValueError, match="give a basis and a spread of"):
            one.set_principal(*given)


def test_a_step_depends_on_its_number_and_looks_at_nobody_held_out() -> None:
    data = torch.zeros(5, 1, 9, 16, 16, 3, dtype=torch.uint8)
    data[:] = torch.arange(5).reshape(5, 1, 1, 1, 1, 1) * 40
    for step in range(10):
        shown, again = crops(data, OPTIONS, step, 3), crops(data, OPTIONS, step, 3)
        assert torch.equal(shown.video, again.video) and torch.equal(shown.weight, again.weight)
        assert shown.video.max() <= 2 * 40 / 127.5 - 1 + 1e-6
        frames, side = shown.video.shape[2], shown.video.shape[3]
        assert side == (16 if step >= 7.5 else 8)
        assert shown.video.shape[0] == (1 if side == 16 else 4) * (2 if frames == 5 else 1)
        assert shown.weight.shape == (shown.video.shape[0], 1, 1, side, side) and shown.weight.min() >= 1


def test_errors_in_a_face_cost_more_and_a_perfect_clip_nothing() -> None:
    true = torch.zeros(1, 3, 5, 16, 16)
    weight = torch.from_numpy(face_weight(16, 4.0, 4.0))[None, None, None].float()
    corner, face = true.clone(), true.clone()
    corner[..., :2, :2], face[..., 8:10, 7:9] = 0.5, 0.5
    costs = [reconstruction_terms(made, true, weight) for made in (true, corner, face)]
    assert all(float(value) == 0 for value in costs[0].values())
    assert all(costs[2][name] > 2 * costs[1][name] > 0 for name in ("pixels", "squares", "edges"))
    assert costs[2]["changes"] == 0
    flat = reconstruction_terms(true + 0.5, true, torch.full_like(weight, 7.0))
    torch.testing.assert_close(torch.stack([flat["pixels"], flat["squares"]]), torch.tensor([0.5, 0.25]))


def test_the_mouth_is_measured_by_itself() -> None:
    data = colours()
    codec = linear(data)
    spoilt = data.copy()
    inside(torch.from_numpy(spoilt).movedim(-1, 0), MOUTH)[...] = 255
    there, before = (measure_codec(codec, torch.from_numpy(shown), 2) for shown in (spoilt, data))
    assert there["mouth_psnr_db"] < there["face_psnr_db"] < there["psnr_db"] < before["psnr_db"]


def test_a_run_that_was_interrupted_ends_with_the_same_bytes(tmp_path: Path) -> None:
    options = replace(OPTIONS, loop=LoopOptions(8, checkpoint_every=2, evaluate_every=0), pieces=PieceOptions(9, 2))
    np.save(tmp_path / f"pieces-7000000-5-16-25-2x9-{drawing()}.npy", colours())

    def until(limit: int) -> Callable[[str, int, int, str], None]:
        def progress(stage: str, done: int, total: int, what: str) -> None:
            if done == limit:
                raise KeyboardInterrupt

        return progress

    for limit in (3, 7):  # before and after the encoder learns
        with pytest.raises(KeyboardInterrupt):
            train_codec(options, tmp_path / "two", tmp_path, progress=until(limit))
    train_codec(options, tmp_path / "two", tmp_path)
    codec, now = train_codec(options, tmp_path / "one", tmp_path)
    assert now.step == 8
    assert (tmp_path / "one" / "codec.safetensors").read_bytes() == (
        tmp_path / "two" / "codec.safetensors"
    ).read_bytes()
    begun, ended = linear(colours()).state_dict(), codec.state_dict()
    for name, same in (("encode_net.analysis", True), ("decode_net.synthesis", True), ("encode_net.pack", False)):
        kept = begun[f"{name}.weight"].bfloat16().float()  # as files hold it
        assert torch.equal(kept, ended[f"{name}.weight"]) == same
