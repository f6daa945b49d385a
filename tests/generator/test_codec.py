"""What every codec promises: causal, streamed as a whole, first latent one frame, no state of its own."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
import torch
from torch import Tensor

from lt_eval.generator.codec import CausalCodec, Codec, create_codec
from lt_eval.generator.codec_config import CodecConfig, MiniCodecConfig, TinyCodecConfig, WanCodecConfig

SMALL: dict[str, CodecConfig] = {
    "mini": MiniCodecConfig(
        latent_channels=4, widths=(24, 16, 8), decoder_blocks=(2, 1, 1), encoder_blocks=(2, 1, 1), patch=2, shift=4
    ),
    "mini-32x": MiniCodecConfig(
        latent_channels=3, widths=(16, 8, 8, 8), decoder_blocks=(1, 1, 0, 1), encoder_blocks=(1, 0, 1, 1), patch=4
    ),
    "mini-changes": MiniCodecConfig(
        latent_channels=11,
        change_components=2,
        widths=(16, 8, 8),
        decoder_blocks=(1, 1, 1),
        encoder_blocks=(1, 1, 1),
        patch=2,
    ),
    "wan": WanCodecConfig(latent_channels=4, dim=8, blocks=1, mean=(0.1, -0.2, 0.3, 0.0), std=(1.5, 0.5, 2.0, 1.0)),
    "tiny": TinyCodecConfig(latent_channels=4, widths=(16, 8, 8, 8), encoder_width=8),
}
CAUSAL_ENCODERS = ["mini", "mini-32x", "mini-changes", "wan"]
"""TAEHV's encoder begins with four frames, not with one."""


def make(kind: str) -> CausalCodec:
    return create_codec(SMALL[kind], seed=3)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def some_latents(codec: CausalCodec, frames: int = 5, batch: int = 2) -> Tensor:
    return noise(batch, codec.latent_channels, frames, 3, 2)


def some_video(codec: CausalCodec, frames: int = 13, batch: int = 2) -> Tensor:
    return noise(batch, 3, frames, 2 * codec.spatial, codec.spatial).clamp(-1, 1)


@pytest.fixture(params=SMALL)
def codec(request: pytest.FixtureRequest) -> CausalCodec:
    return make(request.param)


@pytest.fixture(params=CAUSAL_ENCODERS)
def encoding(request: pytest.FixtureRequest) -> CausalCodec:
    return make(request.param)


@torch.no_grad()
def test_the_first_latent_is_one_frame_and_each_later_one_four(codec: CausalCodec) -> None:
    assert isinstance(codec, Codec)
    for frames in (1, 2, 4):
        video = codec.decode(some_latents(codec, frames))
        assert video.shape == (2, 3, 4 * frames - 3, 3 * codec.spatial, 2 * codec.spatial)
        assert video.abs().max() <= 1


