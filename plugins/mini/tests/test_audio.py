"""mini/audio."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from affectkit_mini import sound, voice
from affectkit_mini.audio import AudioEmotion, AudioOptions
from affectkit_mini.voice_network import INPUTS, LENGTH, loop, relative

from affectkit.api import BASIC7, UsageError

from .conftest import predict, sound_clip


@pytest.mark.parametrize(
    ("rate", "window", "bands", "lowest", "highest"),
    [
        (16000, 512, 64, 50, 8000),
        (8000, 256, 40, 0, 4000),
        (22050, 2048, 128, 0, 11025),
        (44100, 4096, 80, 20, 4000),
        (48000, 1200, 26, 1200, 2e4),
    ],
)
def test_mel_filters_equal_librosa(rate, window, bands, lowest, highest):
    theirs = librosa.filters.mel(sr=rate, n_fft=window, n_mels=bands, fmin=lowest, fmax=highest)
    ours = sound.mel_filters(rate, window, bands, lowest, highest)
    assert (ours.shape, ours.dtype) == (theirs.shape, torch.float32)
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6 * theirs.max(), rtol=0)


def test_mel_scale_equals_librosa():
    hertz = np.array([0.0, 50.0, 999.0, 1000.0, 1001.0, 8000.0])
    np.testing.assert_allclose(sound.to_mel(hertz), librosa.hz_to_mel(hertz), rtol=1e-9)
    np.testing.assert_allclose(sound.to_hertz(sound.to_mel(hertz)), hertz, rtol=1e-9)


def by_librosa(samples: np.ndarray) -> np.ndarray:
    """Mel power (T, 64) as librosa computes it."""
    return librosa.feature.melspectrogram(
        y=samples, sr=sound.RATE, n_fft=sound.WINDOW, hop_length=sound.HOP, n_mels=sound.BANDS, fmin=sound.LOWEST, fmax=sound.HIGHEST,
        power=2.0, center=True, pad_mode="constant",
    ).T  # fmt: skip


SOUNDS = {
    "1.3 s": lambda: sound_clip(1.3).audio,
    "one frame more": lambda: sound_clip(1.3).audio[: 160 * 40],
    "one sample less": lambda: sound_clip(1.3).audio[: 160 * 40 - 1],
    "shorter than a window": lambda: sound_clip(1.3).audio[:100],
    "one sample": lambda: np.ones(1, np.float32),
    "silence": lambda: np.zeros(16000, np.float32),
    "a click in silence": lambda: np.eye(1, 16000, 8000, dtype=np.float32)[0],
    "clipped": lambda: np.clip(20 * sound_clip(1.0).audio, -1, 1),
    "from 8 kHz": lambda: librosa.resample(sound_clip(1.0).audio[::2], orig_sr=8000, target_sr=sound.RATE),
    "from 48 kHz": lambda: librosa.resample(np.repeat(sound_clip(1.0).audio, 3), orig_sr=48000, target_sr=sound.RATE),
}


@pytest.mark.filterwarnings("ignore:n_fft=512 is too large")
@pytest.mark.parametrize("name", SOUNDS)
def test_mel_power_equals_librosa(name):
    samples = SOUNDS[name]()
    ours, theirs = sound.mel_power(torch.from_numpy(samples)), by_librosa(samples)
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=2e-3, atol=1e-6)
    decibels = librosa.power_to_db(theirs, ref=1.0, amin=sound.FLOOR, top_db=None)
    np.testing.assert_allclose(sound.decibels(ours).numpy(), decibels, atol=0.05)


def test_a_batch_of_sounds_equals_librosa_one_by_one():
    batch = np.stack([sound_clip(1.0, seed=seed).audio for seed in range(4)])
    ours = sound.mel_power(torch.from_numpy(batch)).numpy()
    for row, samples in zip(ours, batch, strict=True):
        np.testing.assert_allclose(row, by_librosa(samples), rtol=2e-3, atol=1e-6)


def test_real_speech_equals_librosa(shared_data: Path):
    for file in ("audio/ravdess/03-01-05-02-01-01-17.ogg", "audio_edge/jfk.flac"):
        samples, _ = librosa.load(shared_data / file, sr=sound.RATE)
        ours = sound.decibels(sound.mel_power(torch.from_numpy(samples))).numpy()
        theirs = librosa.power_to_db(by_librosa(samples), ref=1.0, amin=sound.FLOOR, top_db=None)
        loud = theirs > -80  # below, single precision decides
        np.testing.assert_allclose(ours[loud], theirs[loud], atol=0.05)


def test_librosa_is_not_needed_at_run_time():
    code = "import sys; from affectkit_mini import sound; sound.mel_filters(); assert 'librosa' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_mel_power_of_a_batch_equals_one_by_one():
    samples = torch.randn(3, 8000) * 0.1
    torch.testing.assert_close(sound.mel_power(samples)[1], sound.mel_power(samples[1]))


def test_cepstrum_equals_librosa():
    levels = sound.decibels(sound.mel_power(torch.from_numpy(sound_clip(1.0).audio)))
    theirs = librosa.feature.mfcc(S=levels.numpy().T, n_mfcc=15, dct_type=2, norm="ortho").T
    np.testing.assert_allclose((levels @ voice._cosines(64, 15).T).numpy(), theirs, atol=1e-3)


@pytest.mark.parametrize("hertz", [80.0, 130.0, 220.0, 440.0])
def test_pitch_of_a_tone(hertz):
    time = np.arange(16000) / 16000
    tone = sum(np.sin(2 * np.pi * hertz * number * time) / number for number in range(1, 8)) * 0.1
    found, strength = voice.pitch(torch.from_numpy(tone.astype(np.float32)))
    assert len(found) == 101
    np.testing.assert_allclose(found[5:-5].numpy(), 12 * np.log2(hertz / 55), atol=0.1)
    assert strength[5:-5].min() > 0.9


@pytest.mark.parametrize("file", ["03-01-05-02-01-01-17.ogg", "03-01-02-01-01-01-18.ogg"])
def test_pitch_of_speech_is_that_of_librosa(file, shared_data: Path):
    samples, _ = librosa.load(shared_data / "audio" / "ravdess" / file, sr=sound.RATE)
    found, strength = voice.pitch(torch.from_numpy(samples))
    limits = {"fmin": voice.LOWEST_PITCH, "fmax": voice.HIGHEST_PITCH}
    theirs, voiced, _ = librosa.pyin(samples, sr=sound.RATE, frame_length=1024, hop_length=sound.HOP, **limits)
    loud = librosa.power_to_db(librosa.feature.rms(y=samples, frame_length=voice.FRAME, hop_length=sound.HOP)[0] ** 2)
    both = voiced & (strength.numpy() > voice.VOICED) & (loud > loud.max() - voice.VOICED_DB)
    assert both.sum() > 40
    apart = np.abs(found.numpy()[both] - 12 * np.log2(theirs[both] / voice.PITCH_FROM))  # semitones
    assert np.median(apart) < 0.1
    assert np.mean(apart < 0.5) > 0.9


def test_the_recording_does_not_matter():
    """Its level, its offset and the silence around the voice."""
    samples = torch.from_numpy(sound_clip(2.0).audio)
    numbers, course = voice.describe(samples)
    assert numbers.shape == (voice.NUMBERS,)
    assert torch.isfinite(numbers).all()
    for other in (samples * 0.5, samples + 0.1):
        found, changed = voice.describe(other)
        torch.testing.assert_close(found, numbers, atol=2e-3, rtol=2e-3)
        torch.testing.assert_close(relative(changed[None]), relative(course[None]), atol=0.01, rtol=0)
    torch.testing.assert_close(voice.describe(samples, sound.mel_power(samples - samples.mean())), (numbers, course))
    silence = torch.zeros(1600 * 5)
    _, padded = voice.describe(torch.cat([silence, samples, silence]))
    assert abs(len(padded) - len(course)) <= 1


def test_a_course_is_levels_and_pitch():
    """Of 50 frames per second, from the first sounding frame on."""
    samples = torch.from_numpy(sound_clip(2.0).audio)
    samples = samples - samples.mean()
    _, course = voice.describe(samples)
    levels = sound.decibels(sound.mel_power(samples))
    first = int(torch.nonzero(sound.sounding(levels))[0])
    tones, strength = voice.pitch(samples)
    assert course.shape[1] == voice.ROWS
    torch.testing.assert_close(course[5, : sound.BANDS], levels[first + 10 : first + 12].mean(0))
    torch.testing.assert_close(course[5, sound.BANDS], tones[first + 10 : first + 12].mean())
    torch.testing.assert_close(course[5, sound.BANDS + 1], strength[first + 10 : first + 12].mean())


def test_a_course_is_looped():
    course = torch.arange(66.0 * 30).view(30, 66)
    looped = loop(course)
    assert looped.shape == (LENGTH, 66)
    assert torch.equal(looped[30:60], course)
    assert torch.equal(loop(course, 20), course[:20])


def test_a_course_is_read_by_itself():
    """Pitch is relative to the voice, and nothing depends on what else is in the batch, on voiced frames or none."""
    courses = torch.stack([loop(voice.describe(torch.from_numpy(sound_clip(1.5, seed=seed).audio))[1]) for seed in range(3)])
    courses[2, :, -1] = 0  # no frame is voiced
    together = relative(courses)
    assert together.shape == (3, INPUTS, LENGTH)
    assert torch.isfinite(together).all()
    assert (together[2, -1] == 0).all()
    for row in range(3):
        torch.testing.assert_close(relative(courses[row : row + 1])[0], together[row])
    higher = courses.clone()
    higher[..., sound.BANDS] += 3
    torch.testing.assert_close(relative(higher)[0, sound.BANDS], together[0, sound.BANDS], atol=1e-4, rtol=0)
    assert (relative(higher)[0, sound.BANDS + 1] - together[0, sound.BANDS + 1]).max() == pytest.approx(3 / 8, abs=1e-4)


@pytest.mark.parametrize("count", [200, 3000, 16000 * 60])
def test_short_and_long_sounds_are_described(count):
    numbers, course = voice.describe(torch.from_numpy(np.resize(sound_clip(1.0).audio, count)))
    assert torch.isfinite(numbers).all()
    assert torch.isfinite(loop(course)).all()


@pytest.mark.parametrize("samples", [np.zeros(64000), np.zeros(0), np.full(32000, 1e-7)], ids=["silence", "empty", "dither"])
def test_silence_is_no_evidence(samples, loaded):
    clip = replace(sound_clip(), audio=samples.astype(np.float32))
    assert loaded(AudioEmotion).preprocess(clip) is None


def test_too_short_is_no_evidence(loaded):
    assert loaded(AudioEmotion).preprocess(sound_clip(0.2)) is None
    assert loaded(AudioEmotion).preprocess(sound_clip(0.8)) is not None


def test_loudness_does_not_matter(loaded):
    rows = predict(loaded(AudioEmotion), sound_clip(), sound_clip(gain=0.25)).values[BASIC7]
    torch.testing.assert_close(rows[0], rows[1], atol=0.02, rtol=0)


def test_quality_is_the_share_of_sound(loaded):
    clip = sound_clip(2.0)
    padded = replace(clip, audio=np.concatenate([clip.audio, np.zeros(32000, np.float32)]))
    whole, half = predict(loaded(AudioEmotion), clip, padded).quality["sound"].tolist()
    assert half == pytest.approx(whole / 2, abs=0.05)


def test_damaged_samples_give_a_distribution(loaded):
    clip = sound_clip()
    broken = clip.audio.copy()
    broken[1000:1010] = np.nan
    broken[2000] = np.inf
    rows = predict(loaded(AudioEmotion), replace(clip, audio=broken)).values[BASIC7]
    assert torch.isfinite(rows).all()


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_other_rates_say_about_the_same(rate, shared_data: Path, loaded):
    samples, _ = librosa.load(shared_data / "audio/ravdess/03-01-05-02-01-01-17.ogg", sr=sound.RATE)
    there = librosa.resample(samples, orig_sr=sound.RATE, target_sr=rate)
    back = librosa.resample(there, orig_sr=rate, target_sr=sound.RATE)
    rows = predict(loaded(AudioEmotion), *(replace(sound_clip(), audio=audio) for audio in (samples, back))).values[BASIC7]
    assert rows[0].argmax() == rows[1].argmax()


def test_unseen_voices(shared_data: Path):
    """Angry and calm speech of actors, by the networks that did not hear them: a look, not a measurement."""
    folder = shared_data / "audio" / "ravdess"
    right = 0
    for actor in (17, 18, 19, 20):
        component = AudioEmotion(AudioOptions(left_out=(actor - 1) // 2 % 5))
        component.load(torch.device("cpu"), torch.float32)
        for code, label in (("05", "anger"), ("02", "neutral")):
            samples, _ = librosa.load(folder / f"03-01-{code}-02-01-01-{actor:02d}.ogg", sr=sound.RATE)
            row = predict(component, replace(sound_clip(), audio=samples)).values[BASIC7][0]
            right += int(BASIC7.labels[int(row.argmax())] == label)
    assert right >= 6


def test_a_fifth_that_is_not_there():
    component = AudioEmotion(AudioOptions(left_out=5))
    with pytest.raises(UsageError, match="left_out must be from 0 to 4, found 5"):
        component.load(torch.device("cpu"), torch.float32)
