"""The trainings of ras/face_dynamic and ras/audio: heads over what frozen backbones say of the windows of labelled runs, in their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from affectkit.api import BASIC8, About, ConfigError, Modality, Part, Turn, UsageError
from affectkit.builtin.labelled import Labelled, labelled
from affectkit.builtin.trainings import Labels, RunTraining
from affectkit.labels import project
from affectkit_ras.audio import AudioEmotion, AudioOptions
from affectkit_ras.face_dynamic import FaceDynamic, FaceDynamicOptions
from affectkit_ras.trainings.shares import shares_of

if TYPE_CHECKING:
    import torch

KINDS = ("mamba", "former")


@dataclass(frozen=True, kw_only=True)
class SequenceOptions(Labels):
    """Options that the trainings of heads over sequences share.

    Attributes:
        backbone: folder of another backbone; ``None`` for the one from the hub.
        cache: folder in which is kept what it says; ``None`` for one beside the data.
    """

    backbone: str | None = None
    cache: Path | None = None


@dataclass(frozen=True, kw_only=True)
class FaceOptions(SequenceOptions):
    """Options of ras/face_dynamic_training.

    Attributes:
        network: ``mamba`` or ``former``.
        hidden: width of the network.
        layers: blocks or transformer layers.
        states: numbers of the state of a channel, of ``mamba``.
        kernel: width of the convolution of a block, of ``mamba``.
        heads: of the attention, of ``former``.
        positions: whether the order is told by positions, of ``former``.
        features: width of the hidden layer of the classifier.
        dropout: share of the numbers that are left out in training.
        least: crops that a window must hold.
    """

    network: str = "mamba"
    hidden: int = 128
    layers: int = 4
    states: int = 4
    kernel: int = 6
    heads: int = 4
    positions: bool = False
    features: int = 128
    dropout: float = 0.15
    least: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.network not in KINDS:
            raise ConfigError(f"network must be one of {', '.join(KINDS)}, found {self.network!r}")
        if min(self.hidden, self.layers, self.states, self.kernel, self.heads, self.features) < 1 or not 0 <= self.dropout < 1:
            raise ConfigError("hidden, layers, states, kernel, heads and features must be at least 1, and dropout in [0, 1)")
        if self.network == "former" and (self.hidden % self.heads or self.hidden % 2):
            raise ConfigError(f"hidden must be even and a multiple of heads, found {self.hidden} and {self.heads}")


@dataclass(frozen=True, kw_only=True)
class VoiceOptions(SequenceOptions):
    """Options of ras/audio_training.

    Attributes:
        speech: whether windows without speech are left out, by the provider of ``speech`` that the run's recipe chooses, or the only one that is installed.
        soft: share of the training in which targets are soft; the authors' first 8 of at most 100 epochs.
        dropout: share of the numbers that are left out in training.
    """

    speech: bool = True
    soft: float = 0.08
    dropout: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.soft <= 1 or not 0 <= self.dropout < 1:
            raise ConfigError(f"soft must be in [0, 1] and dropout in [0, 1), found {self.soft} and {self.dropout}")


class SequenceTraining(RunTraining):
    """A head over a frozen backbone. ``--data`` names runs: any of affectkit, of whatever modalities. They say which windows and subjects there are, and
    their media are read again by what the backbone needs; what it says is kept, so that the next training need not."""

    labels = BASIC8
    owner: ClassVar[str]

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._found: Labelled | None = None
        self._size = 0
        self._fingerprint = ""

    def component(self) -> Modality:
        """The component that the head is for, with what its preprocessing depends on."""
        raise NotImplementedError

    def parts(self, data: Path) -> Mapping[str, Part]:
        """Windows that have a label and something for the backbone to read."""
        import torch

        from affectkit import checkpoints
        from affectkit_ras.trainings.clips import read_frames

        self._found = found = labelled(data, self.options.labels, self.options.set)
        component: Any = self.component()
        component.id = self.owner
        device = torch.device(self.device)
        checkpoints.resolve(component.used_checkpoints()["backbone"], owner=self.owner, tag="backbone", option="options.backbone")
        component.load_backbone(device)
        self._size, self._fingerprint = component.frames.size, component.frames.fingerprint

        def read(batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
            frames, mask = component.embed({name: value.to(device) for name, value in batch.items()})
            return frames.cpu(), mask.cpu()

        cache = self.options.cache or data.resolve().with_name(f"{data.resolve().name}.features") / component.name
        about = f"{self._fingerprint} {replace(component.options, backbone=None)}"
        frames = read_frames(found.runs, component, read, about, cache, device)
        if not frames.windows:
            raise UsageError(f"in no window of {data} there is anything for {self.owner} to go by")
        truth, _ = project(found.truth(frames.windows), found.labels, BASIC8, "other")
        tensors = {"row": np.arange(len(frames.windows)), "soft": shares_of(truth)}
        rows = self.rows(Labelled(BASIC8, found.placed, found.runs), frames.windows, truth, tensors)
        return {name: frames.batch(part) for name, part in rows.items()}

    def settings(self, logits: torch.Tensor, truth: np.ndarray) -> Mapping[str, Any]:
        """The temperature, and over which backbone the head was made."""
        return {**super().settings(logits, truth), "backbone": self._fingerprint}

    def known(self) -> int:
        """Size of a frame.

        Raises:
            UsageError: before runs were read.
        """
        if not self._size:
            raise UsageError(f"{self.id} knows its backbone when it has read a run")
        return self._size

    def described(self, title: str, what: str) -> About:
        """The card, with the number of runs."""
        return self._about(title, what, 0 if self._found is None else len(self._found.runs))


class FaceDynamicTraining(SequenceTraining):
    """The head of ``ras/face_dynamic``: the published Mamba, or transformer, over CLIP's embeddings of crops; weighted cross-entropy."""

    name = "face_dynamic_training"
    Options = FaceOptions
    owner = "ras/face_dynamic"

    def component(self) -> FaceDynamic:
        return FaceDynamic(FaceDynamicOptions(backbone=self.options.backbone, least=self.options.least))

    def network(self) -> torch.nn.Module:
        from affectkit_ras.sequence_network import VideoFormer, VideoMamba

        mine = self.options
        sizes = {"inputs": self.known(), "hidden": mine.hidden, "layers": mine.layers, "features": mine.features, "dropout": mine.dropout}
        if mine.network == "former":
            return VideoFormer(**sizes, heads=mine.heads, positions=mine.positions)
        return VideoMamba(**sizes, states=mine.states, kernel=mine.kernel)

    def predict(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch

        found: torch.Tensor = network(torch.as_tensor(batch["frames"]), torch.as_tensor(batch["mask"]))[0]
        return found

    def settings(self, logits: torch.Tensor, truth: np.ndarray) -> Mapping[str, Any]:
        """Also what the shapes of a transformer do not tell."""
        return {**super().settings(logits, truth), **({"heads": self.options.heads} if self.options.network == "former" else {})}

    def about(self) -> About:
        kind = "VideoMamba" if self.options.network == "mamba" else "VideoFormer"
        return self.described(
            "The order of a face's expressions", f"{kind} over CLIP's embeddings of up to 20 crops, for `ras/face_dynamic`."
        )


class AudioTraining(SequenceTraining):
    """The head of ``ras/audio`` over frozen WavLM, with the published loss. The authors let the upper half of WavLM learn along from their third epoch on."""

    name = "audio_training"
    Options = VoiceOptions
    owner = "ras/audio"

    def component(self) -> AudioEmotion:
        return AudioEmotion(AudioOptions(backbone=self.options.backbone, speech=self.options.speech))

    def parts(self, data: Path) -> Mapping[str, Part]:
        """Batches also hold how much of the training is behind."""
        return {name: _timed(part) for name, part in super().parts(data).items()}

    def network(self) -> torch.nn.Module:
        from affectkit_ras.audio_network import UncertaintyHead

        return UncertaintyHead(self.known(), len(BASIC8), self.options.dropout)

    def predict(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch

        found: torch.Tensor = network(torch.as_tensor(batch["frames"]), torch.as_tensor(batch["mask"])).mu
        return found

    def loss(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        """The published one, soft at first and hard afterwards."""
        from affectkit_ras.trainings.losses import uncertain

        heard = network(batch["frames"], batch["mask"])
        soft = bool(batch["done"][0] < self.options.soft)
        return uncertain(heard.mu.float(), heard.logvar.float(), batch["soft"], weights, soft=soft)

    def about(self) -> About:
        return self.described("A voice and how uncertain it is", "WavLMEmotionClassifierV5 over frozen WavLM, for `ras/audio`.")


def _timed(part: Part) -> Part:
    """A part whose batches hold ``"done"`` (B,), the share of the training that is behind; 1 where it is measured."""

    def batch(some: np.ndarray, turn: Turn | None) -> Mapping[str, Any]:
        return {**part.batch(some, turn), "done": np.full(len(some), 1.0 if turn is None else turn.done, np.float32)}

    return replace(part, batch=batch)
