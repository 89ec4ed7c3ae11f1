"""The trainings of ras/scene and ras/text: a head over a text encoder, whose last layers may learn along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.api import BASIC7, BASIC8, About, Checkpoint, ConfigError, LabelSet, Part, Training, Turn, UsageError
from affectkit_ras.text_models import CHECKPOINTS, READY
from affectkit_ras.trainings.texts import Texts, read
from affectkit_ras.transcripts import cleaned

if TYPE_CHECKING:
    import torch

    from affectkit_ras.text_network import Encoder

TOGETHER = 16  # texts that a frozen encoder reads at once


@dataclass(frozen=True)
class HeadOptions:
    """Options of the trainings of heads over text encoders.

    Attributes:
        encoder: ``distilroberta``, ``clip`` or ``sentence``.
        distilroberta: folder of another sequence classifier of transformers.
        clip: folder of another CLIP of transformers.
        sentence: folder of another model of sentence-transformers.
        max_length: tokens of a text at most.
        hidden: width of a layer between feature and classes, 0 for none.
        dropout: share of the numbers before the last layer that are left out.
        fine_tune: layers of the encoder, from the last, that learn along; 0 leaves it as it is, and then each text is read by it once.
        files: which tables of the data are read, by their path in the folder: ``"*32B*_1.csv"``.
        held: share of the videos that are measured on where the data have no table for that.
        soft: whether texts with several labels are learned with the share of each, rather than with the largest alone, as the authors did.
    """

    encoder: str = READY
    distilroberta: str | None = None
    clip: str | None = None
    sentence: str | None = None
    max_length: int = 192
    hidden: int = 0
    dropout: float = 0.1
    fine_tune: int = 0
    files: str = "*"
    held: float = 0.2
    soft: bool = False

    def __post_init__(self) -> None:
        if self.encoder not in CHECKPOINTS:
            raise ConfigError(f"encoder must be one of {', '.join(CHECKPOINTS)}, found {self.encoder!r}")
        if self.fine_tune < 0 or self.hidden < 0 or self.max_length < 4:
            raise ConfigError(
                f"fine_tune and hidden must not be negative and max_length at least 4, found {self.fine_tune}, {self.hidden}, {self.max_length}"
            )
        if not 0 <= self.dropout < 1 or not 0 < self.held < 1:
            raise ConfigError(f"dropout must be in [0, 1) and held between 0 and 1, found {self.dropout} and {self.held}")


class _HeadTraining(Training):
    """A head over a text encoder. Eight classes where a text is labelled ``other``, seven otherwise."""

    Options = HeadOptions
    requires = ("transformers",)
    labels: LabelSet = BASIC7
    owner: str  # id of the component that the head is for
    reads: str  # what a text is, for the card
    _encoder: Encoder | None = None

    @property
    def encoder(self) -> Encoder:
        """What reads the texts.

        Raises:
            UsageError: before the data were read, which say how many classes there are.
        """
        if self._encoder is None:
            raise UsageError(f"the training of {self.owner} loads its encoder with its data; call parts() first")
        return self._encoder

    def parts(self, data: Path) -> Mapping[str, Part]:
        """Texts of tables; those to measure on are other videos."""
        tables = read(data, self.options.files, self.options.held, 0)
        other = BASIC8.index("other")
        says = any((table.shares[:, other] > 0).any() if self.options.soft else (table.truth == other).any() for table in tables.values())
        self.labels = BASIC8 if says else BASIC7
        self._encoder = self._load()
        return {name: self._part(name, replace(table, texts=tuple(map(self.clean, table.texts)))) for name, table in tables.items()}

    def network(self) -> torch.nn.Module:
        from affectkit_ras.trainings.text_tuning import Reader

        return Reader(self.encoder, len(self.labels), self.options.hidden, self.options.dropout, self.options.fine_tune)

    def predict(self, network: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        found: torch.Tensor = network(batch)
        return found

    def settings(self, logits: torch.Tensor, truth: np.ndarray) -> Mapping[str, Any]:
        """The temperature, and what the component must know of the encoder."""
        about = {"encoder": self.options.encoder, "fingerprint": self._fingerprint, "width": self.encoder.width}
        return {**super().settings(logits, truth), **about, "hidden": self.options.hidden, "max_length": self.encoder.limit}

    def write(self, path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, str]) -> None:
        """The head, and of the encoder only what has learned."""
        learned = {f"encoder.{name}" for name, value in self.encoder.named_parameters() if value.requires_grad}
        super().write(path, {name: value for name, value in tensors.items() if name.startswith("head.") or name in learned}, header)

    def about(self) -> About:
        tag, tuned = self.options.encoder, self.options.fine_tune
        layers = f"the last {tuned} layers of which learned along" if tuned else "which stayed as it is"
        encoder = CHECKPOINTS[tag]
        return About(
            title=f"{self.owner}: a head over {tag}",
            what=f"A head over the text encoder {tag} ({encoder.source}), {layers}; read together with that encoder.",
            data=f"{self.reads} with labels, as --data named them; the tables are listed under the parts",
            licence="as the data and the encoder allow",
            limits="It knows texts like those that it learned from. Labels of a text are those of its video, about which people disagree.",
            more={"encoder_licence": encoder.licence},
        )

    def clean(self, text: str) -> str:
        """A text as the component reads it."""
        return text

    def _load(self) -> Encoder:
        """The encoder, with nothing learning yet."""
        from affectkit import checkpoints
        from affectkit.fingerprints import fingerprint
        from affectkit_ras.text_network import ENCODERS

        tag = self.options.encoder
        given = getattr(self.options, tag)
        known = CHECKPOINTS[tag] if given is None else Checkpoint(given, licence="as given by the user")
        encoder = ENCODERS[tag](
            checkpoints.resolve(known, owner=self.owner, tag=tag, option=f"options.{tag}"), self.options.max_length, self.id
        )
        self._fingerprint = fingerprint(encoder)
        if (count := len(encoder.layers())) < self.options.fine_tune:
            raise UsageError(f"options.fine_tune: {tag} has {count} layers, found {self.options.fine_tune}")
        return encoder

    def _part(self, name: str, table: Texts) -> Part:
        import torch

        from affectkit_ras.trainings.text_tuning import features

        ids = [torch.tensor(self.encoder.tokens.encode(text).ids) for text in table.texts]
        views = {view: table.views == view for view in np.unique(table.views).tolist()}
        about = f"{self.reads} in {', '.join(sorted(views))}; groups are videos"
        # The columns of the seven emotions are the first of the eight.
        part = partial(Part, table.truth, table.groups, about=about, views=views if name != "train" and len(views) > 1 else {})
        shares = table.shares[:, : len(self.labels)]
        tokens = _Tokens(ids)
        read_once = None if self.options.fine_tune else features(self.encoder, ids, TOGETHER, torch.device(self.device))

        def batch(rows: np.ndarray, turn: Turn | None) -> Mapping[str, Any]:
            found = tokens(rows) if read_once is None else {"feature": read_once[torch.from_numpy(rows)]}
            return {**found, "truth": shares[rows]} if self.options.soft and turn is not None else found

        return part(batch, lengths=np.array([len(row) for row in ids]) if self.options.fine_tune else None)


class _Tokens:
    """Tokens of texts, padded with zeros in a batch."""

    def __init__(self, ids: list[torch.Tensor]) -> None:
        self._ids = ids

    def __call__(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        import torch

        some = [self._ids[row] for row in rows.tolist()]
        ids = torch.nn.utils.rnn.pad_sequence(some, batch_first=True)
        return {"ids": ids, "mask": torch.arange(ids.shape[1]) < torch.tensor([len(row) for row in some])[:, None]}


class SceneTraining(_HeadTraining):
    """The head of ras/scene, of descriptions with labels."""

    name = "scene_training"
    owner = "ras/scene"
    reads = "descriptions"


class TextTraining(_HeadTraining):
    """The head of ras/text, of transcripts with labels, cleaned as the component cleans them."""

    name = "text_training"
    owner = "ras/text"
    reads = "transcripts"

    def clean(self, text: str) -> str:
        return cleaned(text)
