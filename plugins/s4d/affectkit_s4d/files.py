"""Files of S4D: the authors' two layouts (pre-trained and fine-tuned, with an ``argparse.Namespace`` beside the tensors) and ours, told apart and loaded strictly."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from affectkit import headers, weight_files
from affectkit.api import CheckpointError, ConfigError, LabelSet, UsageError
from affectkit.errors import asked_by
from affectkit.labels import KNOWN
from affectkit_s4d.views import RATE

if TYPE_CHECKING:
    import torch

    from affectkit_s4d.model import S4D

Kind = Literal["fine-tuned", "pre-trained"]

PREFIXES = ("encoder.", "backbone.")
OF_DECODER = ("decoder.", "encoder_to_decoder.", "mask_token")
UNUSED = ("norm.weight", "norm.bias")  # the last norm of the pre-trained encoder; fine-tuning begins with another one
SETS = {"dfew": "dfew7", "ferv39k": "ferv39k7", "ferv39k-all": "ferv39k7", "mafw": "mafw11", "mafw-single": "mafw11"}
"""Label sets by the names of data sets in the authors' arguments, without case and underscores."""

ARGUMENTS = {"side": "input_size", "frames": "num_frames", "top_k": "top_k"}
"""Sizes that shapes do not tell, and the authors' arguments that do."""

TOLD = ("patch", "width", "depth", "hidden")  # sizes that must be those of a network that begins with a file
OF_EXPERTS = ("first", "experts", "adapter")  # likewise, where the file has experts


@dataclass(frozen=True, kw_only=True)
class Header(headers.Header):
    """What ``affectkit train`` writes into a file beside its tensors; the authors' files have none.

    Attributes:
        sizes: of the network, those that shapes do not tell among them.
        rate: frames per second of a view.
    """

    sizes: Mapping[str, int] = field(default_factory=dict)
    rate: float = RATE

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.sizes.values(), default=0) < 0 or self.sizes.get("side") == 0:
            raise ConfigError(f"sizes must not be negative, and side not 0, found {dict(self.sizes)}")
        if not 0 < self.rate < math.inf:
            raise ConfigError(f"rate must be a number above 0, found {self.rate}")


