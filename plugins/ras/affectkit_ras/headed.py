"""What modalities have in common whose backbone is published and whose head is not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from affectkit.api import BASIC8, Checkpoint, CheckpointError, Modality
from affectkit.errors import asked_by

if TYPE_CHECKING:
    from pathlib import Path

    import torch

HEAD = "head"


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


EXPECTED: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "labels": ("a list of text", _texts),
    "names": ("a list of text", _texts),
    "inputs": ("text by name", lambda value: isinstance(value, dict) and _texts(list(value.values()))),
    "temperature": ("a number above 0", _positive),
    "heads": ("a whole number from 1", lambda value: _whole(value, 1)),
    "width": ("a whole number from 1", lambda value: _whole(value, 1)),
    "hidden": ("a whole number from 0", lambda value: _whole(value, 0)),
    "max_length": ("a whole number from 4", lambda value: _whole(value, 4)),
}
"""What may stand in the header of a head, by name; whatever else does is text or of no use here."""


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


def read_settings(path: Path, owner: str) -> Mapping[str, Any]:
    """The settings in the header of a head; none where a file has no header, as those of the authors.

    Args:
        path: safetensors or ``.pt``.
        owner: id of the component, for messages.

    Raises:
        CheckpointError: where the file is damaged, or a setting is not what it should be.
    """
    from affectkit import checkpoints

    with asked_by(owner):
        settings = checkpoints.settings(path)
    for name, (wanted, fits) in EXPECTED.items():
        if name in settings and not fits(settings[name]):
            raise CheckpointError(
                f"{owner}: the header of {path} says {name}={settings[name]!r}, expected {wanted}; "
                f"give a file as 'affectkit train {owner}' wrote it"
            )
    return settings


def read_head(path: Path, owner: str) -> tuple[dict[str, torch.Tensor], Mapping[str, Any]]:
    """The tensors of a head over a backbone, and the settings in its header.

    Args:
        path: as of :func:`read_settings`.
        owner: id of the component, for messages.

    Raises:
        CheckpointError: where it cannot be read, or gives its labels in another order than ``basic8``.
    """
    from affectkit import checkpoints

    with asked_by(owner):
        tensors = {name: tensor.float() for name, tensor in checkpoints.load_tensors(path).items()}
    settings = read_settings(path, owner)
    labels = list(settings.get("labels", BASIC8.labels))
    if labels != list(BASIC8.labels):
        raise CheckpointError(f"{owner}: {path} gives the labels {labels}, expected {list(BASIC8.labels)}")
    return tensors, settings
