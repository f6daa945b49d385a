from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import signal
from torch import Tensor

from lt_eval.media.spectra import mfcc
from lt_eval.metrics.nets.inference import seeded_state
from lt_eval.metrics.nets.syncnet import SyncNet, SyncNetLayers
from lt_eval.metrics.sync_distances import SyncResult, sync_of, window_count
from tests.metrics.upstream import parity_script


def embeddings(count: int, seed: int = 0, dimensions: int = 64) -> Tensor:
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed))


def planted(count: int, late: int, noise: float = 0.3) -> tuple[Tensor, Tensor]:
    """Lips, and audio that says the same `late` windows later."""
    both = embeddings(count + abs(late))
    lips, audio = (both[late:], both[: len(both) - late]) if late >= 0 else (both[:late], both[-late:])
    return lips, audio + noise * embeddings(count, 1)


def test_bit_identical_to_the_public_package() -> None:
    script = parity_script("sync")
    for found in script.against_distances(script.load_upstream(script.default_packages())):
        assert found.holds, found


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("late", range(-15, 16))
def test_a_planted_shift_is_recovered_and_late_audio_is_negative(late: int, masked: bool) -> None:
    assert sync_of(*planted(60, late), masked=masked).offset_frames == -late


def test_delayed_sound_has_a_negative_offset_through_mfcc_and_network() -> None:
    layers = SyncNetLayers()
    layers.load_state_dict(seeded_state(layers))
    network = SyncNet(layers)
    rng = np.random.default_rng(0)
    sound = (rng.normal(0, 3000, 30 * 640) * np.repeat(rng.uniform(0, 2, 120), 160)).astype(np.int16)
    for late in (-9, 0, 4):
        delayed = np.roll(sound, late * 640)
        towers = (network.audio(mfcc(each))[: window_count(30, len(sound))] for each in (sound, delayed))
        # random weights give embeddings nearly alike, from which zero padding is far away
        assert sync_of(*towers, masked=True).offset_frames == -late


def test_identical_embeddings_are_as_far_apart_as_the_epsilon() -> None:
    lips = embeddings(40, dimensions=1024)
    assert sync_of(lips, lips).distance == pytest.approx(1024**0.5 * 1e-6, rel=1e-2)


def test_distance_grows_and_confidence_falls_with_noise() -> None:
    found = [sync_of(*planted(120, 3, noise)) for noise in (0.0, 0.2, 0.5, 1.0, 2.0)]
    distances, confidences = [each.distance for each in found], [each.confidence for each in found]
    assert distances == sorted(distances)
    assert confidences == sorted(confidences, reverse=True)


def test_confidence_is_the_median_of_the_shifts_minus_the_least() -> None:
    found = sync_of(*planted(50, 2))
    assert len(found.mean_distances) == 31
    assert found.distance == min(found.mean_distances)
    assert found.confidence == pytest.approx(sorted(found.mean_distances)[15] - found.distance, abs=1e-6)
    assert found.mean_distances.index(found.distance) == 15 - found.offset_frames


def reference_means(lips: Tensor, audio: Tensor, shift: int) -> float:
    rows = [i for i in range(len(lips)) if 0 <= i + shift < len(audio)]
    return float(np.mean([float((lips[i] - audio[i + shift] + 1e-6).norm()) for i in rows]))


def test_masked_compares_only_rows_that_exist() -> None:
    lips, audio = planted(30, 4)
    whole, masked = sync_of(lips, audio), sync_of(lips, audio, masked=True)
    for entry, mean in enumerate(masked.mean_distances):
        assert mean == pytest.approx(reference_means(lips, audio, entry - 15), rel=1e-5)
    assert masked.mean_distances[15] == pytest.approx(whole.mean_distances[15], rel=1e-6)
    assert masked.mean_distances[0] != pytest.approx(whole.mean_distances[0], rel=1e-3)


def test_exchanging_lips_and_audio_turns_the_masked_offset_round() -> None:
    lips, audio = planted(60, 5)
    there, back = sync_of(lips, audio, masked=True), sync_of(audio, lips, masked=True)
    assert there.offset_frames == -back.offset_frames
    assert there.distance == pytest.approx(back.distance, rel=1e-5)


def test_masked_tracks_shorter_than_the_shifts_have_fewer_shifts() -> None:
    lips, audio = planted(6, 1)
    found = sync_of(lips, audio, masked=True)
    assert len(found.mean_distances) == 11
    assert found.offset_frames == -1
    assert sync_of(lips[:1], audio[:1], masked=True).confidence == 0.0


def smooth(values: np.ndarray[tuple[int], np.dtype[np.float32]]) -> list[float]:
    return [float(value) for value in signal.medfilt(values, 9)]


def test_confidence_of_each_frame_is_smoothed_over_nine() -> None:
    lips, audio = planted(50, 2)
    found = sync_of(lips, audio)
    padded = torch.nn.functional.pad(audio, (0, 0, 0, 2))[2:]
    at_best = (lips - padded + 1e-6).norm(dim=1)
    expected = (found.distance + found.confidence - at_best).numpy()
    np.testing.assert_allclose(found.frame_confidence, smooth(expected), atol=1e-5)
    masked = sync_of(lips, audio, masked=True)
    assert len(masked.frame_confidence) == 48


def test_a_result_does_not_depend_on_the_embeddings_being_inference_tensors() -> None:
    lips, audio = planted(40, 1)
    with torch.inference_mode():
        inside: SyncResult = sync_of(lips + 0, audio + 0)
    assert inside == sync_of(lips, audio)


@pytest.mark.parametrize(
    ("frames", "samples", "count"),
    [(125, 80000, 120), (125, 79999, 119), (100, 80000, 95), (5, 80000, 0), (3, 80000, 0), (125, 0, 0), (6, 3840, 1)],
)
def test_windows_compared_are_one_less_than_there_are(frames: int, samples: int, count: int) -> None:
    assert window_count(frames, samples) == count


def test_unequal_or_empty_sides_are_refused() -> None:
    with pytest.raises(ValueError, match=r"lips \(5, 64\) and audio \(4, 64\)"):
        sync_of(embeddings(5), embeddings(4))
    with pytest.raises(ValueError, match="n at least 1"):
        sync_of(embeddings(0), embeddings(0))
