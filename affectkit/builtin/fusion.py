"""``core/mhpf``: the component around :class:`affectkit.builtin.mhpf.MHPF`, and its file of weights.

The file is that of :mod:`affectkit.builtin.fitted`, with ``head_weights`` (H, M, C) and ``head_combine`` (H,).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectkit.builtin.fitted import Fitted, FittedFusion, Sharpening, check_named, read_header, save_fitted
from affectkit.errors import CheckpointError
from affectkit.labels import LabelSet

if TYPE_CHECKING:
    import torch

    from affectkit.builtin.mhpf import MHPF


class MHPFFusion(FittedFusion):
    """``core/mhpf``: Multi-Head Probability Fusion (Team RAS, 9th ABAW, arXiv 2507.02205), fitted weights per source and class.

    A source that it was fitted for and that is not in the run counts as not valid.
    """

    name = "mhpf"

    def made(self, sources: int) -> torch.nn.Module:
        from affectkit.builtin.mhpf import MHPF

        return MHPF(sources, len(self.labels))

    def read(self, path: Path) -> Fitted:
        return load_mhpf(path, self.labels)


def save_mhpf(
    path: Path, model: MHPF, sources: Sequence[str], labels: LabelSet, record: Mapping[str, Any], sharpening: Sharpening | None = None
) -> None:
    """Writes fitted weights of ``core/mhpf``; arguments and errors as in :func:`affectkit.builtin.fitted.save_fitted`."""
    save_fitted(path, "core/mhpf", model, sources, labels, record, sharpening)


def load_mhpf(path: Path, labels: LabelSet) -> Fitted:
    """Reads what :func:`save_mhpf` wrote.

    Args:
        path: the file.
        labels: the label set that its classes must be.

    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    from affectkit.builtin.mhpf import MHPF

    tensors, header, sharpening = read_header(path, ("head_weights", "head_combine"), labels)
    theta, combine = tensors["head_weights"], tensors["head_combine"]
    if theta.ndim != 3 or combine.ndim != 1 or len(theta) != len(combine) or theta.shape[2] != len(labels) or 0 in theta.shape:
        raise CheckpointError(
            f"{path}: expected head_weights (H, M, {len(labels)}) and head_combine (H,), found {tuple(theta.shape)} and {tuple(combine.shape)}"
        )
    sources = check_named(path, "head_weights", theta.shape[1], header["sources"])
    model = MHPF(theta.shape[1], theta.shape[2], theta.shape[0])
    model.load_state_dict(tensors)
    return Fitted(model, sources, labels.labels, header["record"], sharpening)
