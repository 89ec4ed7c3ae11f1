"""What each class looks like and what it does not, in words: our own, for every label set that affectkit knows emotions of.

FineCLIPER describes a class from both sides; its texts are not published. These were written for affectkit after what people commonly see
in a face, muscle by muscle (Ekman and Friesen's action units; for two emotions at once table 1 of Du, Tao and Martinez, PNAS 2014).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from affectkit.api import ConfigError, LabelSet
from affectkit.errors import did_you_mean
from affectkit.labels import KNOWN, canonical, of_texts


@dataclass(frozen=True)
class Sides:
    """A class from both sides.

    Attributes:
        positive: what a face of it looks like.
        negative: what a face looks like that is not of it.
    """

    positive: str
    negative: str


TEXTS: Mapping[str, Sides] = {
    "neutral": Sides(
        "a relaxed face that stays as it is: even brows, an easy gaze, lips resting on each other",
        "a face that is not relaxed: some muscle of brows, eyes or mouth is clearly at work",
    ),
    "anger": Sides(
        "an angry face: lowered brows with a crease between them, a fixed glare, lips pressed thin or teeth bared",
        "a face without anger: no crease between the brows, no glare, a mouth that is not tense",
    ),
    "disgust": Sides(
        "a disgusted face: wrinkles along the nose, the upper lip drawn up, narrowed eyes, a head that turns away",
        "a face without disgust: a smooth nose and an upper lip that hangs as usual",
    ),
    "fear": Sides(
        "a frightened face: raised brows pulled towards each other, staring eyes with white above them, lips stretched back",
        "a face without fear: eyes open no wider than usual, a brow at ease, lips that are not stretched",
    ),
    "happiness": Sides(
        "a happy face: a smile that lifts the cheeks and narrows the eyes, teeth often in sight",
        "a face without joy: no smile, cheeks that do not lift, corners of the mouth that do not rise",
    ),
    "sadness": Sides(
        "a sad face: the inner brows drawn up, heavy lids over a lowered gaze, the corners of the mouth sinking, perhaps tears",
        "a face without grief: brows that do not slant, an open gaze, corners of the mouth that do not sink",
    ),
    "surprise": Sides(
        "a surprised face: brows flung up in arcs, wide round eyes, a jaw that falls open",
        "a face that nothing surprises: brows in their place, lids as usual, a closed jaw",
    ),
    "contempt": Sides(
        "a contemptuous face: one corner of the mouth tightened and raised, a look down from above",
        "a face without contempt: both corners of the mouth are alike, and nobody is looked down on",
    ),
    "anxiety": Sides(
        "an anxious face: a worried brow, eyes that wander, bitten or pressed lips, swallowing",
        "a face without worry: a steady gaze, a calm brow, loose lips",
    ),
    "disappointment": Sides(
        "a disappointed face: the expectation drains out of it, the gaze drops, lips press together and the head sinks a little",
        "a face that is not let down: gaze and head stay up, nothing in it gives way",
    ),
    "helplessness": Sides(
        "a helpless face: brows raised in the middle, a pleading look around, lips parted without a word, perhaps a shrug",
        "a face that knows what to do: a firm look and a composed mouth, nothing that pleads",
    ),
    "other": Sides(
        "a face with an expression that is none of joy, grief, anger, fear, disgust or surprise, and is not relaxed either",
        "a face at rest, or with one of the common emotions that everybody has a name for",
    ),
    "fearfully_surprised": Sides(
        "a face both frightened and surprised: high brows drawn together, eyes as wide as they go, an open mouth pulled to the sides",
        "a face that is not startled by a danger: no fright in its surprise, or no surprise in its fright",
    ),
    "happily_surprised": Sides(
        "a face both happy and surprised: high brows and wide eyes above a dropped jaw that smiles",
        "a face without a glad surprise: no smile in its surprise, or no surprise in its smile",
    ),
    "sadly_surprised": Sides(
        "a face both sad and surprised: brows up and slanting, wet or wide eyes, an open mouth whose corners sink",
        "a face that no bad news has struck: no grief in its surprise, or no surprise in its grief",
    ),
    "disgustedly_surprised": Sides(
        "a face both disgusted and surprised: raised brows, wide eyes, a drawn up upper lip and creases at the nose",
        "a face that nothing revolting has met: no wrinkled nose in its surprise, or no surprise in its disgust",
    ),
    "angrily_surprised": Sides(
        "a face both angry and surprised: hard wide eyes under drawn brows, a mouth that opens to protest",
        "a face that is not outraged: no anger in its surprise, or no surprise in its anger",
    ),
    "sadly_fearful": Sides(
        "a face both sad and afraid: slanting brows pulled together, fearful eyes close to tears, a trembling stretched mouth",
        "a face without dread and grief together: no fear in its sadness, or no sadness in its fear",
    ),
    "sadly_angry": Sides(
        "a face both sad and angry: lowered brows over eyes close to tears, a pressed mouth with sinking corners",
        "a face without bitterness: no anger in its sadness, or no sadness in its anger",
    ),
}
"""By label, as affectkit names them."""

ASKED = Sides("a face that looks {}", "a face that does not look {} at all")
"""Around a text that somebody asks for."""


def described(labels: LabelSet, known: Mapping[str, Sides] = TEXTS) -> tuple[Sides, ...]:
    """Both sides of each label of a set.

    Raises:
        ConfigError: for labels without texts.

    >>> described(KNOWN["dfew7"])[2].positive.split(":")[0]
    'a relaxed face that stays as it is'
    """
    lacking = [label for label in labels.labels if canonical(label) not in known]
    if lacking:
        raise ConfigError(
            f"there are no texts for {', '.join(lacking)} of {labels.name}; write both sides of each, as options.texts.LABEL: [what it looks like, what it does not]"
        )
    return tuple(known[canonical(label)] for label in labels.labels)


def asked(
    labels: str | Sequence[str] | Mapping[str, str | tuple[str, str]], known: Mapping[str, Sides] = TEXTS
) -> tuple[LabelSet, tuple[Sides, ...]]:
    """What the option ``labels`` asks for: a label set by its name, any texts, or texts of classes by their labels.

    Args:
        labels: name of a categorical label set, or at least two texts. Texts that are the labels of ``basic7`` or ``compound7`` are that set. By label: how a
            face looks, or both sides.
        known: what labels look like.

    Raises:
        ConfigError: for a name that is none, a set without texts, or texts that cannot be compared.

    >>> asked(["bored", "much relieved"])[1][1].negative
    'a face that does not look much relieved at all'
    """
    if isinstance(labels, str):
        able = [name for name, found in KNOWN.items() if found.kind == "categorical"]
        if labels not in able:
            raise ConfigError(f"labels: there is no label set {labels!r} of emotions. {did_you_mean(labels, able)}")
        return KNOWN[labels], described(KNOWN[labels], known)
    found = of_texts(labels)
    if isinstance(labels, Mapping):
        return found, tuple(_sides(given) for given in labels.values())
    if found.kind == "categorical":
        return found, described(found, known)
    return found, tuple(_sides(text) for text in labels)


def _sides(given: str | tuple[str, str]) -> Sides:
    """Both sides of what somebody wrote; one text is put into :data:`ASKED`."""
    return Sides(*(side.format(given) for side in (ASKED.positive, ASKED.negative))) if isinstance(given, str) else Sides(*given)
