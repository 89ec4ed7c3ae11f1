"""ras/whisper: core/whisper with other values, and words without loops inside of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from affectkit_ras.whisper import Whisper, WhisperOptions

import affectkit.builtin.whisper as core
from affectkit.api import Clip, Evidence, Span, Word

from .conftest import MEDIA


@pytest.fixture(scope="module")
def component(tmp_path_factory: pytest.TempPathFactory) -> Whisper:
    """With a small random model of the published format."""
    made = Whisper()
    made.id = "ras/whisper"
    path = made.write_random("tiny", tmp_path_factory.mktemp("whisper"))
    made = Whisper(WhisperOptions(checkpoint=str(path)))
    made.id = "ras/whisper"
    made.load(torch.device("cpu"), torch.float32)
    return made


def sound(seconds: float = 2.0) -> Clip:
    time = np.arange(int(seconds * core.RATE)) / core.RATE
    return Clip(MEDIA, Span(3.0, 3.0 + seconds), audio=(0.3 * np.sin(900 * time)).astype(np.float32), audio_start=3.0)


def test_the_model_of_the_system_is_the_default():
    options = WhisperOptions()
    assert (options.checkpoint, options.language, options.beam) == ("large-v3-turbo", "en", 0)
    assert set(Whisper(options).used_checkpoints()) == {"large-v3-turbo"}
    assert Whisper.checkpoints is core.Whisper.checkpoints


def test_words_are_those_of_core_whisper_with_times_of_the_medium(component: Whisper):
    (found,) = component.provide([sound()])
    (expected,) = core.Whisper.provide(component, [sound()])
    assert found.valid
    assert len(found.data["words"]) == len(expected.data["words"])
    assert all(3.0 <= word.start <= word.end <= 5.0 for word in found.data["words"])


def test_loops_inside_of_words_are_cut(component: Whisper, monkeypatch: pytest.MonkeyPatch):
    words = (Word("nooooooooooo", 3.0, 4.0), Word("way", 4.0, 5.0))
    said = Evidence("transcript", {"text": "nooooooooooo way", "words": words}, quality={"words": 2.0})
    monkeypatch.setattr(core.Whisper, "provide", lambda self, clips: [said for _ in clips])
    (found,) = component.provide([sound()])
    assert found.data["text"] == "nooo way"
    assert [(word.text, word.start) for word in found.data["words"]] == [("nooo", 3.0), ("way", 4.0)]


def test_silence_has_no_words(component: Whisper):
    quiet = Clip(MEDIA, Span(0.0, 2.0), audio=np.zeros(2 * core.RATE, np.float32))
    assert component.provide([quiet]) == [Evidence.none("transcript", "silence")]


def test_subtitles_win_over_it_in_the_recipe():
    import affectkit_ras
    import yaml

    path = next(path for path in affectkit_ras.affectkit_recipes() if path.stem == "abaw9")
    providers = yaml.safe_load(Path(path).read_text())["providers"]
    assert providers["transcript"] == ["core/subtitles", "ras/whisper"]
    assert providers["description"] == ["core/descriptions", "ras/describe"]
