"""What a plugin is made of: the classes it derives from, and what they take and give.

A component class imports no torch when its module is imported; it imports its ``nn.Module`` in ``load``. B is batch, T
frames, N rows, M sources, C classes, D embedding size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from affectkit.errors import CheckpointError, PluginError, did_you_mean
from affectkit.evidence import Evidence
from affectkit.labels import BASIC8, COMPOUND7, LabelSet
from affectkit.needs import Checkpoint, Needs

if TYPE_CHECKING:
    import torch

    from affectkit.media import Clip, Media

Scope = Literal["frame", "face", "window", "media"]
Unit = Literal["frame", "window", "media"]


@dataclass(frozen=True)
class Output:
    """What one batch of a modality, a fusion or a head says.

    Attributes:
        values: (B, C) float32 per label set; a row or column that says nothing is NaN (fusions and heads only).
        embeddings: (B, D) float32 by name.
        quality: (B,) float32 by name, for instance the side of the face in pixels or the number of words.
        notes: one mapping per row with what a person may want to see, or ``None``.
    """

    values: Mapping[LabelSet, torch.Tensor]
    embeddings: Mapping[str, torch.Tensor] = field(default_factory=dict)
    quality: Mapping[str, torch.Tensor] = field(default_factory=dict)
    notes: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Sources:
    """The sources of one label set, side by side: what fusions and heads see.

    Attributes:
        labels: the label set that the values are projected onto.
        names: (M) component ids, for instance ``("mini/audio", "mini/text")``.
        values: (N, M, C) float32; NaN where not valid.
        valid: (N, M, C) bool: the source has evidence in this row and can say this class.
        embeddings: (N, D) float32 by ``"source:name"``, for instance ``"mini/face_static:face"``; NaN rows where there is no evidence.
            A head finds those of the fusion among them.
        quality: (N,) float32 by ``"source:name"``.
        others: sources of the other label sets in the run, by label set.
        tracks: (N,) int64 subject of each row, -1 for none; ``None`` where rows are of no medium.
        times: (N,) float64 seconds, the middle of each row's window.
    """

    labels: LabelSet
    names: tuple[str, ...]
    values: torch.Tensor
    valid: torch.Tensor
    embeddings: Mapping[str, torch.Tensor] = field(default_factory=dict)
    quality: Mapping[str, torch.Tensor] = field(default_factory=dict)
    others: Mapping[LabelSet, Sources] = field(default_factory=dict)
    tracks: np.ndarray | None = None
    times: np.ndarray | None = None


@dataclass(frozen=True)
class NoOptions:
    """Options of a component that has none."""


class Component(ABC):
    """Common part of everything that a plugin contributes.

    Attributes:
        name: name within the plugin; the id is ``plugin/name``.
        Options: frozen dataclass of its options; the recipe's unknown keys are errors.
        checkpoints: its weights by tag; where ``Options`` has a field ``checkpoint``, that field chooses the tag (or is a path). Of
            a component that uses several at once, a field of ``Options`` with the name of a tag takes the path of another file.
        requires: packages that it imports when it loads and that the plugin's distribution does not depend on.
        id: ``plugin/name`` once it is part of a run, until then its name; for messages.
    """

    name: ClassVar[str] = ""
    Options: ClassVar[type] = NoOptions
    checkpoints: ClassVar[Mapping[str, Checkpoint]] = {}
    requires: ClassVar[tuple[str, ...]] = ()

    def __init__(self, options: Any = None) -> None:
        self.options: Any = self.Options() if options is None else options
        self.id = self.name or type(self).__name__

    def used_checkpoints(self) -> Mapping[str, Checkpoint]:
        """The weights that this component will load with its options, by tag.

        Raises:
            CheckpointError: where the option ``checkpoint`` is neither a tag nor a file.
        """
        chosen = getattr(self.options, "checkpoint", None)
        if chosen is None:
            paths = {tag: getattr(self.options, tag, None) for tag in self.checkpoints}
            given = {tag: _given(path, self.checkpoints[tag].files) for tag, path in paths.items() if isinstance(path, str)}
            return {**self.checkpoints, **given}
        if chosen in self.checkpoints:
            return {chosen: self.checkpoints[chosen]}
        if not any(mark in str(chosen) for mark in "/\\:") and not Path(chosen).exists():
            known = did_you_mean(str(chosen), self.checkpoints) if self.checkpoints else "Give the path of a file."
            raise CheckpointError(f"{self.id} has no checkpoint {str(chosen)!r}, and there is no file of that name. {known}")
        return {"given": _given(chosen)}

    def weights(self) -> Path:
        """The local file of the one checkpoint that this component uses.

        Raises:
            CheckpointError: where it is absent or damaged; the message names the file and the command that gets it.
            PluginError: where the component uses several checkpoints and must say which.
        """
        from affectkit import checkpoints

        used = self.used_checkpoints()
        if len(used) != 1:
            raise PluginError(f"{self.id} uses {len(used)} checkpoints; resolve them one by one with affectkit.checkpoints.resolve")
        option = "checkpoint" if hasattr(self.options, "checkpoint") else None
        tag, checkpoint = next(iter(used.items()))
        return checkpoints.resolve(checkpoint, owner=self.id, tag=tag if len(self.checkpoints) > 1 else "", option=option)

    def check_given(self) -> None:
        """Refuses options that name too little, such as no file where weights are everybody's own. Asked before weights are looked for, so that a run tells at once all that it lacks.

        Raises:
            ConfigError: saying what to name, and how it is made.
        """

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Loads weights onto ``device``; called once, before the first batch. ``dtype`` is the precision of forward passes."""

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """Writes a small file (or folder) of random numbers that :meth:`load` takes for the checkpoint ``tag``: ``affectkit weights tiny``.

        Write it in the format of the real one, the same one each time, and put :data:`affectkit.weight_files.RANDOM` into it as text
        that a search of its first bytes finds, so that a run can tell: :func:`affectkit.weight_files.save_tensors` does with
        ``metadata={"licence": RANDOM}``.

        Args:
            tag: which of :attr:`checkpoints`; ``"given"`` of a component that has none of its own.
            folder: where to write; it is there and belongs to this component alone.
            sources: ids of the modalities that a fusion is for, in order.

        Returns:
            What was written.

        Raises:
            CheckpointError: where this component has no random weights; the message says what to do instead.
        """
        raise CheckpointError(
            f"{self.id} has no random weights to try it with: its plugin does not write any. "
            f"Get the real ones with 'affectkit weights fetch {self.id}', or choose another component in the recipe"
        )


