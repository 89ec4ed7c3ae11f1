"""Classes in words: both sides for every label set, within what CLIP reads, and what may be asked for."""

from __future__ import annotations

import pytest
from affectkit_finecliper.texts import TEXTS, Sides, asked, described
from open_clip import SimpleTokenizer

from affectkit.api import BASIC7, COMPOUND7, ConfigError, LabelSet
from affectkit.labels import KNOWN, canonical

SETS = [found for found in KNOWN.values() if found.kind == "categorical"]


@pytest.mark.parametrize("labels", SETS, ids=lambda labels: labels.name)
def test_every_label_set_is_described_from_both_sides(labels: LabelSet):
    sides = described(labels)
    assert len(sides) == len(labels)
    assert all(one == TEXTS[canonical(label)] for one, label in zip(sides, labels.labels, strict=True))


def test_no_two_texts_are_the_same_and_clip_reads_all_of_them():
    texts = [text for sides in TEXTS.values() for text in (sides.positive, sides.negative)]
    assert len(set(texts)) == len(texts)
    tokenizer = SimpleTokenizer()
    longest = max(len(tokenizer.encode(text)) + 2 for text in texts)
    assert longest <= 77


def test_the_same_label_has_the_same_texts_in_every_order():
    one, other = described(KNOWN["dfew7"]), described(KNOWN["ferv39k7"])
    assert one[KNOWN["dfew7"].index("fear")] == other[KNOWN["ferv39k7"].index("fear")]


@pytest.mark.parametrize("labels", [BASIC7, COMPOUND7], ids=lambda labels: labels.name)
def test_the_names_of_a_known_set_as_texts_are_that_set(labels: LabelSet):
    found, sides = asked([label.replace("_", " ") for label in labels.labels])
    assert found == labels
    assert sides == described(labels)


def test_other_texts_are_quantities_with_a_sentence_around_them():
    found, sides = asked(["bored", "in love"])
    assert found.kind == "continuous"
    assert found.labels == ("bored", "in_love")
    assert sides[1].positive == "a face that looks in love"
    assert sides[1].negative == "a face that does not look in love at all"


def test_texts_by_label_are_classes():
    found, sides = asked({"happy": "glad", "anger": ("an angry face", "a friendly face")})
    assert (found.kind, found.labels) == ("categorical", ("happy", "anger"))
    assert sides == (Sides("a face that looks glad", "a face that does not look glad at all"), Sides("an angry face", "a friendly face"))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"anger": "cross"}, "at least two texts"),
        ({"anger": "cross", "fear": ("", "at ease")}, "labels: fear needs a text with letters, found ('', 'at ease')"),
        ("dfew8", "there is no label set 'dfew8' of emotions. Did you mean dfew7?"),
        ("va", "there is no label set 'va' of emotions"),
        (["bored"], "at least two texts"),
        (["bored", "Bored"], "which are both the label 'bored'"),
    ],
)
def test_what_cannot_be_asked_for(labels: str | list[str] | dict[str, str], message: str):
    with pytest.raises(ConfigError) as caught:
        asked(labels)
    assert message in str(caught.value)


def test_a_set_without_texts_names_what_lacks():
    with pytest.raises(ConfigError, match=r"there are no texts for bored of moods; write both sides of each, as options\.texts\.LABEL"):
        described(LabelSet("moods", ("neutral", "bored")))
