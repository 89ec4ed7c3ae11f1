"""What stands for the eight basic and the seven compound expressions when pictures are matched with texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from affectkit.api import BASIC8, COMPOUND7, ConfigError
from affectkit.errors import did_you_mean

LABELS = (*BASIC8.labels, *COMPOUND7.labels)
"""All that is asked for at once: (15,), the basic ones first."""

Set = Literal["words", "people", "faces"]
WORDS: Mapping[str, str] = {
    **dict(zip(BASIC8.labels, ("neutral", "angry", "disgusted", "fearful", "happy", "sad", "surprised", "other"), strict=True)),
    **{label: label.replace("_", " ") for label in COMPOUND7.labels},
}
"""The authors' own choice: one adjective, or two."""

PEOPLE: Mapping[str, str] = {
    label: f"person / people in the video experiences {label.replace('_', ' ').title()} emotion" for label in LABELS
}
"""The authors' second set: a sentence with the name of the emotion."""

FACES: Mapping[str, str] = {
    "neutral": "a face at rest: smooth forehead, closed lips, calm eyes, no emotion",
    "anger": "an angry face: brows pulled down and together, a hard stare, lips pressed tight",
    "disgust": "a disgusted face: nose wrinkled, upper lip pulled up, chin raised",
    "fear": "a frightened face: brows raised and drawn together, eyes torn open, mouth stretched wide",
    "happiness": "a happy face: cheeks lifted, corners of the mouth pulled up into a smile, lips parted",
    "sadness": "a sad face: inner ends of the brows raised, eyes lowered, corners of the mouth pulled down",
    "surprise": "a surprised face: brows high, eyes round, jaw dropped",
    "other": "a face with an expression that none of the usual names of emotions fits",
    "fearfully_surprised": "a face of surprise and fear at once: brows high and drawn together, eyes torn open, open mouth stretched to the sides",
    "happily_surprised": "a face of surprise and joy at once: brows high, jaw dropped, and a smile",
    "sadly_surprised": "a face of surprise and grief at once: inner ends of the brows raised and drawn together, jaw dropped",
    "disgustedly_surprised": "a face of surprise and disgust at once: brows high, eyes wide, upper lip pulled up",
    "angrily_surprised": "a face of surprise and anger at once: brows pulled down, hard eyes, jaw dropped",
    "sadly_fearful": "a face of grief and fear at once: inner ends of the brows raised and drawn together, mouth stretched to the sides",
    "sadly_angry": "a face of grief and anger at once: brows pulled down, corners of the mouth pulled down",
}
"""In place of the authors' third set, long descriptions of faces: our own, after the action units in table 1 of Du, Tao and Martinez (PNAS 2014)."""

SETS: Mapping[Set, Mapping[str, str]] = {"words": WORDS, "people": PEOPLE, "faces": FACES}


def texts(prompts: Set | Mapping[str, str | tuple[str, ...]], templates: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """The texts of each of :data:`LABELS`, in their order.

    Args:
        prompts: a set, or texts by label; labels that are not named keep their word.
        templates: sentences with ``{}`` where a text goes.

    Raises:
        ConfigError: for an unknown label, a label without text, or a template without ``{}``.

    >>> texts({"fear": ("afraid", "in panic")}, ("a {} person",))[BASIC8.index("fear")]
    ('a afraid person', 'a in panic person')
    """
    if not templates or any("{}" not in template for template in templates):
        raise ConfigError(f"templates must be at least one sentence, each with {{}} where the text goes; found {list(templates)}")
    if isinstance(prompts, str):
        chosen: dict[str, tuple[str, ...]] = {label: (text,) for label, text in SETS[prompts].items()}
    else:
        chosen = {label: (text,) for label, text in WORDS.items()}
        for label, given in prompts.items():
            if label not in chosen:
                raise ConfigError(f"prompts: {label!r} is none of the labels. {did_you_mean(str(label), LABELS)}")
            chosen[label] = (given,) if isinstance(given, str) else tuple(given)
            if not chosen[label] or not all(text.strip() for text in chosen[label]):
                raise ConfigError(f"prompts: {label} needs at least one text, and none that is empty; found {given!r}")
    return tuple(tuple(template.replace("{}", text) for text in chosen[label] for template in templates) for label in LABELS)
