"""mini/label_match: how well a face matches any texts, compared with each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from affectkit.api import BASIC7, COMPOUND7, Clip, ConfigError, LabelSet, Modality, Needs, Output
from affectkit.labels import of_texts
from affectkit_mini.face import FACES, _found, _mean, _tensors
from affectkit_mini.records import checkpoint, load_network, write_random

if TYPE_CHECKING:
    from pathlib import Path

    import torch

PROMPTS = ("{}", "a person who is {}", "someone feeling {}")
CALLED = {
    BASIC7: ("neutral", "angry", "disgusted", "fearful", "happy", "sad", "surprised"),
    COMPOUND7: tuple(label.replace("_", " ") for label in COMPOUND7.labels),
}
"""The texts that stand for the labels of a known set."""


@dataclass(frozen=True)
class LabelMatchOptions:
    """Options of mini/label_match.

    Attributes:
        labels: the texts that are asked for, at least two; or the text of each class, by its label. ``None`` for the seven basic and, by themselves, the
            seven compound expressions.
        prompts: sentences that each text is put into, at ``{}``; their embeddings are averaged.
        towers: path of a file that ``affectkit train mini/label_match`` wrote, instead of the one in this package.
        backbone: path of the weights of mini/face_static that ``towers`` were trained over, instead of those in this package.
    """

    labels: tuple[str, ...] | Mapping[str, str] | None = None
    prompts: tuple[str, ...] = PROMPTS
    towers: str | None = None
    backbone: str | None = None

    def __post_init__(self) -> None:
        if self.labels is not None:
            of_texts(self.labels)
        wrong = [prompt for prompt in self.prompts if "{}" not in prompt]
        if wrong or not self.prompts:
            raise ConfigError(f"prompts must be at least one sentence, each with {{}} where the text goes; found {list(self.prompts)}")


class LabelMatch(Modality):
    """How well a face matches texts: the softmax over the scaled cosines of the face and each text in the space of the sentence model.

    Any text can be asked for (``labels``, or ``affectkit run --labels "bored,relieved"``). **It is a similarity, not validated
    recognition**: it spreads 1 over what was asked, whether or not any of it fits. Without ``labels`` it says the seven basic emotions and, by
    themselves, the seven compound expressions. Embedding ``face_as_text``: the point of the face (384). Quality: ``cosine``,
    the largest cosine with a text of the first label set, in [-1, 1].
    """

    name = "label_match"
    labels: LabelSet | tuple[LabelSet, ...] = (BASIC7, COMPOUND7)
    needs = Needs(inputs=(FACES,))
    unit = "frame"
    asked = True
    Options = LabelMatchOptions
    checkpoints: ClassVar = {"towers": checkpoint("label_match"), "backbone": checkpoint("face_static")}

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        texts = self.options.labels
        self._texts = CALLED if texts is None else {of_texts(texts): tuple(texts.values() if isinstance(texts, Mapping) else texts)}
        self.labels = tuple(self._texts)

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        import torch

        from affectkit.checkpoints import resolve
        from affectkit_mini.backbone import load_backbone
        from affectkit_mini.label_network import LabelTowers, embed

        self._towers = LabelTowers()
        used = {tag: resolve(found, owner=self.id, tag=tag, option=tag) for tag, found in self.used_checkpoints().items()}
        self._net = load_backbone(used["backbone"], device)
        self._temperature = float(load_network(self._towers, used["towers"])["temperature"])
        here = torch.device("cpu")  # the texts are few and read once
        with torch.inference_mode():
            points = {labels: self._towers.texts(embed(texts, self.options.prompts, here)) for labels, texts in self._texts.items()}
        self._points = {labels: found.to(device) for labels, found in points.items()}
        self._towers.to(device)

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """The network of faces, or the towers, with random numbers; the sentence model stays the real one."""
        from affectkit_mini.label_network import LabelTowers
        from affectkit_mini.networks import FaceNet

        return write_random(folder / f"{tag}.safetensors", FaceNet if tag == "backbone" else LabelTowers, temperature=1.0)

    def preprocess(self, clip: Clip) -> Mapping[str, torch.Tensor] | None:
        faces = _found(clip)
        return None if faces is None else _tensors(faces)

    def predict(self, batch: Mapping[str, torch.Tensor]) -> Output:
        mask = batch["faces_mask"]
        points = self._towers.faces(*self._net.read(batch["faces"], mask)).float()
        scale = self._towers.scale.exp() / self._temperature
        cosines = {labels: (points @ texts.T).float() for labels, texts in self._points.items()}
        largest = next(iter(cosines.values())).amax(2)
        return Output(
            values={labels: _mean((found * scale).softmax(2), mask) for labels, found in cosines.items()},
            embeddings={"face_as_text": _mean(points, mask)},
            quality={"cosine": _mean(largest, mask)},
        )
