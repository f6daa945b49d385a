"""Training the mini codec on crops of drawn people: reconstruction, a weak pull of its latents towards a normal law.

It begins as the best linear codec of its training pieces (`lt_eval.distill.principal`), which is sharper than what
the networks alone reach in an hour of a processor core; they then learn what is left.

Loss: mean absolute error of pixels, of two coarser scales, of edges and of changes from frame to frame (a blurred or
frozen mouth costs little in the first alone), all of them weighted towards the face, and the KL divergence of the
latents. Nothing of a metric that scores the result is part of it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lt_eval.distill.graphs import Repeated, numbers
from lt_eval.distill.pictures import of_levels
from lt_eval.distill.principal import (
    Principal,
    PrincipalOptions,
    principal,
    sampled_squares,
    with_changes,
)
from lt_eval.distill.ranks import ALONE, CPU, Ranks
from lt_eval.distill.talkers import PieceOptions, TalkerOptions, pieces
from lt_eval.distill.training import (
    Average,
    LoopOptions,
    Optimiser,
    OptimiserOptions,
    Progressed,
    generator_of,
    train,
)
from lt_eval.generator.codec import create_codec
from lt_eval.generator.codec_config import MiniCodecConfig
from lt_eval.generator.codec_files import load_codec, save_codec
from lt_eval.records import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lt_eval.generator.mini_codec import MiniCodec


TALKERS = TalkerOptions(people=336)
LOOP = LoopOptions(steps=6500, evaluate_every=500, checkpoint_every=500, log_every=50)
ADAM = OptimiserOptions(1.5e-3, beta2=0.95, clip_norm=1.0, warmup_steps=200, decay_to=0.02)

FACE = Box(0.30, 0.27, 0.70, 0.74)
"""Where faces of drawn people are, in fractions of the picture; for measurements."""

MOUTH = Box(0.37, 0.52, 0.63, 0.69)


@dataclass(frozen=True)
class CodecOptions:
    """How the codec is trained.

    Attributes:
        people: who is drawn; the windows of this record are not used.
        pieces: what is kept of each.
        principal: how the linear codec that it begins as is found.
        loop: steps and measurements.
        adam: of the codec's parameters.
        batch: crops a step.
        crop: side of a crop in pixels.
        whole_share: share of the steps, the last ones, that take whole pictures instead, of as many pixels.
        short_share: share of the steps that take the first or last five frames of twice as many pieces.
        encoder_from: share of the steps after which the encoder learns as well; before, latents are those of the linear
            codec, and the decoder has a target that stays.
        face_share: share of the crops that are centred on the lower half of the picture's middle, where faces talk.
        face_weight: by how much the error in the middle of faces counts more than elsewhere; falls off as a bell.
        mouth_weight: the same of the middle of mouths, besides.
        kl: weight of the divergence, a mean over latent values, in nats.
        squares: weight of the mean squared error beside the absolute one.
        edges, changes: weights of the losses of edges and of changes in time; pixels have 1.
        ema: decay of the averaged weights that are kept.
        latent_noise: standard deviation of what is added to latents in training, as a share of theirs: the decoder will
            meet latents that a diffusion model made.
        change_scale: what latents of changes are divided by, in deviations of the slowest cosine of their component.
            Most places never change, so one deviation over all of them would leave a mouth at five where noise has one,
            and the quickest cosine as large as the slowest, of which twenty times less is seen.
        bf16: whether convolutions and matrix products are computed in bfloat16; weights and losses stay float32.
        model: shape of the codec; in a recipe it is that of the generator.
    """

    people: TalkerOptions = TALKERS
    pieces: PieceOptions = field(default_factory=PieceOptions)
    principal: PrincipalOptions = field(default_factory=PrincipalOptions)
    loop: LoopOptions = LOOP
    adam: OptimiserOptions = ADAM
    batch: int = 4
    crop: int = 128
    whole_share: float = 0.25
    short_share: float = 0.5
    encoder_from: float = 0.0
    face_share: float = 0.6
    face_weight: float = 4.0
    mouth_weight: float = 12.0
    kl: float = 1e-6
    squares: float = 3.0
    edges: float = 1.0
    changes: float = 3.0
    ema: float = 0.995
    latent_noise: float = 0.05
    change_scale: float = 3.0
    bf16: bool = True
    model: MiniCodecConfig = field(default_factory=MiniCodecConfig)


class Crops(NamedTuple):
    """What one step looks at.

    Attributes:
        video: float [-1, 1] [B, 3, T, side, side].
        weight: float [B, 1, 1, side, side], at least 1, of the errors.
    """

    video: Tensor
    weight: Tensor


def crops(data: Tensor, options: CodecOptions, step: int, seed: int) -> Crops:
    """Return the crops of one step, on the device of the data.

    Args:
        data: uint8 RGB [people, pieces, T, size, size, 3].
        options: of the stage.
        step: counted from 0.
        seed: of the stage.
    """
    rng = np.random.Generator(np.random.PCG64([seed, step, 31]))
    size, side, many = data.shape[3], options.crop, options.batch
    if step >= (1 - options.whole_share) * options.loop.steps:
        side, many = size, max(1, round(many * (side / size) ** 2))
    first, last = 0, data.shape[2]
    if data.shape[2] > 5 and rng.random() < options.short_share:
        many *= 2
        first, last = (0, 5) if rng.random() < 0.5 else (last - 5, last)
    trained = data.shape[0] - options.people.held_out
    people, places, rows, columns = [], [], [], []
    for _ in range(many):
        person, piece = int(rng.integers(trained)), int(rng.integers(data.shape[1]))
        if rng.random() < options.face_share:
            middle = (0.5 + 0.06 * rng.standard_normal(), 0.58 + 0.08 * rng.standard_normal())
            left, top = (int(np.clip(at * size - side / 2, 0, size - side)) for at in middle)
        else:
            left, top = (int(rng.integers(size - side + 1)) for _ in range(2))
        people.append(person)
        places.append(piece)
        rows.append(np.arange(top, top + side))
        columns.append(np.arange(left, left + side)[:: -1 if rng.random() < 0.5 else 1])
    at = [torch.from_numpy(np.array(values)).to(data.device) for values in (people, places, rows, columns)]
    row, column = at[2][:, :, None], at[3][:, None, :]
    frames = torch.arange(first, last, device=data.device)[None, :, None, None]
    found = data[at[0][:, None, None, None], at[1][:, None, None, None], frames, row[:, None], column[:, None]]
    weight = _weight_on(data.device, size, options.face_weight, options.mouth_weight)
    return Crops(of_levels(found), weight[row, column][:, None, None])


@functools.lru_cache(maxsize=4)
def _weight_on(device: torch.device, size: int, face: float, mouth: float) -> Tensor:
    return torch.from_numpy(face_weight(size, face, mouth)).float().to(device)


def face_weight(size: int, face: float, mouth: float) -> NDArray[np.float64]:
    """Return 1 + a bell over the middle of faces + a narrower one over mouths, [size, size]; peaks as given."""
    at = (np.arange(size) + 0.5) / size

    def bell(middle: float, spread: float) -> NDArray[np.float64]:
        return np.exp(-0.5 * ((at - middle) / spread) ** 2)

    faces = bell(0.54, 0.13)[:, None] * bell(0.5, 0.13)[None]
    mouths = bell(0.61, 0.06)[:, None] * bell(0.5, 0.08)[None]
    return 1 + face * faces + mouth * mouths


def reconstruction_terms(made: Tensor, true: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """Return mean absolute errors of pixels over three scales, of edges and of changes in time, and the squared error.

    Args:
        made: [B, 3, T, H, W], in [-1, 1] or about.
        true: the same.
        weight: [B, 1, 1, H, W] of the errors at each place; means are weighted.
    """
    weight = weight / weight.mean()
    error = made - true
    one, places = error.transpose(1, 2).flatten(0, 1), weight.expand(-1, -1, made.shape[2], -1, -1).transpose(1, 2)
    here = places.flatten(0, 1)  # [B*T, 1, H, W]
    scales, a, near = [(one.abs() * here).mean()], one, here
    for _ in range(2):
        a, near = F.avg_pool2d(a, 2), F.avg_pool2d(near, 2)
        scales.append((a.abs() * near).mean())
    across, down = ((x_difference(one, dim).abs() * here.narrow(dim, 1, here.shape[dim] - 1)).mean() for dim in (2, 3))
    return {
        "pixels": torch.stack(scales).mean(),
        "squares": (error.square() * weight).mean(),
        "edges": across + down,
        "changes": (x_difference(error, 2).abs() * weight).mean() if made.shape[2] > 1 else error.new_zeros(()),
    }


def x_difference(x: Tensor, dim: int) -> Tensor:
    """Return the differences of neighbours along a dimension."""
    return x.narrow(dim, 1, x.shape[dim] - 1) - x.narrow(dim, 0, x.shape[dim] - 1)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the mean KL divergence of independent normal laws from the standard one, in nats a value."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean()


def train_codec(
    options: CodecOptions,
    folder: Path,
    data_folder: Path,
    *,
    seed: int = 0,
    identity: str = "",
    progress: Callable[[str, int, int, str], None] = lambda stage, done, total, what: None,
    device: torch.device = CPU,
    workers: int = 1,
) -> tuple[MiniCodec, Progressed]:
    """Train the codec, or continue; return it with averaged weights and statistics set.

    The weights are also written in bfloat16, `codec.safetensors` in `folder`, and returned as they are there. Pieces
    are drawn by `workers` processes; on a GPU all of them lie in its memory.
    """
    from lt_eval.generator.mini_codec import MiniCodec

    drawn = pieces(
        options.people,
        options.pieces,
        data_folder,
        lambda done, total: progress("draw", done, total, ""),
        workers=workers,
    )
    data = torch.from_numpy(drawn).to(device)
    codec = create_codec(options.model, seed)
    assert isinstance(codec, MiniCodec)
    if not (folder / "state.pt").is_file():
        codec.set_principal(*linear_codec(drawn, options, seed))
    codec.to(device).train()
    linear = (codec.encode_net.analysis, codec.decode_net.synthesis)  # at the networks' rate they would only get worse
    for layer in linear:
        layer.requires_grad_(False)
    optimiser = Optimiser(codec.parameters(), options.adam, options.loop.steps)
    average = Average(codec, options.ema, start=1)

    learns_later = [parameter for parameter in codec.encode_net.parameters() if parameter.requires_grad]

    def update(shown: Crops, draws: Ranks, generator: torch.Generator) -> dict[str, Tensor]:
        loss, logged = codec_loss(codec, shown, options, generator, draws)
        return {"loss": loss.detach(), **logged, "norm": optimiser.follow(loss)}

    repeated = Repeated(update, ALONE, device)

    def step(number: int) -> dict[str, float]:
        learns = number >= options.encoder_from * options.loop.steps
        for parameter in learns_later:
            parameter.requires_grad_(learns)
        optimiser.begin(number)
        shown = crops(data, options, number, seed)
        values = repeated(shown, generator_of(seed, "codec", number, device), kind=(learns, shown.video.shape))
        average.update()
        return numbers(values)

    def evaluate(number: int) -> dict[str, float]:
        held = average_codec(options, average, seed)
        return {"loss": (quality := measure_codec(held, data, options.people.held_out))["l1"], **quality}

    now = train(
        folder,
        options.loop,
        {"codec": codec, "optimiser": optimiser, "average": average},
        step,
        evaluate=evaluate,
        identity=identity,
        progress=lambda done, total, what: progress("codec", done, total, what),
    )
    final = average_codec(options, average, seed)
    final.set_statistics(*statistics(final, data, options))
    save_codec(final, folder / "codec.safetensors", torch.bfloat16)
    load_codec(final, folder / "codec.safetensors")
    return final, now


def linear_codec(data: NDArray[np.uint8], options: CodecOptions, seed: int) -> Principal:
    """Return the best linear codec of the pieces that are trained on."""
    trained = data[: data.shape[0] - options.people.held_out]
    found = sampled_squares(trained, options.model, options.principal, seed)
    model, how = options.model, options.principal
    if not model.change_components:
        return principal(found, model.linear_channels, model.temporal, how, seed)
    return with_changes(found, model.linear_channels, model.change_components, model.temporal, how, seed)


def codec_loss(
    codec: MiniCodec, shown: Crops, options: CodecOptions, generator: torch.Generator, draws: Ranks = ALONE
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of one step and its parts."""
    device = shown.video.device
    products = functools.partial(torch.autocast, device.type, torch.bfloat16, enabled=options.bf16)
    with products():
        mean, log_variance = (value.float() for value in codec.posterior(shown.video))
    raw = mean + (0.5 * log_variance).exp() * draws.normal(mean.shape, generator)
    scale = mean.detach().std(dim=(0, 2, 3, 4), keepdim=True)
    raw = raw + options.latent_noise * scale * draws.normal(mean.shape, generator)
    with products():
        made = codec.reconstruct(raw)
    terms = reconstruction_terms(made.float(), *shown)
    terms["kl"] = divergence(mean, log_variance)
    weights = {"pixels": 1.0, "squares": options.squares, "edges": options.edges, "changes": options.changes}
    loss = sum(((weights | {"kl": options.kl})[name] * value for name, value in terms.items()), raw.new_zeros(()))
    return loss, {name: value.detach() for name, value in terms.items()}


