"""The mean of the sources, and the two steps that fusions and heads share: means over what is valid, rows that sum to 1.

Only methods of tensors are used, so that importing this module imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from affectkit.components import Fusion, Output, Sources
from affectkit.errors import PluginError

if TYPE_CHECKING:
    from torch import Tensor

    from affectkit.labels import LabelSet


class Mean(Fusion):
    """``core/mean``: the mean of the sources that have evidence, per class; rows sum to 1 over the classes that are said.

    It needs no training, takes any sources, and is the yardstick for fusions that are trained.
    """

    name = "mean"

    def fuse(self, sources: Sources) -> Output:
        """Fused values (N, C); a class that no source can say is NaN."""
        check_labels("core/mean", sources, self.labels)
        return Output({self.labels: normalise_rows(masked_mean(sources.values, sources.valid))})


def check_labels(name: str, sources: Sources, labels: LabelSet) -> None:
    """Refuses sources that were projected onto another label set.

    Raises:
        PluginError: showing both sets.
    """
    if sources.labels != labels:
        raise PluginError(
            f"{name} reads {labels.name!r} ({', '.join(labels.labels)}), "
            f"and the sources are in {sources.labels.name!r} ({', '.join(sources.labels.labels)}); choose a fusion for that set"
        )


def masked_mean(values: Tensor, valid: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over the second axis of what is valid.

    Args:
        values: (N, M, C) floats; what is not valid has no influence, whatever its value.
        valid: (N, M, C) bool.
        weights: (M,) floats greater than 0, ``None`` for equal ones.

    Returns:
        (N, C); NaN where nothing is valid.

    >>> import torch
    >>> masked_mean(torch.tensor([[[0.2], [0.6], [torch.nan]]]), torch.tensor([[[True], [True], [False]]])).tolist()
    [[0.4000000059604645]]
    """
    share = valid.to(values.dtype)
    if weights is not None:
        share = share * weights.to(values)[:, None]
    return (values.where(valid, 0.0) * share).sum(dim=1) / share.sum(dim=1)  # 0 / 0 is NaN: nothing is valid


def normalise_rows(values: Tensor) -> Tensor:
    """Rows that sum to 1 over the classes that are said.

    Args:
        values: (N, C) floats of 0 or more; NaN where a class is not said.

    Returns:
        (N, C); NaN stays, and a row without any mass is NaN as a whole: it says nothing.

    >>> import torch
    >>> normalise_rows(torch.tensor([[1.0, 3.0, torch.nan], [0.0, 0.0, 0.0]])).tolist()
    [[0.25, 0.75, nan], [nan, nan, nan]]
    """
    total = values.nansum(dim=1, keepdim=True)
    return values / total.where(total > 0, float("nan"))
