"""What a recipe takes from elsewhere instead of training it: published transformers, text encoder, audio network.

[public]                                        # of a recipe
teacher_preset = "teacher"                      # OmniAvatar-14B's shape; without it the teacher has the student's
text_encoder = "Wan2.1-T2V-1.3B-Diffusers/text_encoder"
audio = "wav2vec2-base-960h"

[public.teacher]                                # bidirectional, guided, frozen
files = ["Wan2.1-T2V-14B", "OmniAvatar-14B/pytorch_model.pt"]
lora_alpha = 64.0

[public.start]                                  # where student and critic begin; without it, as the teacher
files = ["Wan2.1-T2V-1.3B", "OmniAvatar-1.3B/pytorch_model.pt"]

Prompts are read once, by the first process, and kept on disk (`TextCache`): the encoder is larger than the student.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lt_eval.distill.denoiser import Denoiser
from lt_eval.distill.folders import of_path
from lt_eval.errors import SpecError
from lt_eval.generator.checkpoint import load_checkpoint
from lt_eval.generator.model import Transformer
from lt_eval.generator.presets import PRESETS, changed
from lt_eval.generator.text import TextCache, Umt5, folder_digest
from lt_eval.paths import cache_dir
from lt_eval.registry import suggestion
from lt_eval.store import key_of

if TYPE_CHECKING:
    from lt_eval.generator.config import GeneratorConfig


@dataclass(frozen=True)
class Weights:
    """A transformer in the public layout.

    Attributes:
        files: files or folders of shards; a tensor in a later one replaces that of an earlier one.
        entry: which part of a training checkpoint; empty for the usual ones.
        lora_alpha: scale of low-rank updates among the files; 0 where there are none.
    """

    files: tuple[str, ...] = ()
    entry: str = ""
    lora_alpha: float = 0.0


@dataclass(frozen=True)
class Public:
    """What comes from elsewhere; what is empty is trained, seeded or not needed.

    Attributes:
        teacher: of the teacher, which is then not trained.
        teacher_preset: generator of whose transformer the teacher has the shape; empty for the student's.
        teacher_model: changes to that shape.
        start: where student and critic begin, in the student's shape; without files they begin as the teacher.
        text_encoder: folder of umt5-xxl's encoder, where the model has no prompt table.
        audio: wav2vec2, file or folder, where the generator hears with it.
    """

    teacher: Weights = field(default_factory=Weights)
    teacher_preset: str = ""
    teacher_model: Mapping[str, Any] = field(default_factory=dict)
    start: Weights = field(default_factory=Weights)
    text_encoder: str = ""
    audio: str = ""

    @property
    def audio_path(self) -> Path | None:
        """Weights of the audio network, if any."""
        return Path(self.audio) if self.audio else None


def teacher_config(config: GeneratorConfig, public: Public) -> GeneratorConfig:
    """Return the teacher's configuration: the student's, with a transformer of its own shape.

    Raises:
        SpecError: there is no such preset or field, or the latents or audio of the two differ.
    """
    if public.teacher_preset and public.teacher_preset not in PRESETS:
        known = suggestion(public.teacher_preset, PRESETS)
        raise SpecError(f"public.teacher_preset is {public.teacher_preset!r}; no generator is called so.{known}")
    model = PRESETS[public.teacher_preset].model if public.teacher_preset else config.model
    return dataclasses.replace(config, model=changed(model, public.teacher_model, "public.teacher_model."))


def check_public(config: GeneratorConfig, public: Public) -> None:
    """Refuse what does not go together.

    Args:
        config: of the student.
        public: of the recipe.

    Raises:
        SpecError: names both values.
    """
    teacher = teacher_config(config, public)
    for name in ("text_dim", "text_tokens", "audio_hidden"):
        mine, other = (getattr(each.model, name) for each in (config, teacher))
        if (bool(mine) != bool(other)) if name == "audio_hidden" else mine != other:
            raise SpecError(
                f"generator.model.{name} is {mine} and the teacher's {other}; both get the same conditions."
            )
    for what, weights, model in (("teacher", public.teacher, teacher.model), ("start", public.start, config.model)):
        if weights.files and model.prompt_table:
            raise SpecError(
                f"public.{what}.files are given and the model has a prompt table of {model.prompt_table} rows, which "
                "no public checkpoint holds. Set prompt_table = 0 and public.text_encoder."
            )
    if teacher.model != config.model and not public.start.files:
        raise SpecError(
            "the teacher has another shape than the student, which therefore cannot begin as it. Give "
            "public.start.files, or a teacher of the student's shape."
        )


def load_public(config: GeneratorConfig, weights: Weights, *, bf16: bool) -> Denoiser:
    """Return a transformer of published weights, on the CPU in float32.

    Raises:
        WeightsError: the files cannot be read, or are not laid out as this model.
    """
    with torch.device("meta"):
        transformer = Transformer(config.model)
    transformer.to_empty(device="cpu")
    files = map(Path, weights.files)
    load_checkpoint(transformer, *files, entry=weights.entry or None, lora_alpha=weights.lora_alpha or None)
    return Denoiser(config, transformer, None, bf16=bf16)


def identity_of(weights: Weights) -> str:
    """Return what changes with the contents of files of weights."""
    return key_of([of_path(Path(file)) for file in weights.files], weights.entry, weights.lora_alpha)


class KnownText:
    """Prompts as an encoder outside reads them: encoded once, kept on disk, the latest also in memory.

    Args:
        folder: of umt5-xxl's encoder.
        tokens: length of a prompt.
        device: on which the encoder runs while it is needed.
    """

    most = 1024
    """Prompts in memory; of umt5-xxl's, one takes 4 MiB."""

    def __init__(self, folder: Path, tokens: int, device: str) -> None:
        self._folder, self._tokens, self._device = folder, tokens, device
        self._name = f"umt5 {tokens} {torch.bfloat16} {folder_digest(folder)}"
        self._held: dict[str, Tensor] = {}

    def _cache(self) -> TextCache:
        """Return the cache; its encoder lives as long as it does."""
        return TextCache(
            cache_dir() / "text", self._name, lambda: Umt5(self._folder, tokens=self._tokens, device=self._device)
        )

    def keep(self, prompts: Iterable[str]) -> None:
        """Encode those of some prompts that are not on disk."""
        cache = self._cache()
        for prompt in dict.fromkeys(prompts):
            cache([prompt])

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """Return [B, L, text_dim] on the CPU for B prompts."""
        cache = self._cache()
        found = []
        for prompt in prompts:
            tokens = self._held.pop(prompt) if prompt in self._held else cache([prompt])
            self._held[prompt] = tokens  # put last: the first is what was not asked for longest
            if len(self._held) > self.most:
                self._held.pop(next(iter(self._held)))
            found.append(tokens)
        return torch.cat(found)


@functools.lru_cache(maxsize=4)
def known_text(folder: str, tokens: int, device: str) -> KnownText:
    """Return what reads prompts with an encoder; models of one process share it.

    Raises:
        SpecError: no folder is given, or it is none.
    """
    if not folder or not Path(folder).is_dir():
        raise SpecError(
            f"public.text_encoder is {folder!r}; this generator has no prompt table and needs the folder text_encoder "
            "of Wan-AI/Wan2.1-T2V-1.3B-Diffusers, with tokenizer beside it."
        )
    return KnownText(Path(folder), tokens, device)
