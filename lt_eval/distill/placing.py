"""The networks of a recipe as its stages take them: read once, on the device, sharded, able to read prompts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lt_eval import fingerprint
from lt_eval.distill.denoiser import Denoiser
from lt_eval.distill.material import Material, make_material
from lt_eval.distill.public import KnownText, Weights, identity_of, known_text, load_public, teacher_config
from lt_eval.distill.ranks import sharded
from lt_eval.distill.recipe import BUILTIN, Recipe
from lt_eval.errors import WeightsError
from lt_eval.generator.codec import CausalCodec, create_codec
from lt_eval.generator.codec_files import load_codec
from lt_eval.generator.networks import Sources, load_parts
from lt_eval.generator.presets import bundled_codec

if TYPE_CHECKING:
    from lt_eval.distill.stages import Workshop
    from lt_eval.generator.config import GeneratorConfig


def trained_codec(shop: Workshop) -> tuple[CausalCodec, str]:
    """Return the codec of this folder and the hash of its weights."""
    path = shop.made("codec")
    codec = create_codec(shop.recipe.config().codec)
    load_codec(codec, path)
    return codec.requires_grad_(False).to(shop.device), fingerprint.of_file(path)


def codec_file(recipe: Recipe) -> Path:
    """Return the file of the codec that a recipe takes as it is.

    Raises:
        WeightsError: there is none.
    """
    if recipe.codec_weights == BUILTIN:
        return bundled_codec(recipe.preset)
    path = Path(recipe.codec_weights)
    if not path.is_file():
        raise WeightsError(
            f"codec_weights is {recipe.codec_weights!r}: there is no such file. Give that of a trained codec, or leave "
            "codec_weights out to train one."
        )
    return path


def material_of(shop: Workshop, codec: CausalCodec, codec_hash: str) -> Material:
    """Return the teacher's training material, made at the first call by the first process."""

    def make() -> Material:
        return make_material(
            shop.recipe.material,
            shop.recipe.config(),
            codec,
            codec_hash,
            shop.cache(),
            lambda done, total: shop.progress("encode", done, total, ""),
            workers=shop.workers,
            audio_weights=shop.recipe.public.audio_path,
        )

    shop.ranks.first_only(lambda: make() and None)
    return make().to(shop.device)


def teacher_of(shop: Workshop, *, bf16: bool) -> Denoiser:
    """Return the teacher, published or trained here."""
    public = shop.recipe.public
    return _network(shop, "teacher", teacher_config(shop.recipe.config(), public), public.teacher, bf16=bf16)


def start_of(shop: Workshop, *, bf16: bool) -> Denoiser:
    """Return what student and critic begin as: published weights, or the teacher."""
    public = shop.recipe.public
    if not public.start.files:
        return teacher_of(shop, bf16=bf16)
    return _network(shop, "", shop.recipe.config(), public.start, bf16=bf16)


def student_of(shop: Workshop, *, bf16: bool) -> Denoiser:
    """Return what ODE initialisation came to."""
    return _network(shop, "ode-init", shop.recipe.config(), Weights(), bf16=bf16)


def _network(shop: Workshop, stage: str, config: GeneratorConfig, weights: Weights, *, bf16: bool) -> Denoiser:
    """Return published weights where there are some, else what a stage came to; the first process alone reads files."""
    path = None if weights.files else shop.made(stage)
    if not shop.ranks.first:
        model = Denoiser.empty(config, bf16=bf16)
    elif path is None:
        model = load_public(config, weights, bf16=bf16)
    else:
        model = Denoiser.of_parts(config, load_parts(config, Sources(transformer=path)), bf16=bf16)
    return placed(shop, model)


def placed(shop: Workshop, model: Denoiser) -> Denoiser:
    """Return a model on the device, sharded where several processes train, and able to read prompts."""
    found = model.to(shop.device) if shop.ranks.mesh is None else sharded(model, shop.ranks)
    found.transformer.recompute = shop.recipe.recompute
    if found.prompts is None:
        found.reading = text_of(shop)
    return found


def text_of(shop: Workshop) -> KnownText:
    """Return what reads prompts where the model has no table."""
    return known_text(shop.recipe.public.text_encoder, shop.recipe.config().model.text_tokens, str(shop.device))


def embed(shop: Workshop, prompts: Iterable[str]) -> None:
    """Have the first process read prompts, and the empty one, before any needs them."""
    if not shop.recipe.config().model.prompt_table:
        shop.ranks.first_only(text_of(shop).keep, [*prompts, ""])


def teacher_hash(shop: Workshop) -> str:
    """Return a hash of the teacher's weights."""
    public = shop.recipe.public.teacher
    return identity_of(public) if public.files else fingerprint.of_file(shop.made("teacher"))


def start_hash(shop: Workshop) -> list[str]:
    """Return a hash of where student and critic begin, where that is not the teacher."""
    return [identity_of(shop.recipe.public.start)] if shop.recipe.public.start.files else []
