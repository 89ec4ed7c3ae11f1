"""ras/speech on real speech, silence and noise, with the published network."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from affectkit_ras.speech import CONTEXT, RATE, STEP, Speech, stretches

from affectkit.api import CheckpointError, Clip, ConfigError, Evidence, Media, Span
from affectkit.checkpoints import sha256
from affectkit.decoding import read_sound
from affectkit.media import open_media
from affectkit.testing.contracts import examine
from affectkit.weight_files import is_random

MEDIA = Media("made", Path("made.wav"), "audio", duration=20.0)


@pytest.fixture(scope="module")
def checkpoint(shared_data: Path) -> str:
    """The network of Silero."""
    path = shared_data / "weights" / "silero_vad_16k_op15.onnx"
    if not path.is_file():
        pytest.skip(f"the network is not here: {path}")
    return str(path)


@pytest.fixture(scope="module")
def detector(checkpoint: str) -> Speech:
    return made(checkpoint)


@pytest.fixture(scope="module")
def kennedy(shared_data: Path) -> np.ndarray:
    """Eleven seconds of a speech, (N,) float32."""
    return sound(shared_data / "audio_edge" / "jfk.flac")


def made(checkpoint: str, **options: Any) -> Speech:
    component = Speech(Speech.Options(checkpoint=checkpoint, **options))
    component.id = "ras/speech"
    component.load(torch.device("cpu"), torch.float32)
    return component


def sound(path: Path) -> np.ndarray:
    return np.concatenate([piece.samples for piece in read_sound(open_media(path), RATE)])


def clip(samples: np.ndarray | None, start: float = 0.0) -> Clip:
    length = 0.0 if samples is None else len(samples) / RATE
    return Clip(MEDIA, Span(start, start + max(length, 1.0)), audio=samples, audio_start=start)


def noise(seconds: float, level: float = 0.02) -> np.ndarray:
    return np.random.default_rng(0).normal(0, level, int(seconds * RATE)).astype(np.float32)


def shares(found: Sequence[Evidence]) -> list[float]:
    return [evidence.quality.get("speech", 0.0) for evidence in found]


def test_speech_is_found_and_silence_and_noise_are_not(detector: Speech, kennedy: np.ndarray) -> None:
    silent = np.zeros(4 * RATE, np.float32)
    found = detector.provide([clip(kennedy), clip(silent), clip(noise(4)), clip(None)])
    assert [evidence.valid for evidence in found] == [True, False, False, False]
    assert [evidence.reason for evidence in found[1:]] == ["no speech", "no speech", "no sound"]
    assert 0.6 < found[0].data["share"] <= 1.0
    assert found[0].quality == {"speech": found[0].data["share"]}


def test_pauses_are_where_it_is_quiet(detector: Speech, kennedy: np.ndarray) -> None:
    """The network says more of loud stretches than of pauses, and segments lie in the sound, in order and apart."""
    (found,) = detector.provide([clip(kennedy, start=100.0)])
    segments = found.data["segments"]
    edges = [edge for segment in segments for edge in segment]
    assert edges == sorted(edges)
    assert edges[0] >= 100.0
    assert edges[-1] <= 100.0 + len(kennedy) / RATE
    inside = np.zeros(len(kennedy), bool)
    for start, end in segments:
        inside[round((start - 100) * RATE) : round((end - 100) * RATE)] = True
    assert np.isclose(inside.mean(), found.data["share"], atol=1e-3)
    assert np.square(kennedy[inside]).mean() > 10 * np.square(kennedy[~inside]).mean()


def test_most_recordings_of_actors_hold_speech(detector: Speech, shared_data: Path) -> None:
    folder = shared_data / "audio" / "ravdess"
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        names = [
            next(value for value in row.values() if value.endswith((".flac", ".wav", ".ogg", ".opus"))) for row in csv.DictReader(file)
        ]
    found = shares(detector.provide([clip(sound(folder / name)) for name in names[::240]]))
    assert len(found) == 5
    assert min(found) > 0.15
    assert max(found) < 1.0  # each begins and ends in silence


def test_windows_say_the_same_alone_and_side_by_side(detector: Speech, kennedy: np.ndarray) -> None:
    sounds = [kennedy[: 4 * RATE], kennedy[RATE : 2 * RATE + 77], kennedy[:100], kennedy[2 * RATE : 6 * RATE], noise(1.5)]
    together = detector.probabilities(sounds)
    assert [len(one) for one in together] == [-(-len(one) // STEP) for one in sounds]
    for one, alone in zip(together, sounds, strict=True):
        np.testing.assert_allclose(one, detector.probabilities([alone])[0], atol=1e-5)


def test_the_state_goes_on_from_step_to_step(checkpoint: str, detector: Speech, kennedy: np.ndarray) -> None:
    """Against the network called step by step by hand, with the last samples of the step before."""
    import onnxruntime

    session = onnxruntime.InferenceSession(checkpoint, providers=["CPUExecutionProvider"])
    state, before, wanted = np.zeros((2, 1, 128), np.float32), np.zeros(CONTEXT, np.float32), []
    for first in range(0, 20 * STEP, STEP):
        step = kennedy[first : first + STEP]
        said, state = session.run(None, {"input": np.concatenate([before, step])[None], "state": state, "sr": np.array(RATE)})
        wanted.append(float(said[0, 0]))
        before = step[-CONTEXT:]
    np.testing.assert_allclose(detector.probabilities([kennedy[: 20 * STEP]])[0], wanted, atol=1e-5)


def test_the_share_is_seconds_of_seconds(checkpoint: str, kennedy: np.ndarray) -> None:
    """One second of speech in sixteen is less than a tenth; the published rule, samples over seconds, let it pass."""
    samples = np.concatenate([kennedy[RATE // 2 : 3 * RATE // 2], np.zeros(15 * RATE, np.float32)])
    assert made(checkpoint, share=0.01).provide([clip(samples)])[0].valid
    (found,) = made(checkpoint).provide([clip(samples)])
    assert (found.valid, found.reason) == (False, "no speech")


def test_it_keeps_what_every_provider_promises(checkpoint: str, kennedy: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def examples() -> list[Clip]:
        return [clip(kennedy[first * RATE : (first + 4) * RATE], float(first)) for first in range(0, 6, 2)]

    monkeypatch.setattr(Speech, "examples", staticmethod(examples), raising=False)
    outcomes = list(examine("provider", Speech, {"checkpoint": checkpoint}, id="ras/speech"))
    assert {outcome.check: outcome.reason for outcome in outcomes if outcome.state != "ok"} == {}


@pytest.mark.parametrize(
    ("probabilities", "least_speech", "least_silence", "wanted"),
    [
        ([], 1, 1, []),
        ([0.2, 0.3], 1, 1, []),
        ([0.9] * 4, 1, 1, [(0, 4)]),
        ([0.9, 0.4, 0.4, 0.9], 1, 1, [(0, 4)]),  # not low enough to end it
        ([0.9, 0.1, 0.9, 0.1, 0.1], 1, 2, [(0, 3)]),  # a gap that is too short
        ([0.9, 0.1, 0.1, 0.9], 1, 2, [(0, 1), (3, 4)]),
        ([0.9, 0.1, 0.1, 0.9, 0.9], 2, 2, [(3, 5)]),  # a stretch that is too short
        ([0.9, 0.1], 1, 0, [(0, 1)]),
    ],
)
def test_stretches(probabilities: list[float], least_speech: float, least_silence: float, wanted: list[tuple[int, int]]) -> None:
    assert stretches(np.array(probabilities), 0.5, least_speech, least_silence) == wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.0}, "threshold must be between 0 and 1"),
        ({"share": 2.0}, r"share must be in \[0, 1\]"),
        ({"least_speech": -1.0}, "must not be"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Speech.Options(**options)


def test_other_files(shared_data: Path, checkpoint: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not Silero's detector"):
        made(str(shared_data / "weights" / "face_detection_yunet.onnx"))
    torn = tmp_path / "torn.onnx"
    torn.write_bytes(Path(checkpoint).read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"torn\.onnx is damaged or no ONNX file that onnxruntime reads"):
        made(str(torn))
    with pytest.raises(CheckpointError, match="before its weights are loaded"):
        Speech().provide([clip(noise(1))])


def test_random_weights_take_what_is_loud_for_speech(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    path = Speech().write_random("default", tmp_path)
    assert is_random(path)
    found = made(str(path)).provide([clip(noise(2, 0.1)), clip(noise(2, 1e-4))])
    assert [(evidence.valid, evidence.reason) for evidence in found] == [(True, ""), (False, "no speech")]


def test_without_the_package_that_writes_them_there_are_no_random_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(CheckpointError, match=r"pip install onnx; or leave it out with components\.ras/audio\.speech=false"):
        Speech().write_random("default", tmp_path)


def test_the_record_is_of_the_file(checkpoint: str) -> None:
    record = Speech.checkpoints["default"]
    assert (record.sha256, record.size, record.licence) == (sha256(Path(checkpoint)), Path(checkpoint).stat().st_size, "MIT")
