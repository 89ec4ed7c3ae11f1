"""What a file of weights says of itself: those of the authors nothing but shapes, those of ``affectkit train`` all that is needed."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from affectkit import headers
from affectkit.api import Checkpoint, CheckpointError, ConfigError, LabelSet
from affectkit.errors import asked_by, did_you_mean
from affectkit.headers import label_set
from affectkit.labels import DFEW7, FERV39K7, FERV39K7_DFER_CLIP, KNOWN, MAFW11, MAFW11_DFER_CLIP, MAFW11_OFFICIAL
from affectkit_ifdd.sizes import MEAN, STD, Shapes, Sizes, sizes_of

if TYPE_CHECKING:
    from affectkit_ifdd.model import IFDD

K400 = Checkpoint(
    uri="https://download.pytorch.org/models/mvit_v2_s-ae3be167.pth",
    licence="BSD-3-Clause",
    source="torchvision mvit_v2_s, Kinetics-400 (Li et al. 2022, MViTv2, ported from SlowFast); the videos of Kinetics are for research",
    mean=(MEAN,) * 3,
    std=(STD,) * 3,
    size=138_291_000,
    commercial=False,
)
PRETRAINED = "conv_proj.weight"  # names a file of torchvision's mvit_v2_s, with which a training begins
MOST_CLASSES = {11: (32, MAFW11_OFFICIAL)}  # frames and labels that the authors have with so many classes, and with no others
FRAMES = 16  # with any other number
UNNAMED = "ifdd"  # label set of a file that names its labels and not their set
HARMLESS = (argparse.Namespace,)  # other trainers keep their arguments in one; their files are told by their tensors
STRIDES = {DFEW7: 0, FERV39K7: 1, FERV39K7_DFER_CLIP: 1, MAFW11: 2, MAFW11_OFFICIAL: 2, MAFW11_DFER_CLIP: 2}


class Wishes(Protocol):
    """What the options of the component say; ``None`` leaves it to the file."""

    labels: str | None
    frames: int | None
    stride: int | None
    released_behaviour: bool | None


@dataclass(frozen=True, kw_only=True)
class Header(headers.Header):
    """What the header of a file says.

    Attributes:
        frames: of a clip.
        stride: native frames from one frame to the next; 0 for frames of the whole clip.
        released: whether the network is as it was published.
    """

    label_set: str = UNNAMED
    frames: int = FRAMES
    stride: int = 0
    released: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride < 0:
            raise ConfigError(f"stride must not be negative, found {self.stride}")


@dataclass(frozen=True)
class Weights:
    """What is known of a file before its numbers are read.

    Attributes:
        sizes: of its network.
        labels: of its answer.
        stride: native frames from one frame of a clip to the next; 0 for frames that are spread evenly over it.
        temperature: logits are divided by it.
    """

    sizes: Sizes
    labels: LabelSet
    stride: int
    temperature: float


def read_weights(path: Path, wishes: Wishes, owner: str) -> Weights:
    """What a file says, and the options where it says nothing.

    A file without a header is one of the authors: it needs what their code does (``released_behaviour``), and does not say what its classes are.

    Args:
        path: safetensors, or ``.pt``.
        wishes: the options.
        owner: id of the component, for messages.

    Raises:
        CheckpointError: where the file is damaged, or of another network.
        ConfigError: where options and file do not fit, or neither says what the labels are.
    """
    shapes, settings = _shapes(path, owner)
    if PRETRAINED in shapes:
        raise CheckpointError(
            f"{owner}: {path} holds mvit_v2_s of torchvision, with which a training of IFDD begins, and no IFDD. Train with it: "
            f"affectkit train {owner} --set options.start={path}"
        )
    ours = "released" in settings
    told = sizes_of_file(path, shapes, settings, owner)
    if wishes.frames is not None and ours and wishes.frames != told.frames:
        raise ConfigError(f"{owner}: {path} was trained with clips of {told.frames} frames, found frames {wishes.frames}; leave it out")
    frames = wishes.frames or told.frames
    released = told.released if wishes.released_behaviour is None else wishes.released_behaviour
    sizes = replace(told, frames=frames, released=released)
    labels = _labels(path, settings, sizes.classes, wishes.labels, owner)
    stride = wishes.stride if wishes.stride is not None else settings.get("stride", STRIDES.get(labels, 0))
    return Weights(sizes, labels, stride, float(settings.get("temperature", 1.0)))


def sizes_of_file(path: Path, shapes: Shapes, settings: Mapping[str, Any], owner: str) -> Sizes:
    """The sizes that a file was made with.

    Raises:
        CheckpointError: where it is of another network.
    """
    known = MOST_CLASSES.get(shapes.get("head.head.1.weight", (0,))[0], (FRAMES, None))[0]
    try:
        return sizes_of(shapes, settings.get("frames", known), bool(settings.get("released", True)))
    except CheckpointError as problem:
        raise CheckpointError(f"{owner}: {path} is for something else: {problem}") from None


def load_network(path: Path, sizes: Sizes, owner: str) -> IFDD:
    """The network with the numbers of a file, strictly: no name more or less, ready to be asked.

    Args:
        path: of the file.
        sizes: of the network.
        owner: id of the component, for messages.

    Raises:
        CheckpointError: listing what is missing, unexpected or of another shape.
    """
    from affectkit import weight_files
    from affectkit_ifdd.model import IFDD

    network = IFDD(sizes)
    with asked_by(owner):
        found = weight_files.load_saved(path, HARMLESS)[0]
        tensors = {name: value.float() if value.is_floating_point() else value for name, value in found.items()}
        weight_files.load_strict(network, tensors, path)
    network.eval().requires_grad_(False)
    return network


def _shapes(path: Path, owner: str) -> tuple[Shapes, Mapping[str, Any]]:
    """Shapes of the tensors of a file by name, and the settings in its header; none where it has no header, as those of the authors."""
    from affectkit import weight_files

    if path.suffix != ".safetensors":
        with asked_by(owner):
            return {name: tuple(value.shape) for name, value in weight_files.load_saved(path, HARMLESS)[0].items()}, {}
    from safetensors import safe_open

    settings = headers.settings(path, Header, owner)
    with safe_open(path, framework="numpy") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}, settings  # noqa: SIM118  no mapping


def _labels(path: Path, settings: Mapping[str, Any], classes: int, wished: str | None, owner: str) -> LabelSet:
    if wished is not None and wished not in KNOWN:
        raise ConfigError(f"{owner}: labels: there is no label set {wished!r}. {did_you_mean(wished, KNOWN)}")
    told = tuple(settings.get("labels", ()))
    if told and wished is not None and KNOWN[wished].labels != told:
        raise ConfigError(f"{owner}: {path} gives the labels {list(told)}, which are not those of {wished!r}; leave labels out")
    if told:
        name = str(settings.get("label_set", wished or UNNAMED))
        found = label_set(name, told)
    elif wished is not None:
        found = KNOWN[wished]
    else:
        known = MOST_CLASSES.get(classes, (FRAMES, None))[1]
        if known is None:
            raise ConfigError(
                f"{owner}: {path} does not say what its {classes} classes are. Say it with --set components.{owner}.labels=dfew7 where it was "
                "trained on DFEW, ferv39k7 where on FERV39k, or another label set"
            )
        found = known
    if len(found) != classes:
        raise CheckpointError(
            f"{owner}: {path} has {classes} classes, and {found.name!r} has {len(found)}; choose the label set that it was trained with"
        )
    return found
