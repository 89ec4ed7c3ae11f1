"""mini/audio."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from affectkit_mini import sound
from affectkit_mini.audio import AudioEmotion

from affectkit.api import BASIC7

from .conftest import predict, sound_clip


def test_mel_power_equals_librosa():
    samples = sound_clip(1.3).audio
    ours = sound.mel_power(torch.from_numpy(samples))
    theirs = librosa.feature.melspectrogram(
        y=samples, sr=sound.RATE, n_fft=sound.WINDOW, hop_length=sound.HOP, n_mels=sound.BANDS, fmin=sound.LOWEST, fmax=sound.HIGHEST,
        power=2.0, center=True, pad_mode="constant",
    )  # fmt: skip
    np.testing.assert_allclose(ours.numpy(), theirs.T, rtol=2e-3, atol=1e-6)
    decibels = librosa.power_to_db(theirs.T, ref=1.0, amin=sound.FLOOR, top_db=None)
    np.testing.assert_allclose(sound.decibels(ours).numpy(), decibels, atol=0.05)


def test_mel_power_of_a_batch_equals_one_by_one():
    samples = torch.randn(3, 8000) * 0.1
    torch.testing.assert_close(sound.mel_power(samples)[1], sound.mel_power(samples[1]))


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


def test_unseen_voices(shared_data: Path, loaded):
    """Angry and calm speech of an actor who was kept out of training: a look, not a measurement."""
    folder = shared_data / "audio" / "ravdess"
    right = 0
    for actor in (17, 18, 19, 20):
        for code, label in (("05", "anger"), ("02", "neutral")):
            samples, _ = librosa.load(folder / f"03-01-{code}-02-01-01-{actor:02d}.ogg", sr=sound.RATE)
            row = predict(loaded(AudioEmotion), replace(sound_clip(), audio=samples)).values[BASIC7][0]
            right += int(BASIC7.labels[int(row.argmax())] == label)
    assert right >= 5