@dataclass(frozen=True)
class Stored:
    """A file of S4D.

    Attributes:
        path: the file.
        kind: what it is for: ``"fine-tuned"`` says expressions, ``"pre-trained"`` is where a fine-tuning begins.
        tensors: of the network of fine-tuning, under its names.
        settings: of a file that ``affectkit train`` wrote: labels, sizes, temperature; empty in the authors' files.
        arguments: of a file of the authors': the arguments of their training.
    """

    path: Path
    kind: Kind
    tensors: Mapping[str, torch.Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> LabelSet | None:
        """The label set of its clips, where it says so."""
        return labels_of(self.settings, self.arguments)

    @property
    def rate(self) -> float | None:
        """Frames per second of a view, where it says so; the authors say from which frame to which they went, of 25 per second."""
        stride = self.arguments.get("sampling_rate")
        said = RATE / stride if isinstance(stride, int) and stride > 0 else None
        return self.settings.get("rate", said)

    @property
    def known(self) -> Mapping[str, int]:
        """Sizes of the network that shapes do not tell, where it says them."""
        given = {name: self.arguments.get(argument) for name, argument in ARGUMENTS.items()}
        said = {name: value for name, value in given.items() if type(value) is int and value > 0}
        sizes: Mapping[str, int] = self.settings.get("sizes", said)
        return sizes


def labels_of(settings: Mapping[str, Any], arguments: Mapping[str, Any]) -> LabelSet | None:
    """The label set that a header, or the arguments of the authors' training, name; ``None`` where neither does."""
    if "labels" in settings:
        name, found = settings.get("label_set", "labels"), settings["labels"]
        return headers.label_set(name, found)
    name = str(arguments.get("data_set", "")).lower().replace("_", "-")
    return KNOWN[SETS[name]] if name in SETS else None


def read(path: Path, owner: str) -> Stored:
    """A file of S4D with its tensors under the names of the network of fine-tuning.

    Args:
        path: the file.
        owner: id of who asks for it, for messages.

    Raises:
        CheckpointError: where it is absent, damaged, or of another network.
    """
    with asked_by(owner):
        tensors, beside = weight_files.load_saved(path, [argparse.Namespace])  # the authors' trainers keep their arguments in one
    given = beside.get("args", {})
    arguments = vars(given) if isinstance(given, argparse.Namespace) else given if isinstance(given, dict) else {}
    pretrained = any(name.startswith(OF_DECODER) for name in tensors) or not any(
        ".moe_layer." in n or n.startswith("head.") for n in tensors
    )
    found = {_own(name): value for name, value in tensors.items() if not name.startswith(OF_DECODER)}
    if pretrained:
        found = {name: value for name, value in found.items() if name not in UNUSED}
    if "patch_embed.proj.weight" not in found:
        shown = ", ".join(list(tensors)[:5])
        raise CheckpointError(
            f"{owner}: {path} holds no weights of S4D: none of its {len(tensors)} tensors is patch_embed.proj.weight; it has {shown}, ..."
        )
    return Stored(path, "pre-trained" if pretrained else "fine-tuned", found, headers.settings(path, Header, owner), arguments)


def fine_tuned(stored: Stored, owner: str, *, released_behaviour: bool = False) -> S4D:
    """The network of a fine-tuned file, loaded strictly, in evaluation mode.

    Args:
        stored: the file.
        owner: id of the component, for messages.
        released_behaviour: as of :class:`affectkit_s4d.model.S4D`; the capacity is that of the authors' arguments, 1 where there are none.

    Raises:
        CheckpointError: where it is a pre-trained file, or does not fit.
    """
    from affectkit_s4d.model import S4D, Sizes

    if stored.kind == "pre-trained":
        raise CheckpointError(
            f"{owner}: {stored.path} is a pre-trained file, which says no expressions yet: it has no heads. Fine-tune it: "
            f"affectkit train s4d/face_dynamic --set options.start={stored.path} --dataset NAME --data DIR"
        )
    capacity = stored.arguments.get("capacity_factor")
    try:
        sizes = Sizes.of(stored.tensors, stored.known)
    except (CheckpointError, UsageError) as problem:
        raise CheckpointError(f"{owner}: {stored.path} does not fit: {problem}") from None
    network = S4D(sizes, released_behaviour=released_behaviour, capacity=capacity if isinstance(capacity, int | float) else 1.0)
    with asked_by(owner):
        weight_files.load_strict(network, {name: value.float() for name, value in stored.tensors.items()}, stored.path)
    return network.eval().requires_grad_(False)


def begin(network: S4D, stored: Stored, owner: str) -> None:
    """Gives a network that is to learn what a file holds of it: everything but the heads, and of a pre-trained one also without experts and last norm.

    Args:
        network: that begins.
        stored: the file.
        owner: id of the training, for messages.

    Raises:
        CheckpointError: where it is of a network of other sizes, or anything else is missing or left over.
    """
    from affectkit_s4d.model import told_by

    mine, pretrained, wanted = network.state_dict(), stored.kind == "pre-trained", network.sizes
    try:
        theirs = told_by(stored.tensors) | {name: value for name, value in stored.known.items() if name == "heads"}
    except CheckpointError as problem:
        raise CheckpointError(f"{owner}: {stored.path} does not fit: {problem}") from None
    names = [*TOLD, *(("heads",) if "heads" in stored.known else ())]
    if not pretrained and (theirs["experts"] or wanted.experts):
        names += OF_EXPERTS
    others = [name for name in names if name in theirs and theirs[name] != getattr(wanted, name)]
    if others:
        shown = ", ".join(f"{name} {theirs[name]} instead of {getattr(wanted, name)}" for name in others)
        raise CheckpointError(
            f"{owner}: {stored.path} is of a network of other sizes: {shown}; set options.network to those of the file, or give another options.start"
        )
    given = {name: value.float() for name, value in stored.tensors.items() if not name.startswith("head.")}
    fresh = [name for name in mine if name.startswith("head.")]
    if pretrained:
        fresh += [name for name in mine if name.startswith("fc_norm.") or ".moe_layer." in name]
    with asked_by(owner):
        weight_files.load_strict(network, {**{name: mine[name] for name in fresh}, **given}, stored.path)


def _own(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name
