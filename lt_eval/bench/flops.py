"""How much arithmetic a block of video is, counted as published: one multiplication and one addition are two FLOP.

Of the transformer, in closed form, for N tokens of a block that attend to K tokens of the window, width d, L layers:

    linear            L 2 N (4 d^2 + 2 d^2 + 2 d f)    self-attention's four, cross-attention's query and output, FFN
    self-attention    L 4 N K d
    cross-attention   L 4 N T d                        T tokens of text; their keys and values are made once a session

Left out: patch embedding, head, modulation, audio (together under 1 % at the size of the paper) and everything that is
not a product. A clean pass counts as a forward, although its last layer stops at the keys and values. Of a codec, by
running it on tensors without data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lt_eval.generator.config import GeneratorConfig, ModelConfig, StreamConfig


class Forward(NamedTuple):
    """FLOP of one forward of the transformer over one block."""

    linear: float
    self_attention: float
    cross_attention: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.linear + self.self_attention + self.cross_attention


def forward_flop(model: ModelConfig, queries: int, keys: int) -> Forward:
    """Return the FLOP of one forward.

    Args:
        model: its shape.
        queries: tokens of the block.
        keys: tokens that each of them attends to.
    """
    width = model.dim
    return Forward(
        model.layers * 2.0 * queries * (6 * width**2 + 2 * width * model.ffn_dim),
        model.layers * 4.0 * queries * keys * width,
        model.layers * 4.0 * queries * model.text_tokens * width,
    )


def block_tokens(config: GeneratorConfig) -> int:
    """Return the tokens of one block: 3 x 32 x 32 at the size of the paper."""
    rows, columns = config.model.patch[1:]
    return config.stream.block_frames * (config.latent_side // rows) * (config.latent_side // columns)


def window_blocks(block: int, stream: StreamConfig) -> int:
    """Return how many blocks a block attends to, itself included."""
    return min(block + 1, stream.window_blocks)


def denoise_flop(config: GeneratorConfig, block: int) -> float:
    """Return the FLOP of all denoising steps of a block, without its clean pass: what its latents wait for."""
    tokens = block_tokens(config)
    return config.stream.steps * forward_flop(config.model, tokens, tokens * window_blocks(block, config.stream)).total


def block_flop(config: GeneratorConfig, block: int) -> float:
    """Return the FLOP of a block with its clean pass; from `StreamConfig.steady_block` on it is constant."""
    return denoise_flop(config, block) * (1 + 1 / config.stream.steps)


def decode_flop(config: GeneratorConfig) -> tuple[float, float]:
    """Return the FLOP of decoding the first block of a stream, and any later one.

    Counted by torch while the decoder runs on tensors that have a shape and no data.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from lt_eval.generator.codec import create_codec

    with torch.device("meta"):
        codec = create_codec(config.codec, 0).eval().requires_grad_(False)
    decoder = codec.decoder()
    frames, side = config.stream.block_frames, config.latent_side
    counts = []
    for _ in range(2):
        latents = torch.empty((1, config.codec.latent_channels, frames, side, side), device="meta")
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            decoder.push(latents)
        counts.append(float(counter.get_total_flops()))
    return counts[0], counts[1]
