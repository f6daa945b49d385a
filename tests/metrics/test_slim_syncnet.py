"""The builtin lip-sync network on people that it was not trained on, through mp4 files, with the committed weights."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from lt_eval.errors import WeightsError
from lt_eval.media.spectra import mfcc
from lt_eval.metrics.nets.slim_syncnet import WEIGHTS, SlimSyncNet, builtin_syncnet, load, save
from lt_eval.metrics.sync_distances import SyncResult, sync_of, window_count
from lt_eval.records import Audio, Frames

TRAIN = Path(__file__).parents[2] / "benchmarks" / "train"
FIRST_SEED = 3_000_100
CLIPS = 4


def script(name: str) -> ModuleType:
    """A module of `benchmarks/train`, which is no package."""
    spec = importlib.util.spec_from_file_location(name, TRAIN / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules.setdefault(name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def network() -> SlimSyncNet:
    return builtin_syncnet("cpu")


@pytest.fixture(scope="module")
def clips() -> list[tuple[Frames, Audio]]:
    """Crops and audio."""
    talker = script("talker_clips")
    made = [talker.make(talker.Recipe(FIRST_SEED + place, size=128)) for place in range(CLIPS)]
    return [(clip.crops, clip.audio) for clip in made]


def delayed(audio: Audio, frames: int) -> Audio:
    by = 640 * frames
    return np.concatenate([np.zeros(max(by, 0), np.float32), audio[max(-by, 0) : len(audio) - max(by, 0)]])


def compared(network: SlimSyncNet, crops: Frames, audio: Audio, lips: torch.Tensor | None = None) -> SyncResult:
    kept = window_count(len(crops), len(audio))
    lips = network.lips(crops) if lips is None else lips
    return sync_of(lips[:kept], network.audio(mfcc(audio))[:kept])


def test_planted_shifts_are_found(network: SlimSyncNet, clips: list[tuple[Frames, Audio]]) -> None:
    for crops, audio in clips:
        lips = network.lips(crops)
        found = {shift: compared(network, crops, delayed(audio, shift), lips).offset_frames for shift in range(-10, 11)}
        assert found == {shift: -shift for shift in range(-10, 11)}


def test_loudness_and_light_leave_the_offset_alone(network: SlimSyncNet, clips: list[tuple[Frames, Audio]]) -> None:
    crops, audio = clips[0]
    dim = (crops * 0.4 + 10).astype(np.uint8)
    for seen, heard in ((crops, audio * np.float32(0.05)), (dim, audio), (crops[:, :, ::-1], audio)):
        assert compared(network, np.ascontiguousarray(seen), delayed(heard, 3)).offset_frames == -3


def test_noise_lowers_the_confidence_step_by_step(network: SlimSyncNet, clips: list[tuple[Frames, Audio]]) -> None:
    rng = np.random.default_rng(0)
    means = []
    for decibels in (60, 15, 5, -5, -20):
        found = []
        for crops, audio in clips:
            noise = rng.normal(0, audio.std() / 10 ** (decibels / 20), len(audio))
            found.append(compared(network, crops, (audio + noise).astype(np.float32)).confidence)
        means.append(np.mean(found))
    assert all(noisier < cleaner for cleaner, noisier in pairwise(means)), means


def test_frames_of_other_times_lower_the_confidence_step_by_step(
    network: SlimSyncNet, clips: list[tuple[Frames, Audio]]
) -> None:
    rng = np.random.default_rng(0)
    means = []
    for share in (0.0, 0.1, 0.3, 0.6, 1.0):
        found = []
        for crops, audio in clips:
            index = np.where(rng.random(len(crops)) < share, rng.integers(0, len(crops), len(crops)), range(len(crops)))
            found.append(compared(network, crops[index], audio).confidence)
        means.append(np.mean(found))
    assert all(worse < better for better, worse in pairwise(means)), means


def test_what_is_not_in_sync_scores_clearly_lower(network: SlimSyncNet, clips: list[tuple[Frames, Audio]]) -> None:
    for place, (crops, audio) in enumerate(clips):
        own = compared(network, crops, audio).confidence
        assert compared(network, crops, clips[place - 1][1]).confidence < 0.5 * own
        assert compared(network, np.repeat(crops[:1], len(crops), axis=0), audio).confidence < 0.5 * own
        assert compared(network, crops, np.zeros_like(audio)).confidence < 0.2 * own


def test_a_row_depends_on_its_own_window_only(network: SlimSyncNet, clips: list[tuple[Frames, Audio]]) -> None:
    crops, audio = clips[0]
    rows = mfcc(audio)
    lips, sound = network.lips(crops), network.audio(rows)
    assert lips.shape == (len(crops) - 4, 65) and sound.shape == ((len(rows) - 20) // 4 + 1, 65)
    for start in (0, 17, len(lips) - 1):
        assert torch.allclose(network.lips(crops[start : start + 5])[0], lips[start], atol=1e-4)
    for start in (0, 17, len(sound) - 1):
        assert torch.allclose(network.audio(rows[4 * start : 4 * start + 20])[0], sound[start], atol=1e-4)
    assert torch.allclose(network.lips(crops[9:]), lips[9:], atol=1e-4)
    assert torch.allclose(network.audio(rows[36:]), sound[9:], atol=1e-4)
    long = np.concatenate([crops, crops, crops])  # more than one pass
    assert torch.allclose(network.lips(long)[-len(lips) :], lips, atol=1e-4)


def test_unrelated_windows_are_as_far_apart_as_the_zero_padding(
    network: SlimSyncNet, clips: list[tuple[Frames, Audio]]
) -> None:
    for crops, audio in clips:
        lips, sound = network.lips(crops), network.audio(mfcc(audio))
        assert torch.allclose(lips.norm(dim=1), torch.full((len(lips),), 200**0.5), atol=1e-4)
        assert torch.allclose(sound.norm(dim=1), torch.full((len(sound),), 200**0.5), atol=1e-4)
        assert torch.cdist(lips, sound).mean().item() == pytest.approx(200**0.5, rel=0.1)


def test_what_cannot_be_compared_is_refused(network: SlimSyncNet) -> None:
    crops = np.zeros((5, 224, 224, 3), np.uint8)
    assert network.lips(crops).shape == (1, 65)
    with pytest.raises(ValueError, match="at least 5"):
        network.lips(crops[:4])
    with pytest.raises(ValueError, match="uint8"):
        network.lips(crops.astype(np.float32))
    with pytest.raises(ValueError, match="at least 20"):
        network.audio(np.zeros((19, 13), np.float32))


def test_weights_are_small_and_those_of_the_card() -> None:
    assert WEIGHTS.stat().st_size < 2 * 2**20
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() in (TRAIN / "slim_syncnet.md").read_text()
    assert builtin_syncnet("cpu") is builtin_syncnet("cpu")


def test_a_saved_network_is_the_same_again(tmp_path: Path, network: SlimSyncNet) -> None:
    save(network, tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == WEIGHTS.read_bytes()
    np.savez(tmp_path / "other.npz", weight=np.zeros(3))
    with pytest.raises(WeightsError, match="SlimSyncNet"):
        load(tmp_path / "other.npz", "cpu")


def test_training_runs_and_gives_the_same_bytes_again(tmp_path: Path) -> None:
    options = [
        "--clips",
        "2",
        "--held-out",
        "1",
        "--steps",
        "2",
        "--seconds",
        "3",
        "--clip-folder",
        str(tmp_path / "clips"),
    ]
    digests = []
    for name in ("first", "second"):
        command = [sys.executable, str(TRAIN / "slim_syncnet.py"), *options, "--out", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        facts = json.loads(done.stdout.splitlines()[-1])
        assert (tmp_path / name / "slim_syncnet_curve.csv").read_text().count("\n") == 2
        assert load(tmp_path / name / "slim_syncnet.npz", "cpu").audio(np.zeros((20, 13), np.float32)).shape == (1, 65)
        digests.append(facts["sha256"])
    assert digests[0] == digests[1]
