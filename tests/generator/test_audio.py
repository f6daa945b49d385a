from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lt_eval.errors import ConditionError, SpecError
from lt_eval.generator.audio_config import LIVETALK_AUDIO, AudioConfig
from lt_eval.generator.audio_windows import (
    AudioEncoder,
    AudioStream,
    checked_audio,
    create_audio_encoder,
    latent_features,
)
from lt_eval.generator.timeline import Timeline
from lt_eval.records import Audio
from lt_eval.testing.fakes import toy_speech

TIMELINE = Timeline(25.0, 16_000)
SLOW = Timeline(16.0, 16_000)
TINY = AudioConfig("wav2vec2", hidden=32, layers=2, heads=2, ffn=48, conv_dim=16, position_kernel=8, position_groups=4)
CONFIGS = [AudioConfig(look_ahead_frames=ahead) for ahead in (0, 3)] + [
    replace(TINY, look_ahead_frames=2, left_context_s=1.0)
]
each_config = pytest.mark.parametrize("config", CONFIGS, ids=["logmel", "logmel+3", "wav2vec2+2"])


def stream(encoder: AudioEncoder, speech: Audio, sizes: list[int], timeline: Timeline = TIMELINE) -> torch.Tensor:
    """Return the features of a turn whose audio comes in chunks of these sizes, over and over."""
    audio, found, block, place, turn = AudioStream(encoder, timeline), [], 0, 0, 0
    count = timeline.blocks(timeline.shown(len(speech)), 0)
    while place < len(speech):
        size = sizes[turn % len(sizes)]
        audio.push(speech[place : place + size])
        place, turn = place + size, turn + 1
        while block < count and not audio.lacking(block):
            found.append(audio.features(block))
            block += 1
    audio.align(count)
    found += [audio.features(late) for late in range(block, count)]
    return torch.cat(found)


@each_config
def test_features_do_not_depend_on_how_the_audio_is_cut(config: AudioConfig) -> None:
    encoder, speech = create_audio_encoder(config), toy_speech(2.3)
    whole = stream(encoder, speech, [len(speech)])
    assert whole.shape == (18, config.latent_dim)
    for sizes in ([1600], [7, 1234, 1], [640]):
        assert torch.equal(stream(encoder, speech, sizes), whole)


@pytest.mark.parametrize("ahead", [0, 3])
@pytest.mark.parametrize("timeline", [TIMELINE, SLOW], ids=["25", "16"])
def test_streamed_logmel_is_the_whole_clips_to_the_bit(ahead: int, timeline: Timeline) -> None:
    encoder, speech = create_audio_encoder(AudioConfig(look_ahead_frames=ahead)), toy_speech(3.0)
    streamed = stream(encoder, speech, [1000], timeline)
    assert torch.equal(streamed, latent_features(encoder, speech, 0, range(len(streamed)), timeline))


@each_config
def test_a_block_hears_nothing_after_its_look_ahead(config: AudioConfig) -> None:
    encoder, speech = create_audio_encoder(config), toy_speech(2.3)
    other = speech.copy()
    first = TIMELINE.sample(TIMELINE.frames(1).stop + config.look_ahead_frames)
    other[first:] = -0.5
    before, after = stream(encoder, speech, [640]), stream(encoder, other, [640])
    assert torch.equal(before[:6], after[:6])
    assert not torch.equal(before[6:], after[6:])
    other[first - 1] += 0.25
    assert not torch.equal(stream(encoder, other, [640])[3:6], before[3:6])


def test_the_look_ahead_is_what_a_block_waits_for() -> None:
    for ahead in (0, 3):
        audio = AudioStream(create_audio_encoder(AudioConfig(look_ahead_frames=ahead)), TIMELINE)
        assert audio.lacking(0) == (9 + ahead) * 640
        audio.push(np.zeros((9 + ahead) * 640 - 1, np.float32))
        assert audio.lacking(0) == 1
        audio.push(np.zeros(1, np.float32))
        assert audio.lacking(0) == 0 and audio.lacking(1) == 12 * 640


@each_config
def test_a_stream_holds_its_left_context_and_no_more(config: AudioConfig) -> None:
    audio = AudioStream(create_audio_encoder(config), TIMELINE)
    speech, limit = toy_speech(0.48), 16_000 * (1.0 + 4 * 0.48)
    for block in range(60):
        audio.push(speech)
        if not audio.lacking(block):
            audio.features(block)
    assert len(audio._held) < limit


@each_config
def test_the_next_turn_begins_where_the_last_block_ended(config: AudioConfig) -> None:
    audio = AudioStream(create_audio_encoder(config), TIMELINE)
    for turn, samples in enumerate((9 * 640 + 300, 12 * 640 - 200, 12 * 640 + 319)):
        audio.push(np.full(samples, 0.1, np.float32))
        audio.features(turn)
        audio.align(turn + 1)
        assert audio.end == TIMELINE.sample(TIMELINE.frames(turn).stop)


