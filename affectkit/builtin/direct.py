"""``core/direct``: for modalities that say compound expressions themselves, such as a match of labels in words."""

from __future__ import annotations

from affectkit.builtin.mean import masked_mean, normalise_rows
from affectkit.components import Head, Output, Sources
from affectkit.errors import PluginError
from affectkit.labels import COMPOUND7


class Direct(Head):
    """``core/direct``: the mean of the sources that speak the compound set themselves; rows sum to 1. It reads no fused values.

    Attributes:
        speaks: the label set that at least one modality of the run must speak.
    """

    name = "direct"
    reads = None
    speaks = COMPOUND7

    def convert(self, fused: Output, sources: Sources) -> Output:
        """Values (N, 7); NaN where none of those sources has evidence.

        Raises:
            PluginError: where no source of the run speaks the compound set.
        """
        speaking = sources if sources.labels == self.labels else sources.others.get(self.labels)
        if speaking is None or not speaking.names:
            there = ", ".join(f"{name} ({s.labels.name})" for s in (sources, *sources.others.values()) for name in s.names) or "none"
            raise PluginError(
                f"core/direct needs a modality that says {self.labels.name!r} itself, and the run has none; its sources: {there}; "
                "add such a modality, or take --head core/ppa"
            )
        return Output({self.labels: normalise_rows(masked_mean(speaking.values, speaking.valid))})
