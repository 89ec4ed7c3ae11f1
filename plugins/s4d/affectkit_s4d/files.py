"""Files of S4D: the authors' two layouts (pre-trained and fine-tuned, with an ``argparse.Namespace`` beside the tensors) and ours, told apart and loaded strictly."""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zipfile import is_zipfile

from affectkit.api import CheckpointError, LabelSet
from affectkit.checkpoints import TORCH_SUFFIXES, load_strict, load_tensors, metadata
from affectkit.labels import KNOWN
from affectkit_s4d.views import RATE

if TYPE_CHECKING:
    import torch

    from affectkit_s4d.model import S4D

Kind = Literal["fine-tuned", "pre-trained"]

NESTED = ("model", "module")  # where the authors' trainers keep the tensors
PREFIXES = ("encoder.", "backbone.")
OF_DECODER = ("decoder.", "encoder_to_decoder.", "mask_token")
UNUSED = ("norm.weight", "norm.bias")  # the last norm of the pre-trained encoder; fine-tuning begins with another one
SETS = {"dfew": "dfew7", "ferv39k": "ferv39k7", "ferv39k-all": "ferv39k7", "mafw": "mafw11", "mafw-single": "mafw11"}
"""Label sets by the names of data sets in the authors' arguments, without case and underscores."""


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


def labels_of(settings: Mapping[str, Any], arguments: Mapping[str, Any]) -> LabelSet | None:
    """The label set that a header, or the arguments of the authors' training, name; ``None`` where neither does."""
    if "labels" in settings:
        name, found = str(settings.get("label_set", "")), tuple(settings["labels"])
        return KNOWN[name] if name in KNOWN and KNOWN[name].labels == found else LabelSet(name or "labels", found)
    name = str(arguments.get("data_set", "")).lower().replace("_", "-")
    return KNOWN[SETS[name]] if name in SETS else None


def header(path: Path) -> Mapping[str, Any]:
    """The settings in the header of a file that ``affectkit train`` wrote; empty of another file.

    Raises:
        CheckpointError: where it is damaged.
    """
    if path.suffix != ".safetensors":
        return {}
    found: Mapping[str, Any] = json.loads(metadata(path).get("settings", "{}"))
    return found


def read(path: Path) -> Stored:
    """A file of S4D with its tensors under the names of the network of fine-tuning.

    Raises:
        CheckpointError: where it is absent, damaged, or of another network.
    """
    settings = header(path)
    tensors, arguments = _authors(path) if path.suffix in TORCH_SUFFIXES else (load_tensors(path), {})
    pretrained = any(name.startswith(OF_DECODER) for name in tensors) or not any(
        ".moe_layer." in n or n.startswith("head.") for n in tensors
    )
    found = {_own(name): value for name, value in tensors.items() if not name.startswith(OF_DECODER)}
    if pretrained:
        found = {name: value for name, value in found.items() if name not in UNUSED}
    if "patch_embed.proj.weight" not in found:
        shown = ", ".join(list(tensors)[:5])
        raise CheckpointError(
            f"{path} holds no weights of S4D: none of its {len(tensors)} tensors is patch_embed.proj.weight; it has {shown}, ..."
        )
    return Stored(path, "pre-trained" if pretrained else "fine-tuned", found, settings, arguments)


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
    known = stored.settings.get("sizes") or {
        name: stored.arguments[name] for name in ("top_k",) if isinstance(stored.arguments.get(name), int)
    }
    capacity = stored.arguments.get("capacity_factor", 1.0)
    network = S4D(Sizes.of(stored.tensors, known), released_behaviour=released_behaviour, capacity=float(capacity))
    load_strict(network, {name: value.float() for name, value in stored.tensors.items()}, stored.path)
    return network.eval().requires_grad_(False)


def begin(network: S4D, stored: Stored) -> None:
    """Gives a network that is to learn what a file holds of it: everything but the heads, and of a pre-trained one also without experts and last norm.

    Raises:
        CheckpointError: where anything else is missing, left over or of another shape.
    """
    mine = network.state_dict()
    given = {name: value.float() for name, value in stored.tensors.items() if not name.startswith("head.")}
    fresh = [name for name in mine if name.startswith("head.")]
    if stored.kind == "pre-trained":
        fresh += [name for name in mine if name.startswith("fc_norm.") or ".moe_layer." in name]
    load_strict(network, {**{name: mine[name] for name in fresh}, **given}, stored.path)


def _own(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _authors(path: Path) -> tuple[dict[str, torch.Tensor], Mapping[str, Any]]:
    """Tensors and arguments of a file of the authors' trainers. Of Python's objects only an ``argparse.Namespace`` is made, which does nothing."""
    import torch

    from affectkit.torchscript import is_torchscript

    if not path.is_file():
        raise CheckpointError(f"there is no file of weights at {path}")
    if is_torchscript(path):
        raise CheckpointError(f"{path} is TorchScript, a program, which is not opened here; give the file of the authors' training")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))  # the optimiser's state stays on disk
    except pickle.UnpicklingError as error:
        reason = str(error).partition("\n")[0][:160]
        raise CheckpointError(
            f"{path} holds Python objects other than tensors and an argparse.Namespace, or is damaged ({reason}); such objects are never loaded. "
            "Save its tensors alone where it was made, or fetch it again"
        ) from None
    except (EOFError, OSError, RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} is damaged or no file of weights ({str(error).partition(chr(10))[0][:160]}); fetch it again"
        ) from None
    given = content.get("args") if isinstance(content, dict) else None
    arguments = vars(given) if isinstance(given, argparse.Namespace) else given if isinstance(given, dict) else {}
    for inner in (content.get(key) if isinstance(content, dict) else None for key in NESTED):
        if isinstance(inner, dict) and inner:
            content = inner
            break
    if not isinstance(content, dict) or not content or not all(isinstance(value, torch.Tensor) for value in content.values()):
        holds = ", ".join(map(str, list(content)[:5])) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f"{path} holds no tensors by name, alone or under {' or '.join(NESTED)}; it holds {holds}")
    return dict(content), arguments