def _given(uri: object, files: tuple[str, ...] = ()) -> Checkpoint:
    """What a user names instead of a checkpoint. Another repository has the same files; a folder's files are its owner's business."""
    return Checkpoint(str(uri), licence="as given by the user", files=files if str(uri).startswith("hf:") else ())


class Provider(Component):
    """Makes one kind of input: boxes of faces, words, descriptions, landmarks.

    Attributes:
        kind: the kind of evidence, as in :class:`Input`.
        scope: what one call sees. ``"frame"``: clips of one whole frame each (``frames`` (1, H, W, 3)). ``"face"``: the crops
            of one subject in one window. ``"window"``: one window. ``"media"``: a whole medium once, or, where it needs
            audio, consecutive pieces of its sound of bounded length.
        needs: what its clips must carry.
        together: windows that one call sees where the recipe does not say, of a provider of windows or of faces. Nothing is asked about a window before
            those of its group are read, so one that gains nothing from several says 1.
    """

    kind: ClassVar[str]
    scope: ClassVar[Scope]
    needs: Needs = Needs()
    together: ClassVar[int] = 4

    @abstractmethod
    def provide(self, clips: Sequence[Clip]) -> Sequence[Evidence]:
        """One :class:`Evidence` per clip, in order. Words of a media-scoped provider carry times of the medium."""

    def files(self, media: Media) -> Sequence[Path]:
        """Files other than the medium itself that its evidence comes from, there or not; where one changes, a resumed run analyses the medium again."""
        return ()


class Modality(Component):
    """Looks at clips and gives values of its label sets.

    Attributes:
        labels: the label set of its output, or several.
        needs: what its clips must carry.
        unit: ``"window"``: one prediction per window. ``"frame"``: one per picture, averaged over each window. ``"media"``:
            one per medium, that holds for every window.
        context: seconds that it wants to look at around a window's centre, ``None`` for the window itself.
        asked: whether it matches what it sees with texts, which its option ``labels`` takes; ``affectkit run --labels`` asks it then. A mapping of labels to
            texts makes these labels its classes (:func:`affectkit.labels.of_texts`).
    """

    labels: LabelSet | tuple[LabelSet, ...]
    needs: Needs = Needs()
    unit: ClassVar[Unit] = "window"
    context: ClassVar[float | None] = None
    asked: bool = False

    @property
    def label_sets(self) -> tuple[LabelSet, ...]:
        """The label sets of its output, always as a tuple."""
        return (self.labels,) if isinstance(self.labels, LabelSet) else tuple(self.labels)

    @abstractmethod
    def preprocess(self, clip: Clip) -> Mapping[str, torch.Tensor] | None:
        """One clip as tensors without a batch dimension, or ``None`` where there is no evidence. Runs in CPU threads."""

    @abstractmethod
    def predict(self, batch: Mapping[str, torch.Tensor]) -> Output:
        """A batch of preprocessed clips as :class:`Output`.

        Tensors carry a leading dimension B on the component's device. Where clips differ in their first dimension, the
        shorter ones are padded with zeros and ``<key>_mask`` (B, T) bool says what is real; the mask is there for every
        tensor of at least one dimension. Runs in inference mode; must not depend on the other rows of the batch, nor on what
        lies where the mask is false.
        """


class Fusion(Component):
    """Makes one opinion out of several sources.

    Attributes:
        labels: the label set that the sources are projected onto.
        trained_for: the sources it was fitted for, in order, known after ``load``; ``None`` where it takes any.
    """

    labels: LabelSet = BASIC8
    trained_for: tuple[str, ...] | None = None

    @abstractmethod
    def fuse(self, sources: Sources) -> Output:
        """Fused values (N, C) of :attr:`labels`; NaN where no source is valid."""


class Head(Component):
    """Turns fused basic emotions, or the sources themselves, into compound expressions.

    Attributes:
        labels: the label set of its output.
        reads: the label set of the fused values it wants; ``None`` where it reads none.
        speaks: the label set that at least one source of the run must say itself; ``None`` where it does not matter.
        embedding_from: the embedding it reads, ``"source:name"``, known after ``load``; ``None`` where it reads none.
    """

    labels: LabelSet = COMPOUND7
    reads: LabelSet | None = BASIC8
    speaks: LabelSet | None = None
    embedding_from: str | None = None

    @abstractmethod
    def convert(self, fused: Output, sources: Sources) -> Output:
        """Values (N, C) of :attr:`labels`; NaN where there is no evidence."""
