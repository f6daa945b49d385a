"""A transformer with the table that reads its prompts: what teacher, student and critic each are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from lt_eval.distill.material import Batch
from lt_eval.distill.ranks import is_sharded
from lt_eval.generator.conditions import Conditions
from lt_eval.generator.config import TIMESTEPS, GeneratorConfig
from lt_eval.generator.model import Transformer
from lt_eval.generator.networks import Parts
from lt_eval.generator.sampler import anchor
from lt_eval.generator.text import PromptTable, averages


class Denoiser(nn.Module):
    """Transformer and, where the model has one, prompt table.

    Args:
        config: of the generator.
        transformer: its weights are shared, not copied.
        prompts: the same.
        bf16: whether products are computed in bfloat16; parameters and what is returned stay float32.

    Attributes:
        reading: what makes tokens [B, L, text_dim] of prompts where there is no table, on any device; set it before
            prompts are read.
    """

    def __init__(
        self, config: GeneratorConfig, transformer: Transformer, prompts: PromptTable | None, *, bf16: bool = False
    ) -> None:
        super().__init__()
        self.config, self.bf16 = config, bf16
        self.reading: Callable[[Sequence[str]], Tensor] | None = None
        self.transformer, self.prompts = transformer, prompts

    @staticmethod
    def fresh(config: GeneratorConfig, seed: int, *, bf16: bool = False) -> Denoiser:
        """Return an untrained one, whose first prediction is velocity 0; it depends on the seed alone."""
        rows = config.model.prompt_table
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            transformer = Transformer(config.model)
            prompts = PromptTable(rows, config.model.text_dim, config.model.text_tokens) if rows else None
        return Denoiser(config, transformer, prompts, bf16=bf16)

    @staticmethod
    def of_parts(config: GeneratorConfig, parts: Parts, *, bf16: bool = False) -> Denoiser:
        """Return that of a bundle."""
        return Denoiser(config, parts.transformer, parts.prompts, bf16=bf16)

    @staticmethod
    def empty(config: GeneratorConfig, *, bf16: bool = False) -> Denoiser:
        """Return one that has shapes but no weights: they are on the device "meta"."""
        with torch.device("meta"):
            return Denoiser.fresh(config, 0, bf16=bf16)

    def skeleton(self) -> Denoiser:
        """Return an empty one of this shape, whose parameters want gradients where this one's do."""
        found = Denoiser.empty(self.config, bf16=self.bf16)
        found.reading = self.reading
        wanted = {name: parameter.requires_grad for name, parameter in self.named_parameters()}
        for name, parameter in found.named_parameters():
            parameter.requires_grad_(wanted[name])
        return found.train(self.training)

    def with_weights(self, weights: dict[str, Tensor]) -> Denoiser:
        """Return a frozen one of this shape that takes over other weights, such as averaged ones."""
        found = self.skeleton()
        found.load_state_dict(weights, assign=True)
        return found.frozen()

    def frozen(self) -> Denoiser:
        """Return this one without gradients."""
        self.requires_grad_(False)
        return self.eval()

    def in_numbers(self, batch: Batch) -> Batch:
        """Return a batch on this device whose prompts are tensors, where a table reads them; else as they are."""
        batch = batch.to(self.device)
        if self.prompts is None or isinstance(batch.prompts, Tensor):
            return batch
        told = averages(batch.prompts, self.prompts.tokens, self.prompts.rows)
        return batch._replace(prompts=told.to(self.device))

    def read(self, prompts: Sequence[str] | Tensor) -> Tensor:
        """Return tokens [B, L, text_dim].

        Raises:
            ValueError: the model's text comes from an encoder outside, and none was given.
        """
        if self.prompts is None:
            if self.reading is None:
                raise ValueError("this model has no prompt table: set what reads its prompts.")
            assert not isinstance(prompts, Tensor)
            return self.reading(prompts).to(self.device)
        tokens: Tensor = self.prompts(prompts)
        return tokens

    def conditions(self, batch: Batch) -> Conditions:
        """Return the conditions of a batch."""
        return Conditions(batch.reference, self.read(batch.prompts), batch.audio)

    @property
    def device(self) -> torch.device:
        """Of the weights, and of what it takes and returns."""
        return self.transformer.device

    def precision(self) -> AbstractContextManager[object]:
        """Return the context in which its products are computed."""
        # a cached bfloat16 copy of a weight that is sharded would keep all of it in memory
        kept = not is_sharded(self.transformer.patch_embedding.weight)
        return torch.autocast(self.transformer.device.type, torch.bfloat16, enabled=self.bf16, cache_enabled=kept)

    def velocity(self, noisy: Tensor, sigma: Tensor, conditions: Conditions, *, block_causal: bool = False) -> Tensor:
        """Return the velocity of a whole sequence, float32 [B, C, F, h, w].

        Latent frame 0 is the reference, as in sampling, whatever `noisy` says. A causal pass has the window of the
        generator's stream.

        Args:
            noisy: [B, C, F, h, w].
            sigma: [B, F] or [B, 1].
            conditions: of all frames.
            block_causal: whether a block sees itself and its past alone.
        """
        stream = self.config.stream
        noisy = anchor(noisy, conditions.reference, stream, block=0)
        timestep = sigma * TIMESTEPS
        if block_causal and stream.timestep_rounding == "bfloat16":
            timestep = timestep.bfloat16().float()
        with self.precision():
            out: Tensor = self.transformer(noisy, timestep, conditions, block_causal=block_causal, stream=stream)
        return out.float()


def dropped(batch: Batch, text: Tensor, audio: Tensor) -> Batch:
    """Return a batch without some prompts ("") and some audio (zeros): what a guided model learns beside.

    Args:
        batch: clips.
        text: bool [B], true where the prompt goes.
        audio: bool [B], true where the audio goes.
    """
    kept = batch._replace(audio=torch.where(audio[:, None, None], 0.0, batch.audio))
    if isinstance(batch.prompts, Tensor):
        return kept._replace(prompts=torch.where(text[:, None, None], 0.0, batch.prompts))
    told = zip(batch.prompts, text.tolist(), strict=True)
    return kept._replace(prompts=tuple("" if gone else prompt for prompt, gone in told))


def without_words(batch: Batch) -> Sequence[str] | Tensor:
    """Return as many empty prompts as a batch has."""
    prompts = batch.prompts
    return torch.zeros_like(prompts) if isinstance(prompts, Tensor) else [""] * len(prompts)


def after_first(like: Tensor) -> Tensor:
    """Return the mask [B, F] of what is learnt: all latent frames but the first, which is given.

    Args:
        like: anything [B, F] on the device of the mask.
    """
    mask = torch.ones(like.shape, device=like.device)
    mask[:, 0] = 0
    return mask
