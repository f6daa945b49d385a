from __future__ import annotations

import numpy as np
import pytest

from lt_eval.synthetic.features import aperture
from lt_eval.synthetic.motion import MANNERS, Manner, move
from lt_eval.synthetic.phonemes import PHONEMES, SILENCE, Mouth
from lt_eval.synthetic.talker import Performance, perform

SEEDS = range(12)


@pytest.fixture(scope="module")
def performances() -> list[Performance]:
    return [perform(seed, 5.0, 64) for seed in SEEDS]


def _opening(shown: Performance) -> list[float]:
    """Distance of the inner lips in every frame, in head heights."""
    return [sum(aperture(Mouth(*row))) for row in shown.mouth]


def _frames_within(shown: Performance, names: set[str]) -> dict[int, str]:
    times_s = (np.arange(len(shown)) + 0.5) / shown.fps
    return {
        int(i): s.phoneme for s in shown.segments if s.phoneme in names
        for i in np.flatnonzero((times_s >= s.start_s) & (times_s < s.end_s))
    }  # fmt: skip


def test_lips_are_closed_exactly_within_p_b_m(performances: list[Performance]) -> None:
    seen = 0
    for shown in performances:
        opening = _opening(shown)
        for index in _frames_within(shown, {"P", "B", "M"}):
            assert opening[index] == 0
            seen += 1
    assert seen > 60


def test_every_p_b_m_is_seen_at_25_frames_a_second(performances: list[Performance]) -> None:
    for shown in performances:
        times_s = (np.arange(len(shown)) + 0.5) / shown.fps
        for segment in shown.segments:
            if segment.phoneme in {"P", "B", "M"}:
                assert ((times_s >= segment.start_s) & (times_s < segment.end_s)).any()


def test_lips_close_for_nothing_else(performances: list[Performance]) -> None:
    for shown in performances:
        opening = _opening(shown)
        for index in _frames_within(shown, {n for n, p in PHONEMES.items() if p.is_vowel}):
            nearest_s = min(
                (
                    max(s.start_s - (index + 0.5) / 25, (index + 0.5) / 25 - s.end_s)
                    for s in shown.segments
                    if s.phoneme in {"P", "B", "M"}
                ),
                default=1.0,
            )
            assert nearest_s < 0.08 or opening[index] > 0.006


def test_lower_lip_meets_the_teeth_within_f_and_v(performances: list[Performance]) -> None:
    for shown in performances:
        for index in _frames_within(shown, {"F", "V"}):
            assert shown.mouth[index, Mouth._fields.index("labiodental")] == 1


def test_mouth_opens_for_vowels(performances: list[Performance]) -> None:
    """Mean opening by class: open vowels > close vowels > silence."""
    openings: dict[str, list[float]] = {}
    for shown in performances:
        opening = _opening(shown)
        for index, name in _frames_within(shown, set(PHONEMES)).items():
            openings.setdefault(name, []).append(opening[index] / shown.spec.manner.effort)
    mean = {name: float(np.mean(values)) for name, values in openings.items()}
    wide, narrow = np.mean([mean["AA"], mean["AE"]]), np.mean([mean["IY"], mean["UW"]])
    assert wide > 1.5 * narrow > 1.5 * 1.5 * mean[SILENCE]


def test_sound_and_picture_have_no_lag(performances: list[Performance]) -> None:
    """The correlation of mouth opening and loudness is largest at lag 0, for each clip and by far in the mean."""
    curves = []
    for shown in performances:
        loudness = np.sqrt(np.mean(shown.audio.astype(np.float64).reshape(len(shown), -1) ** 2, axis=1))
        opening = np.array(_opening(shown))
        curves.append(
            [np.corrcoef(opening[9:-9], loudness[9 + lag : len(loudness) - 9 + lag])[0, 1] for lag in range(-8, 9)]
        )
    best = np.argmax(curves, axis=1) - 8
    assert (best == 0).mean() >= 0.8
    assert np.abs(best).max() <= 1
    mean = np.mean(curves, axis=0)
    assert mean[8] > 0.5
    assert mean[8] > np.delete(mean, 8).max() + 0.05


def test_rounded_vowels_are_narrower_than_spread_ones(performances: list[Performance]) -> None:
    width = Mouth._fields.index("width")
    rows = {name: [] for name in ("UW", "OW", "IY", "EY")}  # type: dict[str, list[float]]
    for shown in performances:
        for index, name in _frames_within(shown, set(rows)).items():
            rows[name].append(float(shown.mouth[index, width]))
    assert max(np.mean(rows["UW"]), np.mean(rows["OW"])) < min(np.mean(rows["IY"]), np.mean(rows["EY"])) - 0.3


def test_motion_is_smooth_and_bounded(performances: list[Performance]) -> None:
    for shown in performances:
        poses = np.array(shown.poses)
        assert np.abs(np.diff(poses, axis=0))[:, :3].max() < 0.02
        assert np.abs(poses[:, :3]).max() < 0.15
        assert np.abs(np.diff(shown.mouth[:, :4], axis=0)).max() < 0.8


def test_blinks_come_and_go() -> None:
    times_s = (np.arange(1500) + 0.5) / 25
    _, looks = move([], times_s, Manner(blinks_per_min=18), 1)
    lids = np.array([look.blink for look in looks])
    blinks = int(((lids[1:] > 0.5) & (lids[:-1] <= 0.5)).sum())
    assert 8 <= blinks <= 32
    assert (lids == 0).mean() > 0.75


def test_manners_differ_in_what_they_say_they_do() -> None:
    shown = perform(3, 5.0, 64)
    times_s = (np.arange(len(shown)) + 0.5) / 25
    travel = {}
    for manner in MANNERS:
        poses = np.array(move(shown.segments, times_s, manner, 3)[0])
        travel[manner.words] = float(np.abs(np.diff(poses[:, :3], axis=0)).sum())
    assert max(travel, key=lambda words: travel[words]) == "with lively movements of the head"
    assert min(travel, key=lambda words: travel[words]) == "calmly, keeping the head almost still"
