"""mini/text and mini/scene: emotions of what is said and of what a scene looks like in words."""

from __future__ import annotations

import re
import zlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from affectkit.api import BASIC7, Clip, Input, LabelSet, Modality, Needs, Output
from affectkit_mini.records import checkpoint, load_network, write_random

if TYPE_CHECKING:
    from pathlib import Path

    import torch

MENTIONED7 = LabelSet("mentioned7", BASIC7.labels, kind="multilabel")
"""Emotions that a text mentions or shows, each with a probability of its own: GoEmotions in the Ekman grouping."""

_WORD = re.compile(r"\w*[^\W\d_]\w*")  # at least one letter
_TERM = re.compile(r"\b\w\w+\b")
_MARKUP = re.compile(r"</?[A-Za-z][^<>]{0,40}>|\{\\[^{}]*\}")  # tags of subtitle files


def clean(text: str) -> str:
    """Words without the tags of subtitle files and without extra white space."""
    return " ".join(_MARKUP.sub(" ", text).split())


def terms(text: str) -> list[int]:
    """Numbers that stand for the words of two letters and more, small or capital: their checksums, which are the same everywhere."""
    return [zlib.crc32(word.encode()) for word in _TERM.findall(text.lower())]


@dataclass(frozen=True)
class LanguageOptions:
    """Options of mini/text and mini/scene.

    Attributes:
        checkpoint: ``default``, or the path of a file that ``affectkit train`` wrote by the recipe of the component's name.
    """

    checkpoint: str = "default"


class _Language(Modality):
    """A head over the frozen sentence model; both components of this module share one copy of that model."""

    kind: ClassVar[str]
    Options = LanguageOptions

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        from affectkit_mini.sentences import load_sentence_model

        self._head = self._network()
        self._settings = load_network(self._head, self.weights())
        self._head.to(device)
        self._sentences = load_sentence_model(device)

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """The head with random numbers; the sentence model stays the real one."""
        even = {"temperature": 1.0, "exponent": 1.0, "thresholds": [0.5] * len(BASIC7)}
        return write_random(folder / f"{self.name}.safetensors", self._network, **even)

    @abstractmethod
    def _network(self) -> torch.nn.Module:
        """The head, without its weights."""

    def preprocess(self, clip: Clip) -> Mapping[str, torch.Tensor] | None:
        import torch

        from affectkit_mini.sentences import load_tokenizer

        evidence = clip.inputs.get(self.kind)
        if evidence is None or not evidence.valid:
            return None
        text = clean(str(evidence.data.get("text") or ""))
        words = len(_WORD.findall(text))
        if not words:
            return None
        return {"ids": torch.tensor(load_tokenizer().encode(text).ids), "words": torch.tensor(float(words))}

    def _read(self, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, 7) and embeddings (B, D), float32."""
        mask = batch["ids_mask"]
        states, embedding = self._sentences(batch["ids"], mask)
        further = (batch["terms"].masked_fill(~batch["terms_mask"], 0),) if "terms" in batch else ()  # 0 is no word
        logits, found = self._head(states, mask, embedding, *further)
        return logits.float(), found.float()


class TextEmotion(_Language):
    """Emotions of the words of a window: a head over all-MiniLM-L6-v2, trained on GoEmotions in the Ekman grouping.

    A text may show several emotions, so the network gives a sigmoid per label (label set ``mentioned7``). For fusion they become a
    distribution: each sigmoid to the power of an exponent that was fitted on the development part, over the sum of all
    seven, ``p_k = s_k^g / sum_j s_j^g``. English. Embedding ``text``. Quality: ``words``, their number.
    """

    name = "text"
    labels = (BASIC7, MENTIONED7)
    kind = "transcript"
    needs = Needs(inputs=(Input("transcript"),))
    unit = "window"
    checkpoints: ClassVar = {"default": checkpoint("text")}

    def _network(self) -> torch.nn.Module:
        from affectkit_mini.networks import SentenceHead

        return SentenceHead()

    def predict(self, batch: Mapping[str, torch.Tensor]) -> Output:
        from torch.nn.functional import logsigmoid

        logits, embedding = self._read(batch)
        exponent, thresholds = float(self._settings["exponent"]), self._settings["thresholds"]
        mentioned = logits.sigmoid()
        distribution = (logsigmoid(logits) * exponent).softmax(1)
        notes = [
            {"mentioned": [label for label, value, least in zip(BASIC7.labels, row, thresholds, strict=True) if value >= least]}
            for row in mentioned.tolist()
        ]
        return Output(
            values={BASIC7: distribution, MENTIONED7: mentioned},
            embeddings={"text": embedding},
            quality={"words": batch["words"]},
            notes=notes,
        )


class SceneEmotion(_Language):
    """Emotions of a window's description: a linear layer over all-MiniLM-L6-v2 and the words, trained on descriptions of film clips (AFEW).

    It reads what a vision-language model, a person or a CSV says about the picture. English. Embedding ``scene``: that of the sentence model.
    Quality: ``words``.
    """

    name = "scene"
    labels = BASIC7
    kind = "description"
    needs = Needs(inputs=(Input("description"),))
    unit = "window"
    checkpoints: ClassVar = {"default": checkpoint("scene")}

    def _network(self) -> torch.nn.Module:
        from affectkit_mini.networks import DescriptionHead

        return DescriptionHead()

    def preprocess(self, clip: Clip) -> Mapping[str, torch.Tensor] | None:
        import torch

        row = super().preprocess(clip)
        if row is None:
            return None
        found = terms(clean(str(clip.inputs[self.kind].data["text"])))
        return {**row, "terms": torch.tensor(found or [0])}

    def predict(self, batch: Mapping[str, torch.Tensor]) -> Output:
        logits, embedding = self._read(batch)
        return Output(
            values={BASIC7: (logits / float(self._settings["temperature"])).softmax(1)},
            embeddings={"scene": embedding},
            quality={"words": batch["words"]},
        )
