"""The weights of this package and what travels with them: a record beside each file, settings inside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectkit.api import BASIC7, Checkpoint, CheckpointError, LabelSet

if TYPE_CHECKING:
    import torch

FOLDER = Path(__file__).parent / "weights"


def checkpoint(name: str, labels: LabelSet | None = BASIC7) -> Checkpoint:
    """The checkpoint record of ``weights/NAME.safetensors``, read from ``weights/NAME.json``; ``labels`` are those of its network, if any."""
    record = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return Checkpoint(
        uri=f"package:affectkit_mini/weights/{name}.safetensors",
        sha256=record["sha256"],
        licence=record["licence"],
        source=f"{record['data']}; {record['command']}",
        labels=labels,
        commercial=record.get("commercial"),
    )


def load_network(network: torch.nn.Module, path: Path) -> Mapping[str, Any]:
    """Fills a network from a file that ``affectkit train`` wrote by a recipe of this package.

    Args:
        network: gets every tensor of the file, in its own precision, and is put into evaluation mode.
        path: the file.

    Returns:
        Its settings: labels, temperature, thresholds, ...

    Raises:
        CheckpointError: where the file is of another make, does not fit, or gives its labels in another order.
    """
    from affectkit import weight_files
    from affectkit_mini.packing import unpack

    settings = read_settings(path)
    weight_files.load_strict(network, unpack(weight_files.load_tensors(path)), path)
    network.eval().requires_grad_(False)
    return settings


def read_settings(path: Path) -> Mapping[str, Any]:
    """The settings in the header of a file of weights.

    Raises:
        CheckpointError: where it has none, or gives its labels in another order than the label set.
    """
    from affectkit import headers

    settings = headers.mapping(path)
    if "labels" not in settings:
        raise CheckpointError(f"{path} has no settings in its header; give one that affectkit train wrote by a recipe of affectkit-mini")
    if tuple(settings["labels"]) != BASIC7.labels:
        raise CheckpointError(f"{path} gives the labels {settings['labels']}, expected {list(BASIC7.labels)}")
    return settings


def write_random(path: Path, make: Callable[[], torch.nn.Module], **settings: Any) -> Path:
    """Writes a file that :func:`load_network` reads, with random numbers that mean nothing.

    Args:
        path: the file.
        make: makes the network without its weights.
        **settings: those that its component reads beside the labels.
    """
    from affectkit import weight_files
    from affectkit_mini.packing import pack

    header = {"settings": json.dumps({"labels": BASIC7.labels, **settings}), "licence": weight_files.RANDOM}
    weight_files.save_tensors(path, pack(weight_files.random_network(make).state_dict()), header)
    return path
