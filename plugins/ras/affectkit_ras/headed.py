"""What modalities have in common whose backbone is published and whose head is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from affectkit import headers
from affectkit.api import BASIC8, Checkpoint, CheckpointError, ConfigError, Modality
from affectkit.errors import asked_by

if TYPE_CHECKING:
    from pathlib import Path

    import torch

HEAD = "head"


@dataclass(frozen=True, kw_only=True)
class HeadHeader(headers.Header):
    """What the header of a head over a backbone may say; whatever else it says is text or of no use here.

    Attributes:
        names: of the sources of a feature fusion, in its order.
        inputs: which embeddings they are, by name.
        heads: of attention.
        width: numbers of a text that the head reads.
        hidden: width of its inner layer; 0 for none.
        max_length: tokens of a text at most.
    """

    names: tuple[str, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    heads: int = 4
    width: int = 1
    hidden: int = 0
    max_length: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("heads", 1), ("width", 1), ("hidden", 0), ("max_length", 4)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, found {getattr(self, name)}")


class Headed(Modality):
    """A backbone, the checkpoint ``backbone``, under a head that ``affectkit train ras/NAME`` makes or the option ``head`` gives."""

    labels = BASIC8
    unit = "window"

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._frames: Any = None

    def used_checkpoints(self) -> Mapping[str, Checkpoint]:
        """The backbone, and the head, which nobody publishes."""
        given = self.options.head
        source = f"affectkit train ras/{self.name} --data RUN --labels FILE --out ."
        made = Checkpoint(f"ras_{self.name}.safetensors", licence="that of the data it was made of", source=source)
        return {**super().used_checkpoints(), HEAD: Checkpoint(given, licence="as given by the user") if given else made}

    @property
    def frames(self) -> Any:
        """What reads with the backbone.

        Raises:
            CheckpointError: before it is loaded.
        """
        if self._frames is None:
            raise CheckpointError(f"{self.id} is asked before its weights are loaded")
        return self._frames

    def check_backbone(self, settings: Mapping[str, Any], found: str, path: Path) -> None:
        """Nothing, where the head in ``path`` was made over the backbone with this fingerprint, or does not say over which.

        Raises:
            CheckpointError: where it was made over another.
        """
        wanted = settings.get("backbone", found)
        if wanted != found:
            raise CheckpointError(f"{self.id}: {path} was made with another backbone ({wanted}, found {found}); give that one")


def resolved(component: Modality, tag: str) -> Path:
    """The local file or folder of one of a component's checkpoints, which the option of the same name may give.

    Raises:
        CheckpointError: where it is absent or damaged.
    """
    from affectkit import checkpoints

    return checkpoints.resolve(component.used_checkpoints()[tag], owner=component.id, tag=tag, option=tag)


def read_head(path: Path, owner: str) -> tuple[dict[str, torch.Tensor], Mapping[str, Any]]:
    """The tensors of a head over a backbone, and the settings in its header.

    Args:
        path: safetensors or ``.pt``; a file without a header, as those of the authors, has no settings.
        owner: id of the component, for messages.

    Raises:
        CheckpointError: where it cannot be read, or gives its labels in another order than ``basic8``.
    """
    from affectkit import weight_files

    with asked_by(owner):
        tensors = {name: tensor.float() for name, tensor in weight_files.load_tensors(path).items()}
    settings = headers.settings(path, HeadHeader, owner)
    labels = list(settings.get("labels", BASIC8.labels))
    if labels != list(BASIC8.labels):
        raise CheckpointError(f"{owner}: {path} gives the labels {labels}, expected {list(BASIC8.labels)}")
    return tensors, settings
