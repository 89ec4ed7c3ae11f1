"""The weights of this package and what travels with them: a record beside each file, settings inside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectkit.api import BASIC7, Checkpoint, CheckpointError

if TYPE_CHECKING:
    import torch

FOLDER = Path(__file__).parent / "weights"


def checkpoint(name: str) -> Checkpoint:
    """The checkpoint record of ``weights/NAME.safetensors``, read from ``weights/NAME.json``."""
    record = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return Checkpoint(
        uri=f"package:affectkit_mini/weights/{name}.safetensors",
        sha256=record["sha256"],
        licence=record["licence"],
        source=f"{record['data']}; {record['command']}",
        labels=BASIC7,
    )


@dataclass(frozen=True)
class Weights:
    """Tensors of a file in single precision, and its settings: labels, temperature, thresholds, ..."""

    tensors: Mapping[str, torch.Tensor]
    settings: Mapping[str, Any]


def read_weights(path: Path) -> Weights:
    """Reads a file of weights that a training script of this package wrote.

    Raises:
        CheckpointError: where the file is of another make, or gives its labels in another order.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 - not a mapping
    if "settings" not in metadata:
        raise CheckpointError(f"{path} has no settings in its header; give a file that a training script of affectkit-mini wrote")
    settings = json.loads(metadata["settings"])
    if tuple(settings["labels"]) != BASIC7.labels:
        raise CheckpointError(f"{path} gives the labels {settings['labels']}, expected {list(BASIC7.labels)}")
    return Weights(tensors, settings)


def fill(network: torch.nn.Module, weights: Weights, path: Path) -> None:
    """Puts tensors into a network, every one of them.

    Raises:
        CheckpointError: where names or shapes differ.
    """
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    found = {key: tuple(value.shape) for key, value in weights.tensors.items()}
    if wanted != found:
        odd = sorted(set(wanted.items()) ^ set(found.items()))[:4]
        raise CheckpointError(f"{path} does not fit {type(network).__name__}; among the tensors that differ: {odd}")
    network.load_state_dict(weights.tensors, strict=False)  # the counters of batch norm are not kept
