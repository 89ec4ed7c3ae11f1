"""Words from sound. A tiny random model in openai-whisper's own format shows how, not which: it says nonsense."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from affectkit.builtin.whisper import CHECKPOINTS, RATE, Options, Whisper, loudness, without_loops
from affectkit.errors import CheckpointError, ConfigError, PluginError
from affectkit.evidence import Evidence
from affectkit.media import Clip, Media, Span
from affectkit.needs import Checkpoint

whisper = pytest.importorskip("whisper", reason="openai-whisper is not installed (pip install 'affectkit[whisper]')")

CPU = torch.device("cpu")
MEDIUM = Media("clip", Path("clip.mp4"), "video", 60.0)


def write_tiny(path: Path, vocabulary: int = 51865) -> Path:
    """A random model in the file format of openai-whisper: half precision, ``dims`` and ``model_state_dict``."""
    from whisper.model import ModelDimensions
    from whisper.model import Whisper as Network

    dims = ModelDimensions(80, 1500, 16, 2, 1, vocabulary, 12, 16, 2, 2)
    network = Network(dims)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.1, generator=generator)
    torch.save({"dims": asdict(dims), "model_state_dict": network.half().state_dict()}, path)
    return path


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Matrices this small are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("whisper") / "tiny_random.pt")


@pytest.fixture(scope="module")
def provider(tiny: Path) -> Whisper:
    loaded = Whisper(Options(checkpoint=str(tiny), language="en", no_speech=1.0))
    loaded.load(CPU, torch.float32)
    return loaded


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).normal(size=round(seconds * RATE))).astype(np.float32)


def piece(audio: np.ndarray | None, start: float = 0.0, late: float = 0.0) -> Clip:
    length = late + (0 if audio is None else len(audio) / RATE)
    return Clip(MEDIUM, Span(start, start + length), audio=audio, audio_start=start + late)


def same(left: Evidence, right: Evidence) -> bool:
    return (left.valid, left.data, left.reason) == (right.valid, right.data, right.reason)


def test_what_is_published_is_what_whisper_would_download():
    for tag, checkpoint in CHECKPOINTS.items():
        assert checkpoint.uri == whisper._MODELS[tag]
        assert checkpoint.uri.split("/")[-2] == checkpoint.sha256
        assert checkpoint.licence == "MIT"


def test_words_have_times_of_the_medium_inside_their_piece(provider):
    clips = [piece(noise(0.4, seed), start, late) for seed, (start, late) in enumerate([(0.0, 0.0), (27.5, 0.0), (40.0, 0.5)])]
    found = provider.provide(clips)
    assert [item.kind for item in found] == ["transcript"] * 3
    assert all(item.valid for item in found)
    for clip, item in zip(clips, found, strict=True):
        words = item.data["words"]
        assert item.data["text"]
        assert item.data["language"] == "en"
        assert item.quality["words"] == len(words)
        assert 0 <= item.quality["confidence"] <= 1
        assert all(clip.audio_start <= word.start <= word.end <= clip.span.end for word in words)
        assert [word.start for word in words] == sorted(word.start for word in words)
        assert all(word.text == word.text.strip() and word.text for word in words)
        assert "".join(word.text for word in words).replace(" ", "") == item.data["text"].replace(" ", "")


def test_times_move_with_the_piece_and_nothing_else_changes(provider):
    [here] = provider.provide([piece(noise(0.4))])
    [there] = provider.provide([piece(noise(0.4), start=20.0)])
    assert there.data["text"] == here.data["text"]
    for a, b in zip(here.data["words"], there.data["words"], strict=True):
        assert (b.start, b.end) == pytest.approx((a.start + 20, a.end + 20), abs=1e-6)


def test_a_piece_does_not_depend_on_its_neighbours(provider):
    clips = [piece(noise(0.3, seed)) for seed in range(3)]
    together = provider.provide(clips)
    for clip, item in zip(clips, together, strict=True):
        assert same(provider.provide([clip])[0], item)


def test_what_whisper_hears_in_the_last_moments_of_a_piece_is_left_out(provider, monkeypatch):
    def said(seek: int, start: float) -> dict[str, Any]:
        return {"seek": seek, "words": [{"word": f" at{seek}", "start": start, "end": start + 0.1, "probability": 0.5}]}

    monkeypatch.setattr(
        "whisper.transcribe", lambda *_, **__: {"language": "en", "segments": [said(0, 0.1), said(150, 1.5), said(160, 1.6)]}
    )
    [long] = provider.provide([piece(noise(2.0), start=3.0)])
    assert [(word.text, word.start) for word in long.data["words"]] == [("at0", 3.1), ("at150", 4.5)]
    [short] = provider.provide([piece(noise(0.3))])
    assert short.data["text"] == "at0"


def test_the_sound_is_left_as_it_was(provider):
    audio = noise(0.3)
    audio.setflags(write=False)
    before = audio.copy()
    provider.provide([piece(audio)])
    assert np.array_equal(audio, before)


@pytest.mark.parametrize(
    ("audio", "reason"),
    [
        (None, "no sound"),
        (np.zeros(0, np.float32), "no sound"),
        (noise(0.05), "no sound"),
        (np.zeros(RATE, np.float32), "silence"),
        (noise(1.0) * 1e-3, "silence"),
    ],
)
def test_no_sound_is_no_evidence(provider, audio, reason):
    [found] = provider.provide([piece(audio)])
    assert (found.valid, found.reason) == (False, reason)


def test_no_speech_is_no_evidence(tiny):
    strict = Whisper(Options(checkpoint=str(tiny), language="en", no_speech=0.0))
    strict.load(CPU, torch.float32)
    [found] = strict.provide([piece(noise(1.0))])
    assert (found.valid, found.reason) == (False, "no speech")


def test_the_language_is_found_out_where_none_is_given(tiny):
    open_minded = Whisper(Options(checkpoint=str(tiny), no_speech=1.0, beam=2))
    open_minded.load(CPU, torch.bfloat16)
    [found] = open_minded.provide([piece(noise(1.0, 1))])
    assert not found.valid or found.data["language"] in whisper.tokenizer.LANGUAGES


def test_real_speech_goes_through(provider, shared_data):
    av = pytest.importorskip("av")
    with av.open(str(shared_data / "audio_edge" / "jfk.flac")) as container:
        resampler = av.AudioResampler("flt", "mono", RATE)
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    audio = np.concatenate([frame.to_ndarray()[0] for frame in frames])[RATE : RATE + RATE // 2]
    [found] = provider.provide([piece(audio, start=100.0)])
    assert found.valid
    assert all(100.0 <= word.start <= word.end <= 101.0 for word in found.data["words"])


# --- weights and options


def test_absent_weights_are_never_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("AFFECTKIT_CACHE", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **kwargs: pytest.fail("downloaded"))
    absent = Whisper(Options("tiny"))
    absent.id = "core/whisper"
    with pytest.raises(CheckpointError) as error:
        absent.load(CPU, torch.float32)
    message = str(error.value)
    assert "core/whisper: the weights tiny.pt are not here (looked for " in message
    assert str(tmp_path / "whisper" / "tiny.pt") in message
    assert "affectkit weights fetch core/whisper:tiny'" in message
    assert "--set components.core/whisper.checkpoint=/path/to/tiny.pt" in message


def test_what_whisper_has_downloaded_itself_is_used(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "whisper").mkdir()
    copy = tmp_path / "whisper" / "tiny.pt"
    copy.write_bytes(tiny.read_bytes())
    digest = hashlib.sha256(copy.read_bytes()).hexdigest()
    published = CHECKPOINTS["tiny"]
    ours = {"tiny": Checkpoint(published.uri, digest, also=published.also)}
    monkeypatch.setattr(Whisper, "checkpoints", ours)
    assert Whisper(Options("tiny")).weights() == copy


def damaged(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        Whisper(Options(str(path))).load(CPU, torch.float32)
    return str(error.value)


def test_files_that_are_no_checkpoint(tiny, tmp_path):
    state = torch.load(tiny, weights_only=True)
    wrong = {
        "half.pt": tiny.read_bytes()[:10000],
        "empty.pt": b"",
        "text.pt": b"<html>",
        "keys.pt": {"weights": 1},
        "list.pt": [1],
        "dims.pt": state | {"dims": {"n_mels": 80}},
        "shape.pt": state | {"dims": state["dims"] | {"n_text_state": 64}},
    }
    for name, content in wrong.items():
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        assert f"{path} is damaged or not a checkpoint of openai-whisper, which holds dims and model_state_dict" in damaged(path)
    assert "has no checkpoint 'tiyn', and there is no file of that name. Did you mean tiny?" in damaged(Path("tiyn"))


class Evil:
    """Makes a file where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("owned", "w"))


