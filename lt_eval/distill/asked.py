"""A recipe's conditions: found, curated, chosen for trajectories, and read as networks take them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lt_eval import fingerprint
from lt_eval.distill.conditions import (
    Condition,
    collection,
    curate,
    damaged,
    hook,
    read_conditions,
    write_conditions,
    write_picture,
)
from lt_eval.distill.folders import of_path
from lt_eval.distill.material import Batch, audio_of, latent_frames, rounded
from lt_eval.distill.pictures import to_video
from lt_eval.distill.recipe import ConditionOptions
from lt_eval.distill.talkers import TalkerOptions, by_processes, drawing
from lt_eval.errors import SpecError
from lt_eval.generator.codec import CausalCodec
from lt_eval.generator.config import GeneratorConfig
from lt_eval.media.decode import read_audio
from lt_eval.media.picture import fit
from lt_eval.media.still import read_image
from lt_eval.records import MediaPolicy
from lt_eval.store import key_of
from lt_eval.synthetic.talker import perform

if TYPE_CHECKING:
    from lt_eval.distill.stages import Workshop
    from lt_eval.records import Frames


def run_curate(shop: Workshop) -> str:
    """Draw the portraits of a collection, damage some, or take recorded ones, and keep what passes."""
    options = shop.recipe.conditions
    found, kept = shop.out / "conditions" / "found", shop.out / "conditions" / "kept"
    if options.folder:
        write_conditions(found, collection(Path(options.folder)))
    elif not (found / "conditions.jsonl").is_file():
        people = range(options.people.people)
        drawn = by_processes(FindCondition(options, shop.recipe.seed, found), people, shop.workers)
        conditions = {}
        for number, condition in drawn:
            conditions[number] = condition
            shop.progress("draw portraits", len(conditions), len(people), "")
        write_conditions(found, [conditions[number] for number in people])
    known = list(read_conditions(found))
    verdicts = curate(
        known,
        options.bounds,
        kept,
        restore=hook(options.bounds.restore),
        refine=hook(options.bounds.refine),
        progress=lambda done, what: shop.progress("curate", done, len(known), what),
    )
    passed = sum(verdict.kept for verdict in verdicts)
    return f"{passed} of {len(verdicts)} conditions passed; {kept / 'curation.json'} says why others did not."


@dataclass(frozen=True)
class FindCondition:
    """Draws the portrait of one person as a collection holds it, and writes it: what a drawing process does.

    Attributes:
        options: who, and how many are damaged.
        seed: of the recipe.
        folder: of the set.
    """

    options: ConditionOptions
    seed: int
    folder: Path

    def __call__(self, number: int) -> Condition:
        """Return person `number`."""
        people = self.options.people
        seed = people.first_seed + number
        show = perform(seed, 1.0, people.size, people.fps)
        rng = np.random.Generator(np.random.PCG64([seed, 61, self.seed]))
        portrait = show.draw(0)
        if rng.random() < self.options.damaged_share:
            portrait = damaged(portrait, rng)
        path = self.folder / "portraits" / f"{seed}.png"
        write_picture(path, portrait)
        return Condition(str(seed), path, show.prompt, seed=seed, face=show.box(0))


@dataclass(frozen=True)
class ReadCondition:
    """Reads a condition as networks take it, but for the codec.

    Attributes:
        config: of the generator.
        window: its length of speech: the first frames, and silence where it is shorter.
        audio: weights of the audio network.
    """

    config: GeneratorConfig
    window: TalkerOptions
    audio: Path | None = None

    def __call__(self, condition: Condition) -> tuple[Frames, Tensor]:
        """Return the portrait, uint8 RGB [size, size, 3], and audio features [F, audio_dim]."""
        config = self.config
        portrait = fit(read_image(condition.portrait), MediaPolicy(size=config.size))
        if condition.speech is not None:
            speech = read_audio(condition.speech, config.audio.sample_rate_hz)
        elif condition.seed is not None:
            speech = perform(condition.seed, self.window.frames / config.fps, 16, config.fps).audio
        else:
            raise SpecError(f"condition {condition.id!r} has neither speech nor a seed; one of them is needed.")
        features = audio_of(config, speech, latent_frames(self.window), self.audio)
        return portrait, torch.from_numpy(rounded(features.numpy()))


@torch.no_grad()
def encode_conditions(conditions: list[Condition], shop: Workshop, codec: CausalCodec) -> Batch:
    """Return conditions as networks take them, on the CPU; latents are zeros of the right shape."""
    window, device = shop.recipe.material, next(codec.parameters()).device
    references = [torch.empty(0)] * len(conditions)
    sounds = list(references)
    read = ReadCondition(shop.recipe.config(), window, shop.recipe.public.audio_path)
    for number, (portrait, features) in by_processes(read, conditions, shop.workers):
        latent = codec.encode(to_video(portrait[None, None]).to(device))[0]
        references[number] = torch.from_numpy(rounded(latent.cpu().numpy()))
        sounds[number] = features
        shop.progress("read conditions", number + 1, len(conditions), "")
    reference = torch.stack(references)
    zeros = torch.zeros(len(conditions), codec.latent_channels, latent_frames(window), *reference.shape[3:])
    return Batch(zeros, reference, torch.stack(sounds), tuple(condition.prompt for condition in conditions))


def chosen_conditions(shop: Workshop) -> list[Condition]:
    """Return a condition for each trajectory, curated or not as the recipe says.

    Where they are few, those that are trained on repeat. The last trajectories, which are only measured on, have
    conditions that none of the others has.

    Raises:
        SpecError: there are too few for both.
    """
    recipe, options = shop.recipe, shop.recipe.conditions
    folder = shop.made("curate", f"{'kept' if options.curated else 'found'}/conditions.jsonl").parent
    known, apart = list(read_conditions(folder)), recipe.ode.held_out
    if len(known) <= apart:
        raise SpecError(
            f"{len(known)} conditions, and {apart} of them are held out (ode.held_out): there must be more. Raise "
            "conditions.people.people, or hold out fewer."
        )
    trained = known[: len(known) - apart]
    return [trained[number % len(trained)] for number in range(options.pairs - apart)] + known[len(trained) :]


def conditions_of(shop: Workshop, codec: CausalCodec) -> Batch:
    """Return the conditions of all trajectories as networks take them."""
    return encode_conditions(chosen_conditions(shop), shop, codec)


def conditions_hash(shop: Workshop) -> str:
    """Return a hash of what trajectories and DMD are conditioned on: another curation is another one."""
    networks = [Path(path) for path in (shop.recipe.public.audio, shop.recipe.public.text_encoder) if path]
    return key_of(
        drawing(),
        [
            (c.id, fingerprint.of_file(c.portrait), c.prompt, fingerprint.of_file(c.speech), c.seed)
            for c in chosen_conditions(shop)
        ],
        *map(of_path, networks),
    )
