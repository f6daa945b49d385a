"""One stream of video: everything that it remembers, and the two steps that make a block of it.

    features of a block -> denoise -> latents -> decode -> frames
                                         then -> clean pass -> KV cache

`denoise` and `clean_pass` touch the cache, `decode` the decoder's memory, and nothing touches both: two threads may
work on one stream at the same time, each on its own half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from lt_eval.errors import ConditionError
from lt_eval.generator import sampler
from lt_eval.generator.audio_windows import AudioStream
from lt_eval.generator.conditions import Conditions
from lt_eval.generator.timeline import Timeline
from lt_eval.media.picture import fit
from lt_eval.records import MediaPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from lt_eval.generator.audio_windows import AudioEncoder
    from lt_eval.generator.codec import Codec
    from lt_eval.generator.config import GeneratorConfig
    from lt_eval.generator.model import Transformer
    from lt_eval.records import Frames

SMALLEST_PORTRAIT = 16
"""Pixels a side; below that there is no face to see."""


@dataclass(frozen=True)
class Networks:
    """What all streams of a generator share; nothing in it changes while they run.

    Attributes:
        config: of all of them.
        transformer: the denoiser.
        codec: pixels to latents and back.
        hearing: audio to features.
        reading: a prompt to tokens [1, L, text_dim].
        device: where transformer and codec are.
    """

    config: GeneratorConfig
    transformer: Transformer
    codec: Codec
    hearing: AudioEncoder
    reading: Callable[[str], Tensor]
    device: torch.device


class Stream:
    """A person in a picture, who has said what was said so far.

    Args:
        networks: shared with other streams.
        portrait: uint8 RGB [H, W, 3]; the centred square of it is shown.
        prompt: how the person moves.
        seed: of all noise; what block n draws depends on seed and n alone.

    Raises:
        ConditionError: the portrait is no picture.
    """

    def __init__(self, networks: Networks, portrait: Frames, prompt: str, seed: int) -> None:
        config, transformer = networks.config, networks.transformer
        self.timeline = Timeline(config.fps, config.audio.sample_rate_hz, config.stream.block_frames)
        self.audio = AudioStream(networks.hearing, self.timeline)
        self._networks, self._seed = networks, seed
        picture = to_video(fit(checked_portrait(portrait), MediaPolicy(size=config.size)), networks.device)
        with torch.inference_mode():
            reference = networks.codec.encode(picture).float()
            self._plan = sampler.schedule(transformer, config.stream)
            text = transformer.cross_kv(networks.reading(prompt).to(networks.device))
            self._conditions = Conditions(reference, text, None)
            height, width = reference.shape[3:]
            self._cache = transformer.new_cache(config.stream, batch=1, height=height, width=width)
        self._decoder = networks.codec.decoder()

    @property
    def block(self) -> int:
        """The block that comes next."""
        return self._cache.block

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of a block's latents: [1, C, block frames, h, w]."""
        batch, channels, _, height, width = self._conditions.reference.shape
        return batch, channels, self._networks.config.stream.block_frames, height, width

    @torch.inference_mode()
    def denoise(self) -> tuple[Tensor, Callable[[], None]]:
        """Make the latents of the next block from its audio.

        Returns:
            float32 [1, C, block frames, h, w], and the clean pass, to be called before the next `denoise`.
        """
        networks, block = self._networks, self.block
        heard = self.audio.features(block)[None].to(networks.device)  # [1, F, audio_dim]
        conditions = networks.transformer.prepare(self._conditions._replace(audio=heard))
        noise = [block_generator(self._seed, block)]
        latents = sampler.denoise_block(networks.transformer, self._cache, conditions, self._plan, noise)

        def clean_pass() -> None:
            with torch.inference_mode():
                sampler.clean_pass(networks.transformer, self._cache, conditions, latents, self._plan, noise)

        return latents, clean_pass

    @torch.inference_mode()
    def decode(self, latents: Tensor, *, pieces: bool) -> Iterator[Tensor]:
        """Yield uint8 [T, H, W, 3] on the networks' device.

        Args:
            latents: [1, C, F, h, w], those that follow.
            pieces: one latent frame at a time, so that the first frames come sooner; all of them cost a little more.
        """
        for piece in torch.split(latents, 1 if pieces else latents.shape[2], dim=2):
            yield to_frames(self._decoder.push(piece))


def block_generator(seed: int, block: int) -> torch.Generator:
    """Return the source of a block's noise, on the CPU: the same on every device, whatever was made before."""
    state = np.random.SeedSequence([seed % 2**64, block]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % 2**63)


def to_video(picture: Frames, device: torch.device) -> Tensor:
    """Return uint8 [H, W, 3] as float32 [1, 3, 1, H, W] in [-1, 1]."""
    return torch.from_numpy(np.array(picture)).to(device).permute(2, 0, 1)[None, :, None].float() / 127.5 - 1


def to_frames(video: Tensor) -> Tensor:
    """Return [1, 3, T, H, W] in [-1, 1] as uint8 [T, H, W, 3]."""
    levels = video[0].permute(1, 2, 3, 0).float().add(1).mul_(127.5)
    return levels.round_().clamp_(0, 255).to(torch.uint8).contiguous()


def checked_portrait(portrait: object) -> Frames:
    """Return a portrait as it is.

    Raises:
        ConditionError: it is not uint8 RGB [H, W, 3] of a size in which a face can be seen.
    """
    given = np.asarray(portrait)
    if given.dtype != np.uint8 or given.ndim != 3 or given.shape[2] != 3:
        raise ConditionError(
            f"the portrait is {given.dtype} {list(given.shape)}. It must be one picture, uint8 RGB [H, W, 3]."
        )
    if min(given.shape[:2]) < SMALLEST_PORTRAIT:
        raise ConditionError(
            f"the portrait is {given.shape[1]}x{given.shape[0]}. Each side must be {SMALLEST_PORTRAIT} or more."
        )
    return given
