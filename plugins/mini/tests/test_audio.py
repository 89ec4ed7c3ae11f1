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
from affectkit_mini import sound
from affectkit_mini.audio import AudioEmotion, AudioOptions
from affectkit_mini.listening import POSITIONS, WIDTH, Listener, hear
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from affectkit.api import BASIC7, UsageError
from affectkit.batching import collate

from .conftest import predict, sound_clip


@pytest.mark.parametrize(
    ("rate", "window", "bands", "lowest", "highest"),
    [
        (16000, 400, 80, 0, 8000),
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
    """Mel power (T, 80) as librosa computes it."""
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


@pytest.mark.filterwarnings("ignore:n_fft=400 is too large")
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


def whisper(listener: Listener) -> WhisperEncoder:
    """The encoder of transformers with the numbers of a listener."""
    shape = WhisperConfig(d_model=WIDTH, encoder_layers=3, encoder_attention_heads=6, encoder_ffn_dim=1536, max_source_positions=POSITIONS)
    theirs = WhisperEncoder(shape).eval()
    theirs.conv1, theirs.conv2 = listener.first, listener.second
    theirs.embed_positions.weight.data = listener.positions.data.clone()
    for layer, block in zip(theirs.layers, listener.blocks, strict=True):
        weights, biases = block.self_attn.in_proj_weight.data.chunk(3), block.self_attn.in_proj_bias.data.chunk(3)
        for linear, weight, bias in zip(
            (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj), weights, biases, strict=True
        ):
            linear.weight.data = weight
            if linear.bias is not None:
                linear.bias.data = bias
        layer.self_attn.out_proj, layer.fc1, layer.fc2 = block.self_attn.out_proj, block.linear1, block.linear2
        layer.self_attn_layer_norm, layer.final_layer_norm = block.norm1, block.norm2
    return theirs


@pytest.fixture
def listener(loaded) -> Listener:
    """The encoder that mini/audio carries."""
    return loaded(AudioEmotion)._net.listener


@torch.inference_mode()
def listen(listener: Listener, *sounds: np.ndarray) -> torch.Tensor:
    """What a listener says of sounds in one batch."""
    heard = [hear(torch.from_numpy(samples)) for samples in sounds]
    batch = collate([{"levels": one.levels, "frames": one.frames} for one in heard])
    return listener(batch["levels"], batch["frames"], batch["frames_mask"])


def test_levels_are_those_of_whisper():
    """Of a sound with a mean square of one, all of which sounds."""
    samples = np.random.default_rng(0).normal(size=16000 * 2).astype(np.float32)
    samples = (samples - samples.mean()) / samples.std()
    theirs = WhisperFeatureExtractor(feature_size=80, chunk_length=2)(samples, sampling_rate=16000, return_tensors="pt")["input_features"]
    ours = hear(torch.from_numpy(samples * 0.03 + 0.1))
    assert ours.frames.all()
    assert (ours.seconds, float(ours.loudest)) == (
        2.0,
        pytest.approx(float(sound.decibels(sound.mel_power(torch.from_numpy(samples * 0.03))).amax()), abs=0.1),
    )
    torch.testing.assert_close(
        ours.levels.reshape(-1, 80)[3:-3], theirs[0].T[3:-3], atol=2e-3, rtol=0
    )  # at its ends Whisper mirrors the sound


def test_a_listener_hears_what_whisper_hears(shared_data: Path, listener: Listener):
    samples, _ = librosa.load(shared_data / "audio/ravdess/03-01-05-02-01-01-17.ogg", sr=sound.RATE)
    heard = hear(torch.from_numpy(np.resize(samples, 16000 * 24)))
    levels, frames = heard.levels[:POSITIONS], heard.frames[:POSITIONS]
    assert len(frames) == POSITIONS
    with torch.no_grad():
        states = whisper(listener)(levels.reshape(-1, 80).T[None], output_hidden_states=True).hidden_states
        ours = listener(levels[None], frames[None], torch.ones_like(frames)[None])[0]
    inside = [state[0][frames] for state in states[1:3]]  # the last one has a norm behind it there
    expected = torch.cat([part for state in inside for part in (state.mean(0), state.std(0, correction=0))])
    torch.testing.assert_close(ours[: len(expected)], expected, atol=2e-3, rtol=1e-3)


def test_a_listener_hears_each_sound_by_itself(listener: Listener):
    """Whatever else is in the batch, for less and for more than 8 seconds."""
    sounds = [sound_clip(seconds, seed=seed).audio for seed, seconds in enumerate((0.5, 3.0, 7.9, 8.0, 11.0, 17.0))]
    together = listen(listener, *sounds)
    for samples, row in zip(sounds, together, strict=True):
        torch.testing.assert_close(listen(listener, samples)[0], row, atol=1e-4, rtol=1e-3)


@pytest.fixture(scope="module")
def voice(shared_data: Path) -> np.ndarray:
    """An actor who is angry, about two seconds between silence."""
    samples, _ = librosa.load(shared_data / "audio/ravdess/03-01-05-02-01-01-17.ogg", sr=sound.RATE)
    return samples


def test_silence_around_and_inside_a_voice_says_nothing(voice: np.ndarray, loaded):
    """It is shortened to what was there before, wherever it is, and still counts in the share of sound."""
    half, silence = int(np.argmin(np.convolve(voice[16000:32000] ** 2, np.ones(800), "same"))) + 16000, np.zeros(48000, np.float32)
    changed = {
        "around": np.concatenate([silence, voice, silence]),
        "inside": np.concatenate([voice[:half], silence[:24000], voice[half:]]),
    }
    plain = predict(loaded(AudioEmotion), replace(sound_clip(), audio=voice))
    for what, samples in changed.items():
        said = predict(loaded(AudioEmotion), replace(sound_clip(), audio=samples))
        assert said.values[BASIC7].argmax() == plain.values[BASIC7].argmax(), what
        torch.testing.assert_close(said.values[BASIC7], plain.values[BASIC7], atol=0.2, rtol=0)
        share = plain.quality["sound"] * len(voice) / len(samples)
        torch.testing.assert_close(said.quality["sound"], share, atol=0.03, rtol=0)


def test_only_long_silence_is_shortened(voice: np.ndarray):
    sounding = hear(torch.from_numpy(voice))
    kept = len(sounding.frames)
    assert kept * 320 < len(voice)
    again = hear(torch.from_numpy(np.concatenate([np.zeros(32000, np.float32), voice])))
    assert abs(len(again.frames) - kept) <= 1
    inside = np.flatnonzero(sounding.frames.numpy())
    assert inside[0] <= 10
    assert kept - 1 - inside[-1] <= 10
    assert np.diff(inside).max() <= 21


def test_a_click_does_not_silence_a_voice(voice: np.ndarray, loaded):
    """A quiet voice, and a microphone that was touched before it."""
    quiet = voice / np.abs(voice).max() * 0.03
    touched = quiet.copy()
    touched[4000:4040] = np.repeat([0.9, -0.9], 20)
    plain, said = (predict(loaded(AudioEmotion), replace(sound_clip(), audio=samples)) for samples in (quiet, touched))
    torch.testing.assert_close(said.quality["sound"], plain.quality["sound"], atol=0.05, rtol=0)
    assert said.values[BASIC7].argmax() == plain.values[BASIC7].argmax()


def test_pieces_of_a_long_sound_count_by_what_they_hold(listener: Listener):
    """Mean and deviation of 16 seconds are those of both halves together."""
    first, second = (np.resize(sound_clip(4.0, seed=seed).audio, 16000 * 8) for seed in (1, 2))
    first, second = first - first.mean(), second - second.mean()
    first, second = first / np.sqrt(np.mean(first**2)) / 10, second / np.sqrt(np.mean(second**2)) / 10
    both, halves = listen(listener, np.concatenate([first, second]))[0], listen(listener, first, second)
    means = torch.stack([halves[:, :WIDTH].mean(0), both[:WIDTH]])
    torch.testing.assert_close(means[0], means[1], atol=0.02, rtol=0.02)  # the window of the transform crosses the border


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
