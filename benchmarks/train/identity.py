"""Trains the builtin identity network on the procedural talker, and measures it on people it has never seen.

The network has no downloadable parent, so whoever doubts its numbers must be able to make it again: this script draws
its own data, is seeded throughout, runs on one CPU thread, and writes the weights that the package holds.

    python benchmarks/train/identity.py --out NEW_FOLDER              # faces: 7 minutes, once; training: 12 minutes
    python benchmarks/train/identity.py --people 8 --unseen 6 --steps 4 --out TRIAL

OUT receives slim_facenet.safetensors, identity_curve.csv and identity.json, which is also the last line on standard
output. Faces are kept in the cache folder, 0.35 GB.

The loss is CosFace's (Wang et al., arXiv 1801.09414, equation 4): a softmax over people of the scaled cosine between a
face's vector and one direction a person, the own one lowered by a margin.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from identity_faces import LOOKS, SETTINGS, batch, people, window
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lt_eval.metrics.nets.slim_facenet import WIDTH, SlimFaceNet, load, save
from lt_eval.paths import cache_dir
from lt_eval.progress import Progress
from lt_eval.records import Frames

FIRST_TRAINING_SEED = 8_000_000
FIRST_UNSEEN_SEED = 8_500_000

BATCH = 160
PEAK_RATE = 3e-3
SCALE = 24.0
MARGIN = 0.2

Array = NDArray[np.float32]


def loss_of(vectors: Tensor, directions: Tensor, who: Tensor) -> Tensor:
    """Return CosFace's loss of unit vectors [N, D] of the people `who` [N], who have `directions` [people, D]."""
    cosines = vectors @ F.normalize(directions, dim=1).T  # [N, people]
    return F.cross_entropy(SCALE * (cosines - MARGIN * F.one_hot(who, len(directions))), who)


def to_tensor(pictures: Frames) -> Tensor:
    """Return float32 [N, 3, 56, 56] of uint8 [N, 56, 56, 3]."""
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).float()


def train(faces: Frames, unseen: Frames, options: argparse.Namespace) -> tuple[SlimFaceNet, list[dict[str, float]]]:
    """Return the trained network, and what was seen of it on the way."""
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    network = SlimFaceNet().train()
    directions = torch.nn.Parameter(torch.randn(len(faces), WIDTH) * 0.1)
    optimiser = torch.optim.AdamW([*network.parameters(), directions], lr=PEAK_RATE, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, PEAK_RATE, total_steps=options.steps, pct_start=min(0.15, 1 - 1 / options.steps)
    )
    every = np.array(list(itertools.product(range(len(faces)), range(faces.shape[1]))))
    order = itertools.chain.from_iterable(rng.permutation(every) for _ in itertools.count())
    started, losses, curve = time.process_time(), list[float](), list[dict[str, float]]()
    with Progress() as progress:
        for step in range(1, options.steps + 1):
            chosen = [(int(person), int(frame)) for person, frame in itertools.islice(order, BATCH)]
            pictures = to_tensor(batch(faces, chosen, rng))
            who = torch.tensor([person for person, _ in chosen])
            loss = loss_of(network.directions(pictures), directions, who)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
            if step % options.report_every == 0 or step == options.steps:
                found = verification(vectors_of(network, unseen), wide_only=True)
                curve.append(
                    {
                        "step": step,
                        "cpu_s": round(time.process_time() - started, 1),
                        "loss": float(np.mean(losses)),
                        "unseen_auc": found["auc"],
                        "unseen_eer": found["eer"],
                    }
                )
                losses.clear()
                progress("training", step, options.steps, f"loss {curve[-1]['loss']:.3f} eer {found['eer']:.4f}")
    return network.eval(), curve


# Verification ---------------------------------------------------------------------------------------------------------


def vectors_of(network: SlimFaceNet, faces: Frames, rng: np.random.Generator | None = None) -> Array:
    """Return unit vectors float32 [people, frames, D] of regions, changed at random where there is an `rng`."""
    pictures = np.stack([window(face, rng) for person in faces for face in person])
    with torch.inference_mode():
        rows = torch.cat([network.directions(to_tensor(part)) for part in np.array_split(pictures, len(faces))])
    return rows.numpy().reshape(*faces.shape[:2], -1)


def verification(vectors: Array, *, wide_only: bool = False) -> dict[str, Any]:
    """Return how well cosines tell pairs of one person from pairs of two.

    Same person: frame 0, as a portrait, with the frames of other settings. Two people: frame 0 of each with all frames
    of all others. `auc` is the chance that a pair of one person has the higher cosine; `eer` the rate at which as many
    pairs of one person are refused as pairs of two are accepted. The rest: quantiles of both, and the share of people
    whose portrait is nearer to each of their own frames of other settings than to anybody else's.
    """
    portraits, others = vectors[:, 0], vectors[:, LOOKS:]
    cosines = np.einsum("pd,qfd->pqf", portraits, others)
    own = np.eye(len(vectors), dtype=bool)
    same, two = np.sort(cosines[own].ravel()), np.sort(cosines[~own].ravel())
    found: dict[str, Any] = {"auc": _auc(same, two), "eer": _eer(same, two)}
    if wide_only:
        return found
    within = np.sort(np.einsum("pd,pfd->pf", portraits, vectors[:, 1:LOOKS]).ravel())
    nearest = np.array(
        [cosines[p, p].min() > cosines[p, np.arange(len(vectors)) != p].max() for p in range(len(vectors))]
    )
    quantiles = (0.01, 0.1, 0.5, 0.9, 0.99)
    for name, values in (("same_setting", within), ("same", same), ("two", two)):
        found[name] = {str(q): round(float(np.quantile(values, q)), 3) for q in quantiles}
    return found | {"all_own_nearest": float(nearest.mean()), "pairs": [len(same), len(two)]}