def average_codec(options: CodecOptions, average: Average, seed: int) -> MiniCodec:
    """Return a codec of its own with the averaged weights."""
    from lt_eval.generator.mini_codec import MiniCodec

    codec = create_codec(options.model, seed)
    assert isinstance(codec, MiniCodec)
    weights = average.weights()
    codec.load_state_dict(weights)
    return codec.to(next(iter(weights.values())).device)


@torch.no_grad()
def measure_codec(codec: MiniCodec, data: Tensor, people: int) -> dict[str, float]:
    """Return how well the first piece of each of the last `people` comes back.

    Returns:
        PSNR in dB of everything, of faces and of mouths, mean absolute error in grey levels, and that of changes in
        time, everywhere and of mouths.
    """
    found: dict[str, list[float]] = {}
    for person in data[-people:]:
        video = of_levels(person[:1])
        error = codec.decode(codec.encode(video)) - video
        for name, box in (("", None), ("face_", FACE), ("mouth_", MOUTH)):
            part = error if box is None else inside(error, box)
            found.setdefault(f"{name}squares", []).append(float(part.square().mean()))
            found.setdefault(f"{name}changes_l1", []).append(float(x_difference(part, 2).abs().mean()) * 127.5)
        found.setdefault("l1", []).append(float(error.abs().mean()) * 127.5)
    mean = {name: float(np.mean(values)) for name, values in found.items()}
    decibels = {f"{name}psnr_db": -10 * math.log10(mean[f"{name}squares"] / 4) for name in ("", "face_", "mouth_")}
    kept = ("l1", "changes_l1", "mouth_changes_l1")
    return decibels | {name: mean[name] for name in kept}


def inside(video: Tensor, box: Box) -> Tensor:
    """Return the part of [..., H, W] in a box of fractions."""
    height, width = video.shape[-2:]
    rows, columns = (
        (round(box.top * height), round(box.bottom * height)),
        (round(box.left * width), round(box.right * width)),
    )
    return video[..., slice(*rows), slice(*columns)]


@torch.no_grad()
def statistics(codec: MiniCodec, data: Tensor, options: CodecOptions) -> tuple[Tensor, Tensor]:
    """Return what `set_statistics` takes: of each raw latent channel over up to 64 trained people.

    Channels of changes are divided by more than their deviation (`CodecOptions.change_scale`).
    """
    trained = data[: min(64, data.shape[0] - options.people.held_out)]
    means = [codec.posterior(of_levels(person[:1]))[0] for person in trained]
    values = torch.cat(means).transpose(0, 1).flatten(1)  # [C, everything]
    mean, std = values.mean(1), values.std(1)
    if options.model.change_components:
        spread = codec.encode_net.changes.spread  # [3, K]
        linear = options.model.linear_channels
        slowest = std[linear : linear + options.model.change_components] * spread[0]
        std[linear:] = (options.change_scale * slowest / spread).flatten()
    return mean, std