@each_config
def test_a_turn_may_end_in_front_of_a_block_that_was_heard(config: AudioConfig) -> None:
    encoder, speech = create_audio_encoder(replace(config, look_ahead_frames=20)), toy_speech(4.0)
    audio = AudioStream(encoder, TIMELINE)
    audio.push(speech)
    for block in range(3):
        audio.features(block)
    audio.align(2)  # block 2 was heard, and then left
    assert audio.end == TIMELINE.sample(21)
    audio.push(speech[TIMELINE.sample(21) :])
    whole = AudioStream(encoder, TIMELINE)
    whole.push(speech)
    for block in range(2):
        whole.features(block)
    assert torch.allclose(audio.features(2), whole.features(2), atol=1e-5)


def test_latent_frame_0_hears_video_frame_0_four_times() -> None:
    features = stream(create_audio_encoder(AudioConfig()), toy_speech(1.0), [16_000])
    first = features[0].reshape(4, -1)
    assert torch.equal(first, first[:1].expand(4, -1))
    assert not torch.equal(features[1].reshape(4, -1)[0], features[1].reshape(4, -1)[1])


def test_louder_is_higher_and_silence_is_the_floor() -> None:
    encoder = create_audio_encoder(AudioConfig())
    speech = toy_speech(1.0)
    quiet, loud, silent = (stream(encoder, scale * speech, [16_000]) for scale in (0.1, 1.0, 0.0))
    assert (loud >= quiet).all() and loud.mean() > quiet.mean() + 0.05
    assert torch.allclose(silent, torch.full_like(silent, (np.log(1e-5) + 5) / 4))


def test_a_tone_is_strongest_in_the_band_around_it() -> None:
    config = AudioConfig(mel_bands=40)
    corners = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 42) / 2595) - 1)
    for band in (10, 20, 35):
        tone = 0.5 * np.sin(2 * np.pi * corners[band + 1] * np.arange(16_000) / 16_000).astype(np.float32)
        rows = stream(create_audio_encoder(config), tone, [16_000])[3].reshape(-1, 40)
        assert (rows.argmax(dim=1) == band).all()


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_more_left_context_brings_wav2vec2_nearer_to_the_whole_clip(seconds: float) -> None:
    speech, config = toy_speech(6.0), replace(TINY, left_context_s=seconds)
    whole = latent_features(create_audio_encoder(config), speech, 0, range(39), TIMELINE)
    short = stream(create_audio_encoder(config), speech, [16_000])[:39]
    long = stream(create_audio_encoder(replace(config, left_context_s=10.0)), speech, [16_000])[:39]
    error, better = ((found - whole).square()[20:].mean() for found in (short, long))
    assert better < error


def test_resampled_at_their_own_time_frames_hear_nearer_to_the_whole_clip_than_stretched() -> None:
    speech, errors = toy_speech(6.0), []
    for way in ("centre", "stretch"):
        config = replace(TINY, resample=way, left_context_s=2.0)
        whole = latent_features(create_audio_encoder(config), speech, 0, range(24), SLOW)
        found = stream(create_audio_encoder(config), speech, [16_000], SLOW)[:24]
        errors.append((found - whole).square().mean())
    assert errors[0] < errors[1]


def test_left_context_and_look_ahead_over_the_whole_clip_are_the_whole_clip() -> None:
    speech = toy_speech(1.0)
    config = replace(TINY, left_context_s=10.0)
    encoder = create_audio_encoder(config)
    last = stream(encoder, speech, [16_000])[-3:]  # the last block's window is the clip
    whole = latent_features(encoder, speech, 0, range(9), TIMELINE)
    assert torch.allclose(last, whole[-3:], atol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((2, 10), np.float32), r"float32 \[2, 10\]. It must be float32 mono"),
        (np.zeros(10, np.int16), "divide 16-bit samples by 32768"),
        (np.array([0.0, np.nan], np.float32), "sample 1 of a chunk is nan"),
        (np.array([np.inf]), "finite"),
        (np.array([0.0, 1e300]), r"sample 1 of a chunk is 1e\+300"),  # float32 holds no such number
        (np.array(["a"]), "It must be float32 mono"),
        (np.float32(0.5), r"in chunks, such as \[audio\]"),
    ],
)
def test_audio_that_cannot_be_heard_is_refused(given: object, message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        checked_audio(given)


def test_a_chunk_is_copied_so_that_its_sender_may_use_the_buffer_again() -> None:
    buffer = np.zeros(10, np.float32)
    kept = checked_audio(buffer)
    buffer[:] = 1
    assert not kept.any()


def test_sizes_follow_from_the_options() -> None:
    assert LIVETALK_AUDIO.frame_dim == 10_752 and LIVETALK_AUDIO.latent_dim == 43_008
    with pytest.raises(SpecError, match=r"mfcc.*must be logmel or wav2vec2"):
        AudioConfig(kind="mfcc")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="neither may be negative"):
        AudioConfig(look_ahead_frames=-1)
    with pytest.raises(SpecError, match=r"divide by audio\.heads"):
        AudioConfig(hidden=100)
