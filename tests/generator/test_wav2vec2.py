from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lt_eval.errors import WeightsError
from lt_eval.generator.audio_config import AudioConfig
from lt_eval.generator.wav2vec2 import Wav2Vec2, at_steps, normalise
from lt_eval.generator.wav2vec2_weights import from_public, load_wav2vec2, seeded_wav2vec2, to_public

TINY = AudioConfig("wav2vec2", hidden=32, layers=2, heads=2, ffn=48, conv_dim=16, position_kernel=8, position_groups=4)


def test_the_published_network_has_the_published_size() -> None:
    with torch.device("meta"):
        network = Wav2Vec2(AudioConfig("wav2vec2"))
    counted = sum(weight.numel() for weight in network.parameters())
    # 94,371,712 of the public model, less masked_spec_embed (768) and the weight norm's 128 magnitudes.
    assert counted == 94_371_712 - 768 - 128


def test_a_frame_has_the_last_state_and_all_states() -> None:
    network = seeded_wav2vec2(TINY)
    found = network(torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0)), 25)
    assert found.shape == (1, 25, 4 * 32)
    assert torch.equal(found[..., :32], found[..., -32:])


def test_places_spread_evenly_are_the_published_interpolation() -> None:
    network, sound = (
        seeded_wav2vec2(TINY),
        normalise(torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))),
    )
    assert torch.allclose(network(sound, torch.linspace(0, 48, 25)), network(sound, 25), atol=1e-5)


def test_steps_between_and_beyond_the_ends_are_interpolated_and_held() -> None:
    steps = torch.arange(4.0).square()[None, :, None]
    assert at_steps(steps, torch.tensor([-1.0, 0.5, 2.0, 2.25, 9.0])).flatten().tolist() == [0, 0.5, 4, 5.25, 9]


def test_clips_of_a_batch_do_not_see_each_other() -> None:
    network = seeded_wav2vec2(TINY)
    sound = normalise(torch.randn(2, 8_000, generator=torch.Generator().manual_seed(0)))
    assert torch.allclose(network(sound, 12)[1:], network(sound[1:], 12), atol=1e-5)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("prefix", ["", "wav2vec2."])
@pytest.mark.parametrize("newer", [False, True], ids=["weight_g", "parametrizations"])
def test_public_checkpoints_load_in_all_their_spellings(tmp_path: Path, name: str, prefix: str, newer: bool) -> None:
    network = seeded_wav2vec2(TINY)
    state = {prefix + key: value.clone() for key, value in to_public(network).items()}
    if newer:
        for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
            key = f"{prefix}encoder.pos_conv_embed.conv."
            state[f"{key}parametrizations.weight.{new}"] = state.pop(key + old)
    state |= {f"{prefix}masked_spec_embed": torch.zeros(32), "lm_head.weight": torch.zeros(4, 32)}
    if name.endswith("safetensors"):
        save_file(state, tmp_path / name)
    else:
        torch.save(state, tmp_path / name)
    loaded = load_wav2vec2(tmp_path, TINY)
    for key, value in network.state_dict().items():
        assert torch.allclose(loaded.state_dict()[key], value, atol=1e-6), key


def test_what_is_missing_and_left_over_is_named() -> None:
    state = to_public(seeded_wav2vec2(TINY))
    state["extra"] = state.pop("encoder.layer_norm.bias")
    with pytest.raises(
        WeightsError, match=r"1 keys are missing \(encoder.layer_norm.bias\), 1 are left over \(extra\)"
    ):
        from_public(state, TINY, "it")
    with pytest.raises(WeightsError, match=r"audio\.layers"):
        from_public(to_public(seeded_wav2vec2(replace(TINY, layers=3))), TINY, "it")
    with pytest.raises(WeightsError, match=r"feed_forward.* of another shape"):
        from_public(to_public(seeded_wav2vec2(replace(TINY, ffn=50))), TINY, "it")


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    for name in ("model.safetensors", "pytorch_model.bin"):
        (tmp_path / name).write_bytes(b"not weights")
        with pytest.raises(WeightsError, match="cannot be read as weights"):
            load_wav2vec2(tmp_path / name, TINY)
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load_wav2vec2(tmp_path / "nowhere.bin", TINY)


def test_seeds_are_explicit() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    once, again, other = (seeded_wav2vec2(TINY, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    key = "encoder.layers.0.attention.q_proj.weight"
    assert torch.equal(once[key], again[key]) and not torch.equal(once[key], other[key])


def test_normalised_sound_has_unit_variance_and_silence_stays_silent() -> None:
    sound = normalise(torch.rand(2, 1_000))
    assert torch.allclose(sound.mean(dim=1), torch.zeros(2), atol=1e-5)
    assert torch.allclose(sound.var(dim=1), torch.ones(2), atol=1e-2)
    assert not normalise(torch.zeros(1, 1_000)).any()
