"""What a plugin that says how a file of weights is made is made of: the rows to learn from, the network, what it is to become. B is a batch, C classes.

``affectkit train`` owns the loop, the devices, the schedule, the state of an unfinished training, the temperature, the metrics and the
card. A training owns its data, its network and, where the usual ones do not do, its loss.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from affectkit.components import Component
from affectkit.errors import PluginError
from affectkit.labels import LabelSet

if TYPE_CHECKING:
    import torch

PARTS = ("train", "validation", "calibration")


@dataclass(frozen=True)
class Turn:
    """Which step of a training a batch is for. All that is random in a batch comes from here, so that a training that was stopped goes on as if it had not been.

    Attributes:
        seed: of the recipe.
        step: number of the step, from 0, over all epochs.
        done: share of the training that is behind, in [0, 1).
    """

    seed: int
    step: int
    done: float

    def numpy(self) -> np.random.Generator:
        """Random numbers of this step."""
        return np.random.default_rng([self.seed, self.step])

    def torch(self) -> torch.Generator:
        """Random numbers of this step, on the processor."""
        import torch

        return torch.Generator().manual_seed(int(np.random.SeedSequence([self.seed, self.step]).generate_state(1)[0]))


Batch = Callable[[np.ndarray, Turn | None], Mapping[str, Any]]


@dataclass(frozen=True)
class Pace:
    """How the rows of one kind come to a network that learns from several kinds; each step has rows of one kind, and the kinds take turns at random.

    Attributes:
        batch: rows of a step, as a multiple of the recipe's ``batch_size``.
        share: steps of an epoch, as a multiple of those in which each row comes once.
        draw: as ``balance.draw`` of the recipe, which holds where this is ``None``.
        foreign: whether their ``truth`` counts in another label set than the training's; then the weights of classes are not of them.
    """

    batch: float = 1.0
    share: float = 1.0
    draw: Literal["shuffled", "even"] | None = None
    foreign: bool = False

    def __post_init__(self) -> None:
        if not self.batch > 0 or not self.share > 0:
            raise PluginError(f"batch and share of a Pace must be greater than 0, found {self.batch} and {self.share}")


@dataclass(frozen=True)
class Part:
    """N rows that a network learns from or is measured on.

    Attributes:
        truth: (N,) int64 columns of the label set where it is categorical, otherwise (N, C) float values in its range.
        groups: (N,) who or what a row is of: speaker, subject, film. No group may be in two parts, and intervals are over groups.
        batch: tensors of some rows, each with B rows in its first dimension. Called with (B,) int64 rows and the :class:`Turn`, or ``None``
            where the network is measured and nothing may be random. It may give ``"truth"`` itself, for instance (B, C) float where labels are mixed.
        lengths: (N,) sizes of the rows; rows of like size come together, for less padding. ``None`` where all are alike.
        chances: (N,) how often a row is drawn, in any unit; ``None`` for once per epoch each.
        about: what this part is, for the card.
        views: rows that are measured by themselves as well, (N,) bool by name.
        kinds: (N,) names of kinds of rows that do not fit into one batch, such as videos and pictures, in a training part; ``None`` where all are alike.
        paces: how each kind comes.
    """

    truth: np.ndarray
    groups: np.ndarray
    batch: Batch
    lengths: np.ndarray | None = None
    chances: np.ndarray | None = None
    about: str = ""
    views: Mapping[str, np.ndarray] = field(default_factory=dict)
    kinds: np.ndarray | None = None
    paces: Mapping[str, Pace] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = len(self.truth)
        if rows == 0:
            raise PluginError("a Part has no rows; every part of a training needs some")
        along = {"groups": self.groups, "lengths": self.lengths, "chances": self.chances, "kinds": self.kinds, **self.views}
        for name, values in along.items():
            if values is not None and len(values) != rows:
                raise PluginError(f"a Part has {rows} rows in truth and {len(values)} in {name}")
        unknown = set() if self.kinds is None else set(np.unique(self.kinds).tolist()) - set(self.paces)
        if unknown:
            raise PluginError(f"a Part has rows of kind {', '.join(sorted(unknown))} and no Pace of them")

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, rows: np.ndarray) -> Part:
        """Some of the rows, (K,) int64, as a part of their own."""
        return Part(
            self.truth[rows],
            self.groups[rows],
            lambda some, turn: self.batch(rows[some], turn),
            None if self.lengths is None else self.lengths[rows],
            None if self.chances is None else self.chances[rows],
            self.about,
            {name: values[rows] for name, values in self.views.items()},
            None if self.kinds is None else self.kinds[rows],
            self.paces,
        )

    def own(self) -> np.ndarray:
        """Rows whose truth counts in the label set of the training, (K,) int64."""
        if self.kinds is None:
            return np.arange(len(self))
        return np.flatnonzero(~np.isin(self.kinds, [name for name, pace in self.paces.items() if pace.foreign]))


@dataclass(frozen=True)
class About:
    """What a model card says that no measurement can.

    Attributes:
        title: one line.
        what: what the network is and reads.
        data: what it learned from, with its source.
        licence: terms of the weights, an SPDX identifier first.
        limits: what it cannot do.
        commercial: whether the terms of data and weights allow commercial use; ``None`` where they do not say.
        more: what else belongs into the record, by name.
        apart: who is in which part, in a sentence, where neither of the usual ones is true (:func:`affectkit.model_cards.card`).
    """

    title: str
    what: str
    data: str
    licence: str
    limits: str
    commercial: bool | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    apart: str = ""

    def record(self, name: str, command: str) -> dict[str, Any]:
        """How the record of what was made begins, where it is no network: the name of its file, what this says, and how to make it again."""
        said = {key: getattr(self, key) for key in ("title", "what", "data", "licence", "limits")}
        return {"name": name, **said, "command": command}


@dataclass(frozen=True)
class Trained:
    """What a training came to.

    Attributes:
        network: with the weights that are kept, on the processor, in evaluation mode.
        epoch: the epoch that they are of, from 1.
        epochs: epochs that were made.
        history: the metrics of the validation part and the loss per epoch.
        device: where it was trained, for the card.
        main: whether this process is the one that writes.
    """

    network: torch.nn.Module
    epoch: int
    epochs: int
    history: tuple[Mapping[str, float], ...]
    device: str
    main: bool


@dataclass(frozen=True)
class Written:
    """What a training made that writes its files itself.

    Attributes:
        files: all of them, the record and the card last.
        record: all that was measured, as plain data.
        lines: what the command prints.
    """

    files: tuple[Path, ...]
    record: Mapping[str, Any]
    lines: tuple[str, ...] = ()


class Training(Component):
    """How one file of weights is made.

    Attributes:
        labels: the label set of the network's output; may be known only after :meth:`parts`.
        learns: whether the network has parameters to learn. Where it has none, only what :meth:`settings` fits is fitted, and there is no training part.
        calibrates: whether :meth:`settings` fits something. Where not, all of validation is measured and there is no calibration part.
        limit: rows of a part at most, in a quick try; ``None`` for all.
        device: where a frozen network reads whose answers are the rows, such as ``"cpu"`` or ``"cuda:0"``; known before :meth:`parts`. Batches are on the processor
            all the same.
    """

    labels: LabelSet
    learns: ClassVar[bool] = True
    calibrates: ClassVar[bool] = True
    requires: ClassVar[tuple[str, ...]] = ()
    limit: int | None = None
    device: str = "cpu"

    def limited(self, part: Part, seed: int = 0) -> Part:
        """The part, or as many of its rows, at random, as a quick try has; ask it where :meth:`figures` reads more than the part that it is given."""
        if self.limit is None:
            return part
        return part.take(np.sort(np.random.default_rng(seed).permutation(len(part))[: self.limit]))

    def make_at_once(
        self, data: Path | None, out: Path, name: str, *, seed: int, command: str, report: Callable[[str], None]
    ) -> Written | None:
        """Makes all files by itself, for what is not learned in steps from parts; ``None``, as here, leaves it to the steps.

        Args:
            data: as in :meth:`parts`; ``None`` where neither the recipe nor ``--data`` names any.
            out: folder of the files; it is there.
            name: of the files.
            seed: of everything that is random.
            command: what was called, for the card.
            report: gets lines of progress.

        Raises:
            AffectKitError: for data that do not fit.
        """
        return None

    @abstractmethod
    def parts(self, data: Path) -> Mapping[str, Part]:
        """The rows: ``"train"``, ``"validation"``, which chooses the epoch and is measured, and ``"calibration"``, where the temperature is
        fitted. Where there is no calibration part, half of the groups of validation become it. The part on which a benchmark is scored is none of them.

        Args:
            data: the folder, file or run that the recipe or ``--data`` names.

        Raises:
            UsageError: where something is missing there; says what belongs where.
        """

    @abstractmethod
    def network(self) -> torch.nn.Module:
        """The network with its first parameters; its ``state_dict`` is what is written."""

    @abstractmethod
    def about(self) -> About:
        """What the card says; called after :meth:`parts`."""

    @abstractmethod
    def predict(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Logits (B, C), or values (B, C) of a continuous label set. Used in training and, in evaluation mode, to measure.

        Args:
            network: what :meth:`network` made.
            batch: what :attr:`Part.batch` gave, on the network's device, with ``"truth"``.
        """

    def loss(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        """The loss of a batch: cross-entropy (classes), its binary kind (units), or the mean squared error (quantities); NaN in units and quantities says nothing.

        Args:
            network: as in :meth:`predict`.
            batch: as in :meth:`predict`.
            weights: (C,) how much a class counts, as the recipe's ``balance`` says; ones where it says nothing.
        """
        from torch.nn import functional

        logits, truth = self.predict(network, batch).float(), batch["truth"]
        if self.labels.kind == "categorical":
            return functional.cross_entropy(logits, truth, weights)
        said = ~truth.isnan()
        target = truth.float().nan_to_num()
        if self.labels.kind == "multilabel":
            losses = functional.binary_cross_entropy_with_logits(logits, target, pos_weight=weights, reduction="none")
        else:
            losses = functional.mse_loss(logits, target, reduction="none")
        return (losses * said).sum() / said.sum().clamp_min(1)

    def parameters(self, network: torch.nn.Module, decay: float) -> list[dict[str, Any]]:
        """Groups of parameters for the optimiser: biases, norms and other vectors are not pulled to zero.

        A group may have a ``"scale"``: the learning rate of its parameters as a multiple of the schedule's.
        """
        learned = [value for value in network.parameters() if value.requires_grad]
        return [
            {"params": [value for value in learned if value.ndim > 1], "weight_decay": decay},
            {"params": [value for value in learned if value.ndim <= 1], "weight_decay": 0.0},
        ]

    def notes(self) -> Sequence[str]:
        """What a person should know of the data before much time goes into it, as sentences without a full stop; asked after :meth:`parts`, told, and on the card."""
        return ()

    def settings(self, logits: torch.Tensor, truth: np.ndarray) -> Mapping[str, Any]:
        """What travels in the header of the weights beside the labels, fitted on the calibration part: the temperature.

        Args:
            logits: (N, C) float32 of the weights as they are written.
            truth: as in :class:`Part`.
        """
        from affectkit.fitting import fit_temperature

        return {} if self.labels.kind == "continuous" else {"temperature": fit_temperature(logits, truth, self.labels.kind)}

    def probabilities(self, logits: torch.Tensor, settings: Mapping[str, Any]) -> torch.Tensor:
        """Values (N, C) of the label set, as the component that uses the weights makes them of logits (N, C)."""
        if self.labels.kind == "continuous":
            return logits
        logits = logits / float(settings.get("temperature", 1.0))
        return logits.softmax(1) if self.labels.kind == "categorical" else logits.sigmoid()

    def figures(self, network: torch.nn.Module, part: Part, logits: torch.Tensor, settings: Mapping[str, Any]) -> Mapping[str, float]:
        """Further figures of the validation part, by name; the usual metrics are there without it.

        Args:
            network: with the weights as they are written, in evaluation mode on the processor.
            part: the validation part.
            logits: (N, C) of its rows.
            settings: what :meth:`settings` found.
        """
        return {}

    def write(self, path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, str]) -> None:
        """Writes the state of the trained network; by default as safetensors with ``header`` as metadata.

        Args:
            path: the file.
            tensors: the ``state_dict`` in the precision in which it is kept.
            header: ``"name"``, ``"licence"``, perhaps ``"commercial"`` and, as JSON, ``"settings"``: labels and what :meth:`settings` found.
        """
        from affectkit.weight_files import save_tensors

        save_tensors(path, tensors, header)
