"""The two halves of the reference generator apart, to be timed: latents without pixels, and pixels of random latents.

Both run alone on the device, so their rates say what each costs, not what the pipeline of both reaches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from lt_eval.generator.audio_windows import checked_audio
from lt_eval.generator.lanes import Lane
from lt_eval.generator.stream import Stream

if TYPE_CHECKING:
    from lt_eval.generator.stream import Networks
    from lt_eval.records import Audio, Frames


def denoise_only(
    networks: Networks, portrait: Frames, speech: Audio, *, prompt: str, seed: int, threads: int
) -> Iterator[int]:
    """Make the latents of a whole turn; yield the frames of each block when its latents are done.

    A block's clean pass comes after its latents, as in the pipeline, and so is in the time of the next one.

    Args:
        networks: loaded.
        portrait: uint8 RGB [H, W, 3].
        speech: float32 [T] mono; all of it is there from the start.
        prompt: of the session.
        seed: of all noise.
        threads: of an operation on a CPU.
    """
    with _alone(networks, threads):
        stream = Stream(networks, portrait, prompt, seed)
        samples = checked_audio(speech)
        stream.audio.push(samples)
        blocks = stream.timeline.blocks(stream.timeline.shown(len(samples)), 0)
        stream.audio.align(blocks)
        for block in range(blocks):
            _, clean_pass = stream.denoise()
            _finish(networks)
            yield len(stream.timeline.frames(block))
            clean_pass()


def decode_only(
    networks: Networks, portrait: Frames, speech: Audio, *, prompt: str, seed: int, threads: int
) -> Iterator[int]:
    """Decode random latents of a turn's length; yield the frames of each block when they are on the host."""
    with _alone(networks, threads):
        stream = Stream(networks, portrait, prompt, seed)
        timeline = stream.timeline
        random = torch.Generator().manual_seed(seed % 2**63)
        shape = stream.latent_shape
        for block in range(timeline.blocks(timeline.shown(len(speech)), 0)):
            latents = torch.randn(shape, generator=random).to(networks.device)
            count = 0
            for frames in stream.decode(latents, pieces=not block):
                count += len(frames.cpu().numpy())
            yield count


@contextlib.contextmanager
def _alone(networks: Networks, threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        with Lane(networks.device, threads).enter():
            yield
    finally:
        torch.set_num_threads(before)


def _finish(networks: Networks) -> None:
    if networks.device.type == "cuda":
        torch.cuda.synchronize(networks.device)
