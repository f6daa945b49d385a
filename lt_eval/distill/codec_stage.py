"""Training the mini codec on crops of drawn people: reconstruction, a weak pull of its latents towards a normal law.

Loss: mean absolute error of pixels, of two coarser scales, of edges and of changes from frame to frame (a blurred or
frozen mouth costs little in the first alone), and the KL divergence of the latents. Nothing of a metric that scores the
result is part of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lt_eval.distill.pictures import to_video
from lt_eval.distill.talkers import PieceOptions, TalkerOptions, pieces
from lt_eval.distill.training import Average, LoopOptions, Optimiser, OptimiserOptions, Progressed, generator_of, train
from lt_eval.generator.codec import create_codec
from lt_eval.generator.codec_config import MiniCodecConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lt_eval.generator.mini_codec import MiniCodec


TALKERS = TalkerOptions(people=320)
LOOP = LoopOptions(steps=1600, evaluate_every=200, checkpoint_every=50)
ADAM = OptimiserOptions(1e-3, beta2=0.95, clip_norm=1.0, warmup_steps=100, decay_to=0.02)


@dataclass(frozen=True)
class CodecOptions:
    """How the codec is trained.

    Attributes:
        people: who is drawn; the windows of this record are not used.
        pieces: what is kept of each.
        loop: steps and measurements.
        adam: of the codec's parameters.
        batch: crops a step.
        crop: side of a crop in pixels.
        face_share: share of the crops that are centred on the lower half of the picture's middle, where faces talk.
        kl: weight of the divergence, a mean over latent values, in nats.
        squares: weight of the mean squared error beside the absolute one: it alone gets a net without normalisation
            away from grey in the first hundred steps.
        edges, changes: weights of the losses of edges and of changes in time; pixels have 1.
        detail_from: step from which the two have their whole weight, rising from a tenth: at the beginning they ask for
            flat pictures.
        ema: decay of the averaged weights that are kept.
        latent_noise: standard deviation of what is added to latents in training, as a share of theirs: the decoder will
            meet latents that a diffusion model made.
        bf16: whether convolutions and matrix products are computed in bfloat16; weights and losses stay float32.
        model: shape of the codec; in a recipe it is that of the generator.
    """

    people: TalkerOptions = TALKERS
    pieces: PieceOptions = field(default_factory=PieceOptions)
    loop: LoopOptions = LOOP
    adam: OptimiserOptions = ADAM
    batch: int = 4
    crop: int = 192
    face_share: float = 0.6
    kl: float = 1e-6
    squares: float = 3.0
    edges: float = 1.0
    changes: float = 1.0
    detail_from: int = 400
    ema: float = 0.995
    latent_noise: float = 0.1
    bf16: bool = True
    model: MiniCodecConfig = field(default_factory=MiniCodecConfig)


def crops(data: NDArray[np.uint8], options: CodecOptions, step: int, seed: int) -> Tensor:
    """Return the crops of one step, float [-1, 1] [B, 3, T, crop, crop]."""
    rng = np.random.Generator(np.random.PCG64([seed, step, 31]))
    size, side = data.shape[3], options.crop
    trained = data.shape[0] - options.people.held_out
    found = []
    for _ in range(options.batch):
        person, piece = int(rng.integers(trained)), int(rng.integers(data.shape[1]))
        if rng.random() < options.face_share:
            middle = (0.5 + 0.06 * rng.standard_normal(), 0.58 + 0.08 * rng.standard_normal())
            left, top = (int(np.clip(at * size - side / 2, 0, size - side)) for at in middle)
        else:
            left, top = (int(rng.integers(size - side + 1)) for _ in range(2))
        piece_crop = data[person, piece, :, top : top + side, left : left + side]
        found.append(piece_crop[:, :, ::-1] if rng.random() < 0.5 else piece_crop)
    return to_video(np.stack(found))


def reconstruction_terms(made: Tensor, true: Tensor) -> dict[str, Tensor]:
    """Return mean absolute errors of pixels over three scales, of edges and of changes in time, and the squared error.

    Video is in [-1, 1].
    """
    one, other = (x.transpose(1, 2).flatten(0, 1) for x in (made, true))  # [B*T, 3, H, W]
    scales = [(one - other).abs().mean()]
    a, b = one, other
    for _ in range(2):
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        scales.append((a - b).abs().mean())
    edges = sum((x_difference(one, dim) - x_difference(other, dim)).abs().mean() for dim in (2, 3))
    changes = (x_difference(made, 2) - x_difference(true, 2)).abs().mean()
    return {
        "pixels": torch.stack(scales).mean(),
        "squares": (made - true).square().mean(),
        "edges": torch.as_tensor(edges),
        "changes": changes,
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
) -> tuple[MiniCodec, Progressed]:
    """Train the codec, or continue; return it with averaged weights and statistics set.

    The weights are also written, `codec.safetensors` in `folder`.
    """
    from lt_eval.generator.mini_codec import MiniCodec

    data = pieces(options.people, options.pieces, data_folder, lambda done, total: progress("draw", done, total, ""))
    codec = create_codec(options.model, seed)
    assert isinstance(codec, MiniCodec)
    codec.train()
    optimiser = Optimiser(codec.parameters(), options.adam, options.loop.steps)
    average = Average(codec, options.ema, start=options.loop.steps // 10)

    def step(number: int) -> dict[str, float]:
        video = crops(data, options, number, seed)
        generator = generator_of(seed, "codec", number)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            mean, log_variance = (value.float() for value in codec.posterior(video))
        spread = (0.5 * log_variance).exp()
        raw = mean + spread * torch.randn(mean.shape, generator=generator)
        scale = mean.detach().std(dim=(0, 2, 3, 4), keepdim=True)
        raw = raw + options.latent_noise * scale * torch.randn(mean.shape, generator=generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            made = codec.reconstruct(raw)
        terms = reconstruction_terms(made.float(), video)
        kl = divergence(mean, log_variance)
        detail = min(1.0, 0.1 + number / max(1, options.detail_from))
        details = options.edges * terms["edges"] + options.changes * terms["changes"]
        loss = terms["pixels"] + options.squares * terms["squares"] + detail * details + options.kl * kl
        norm = optimiser.step(loss, number)
        average.update()
        logged = {name: float(value.detach()) for name, value in terms.items()}
        return {"loss": float(loss.detach()), **logged, "kl": float(kl.detach()), "norm": norm}

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
    from safetensors.torch import save_file

    partial = folder / ".codec.safetensors"
    save_file({name: value.contiguous() for name, value in final.state_dict().items()}, partial)
    partial.replace(folder / "codec.safetensors")
    return final, now


def average_codec(options: CodecOptions, average: Average, seed: int) -> MiniCodec:
    """Return a codec of its own with the averaged weights."""
    from lt_eval.generator.mini_codec import MiniCodec

    codec = create_codec(options.model, seed)
    assert isinstance(codec, MiniCodec)
    codec.load_state_dict(average.weights())
    return codec


@torch.no_grad()
def measure_codec(codec: MiniCodec, data: NDArray[np.uint8], people: int) -> dict[str, float]:
    """Return PSNR in dB, mean absolute error in grey levels, and that of changes in time, on the last `people`."""
    squares, absolute, changes = [], [], []
    for person in data[-people:]:
        video = to_video(person[:1])
        made = codec.decode(codec.encode(video))
        squares.append(float((made - video).square().mean()))
        absolute.append(float((made - video).abs().mean()) * 127.5)
        changes.append(float((x_difference(made, 2) - x_difference(video, 2)).abs().mean()) * 127.5)
    return {
        "l1": float(np.mean(absolute)),
        "psnr_db": float(-10 * np.log10(np.mean(squares) / 4)),
        "changes_l1": float(np.mean(changes)),
    }


@torch.no_grad()
def statistics(codec: MiniCodec, data: NDArray[np.uint8], options: CodecOptions) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each raw latent channel over up to 64 trained people."""
    trained = data[: min(64, data.shape[0] - options.people.held_out)]
    means = [codec.posterior(to_video(person[:1]))[0] for person in trained]
    values = torch.cat(means).transpose(0, 1).flatten(1)  # [C, everything]
    return values.mean(1), values.std(1)


def identity_of(options: CodecOptions, seed: int) -> str:
    """Return what a folder of this stage is bound to."""
    from lt_eval.store import key_of

    return key_of("codec-1", dataclasses.asdict(options), seed)
