"""The start of a training: torchvision's MViTv2-S, trained on Kinetics-400, whose blocks are those of IFDD but for six in the middle."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from affectkit import weight_files
from affectkit.api import CheckpointError
from affectkit.errors import asked_by
from affectkit_ifdd.model import IFDD
from affectkit_ifdd.sizes import MEAN, STD

BLOCKS = {**{place: place for place in range(8)}, 14: 8, 15: 9}  # of its sixteen blocks, and which they become; the rest is left out
EMBEDDED = re.compile(r"conv_proj\.")
LEFT_OUT = re.compile(r"head\.")
TRANSFORMER = ("embed.", "backbone.backbone.")  # what is begun with
BLOCK = re.compile(r"blocks\.(\d+)\.")


def begin(network: IFDD, path: Path, owner: str) -> None:
    """Fills the transformer of a network, and its first layer, with the weights of torchvision's ``mvit_v2_s``; the rest stays as it is.

    Args:
        network: of the published width and depth, and for pixels that are standardised as those weights expect them.
        path: the file of torchvision.
        owner: id of the training, for messages.

    Raises:
        CheckpointError: where the file is damaged or of another network, or the network is another.
    """
    if network.sizes.released:
        raise CheckpointError(
            f"{owner}: {path} expects pixels standardised with mean {MEAN} and deviation {STD}, and with released_behaviour there is none; begin with random numbers then"
        )
    with asked_by(owner):
        found = {name: value.float() for name, value in weight_files.load_tensors(path).items()}
    rest = {name: value for name, value in network.state_dict().items() if not name.startswith(TRANSFORMER)}
    try:
        weight_files.load_strict(network, {**rest, **renamed(found)}, path)
    except CheckpointError as problem:
        raise CheckpointError(
            f"{owner}: {problem} It must be mvit_v2_s of torchvision, which fits the published width and depth alone"
        ) from None


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of ``mvit_v2_s`` under the names that they have in IFDD; the classifier and the blocks 8 to 13 are left out."""
    found = {}
    for name, value in tensors.items():
        block = BLOCK.match(name)
        if LEFT_OUT.match(name) or (block and int(block[1]) not in BLOCKS):
            continue
        inner = f"blocks.{BLOCKS[int(block[1])]}.{name[block.end() :]}" if block else name
        found[f"embed.{inner}" if EMBEDDED.match(name) else f"backbone.backbone.{inner}"] = value
    return found