def test_objects_in_a_checkpoint_are_never_built(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(torch.load(tiny, weights_only=True) | {"x": Evil()}, tmp_path / "evil.pt")
    assert "is damaged or not a checkpoint" in damaged(tmp_path / "evil.pt")
    assert not (tmp_path / "owned").exists()


def test_languages(tiny, tmp_path):
    for wanted, code in (("", None), ("de", "de"), ("German", "de"), ("EN", "en")):
        model = Whisper(Options(str(tiny), wanted))
        model.load(CPU, torch.float32)
        assert model._language == code
    with pytest.raises(ConfigError, match=r"Whisper does not know the language 'germn'\. Did you mean german\?"):
        Whisper(Options(str(tiny), "germn")).load(CPU, torch.float32)
    english = write_tiny(tmp_path / "english.pt", vocabulary=51864)
    with pytest.raises(
        ConfigError, match=r"english\.pt knows English only, the language asked for is 'de'; choose a checkpoint without \.en"
    ):
        Whisper(Options(str(english), "de")).load(CPU, torch.float32)


def test_options():
    with pytest.raises(ConfigError, match="no_speech is a probability between 0 and 1, found 2"):
        Options(no_speech=2.0)
    with pytest.raises(ConfigError, match="beam must be 0 or the number of beams, found -1"):
        Options(beam=-1)


def test_words_before_weights():
    with pytest.raises(PluginError, match="whisper is asked for words before its weights are loaded"):
        Whisper().provide([piece(noise(1.0))])


def test_without_the_package(tiny, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "whisper", None)
    with pytest.raises(PluginError, match=r"openai-whisper is not installed; pip install 'affectkit\[whisper\]'"):
        Whisper(Options(str(tiny))).load(CPU, torch.float32)


# --- loops and loudness


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("", ""),
        ("a a a", "a a a"),
        ("a a a a", "a"),
        ("x A a, a. a! a y", "x A y"),
        ("i see i see i see i see", "i see"),
        ("i see i see i see i see it", "i see it"),
        ("a b c " * 5 + "d", "a b c d"),
        ("no no no no " * 4, "no"),
        ("... ... ... ... x", "... x"),
    ],
)
def test_loops_are_cut(said, kept):
    words = said.split()
    assert " ".join(words[i] for i in without_loops(words)) == kept


@given(st.lists(st.sampled_from("abc"), max_size=40))
def test_cutting_loops_keeps_order_and_leaves_other_words_alone(words):
    kept = without_loops(words)
    assert kept == sorted(set(kept))
    assert {words[i] for i in kept} == set(words)
    if len(words) < 4:
        assert kept == list(range(len(words)))


@given(st.integers(0, 5000), st.floats(0, 1, width=32))
def test_loudness_of_a_constant_is_the_constant(samples, level):
    expected = level if samples else 0.0
    assert loudness(np.full(samples, level, np.float32)) == pytest.approx(expected, rel=1e-5)
