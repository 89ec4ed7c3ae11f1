"""The training of finecliper/face_dynamic: adapters in a CLIP that stays as it is, on the clips of a data set."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.api import About, Checkpoint, ConfigError, LabelSet, Part, Turn, UsageError
from affectkit.clip_augmentation import MASK, Augmentation
from affectkit.clip_training import ClipOptions, ClipTraining
from affectkit.datasets.items import Fold, Item
from affectkit.labels import DFEW7, canonical
from affectkit_finecliper.face_dynamic import BACKBONE, OPENAI, Stream
from affectkit_finecliper.shape import Shape
from affectkit_finecliper.texts import TEXTS, Sides, described
from affectkit_finecliper.trainings.streams import Drawer
from affectkit_finecliper.tuned import settings
from affectkit_finecliper.views import FRAMES, SIDE

if TYPE_CHECKING:
    import torch

    from affectkit_finecliper.clip_files import Backbone

PAPER = 20.0  # millions of tunable parameters, as the survey 2408.15777 lists them for FineCLIPER


@dataclass(frozen=True)
class TuningOptions(ClipOptions):
    """Options of finecliper/face_dynamic_training, beside those of every training on clips.

    Attributes:
        backbone: folder or file of another CLIP; ``None`` for OpenAI's ViT-B/16.
        streams: what is learned from beside the frames.
        landmarker: where ``face_landmarker.task`` is, which the other streams are drawn with; ``default`` for the downloaded one.
        described: table of descriptions of the clips to learn from, as ``affectkit finecliper describe`` writes it; ``None`` for those that the data set has.
        texts: what labels look like and what they do not, by label; those that are not named have ours.
        ratio: width of an adapter as a share of its tower's.
        text_adapters: whether the text tower has adapters as well.
        negative: what the match with the negative text counts, in [0, 1].
        pairs: weight of the loss that sets each class against its negative text.
        descriptions: weight of the loss of clips against their descriptions; only those clips that have one enter it.
        recompute: whether layers are computed twice, which takes a third more time and much less memory.
    """

    frames: int = FRAMES
    size: int = SIDE
    augment: Augmentation = field(default_factory=lambda: Augmentation(crop=0.8, colour=0.2))
    backbone: str | None = None
    streams: tuple[Stream, ...] = ("frames",)
    landmarker: str = "default"
    described: Path | None = None
    texts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    ratio: float = 0.25
    text_adapters: bool = True
    negative: float = 1.0
    pairs: float = 0.5
    descriptions: float = 0.5
    recompute: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.shape()
        if self.pairs < 0 or self.descriptions < 0:
            raise ConfigError(f"pairs and descriptions must not be negative, found {self.pairs} and {self.descriptions}")
        if self.stills is not None:
            raise ConfigError("FineCLIPER learns from clips alone; leave stills out")
        if self.descriptions and (self.mix.mixup or self.mix.cutmix):
            raise ConfigError("a mixed clip has no description: set descriptions to 0, or mixup and cutmix")

    def shape(self) -> Shape:
        """Of what is tuned."""
        return Shape(self.frames, self.streams, self.ratio, self.text_adapters, self.negative)


class FaceDynamicTraining(ClipTraining):
    """What is tuned in the CLIP of ``finecliper/face_dynamic``: cross-entropy over classes in words, each class against its negative text, and clips against
    their descriptions, where they have any. Reconstructed; the CLIP does not change by a bit and is not written."""

    name = "face_dynamic_training"
    labels: LabelSet = DFEW7  # until the data are read
    Options = TuningOptions

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._clip: Backbone | None = None
        self._sides: tuple[Sides, ...] = ()
        self._counts = (0, 0)
        more = self.options.streams[1:]
        self._drawer = Drawer(more, self.options.landmarker, self.id) if more else None

    @cached_property
    def _tokenizer(self) -> Any:
        from open_clip import SimpleTokenizer

        return SimpleTokenizer(context_length=self._backbone().clip.context_length)

    def read(self, data: Path) -> Fold:
        """The clips, and what is said of those to learn from."""
        from affectkit_finecliper.descriptions import told

        fold = super().read(data)
        return fold if self.options.described is None else told(fold, self.options.described)

    def parts(self, data: Path) -> Mapping[str, Part]:
        """As of every training on clips; the CLIP is read as well."""
        from affectkit import checkpoints
        from affectkit_finecliper.clip_files import load

        found = super().parts(data)
        own = {canonical(label): Sides(*sides) for label, sides in self.options.texts.items()}
        self._sides = described(self.labels, {**TEXTS, **own})
        if self._drawer is not None:
            self._drawer.load()
        given = self.options.backbone
        wanted = OPENAI if given is None else Checkpoint(given, licence="as given by the user")
        path = checkpoints.resolve(wanted, owner="finecliper/face_dynamic", tag=BACKBONE)
        self._clip = load(path, self.id, openai=given is None)
        self._clip.check_length([text for one in self._sides for text in (one.positive, one.negative)], self.id)
        return found

    def network(self) -> torch.nn.Module:
        """The CLIP with adapters that say nothing yet.

        Raises:
            UsageError: before the data were read, which say what the classes are.
        """
        from affectkit_finecliper.model import FineCliper

        backbone = self._backbone()
        network = FineCliper(copy.deepcopy(backbone.clip), self.options.shape(), backbone.mean, backbone.std)
        network.recompute = self.options.recompute
        self._counts = (network.tuned(), network.frozen())
        return network

    def maps(self, item: Item, positions: np.ndarray) -> Mapping[str, np.ndarray | None]:
        """The other streams of the frames that are seen."""
        if self._drawer is None:
            return {}
        return self._drawer.maps(self.reader.open(item, self.options.read_size or self.options.size).take(positions))

    def extra(self, items: Sequence[Item], turn: Turn | None) -> Mapping[str, Any]:
        """In training, descriptions as tokens (B, K) int64, and which clips have one."""
        if turn is None or not self.options.descriptions:
            return {}
        return {"text": self._tokenizer([item.text or "" for item in items]), "told": np.array([bool(item.text) for item in items])}

    def predict(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self._matched(network, batch)[0]

    def loss(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        """The class, the pairs of texts, and the descriptions, each with its weight."""
        from torch.nn import functional

        from affectkit_finecliper.trainings.losses import contrast, two_sided

        logits, fits, misses, points = self._matched(network, batch)
        truth = batch["truth"]
        total = functional.cross_entropy(logits, truth, weights)
        if self.options.pairs:
            total = total + self.options.pairs * two_sided(fits, misses, truth, weights)
        if "told" in batch and bool((told := batch["told"]).any()):
            texts = network.texts(batch["text"][told])  # type: ignore[operator]
            columns = truth.argmax(1) if truth.is_floating_point() else truth
            total = total + self.options.descriptions * contrast(points[told], texts, columns[told], network.factor())  # type: ignore[operator]
        return total

    def parameters(self, network: torch.nn.Module, decay: float) -> list[dict[str, Any]]:
        """Positions in time are not pulled to zero, as AIM has it."""
        free: Any = network.temporal_embedding
        groups = super().parameters(network, decay)
        for group in groups:
            group["params"] = [value for value in group["params"] if value is not free]
        return [*groups, {"params": [free], "scale": 1.0, "weight_decay": 0.0}]

    def settings(self, logits: torch.Tensor, truth: np.ndarray) -> Mapping[str, Any]:
        """The temperature, and all that is needed to use what was tuned."""
        more = settings(self.labels, self.options.shape(), self._sides, self._backbone().fingerprint)
        return {**super().settings(logits, truth), **more}

    def figures(self, network: torch.nn.Module, part: Part, logits: torch.Tensor, settings: Mapping[str, Any]) -> Mapping[str, float]:
        """How many millions of parameters were tuned, beside how many the paper's network is said to tune."""
        tuned, frozen = (count / 1e6 for count in self._counts)
        return {"millions_tuned": tuned, "millions_tuned_in_the_paper": PAPER, "millions_frozen": frozen}

    def about(self) -> About:
        tuned, frozen = self._counts
        return About(
            "A CLIP tuned to faces in motion",
            f"FineCLIPER (arXiv 2407.02157), reconstructed, for `finecliper/face_dynamic`: adapters of {tuned:,} parameters in a CLIP of {frozen:,}, which "
            f"did not change and is not in this file. The paper's network tunes about 20 million; how these are divided is not published, and its "
            f"figures are of its own network. Streams: {', '.join(self.options.streams)}.",
            "; ".join([f"{self.fold.dataset}, fold {self.fold.name}", *(self.fold.notes[-1:] if self.options.described else ())]),
            "as the data set allows",
            "It says what a face shows, by the labels of its data set. Asked for other labels, it is a similarity and not validated.",
        )

    def _backbone(self) -> Backbone:
        if self._clip is None:
            raise UsageError(f"{self.id} knows its classes and its CLIP when it has read data")
        return self._clip

    def _matched(self, network: Any, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Logits (B, C), scaled cosines with positive and negative texts, and points (B, D)."""
        import torch

        texts = [one.positive for one in self._sides] + [one.negative for one in self._sides]
        frames = batch["frames"]
        there = [frames.new_ones(len(frames), dtype=torch.bool)] + [batch[name + MASK] for name in self.options.streams[1:]]
        points = network({name: batch[name] for name in self.options.streams}, torch.stack(there, 1))
        positive, negative = network.texts(self._tokenizer(texts).to(frames.device)).chunk(2)
        fits, misses = network.matched(points, positive, negative)
        return fits - self.options.negative * misses, fits, misses, points
