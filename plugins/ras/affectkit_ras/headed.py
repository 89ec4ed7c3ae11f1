"""What modalities have in common whose backbone is published and whose head is not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from affectkit.api import BASIC8, Checkpoint, CheckpointError, Modality

if TYPE_CHECKING:
    from pathlib import Path

    import torch

HEAD = "head"


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
        source = f"affectkit train ras/{self.name}"
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

    def resolved(self, tag: str) -> Path:
        """The local file or folder of a checkpoint.

        Raises:
            CheckpointError: where it is absent or damaged.
        """
        from affectkit import checkpoints

        return checkpoints.resolve(self.used_checkpoints()[tag], owner=self.id, tag=tag, option=tag)

    def check_backbone(self, settings: Mapping[str, Any], found: str, path: Path) -> None:
        """Nothing, where the head in ``path`` was made over the backbone with this fingerprint, or does not say over which.

        Raises:
            CheckpointError: where it was made over another.
        """
        wanted = settings.get("backbone", found)
        if wanted != found:
            raise CheckpointError(f"{self.id}: {path} was made with another backbone ({wanted}, found {found}); give that one")


def read_head(path: Path, owner: str) -> tuple[dict[str, torch.Tensor], Mapping[str, Any]]:
    """The tensors of a head over a backbone, and the settings in its header; none where a file has no header, as those of the authors.

    Args:
        path: safetensors or ``.pt``.
        owner: id of the component, for messages.

    Raises:
        CheckpointError: where it cannot be read, or gives its labels in another order than ``basic8``.
    """
    from affectkit import checkpoints

    tensors = {name: tensor.float() for name, tensor in checkpoints.load_tensors(path).items()}
    header = checkpoints.metadata(path) if path.suffix == ".safetensors" else {}
    settings = json.loads(header.get("settings", "{}"))
    labels = list(settings.get("labels", BASIC8.labels))
    if labels != list(BASIC8.labels):
        raise CheckpointError(f"{owner}: {path} gives the labels {labels}, expected {list(BASIC8.labels)}")
    return tensors, settings
