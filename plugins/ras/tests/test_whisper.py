"""ras/whisper: core/whisper with other values, and words without loops inside of them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from affectkit_ras.whisper import Whisper, WhisperOptions

import affectkit.builtin.whisper as core
from affectkit import weight_files
from affectkit.api import CheckpointError, Clip, Evidence, Span, Word

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


SIZES = {
    "base": {"n_audio_state": 512, "n_audio_head": 8, "n_audio_layer": 6, "n_text_state": 512, "n_text_head": 8, "n_text_layer": 6},
    "large-v3-turbo": {
        "n_audio_state": 1280,
        "n_audio_head": 20,
        "n_audio_layer": 2,
        "n_text_state": 1280,
        "n_text_head": 20,
        "n_text_layer": 2,
    },
}


END = 50257  # the token after which a text is over
FEW = 12  # tokens of a text, what it begins with among them


@pytest.mark.slow
@pytest.mark.parametrize(("tag", "million"), [("base", 71), ("large-v3-turbo", 164)])
def test_the_published_width_is_loaded_strictly_and_heard(tag: str, million: int, tmp_path: Path):
    """All of ``base``, and all widths of ``large-v3-turbo`` with two of its 32 and 4 layers, in openai-whisper's own format with random numbers."""
    from whisper.model import ModelDimensions
    from whisper.model import Whisper as Network

    mels, vocabulary = (80, 51865) if tag == "base" else (128, 51866)
    dims = ModelDimensions(n_mels=mels, n_audio_ctx=1500, n_vocab=vocabulary, n_text_ctx=448, **SIZES[tag])
    network = weight_files.random_network(lambda: Network(dims))
    words = network.decoder
    words.positional_embedding.data.normal_(std=0.01)  # it is made without any value
    words.positional_embedding.data[FEW:] = 50 * words.token_embedding.weight.data[END]  # else it says 224 tokens of nonsense, for minutes
    path = tmp_path / f"{tag}.pt"
    torch.save({"dims": asdict(dims), "model_state_dict": network.half().state_dict()}, path)
    assert sum(value.numel() for value in network.parameters()) // 1_000_000 == million
    if tag == "base":
        assert path.stat().st_size == pytest.approx(core.CHECKPOINTS[tag].size, rel=0.001)
    del network
    made = Whisper(WhisperOptions(checkpoint=str(path)))
    made.id = "ras/whisper"
    made.load(torch.device("cpu"), torch.float32)
    (found,) = made.provide([sound(0.2)])  # little, since it may go on in steps of 0.02 s
    assert found.valid, found.reason
    assert all(3.0 <= word.start <= word.end <= 3.2 for word in found.data["words"])
    state = torch.load(path, weights_only=True)
    del state["model_state_dict"]["decoder.ln.bias"]
    torch.save(state, path)
    with pytest.raises(CheckpointError, match="is damaged or not a checkpoint of openai-whisper"):
        made.load(torch.device("cpu"), torch.float32)
