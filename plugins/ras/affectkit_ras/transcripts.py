"""What a speech recogniser makes up when it loses its place: the same phrase, or the same syllable, over and over."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from affectkit.api import Evidence, Word
from affectkit.builtin.whisper import MOST_REPEATS, without_loops

LONGEST_UNIT = 8  # characters of what is repeated within a word

# Reluctant, so that the shortest unit is found: "hahaha" is three of "ha", not one and a half of "haha".
_LOOP = re.compile(rf"(?P<unit>\w{{1,{LONGEST_UNIT}}}?)(?P=unit){{{MOST_REPEATS},}}")
_WORD = re.compile(r"\w*[^\W\d_]\w*")  # at least one letter


def count_words(text: str) -> int:
    """Words with at least one letter.

    >>> count_words("No, not 5 of us!")
    4
    """
    return len(_WORD.findall(text))


def shortened(word: str) -> str:
    """A word with loops inside of it cut: what is repeated more than three times in a row is kept three times. Numbers are left as they are.

    >>> shortened("hahahahahahaha!"), shortened("nooooooo"), shortened("1000000"), shortened("banana")
    ('hahaha!', 'nooo', '1000000', 'banana')
    """
    return _LOOP.sub(lambda found: found[0] if found["unit"].isdigit() else found["unit"] * MOST_REPEATS, word)


def cleaned(text: str) -> str:
    """Text without loops and without extra white space: a phrase said more than three times in a row is kept once.

    Phrases are found by :func:`affectkit.builtin.whisper.without_loops`, to which case and punctuation do not matter; loops within
    words, which have no spaces to tell a phrase by, by :func:`shortened`.

    >>> cleaned("I said  stop it. Stop it! stop it, stop it. Aaaaaaah!")
    'I said stop it. Aaaah!'
    >>> cleaned("so so so so so good, heheheheheheh")
    'so good, heheheh'
    """
    words = [shortened(word) for word in text.split()]
    return " ".join(words[place] for place in without_loops(words))


def without_stutter(evidence: Evidence) -> Evidence:
    """A transcript whose words have no loops inside of them; phrases were looked at where it was made.

    Args:
        evidence: of kind ``"transcript"``; one without words, or that is no evidence, stays as it is.
    """
    words: Sequence[Word] = evidence.data.get("words", ())
    new = tuple(replace(word, text=shortened(word.text)) for word in words)
    if not evidence.valid or new == tuple(words):
        return evidence
    return replace(evidence, data={**evidence.data, "words": new, "text": shortened(str(evidence.data.get("text", "")))})
