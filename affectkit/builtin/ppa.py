"""Pair-Wise Probability Aggregation: the probability of a compound expression from those of its two basic emotions.

Only methods of tensors are used, so that importing this module imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from affectkit.builtin.mean import normalise_rows
from affectkit.components import Head, Output, Sources
from affectkit.errors import PluginError, UsageError
from affectkit.labels import BASIC8, COMPOUND7

if TYPE_CHECKING:
    from torch import Tensor

Rule = Literal["sum", "masked", "weighted", "masked_weighted"]

PAIRS = tuple((BASIC8.index(one), BASIC8.index(other)) for one, other in COMPOUND7.pairs or ())
"""For each compound expression the columns of its two basic emotions in ``BASIC8``."""

MASK = 1 / 7  # a basic emotion counts where it is more likely than chance among seven
EMPHASIS = {"anger": 5, "disgust": 6, "fear": 5, "happiness": 6, "sadness": 4, "surprise": 2}  # AVCER, rule 2


class PPA(Head):
    """``core/ppa``: Pair-Wise Probability Aggregation (Team RAS, 9th ABAW, arXiv 2507.02205; rules of AVCER, 6th ABAW).

    See :func:`ppa` for the rules. A compound expression whose basic emotions no source can say is NaN. So is a row in which
    no basic emotion is left to aggregate: a mask may leave none.
    """

    name = "ppa"

    @dataclass(frozen=True)
    class Options:
        """Options of ``core/ppa``.

        Attributes:
            rule: as in :func:`ppa`.
            rows: ``"normalised"`` rows sum to 1; ``"published"`` leaves the sums as they are.
        """

        rule: Rule = "sum"
        rows: Literal["normalised", "published"] = "normalised"

    def convert(self, fused: Output, sources: Sources) -> Output:
        """Values (N, 7) of the compound expressions.

        Raises:
            PluginError: where nothing was fused.
        """
        if BASIC8 not in fused.values:
            there = ", ".join(labels.name for labels in fused.values) or "nothing"
            raise PluginError(f"core/ppa reads fused values of {BASIC8.name!r}, and the fusion gave {there}; choose a fusion for that set")
        values = ppa(fused.values[BASIC8], self.options.rule)
        return Output({self.labels: values if self.options.rows == "published" else normalise_rows(values)})


def ppa(probs: Tensor, rule: Rule = "sum") -> Tensor:
    """Scores of the compound expressions; rows do not sum to 1.

    Rules, for a compound expression of the basic emotions i and j:
      * ``"sum"``: q_i + q_j, as Team RAS published it.
      * ``"masked"``: the same sum over what is greater than 1/7 (AVCER, rule 1).
      * ``"weighted"``: (d_i q_i + d_j q_j) / (d_i + d_j), with d = 5 for anger and fear, 6 for disgust and happiness, 4 for
        sadness, 2 for surprise (AVCER, rule 2). It tempers surprise, which five of the seven expressions share.
      * ``"masked_weighted"``: rule 2 over what rule 1 leaves, which AVCER ran as well.

    Args:
        probs: (N, 8) probabilities in the order of ``BASIC8``; neutral and other are not used.
        rule: the rule.

    Returns:
        (N, 7) in the order of ``COMPOUND7``, of the same type.

    Raises:
        UsageError: for another shape, type or rule.

    >>> import torch
    >>> ppa(torch.tensor([[0.0, 0.1, 0.0, 0.4, 0.1, 0.1, 0.3, 0.0]]))[0, 0].item()  # fear and surprise
    0.7000000476837158
    """
    if probs.ndim != 2 or probs.shape[1] != len(BASIC8) or not probs.is_floating_point():
        raise UsageError(
            f"ppa expected floats of shape (N, {len(BASIC8)}) in the order of BASIC8, found {tuple(probs.shape)} {probs.dtype}"
        )
    one, other = [i for i, _ in PAIRS], [j for _, j in PAIRS]
    if rule not in get_args(Rule):
        raise UsageError(f"ppa has the rules sum, masked, weighted and masked_weighted, not {rule!r}")
    if rule in ("masked", "masked_weighted"):
        probs = probs * (probs > MASK)
    if rule in ("weighted", "masked_weighted"):
        emphasis = probs.new_tensor([EMPHASIS.get(label, 0) for label in BASIC8.labels])
        share = emphasis[one] / (emphasis[one] + emphasis[other])
        return share * probs[:, one] + (1 - share) * probs[:, other]
    return probs[:, one] + probs[:, other]
