"""The mini codec as something to train: gradients, statistics, crops, one graph a kind of piece."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lt_eval.generator.codec import create_codec
from lt_eval.generator.codec_config import MiniCodecConfig
from lt_eval.generator.codec_memory import Memory
from lt_eval.generator.mini_codec import Changes, MiniCodec
from tests.generator.test_codec import SMALL, noise, some_latents, some_video


def small() -> MiniCodec:
    codec = create_codec(SMALL["mini"], seed=3)
    assert isinstance(codec, MiniCodec)
    return codec


def moving_square(frames: int, side: int) -> Tensor:
    """Return a video, [1, 3, T, side, side], of a square that moves by two pixels a frame."""
    video = torch.full((1, 3, frames, side, side), -0.5)
    for index in range(frames):
        video[:, index % 2 :, index, 8:16, 2 * index : 2 * index + 8] = 0.8
    return video


def test_it_learns_in_a_few_steps() -> None:
    codec, video = small().train(), moving_square(5, 32)
    optimiser = torch.optim.Adam(codec.parameters(), lr=3e-3)
    losses = []
    for step in range(60):
        mean, log_variance = codec.posterior(video)
        raw = mean + torch.exp(log_variance / 2) * noise(*mean.shape, seed=step)
        loss = (codec.reconstruct(raw) - video).abs().mean() + 1e-4 * (
            mean**2 + log_variance.exp() - log_variance
        ).mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 0.3 and min(losses[-5:]) < 0.35 * losses[0]


def seeded_changes() -> Changes:
    changes = Changes(3, 4, 4)
    changes.basis.copy_(torch.linalg.qr(noise(48, 3))[0].T)
    changes.spread.copy_(noise(3, 3, seed=1).abs() + 0.5)
    return changes


def test_what_is_written_of_changes_is_read_again_and_touches_nothing_else() -> None:
    changes, x, values = seeded_changes(), noise(2, 5, 4 * 48, seed=2), noise(2, 5, 9, seed=3)
    written = changes.written(x, values)
    torch.testing.assert_close(changes.read(written), values, rtol=0, atol=1e-5)
    torch.testing.assert_close(changes.written(x, changes.read(x)), x, rtol=0, atol=1e-5)
    moved = (written - x).reshape(2, 5, 4, 48)
    torch.testing.assert_close(moved.mean(-2), torch.zeros(2, 5, 48), rtol=0, atol=1e-6)
    along = moved @ changes.basis.T @ changes.basis
    torch.testing.assert_close(along, moved, rtol=0, atol=1e-5)


def test_what_stays_has_no_changes() -> None:
    still = noise(2, 48).repeat(1, 4) * 100
    torch.testing.assert_close(seeded_changes().read(still), torch.zeros(2, 9), rtol=0, atol=1e-4)


@torch.no_grad()
def test_statistics_normalise_latents_and_change_no_frame() -> None:
    codec, video = small(), some_video(small(), 13, batch=4)
    before = codec.decode(codec.encode(video))
    raw = codec.posterior(video)[0]
    codec.set_statistics(raw.mean((0, 2, 3, 4)), raw.std((0, 2, 3, 4)))
    latents = codec.encode(video)
    torch.testing.assert_close(latents.mean((0, 2, 3, 4)), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(latents.std((0, 2, 3, 4)), torch.ones(4))
    torch.testing.assert_close(codec.decode(latents), before, rtol=0, atol=1e-5)
    again = small()
    again.load_state_dict(codec.state_dict())
    assert torch.equal(again.encode(video), latents)


def test_statistics_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="std positive"):
        small().set_statistics(torch.zeros(4), torch.zeros(4))
    with pytest.raises(ValueError, match=r"give \[4\]"):
        small().set_statistics(torch.zeros(3), torch.ones(3))


@torch.no_grad()
def test_a_crop_is_decoded_as_the_whole_away_from_its_borders() -> None:
    codec = create_codec(MiniCodecConfig(widths=(8, 8), decoder_blocks=(1, 1), encoder_blocks=(1, 1), shift=4), seed=1)
    latents = noise(1, 16, 2, 20, 20)
    whole, crop = codec.decode(latents), codec.decode(latents[..., 3:17, 3:17])
    inner, same = slice(6 * codec.spatial, 8 * codec.spatial), slice(9 * codec.spatial, 11 * codec.spatial)
    torch.testing.assert_close(whole[..., same, same], crop[..., inner, inner], rtol=0, atol=1e-5)


@torch.no_grad()
def test_frames_leave_in_the_order_of_pictures() -> None:
    """So that the host writes them without a transposition."""
    codec = small()
    assert codec.decode(some_latents(codec)).permute(0, 2, 3, 4, 1).is_contiguous()


@torch.no_grad()
def test_a_compiled_piece_is_one_graph_for_the_first_and_one_for_all_later() -> None:
    codec = small()
    graphs = []

    def count(graph: Any, inputs: Any) -> Callable[..., Any]:
        graphs.append(graph)
        forward: Callable[..., Any] = graph.forward
        return forward

    compiled = torch.compile(codec.decode_piece, backend=count, fullgraph=True)
    latents, memory, frames = some_latents(codec, 4, batch=1), Memory(), []
    for piece in torch.split(latents, 1, 2):
        video, memory = compiled(piece, memory)
        frames.append(video)
    assert len(graphs) == 2
    torch.testing.assert_close(torch.cat(frames, 2), codec.decode(latents), rtol=0, atol=2e-5)
