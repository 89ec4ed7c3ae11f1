"""``ras/scene`` and ``ras/text``: emotions of what a window looks like in words, and of what is said in it."""

from __future__ import annotations

from typing import ClassVar

from affectkit.api import Input, Needs
from affectkit_ras.text_models import TextModality
from affectkit_ras.transcripts import cleaned


class SceneEmotion(TextModality):
    """Emotions of a window's description (modality S of Team RAS, 9th ABAW): a classifier over what a vision-language model, a person or a CSV says of it.

    The authors trained DistilRoBERTa with eight classes on the descriptions of ``ras/describe`` (32B, first prompt), at most 192 tokens; that head is
    not published. The default is the public classifier of seven classes that they began with. English. Embedding ``scene``: the last
    hidden state of the first token (768), or the sentence embedding. Quality: ``words``.
    """

    name = "scene"
    kind: ClassVar[str] = "description"
    needs = Needs(inputs=(Input("description"),))
    unit = "window"


class TextEmotion(TextModality):
    """Emotions of the words of a window (modality T of Team RAS, 9th ABAW): loops of the speech recogniser are cut, and a classifier reads the rest.

    The authors trained one linear layer of eight classes over CLIP's text tower (``encoder: clip``); that head is not published. The default
    is the public classifier of seven classes. English. Embedding ``text``: with CLIP the mean of the last hidden states (512), with DistilRoBERTa
    that of the first token (768), or the sentence embedding. Quality: ``words``.
    """

    name = "text"
    kind: ClassVar[str] = "transcript"
    needs = Needs(inputs=(Input("transcript"),))
    unit = "window"

    def clean(self, text: str) -> str:
        """The words without loops."""
        return cleaned(text)