@torch.no_grad()
def test_frames_become_latents(encoding: CausalCodec) -> None:
    for frames in (1, 5, 13):
        latents = encoding.encode(some_video(encoding, frames))
        assert latents.shape == (2, encoding.latent_channels, (frames + 3) // 4, 2, 1)


@pytest.mark.parametrize("pieces", [[1, 1, 1, 1, 1], [3, 2], [2, 3], [1, 4], [4, 1]])
@torch.no_grad()
def test_streamed_decoding_is_that_of_the_whole(codec: CausalCodec, pieces: list[int]) -> None:
    latents = some_latents(codec)
    decoder = codec.decoder()
    streamed = [decoder.push(piece) for piece in torch.split(latents, pieces, 2)]
    assert [piece.shape[2] for piece in streamed] == [4 * n - 3 * (i == 0) for i, n in enumerate(pieces)]
    torch.testing.assert_close(torch.cat(streamed, 2), codec.decode(latents), rtol=0, atol=2e-5)


@pytest.mark.parametrize("pieces", [[1, 4, 4, 4], [5, 8], [9, 4], [1, 12]])
@torch.no_grad()
def test_streamed_encoding_is_that_of_the_whole(encoding: CausalCodec, pieces: list[int]) -> None:
    video = some_video(encoding)
    encoder = encoding.encoder()
    streamed = torch.cat([encoder.push(piece) for piece in torch.split(video, pieces, 2)], 2)
    torch.testing.assert_close(streamed, encoding.encode(video), rtol=0, atol=2e-5)


@torch.no_grad()
def test_later_latents_change_no_earlier_frame(codec: CausalCodec) -> None:
    latents = some_latents(codec)
    changed = latents.clone()
    changed[:, :, 3:] += 1
    before, after = codec.decode(latents), codec.decode(changed)
    torch.testing.assert_close(before[:, :, :9], after[:, :, :9], rtol=0, atol=2e-5)
    assert (before[:, :, 9:] - after[:, :, 9:]).abs().amax((0, 1, 3, 4)).min() > 1e-3


@torch.no_grad()
def test_later_frames_change_no_earlier_latent(encoding: CausalCodec) -> None:
    video = some_video(encoding)
    changed = video.clone()
    changed[:, :, 5:] *= -1
    before, after = encoding.encode(video), encoding.encode(changed)
    torch.testing.assert_close(before[:, :, :2], after[:, :, :2], rtol=0, atol=2e-5)
    assert (before[:, :, 2:] - after[:, :, 2:]).abs().amax((0, 1, 3, 4)).min() > 1e-3


@torch.no_grad()
def test_what_was_shown_before_matters(codec: CausalCodec) -> None:
    """A decoder that forgot would pass the tests of causality."""
    latents = some_latents(codec)
    changed = latents.clone()
    changed[:, :, 0] += 1
    assert (codec.decode(latents) - codec.decode(changed))[:, :, 1:5].abs().max() > 1e-3


@torch.no_grad()
def test_clips_of_a_batch_do_not_see_each_other(codec: CausalCodec) -> None:
    latents = some_latents(codec, batch=3)
    alone = torch.cat([codec.decode(one) for one in torch.split(latents, 1)])
    torch.testing.assert_close(codec.decode(latents), alone, rtol=0, atol=2e-5)


@torch.no_grad()
def test_interleaved_streams_give_the_bytes_of_each_alone(codec: CausalCodec) -> None:
    clips = [noise(1, codec.latent_channels, 6, 2, 2, seed=seed) for seed in range(3)]

    def alone(latents: Tensor) -> list[Tensor]:
        decoder = codec.decoder()
        return [decoder.push(piece) for piece in torch.split(latents, 3, 2)]

    expected = [alone(clip) for clip in clips]
    decoders = [codec.decoder() for _ in clips]
    interleaved = [[d.push(c[:, :, at : at + 3]) for d, c in zip(decoders, clips, strict=True)] for at in (0, 3)]
    for index, frames in enumerate(expected):
        assert all(torch.equal(step[index], piece) for step, piece in zip(interleaved, frames, strict=True))


def test_streams_in_threads_do_not_interfere(codec: CausalCodec) -> None:
    clips = [noise(1, codec.latent_channels, 4, 2, 2, seed=seed) for seed in range(4)]
    with torch.no_grad():
        expected = [codec.decode(clip) for clip in clips]
    found: dict[int, Tensor] = {}

    def run(index: int) -> None:
        decoder = codec.decoder()
        found[index] = torch.cat([decoder.push(piece) for piece in torch.split(clips[index], 1, 2)], 2)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, video in enumerate(expected):
        torch.testing.assert_close(found[index], video, rtol=0, atol=2e-5)


@torch.no_grad()
def test_a_memory_put_back_resumes_the_stream_there(codec: CausalCodec) -> None:
    latents = some_latents(codec)
    decoder = codec.decoder()
    decoder.push(latents[:, :, :2])
    kept = decoder.memory
    first = decoder.push(latents[:, :, 2:])
    decoder.memory = kept
    assert torch.equal(decoder.push(latents[:, :, 2:]), first)


@torch.no_grad()
def test_a_memory_stays_of_one_size_and_goes_with_its_stream(codec: CausalCodec) -> None:
    decoder = codec.decoder()
    shapes = set()
    for index in range(6):
        decoder.push(some_latents(codec, 1 + index % 3, batch=1))
        shapes.add(tuple(tail.shape for tail in decoder.memory.tails))
        storage = sum(tail.untyped_storage().nbytes() for tail in decoder.memory.tails)
        assert storage == decoder.memory.size, "a tail is a view that keeps more alive"
    assert len(shapes) == 1
    watched = [weakref.ref(tail) for tail in decoder.memory.tails]
    del decoder
    gc.collect()
    assert not [ref for ref in watched if ref() is not None]


def test_weights_depend_on_the_seed_and_on_nothing_else(codec: CausalCodec) -> None:
    kind = next(kind for kind, config in SMALL.items() if config == codec.config)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    again, other = create_codec(SMALL[kind], seed=3), create_codec(SMALL[kind], seed=4)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(codec.parameters(), again.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(codec.parameters(), other.parameters(), strict=True))


def test_gradients_reach_every_weight(encoding: CausalCodec) -> None:
    out = encoding.decode(encoding.encode(some_video(encoding, 9)))
    torch.autograd.backward((out * noise(*out.shape)).sum())
    assert not [name for name, p in encoding.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@pytest.mark.parametrize("shape", [(1, 4, 1, 2), (1, 9, 1, 2, 2), (1, 4, 0, 2, 2)])
def test_latents_of_another_layout_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"give \[B, 4, F, h, w\]"):
        make("mini").decode(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 3, 4, 16, 16), (1, 3, 1, 12, 16), (1, 1, 1, 16, 16), (3, 1, 16, 16)])
def test_video_of_another_layout_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"1 \+ 4k frames"):
        make("wan").encode(torch.zeros(shape))


@torch.no_grad()
def test_half_precision_is_near(codec: CausalCodec) -> None:
    latents = some_latents(codec)
    expected = codec.decode(latents)
    found = codec.to(torch.bfloat16).decode(latents)
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).abs().mean() < 0.02


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@torch.no_grad()
def test_a_cuda_device_gives_the_same_frames(codec: CausalCodec) -> None:
    latents = some_latents(codec)
    expected = codec.decode(latents)
    with torch.backends.cudnn.flags(allow_tf32=False):
        decoder = codec.to("cuda").decoder()
        found = torch.cat([decoder.push(piece.cuda()) for piece in torch.split(latents, 1, 2)], 2)
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-4)
