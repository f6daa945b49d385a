from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from lt_eval.synthetic.lexicon import SENTENCES, utterance
from lt_eval.synthetic.phonemes import SILENCE
from lt_eval.synthetic.talker import ClipSpec, SyntheticClip, content_sha256, make_clip, make_spec, perform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lt_eval.synthetic.speaker import Segment


@pytest.fixture(scope="module")
def clip() -> SyntheticClip:
    return make_clip(7, seconds=2.0, size=64)


def _words(segments: Sequence[Segment]) -> list[str]:
    """Words in order; a word's segments share its text, and it begins where the text or the phonemes start again."""
    words: list[str] = []
    for before, segment in zip([None, *segments], segments, strict=False):
        if segment.word and (before is None or before.word != segment.word):
            words.append(segment.word)
    return words


def test_shapes_rates_and_ranges_agree(clip: SyntheticClip) -> None:
    assert clip.frames.shape == (50, 64, 64, 3)
    assert clip.audio.shape == (32_000,)
    assert clip.frames.dtype == np.uint8
    assert clip.audio.dtype == np.float32
    assert clip.boxes.shape == (50, 4)
    assert ((clip.boxes >= 0) & (clip.boxes <= 1)).all()
    assert (clip.boxes[:, 2:] > clip.boxes[:, :2] + 0.2).all()
    assert clip.segments[0].start_s == 0
    assert clip.segments[-1].end_s == pytest.approx(2.0)


@pytest.mark.parametrize(("seconds", "fps"), [(0.52, 25.0), (1.0, 16.0), (1.0, 30.0), (0.04, 25.0)])
def test_any_length_and_rate(seconds: float, fps: float) -> None:
    made = make_clip(1, seconds, 64, fps)
    assert len(made.frames) == round(seconds * fps)
    assert len(made.audio) == round(len(made.frames) / fps * 16_000)


def test_transcript_is_what_the_segments_say() -> None:
    for seed in range(6):
        shown = perform(seed, 6.0, 64)
        assert " ".join(_words(shown.segments)) == shown.transcript
        assert shown.segments[-1].phoneme == SILENCE
        spoken_s = sum(s.end_s - s.start_s for s in shown.segments if s.phoneme != SILENCE)
        assert spoken_s > 3.0


def test_same_seed_same_bytes(clip: SyntheticClip) -> None:
    again = make_clip(7, seconds=2.0, size=64)
    assert content_sha256(again.frames, again.audio) == content_sha256(clip.frames, clip.audio)
    assert again.segments == clip.segments
    assert np.array_equal(again.boxes, clip.boxes)


def test_one_frame_can_be_drawn_without_the_others(clip: SyntheticClip) -> None:
    shown = perform(7, seconds=2.0, size=64)
    assert np.array_equal(shown.draw(31), clip.frames[31])
    assert np.array_equal(next(shown.frames()), clip.frames[0])


def test_other_seeds_give_other_people_words_and_voices() -> None:
    shown = [perform(seed, 3.0, 64) for seed in range(10)]
    assert len({p.transcript for p in shown}) == 10
    assert len({p.prompt for p in shown}) == 10
    assert len({p.spec.voice.pitch_hz for p in shown}) == 10


def test_script_is_said_and_nothing_else() -> None:
    spec = make_spec(3)
    script = tuple(utterance(SENTENCES[k]) for k in (2, 5))
    shown = perform(ClipSpec(3, spec.identity, spec.voice, spec.manner, script), 12.0, 64)
    assert shown.transcript == f"{SENTENCES[2]} {SENTENCES[5]}"


def test_script_too_long_ends_at_a_word() -> None:
    spec = make_spec(3)
    shown = perform(ClipSpec(3, spec.identity, spec.voice, spec.manner, (utterance(SENTENCES[2]),)), 1.5, 64)
    assert shown.transcript
    assert SENTENCES[2].startswith(shown.transcript + " ")
    assert shown.segments[-1].phoneme == SILENCE


def test_hash_sees_one_pixel_and_one_sample(clip: SyntheticClip) -> None:
    frames, audio = clip.frames.copy(), clip.audio.copy()
    whole = content_sha256(frames, audio)
    frames[3, 5, 5, 1] ^= 1
    assert content_sha256(frames, audio) != whole
    frames[3, 5, 5, 1] ^= 1
    audio[100] += 1 / 32767
    assert content_sha256(frames, audio) != whole


def test_face_moves_where_the_mouth_is(clip: SyntheticClip) -> None:
    """Between frames, pixels change inside the face box and hardly elsewhere in the upper picture."""
    change = np.abs(np.diff(clip.frames.astype(int), axis=0)).mean(axis=(0, 3))
    left, top, right, bottom = (clip.boxes.mean(0) * 64).astype(int)
    outside = change.copy()
    outside[max(0, top - 8) :, max(0, left - 8) : right + 8] = 0
    assert change[top:bottom, left:right].mean() > 4 * outside[:bottom].mean()