def _auc(same: Array, two: Array) -> float:
    below, tied = np.searchsorted(two, same, "left"), np.searchsorted(two, same, "right")
    return float((below + tied).mean() / (2 * len(two)))


def _eer(same: Array, two: Array) -> float:
    bounds = np.concatenate([same, two])
    refused = np.searchsorted(same, bounds) / len(same)
    accepted = 1 - np.searchsorted(two, bounds) / len(two)
    at = int(np.argmin(np.abs(refused - accepted)))
    return float((refused[at] + accepted[at]) / 2)


# Changes that leave a person the same ---------------------------------------------------------------------------------


def robustness(network: SlimFaceNet, faces: Frames) -> dict[str, float]:
    """Return the mean cosine between a face and the same picture changed, by change."""
    plain = np.stack([window(person[0]) for person in faces])

    def cosine(changed: Frames) -> float:
        with torch.inference_mode():
            pair = [network.directions(to_tensor(pictures)) for pictures in (plain, changed)]
        return round(float((pair[0] * pair[1]).sum(dim=1).mean()), 4)

    def each(change: Any) -> Frames:
        return np.stack([change(picture) for picture in plain])

    def jpeg(picture: Frames) -> Frames:
        packed = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 40])[1]
        return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)

    moved = np.stack([person[0][15:71, 12:68] for person in faces])
    return {
        "brighter by 25 %": cosine(np.clip(plain * 1.25, 0, 255).astype(np.uint8)),
        "darker by 25 %": cosine((plain * 0.75).astype(np.uint8)),
        "mirrored": cosine(np.ascontiguousarray(plain[:, :, ::-1])),
        "blurred, sigma 1.5 of 56 pixels": cosine(each(lambda picture: cv2.GaussianBlur(picture, (0, 0), 1.5))),
        "JPEG, quality 40": cosine(each(jpeg)),
        "box off by 3 pixels of 56": cosine(moved),
        "red 10 % stronger": cosine(np.clip(plain * np.array([1.1, 1, 1]), 0, 255).astype(np.uint8)),
    }


def measured(network: SlimFaceNet, unseen: Frames) -> dict[str, Any]:
    """Return every figure of the model card."""
    return {
        "unseen": verification(vectors_of(network, unseen)),
        "unseen_changed": verification(vectors_of(network, unseen, np.random.default_rng(1))),
        "robustness": robustness(network, unseen),
    }


def write_curve(curve: Sequence[dict[str, float]], folder: Path) -> None:
    """Write the curve as CSV."""
    with (folder / "identity_curve.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, curve[0].keys(), lineterminator="\n")
        table.writeheader()
        table.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in curve)


def gather(first: int, count: int, folder: Path, stage: str) -> Frames:
    """Return the faces of some people, made where the cache lacks them."""
    with Progress() as progress:
        return people(first, count, folder, lambda done, total: progress(stage, done, total))


def main() -> None:
    """Draw the faces, train, write the weights and what there is to know of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=1500, help="for training (default: %(default)s)")
    parser.add_argument("--unseen", type=int, default=200, help="to measure on (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=2800, help="default: %(default)s")
    parser.add_argument("--report-every", type=int, default=200, metavar="STEPS", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and changes (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights and the curve")
    parser.add_argument("--face-folder", type=Path, default=cache_dir() / "train", help="default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.use_deterministic_algorithms(True)
    faces = gather(FIRST_TRAINING_SEED, options.people, options.face_folder, "faces")
    unseen = gather(FIRST_UNSEEN_SEED, options.unseen, options.face_folder, "unseen faces")
    network, curve = train(faces, unseen, options)
    options.out.mkdir(parents=True, exist_ok=True)
    weights = options.out / "slim_facenet.safetensors"
    save(network, weights)
    write_curve(curve, options.out)
    facts = {
        "people": options.people,
        "faces_a_person": SETTINGS * LOOKS,
        "unseen_people": options.unseen,
        "steps": options.steps,
        "batch": BATCH,
        "seed": options.seed,
        "parameters": sum(value.numel() for value in network.parameters()),
        "bytes": weights.stat().st_size,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "cpu_s": curve[-1]["cpu_s"],
        "stored_weights": measured(load(weights, "cpu"), unseen),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }
    (options.out / "identity.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
