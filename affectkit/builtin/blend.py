"""``core/blend``: the weighted mean of several heads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from affectkit.builtin.mean import masked_mean, normalise_rows
from affectkit.components import Head, Output, Sources
from affectkit.errors import ConfigError, PluginError
from affectkit.needs import Checkpoint

if TYPE_CHECKING:
    import torch


class Blend(Head):
    """``core/blend``: the weighted mean of the rows of other heads, over those that have evidence; rows sum to 1.

    It knows its heads only by their ids. Whoever builds it asks :meth:`blends`, builds each head with its own options from the
    recipe, and hands them over with :meth:`set_heads` before ``load``, which loads them. Then ``reads``,
    ``speaks`` and, once loaded, ``embedding_from`` are those of the first of its heads that has any.

    ::

        head: core/blend
        components:
          core/blend: {heads: {core/ppa: 0.7, core/pfsa: 0.3}}

    Attributes:
        heads: the heads by id, after :meth:`set_heads`.
    """

    name = "blend"

    @dataclass(frozen=True)
    class Options:
        """Options of ``core/blend``.

        Attributes:
            heads: ids of heads and their weights, greater than 0; they need not sum to 1.
        """

        heads: Mapping[str, float] = field(default_factory=dict)

        def __post_init__(self) -> None:
            for head, weight in self.heads.items():
                if not (math.isfinite(weight) and weight > 0):
                    raise ConfigError(f"the weight of {head} must be greater than 0, found {weight}; leave a head out that is to have none")
            if "core/blend" in self.heads:
                raise ConfigError("core/blend cannot blend itself; name other heads")

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.heads: Mapping[str, Head] = {}

    def blends(self) -> tuple[str, ...]:
        """The ids of the heads that it wants."""
        return tuple(self.options.heads)

    def set_heads(self, heads: Mapping[str, Head]) -> None:
        """Takes the heads that its options name.

        Args:
            heads: built heads by id, exactly those of ``options.heads``.

        Raises:
            ConfigError: where the options name none, or others.
            PluginError: where a head gives another label set.
        """
        wanted = self.options.heads
        if not wanted:
            raise ConfigError(
                "core/blend has nothing to blend; give components.core/blend.heads, for instance {core/ppa: 0.7, core/pfsa: 0.3}"
            )
        if set(heads) != set(wanted):
            raise ConfigError(f"core/blend expected the heads [{', '.join(sorted(wanted))}], found [{', '.join(sorted(heads))}]")
        for id, head in heads.items():
            if head.labels != self.labels:
                raise PluginError(f"core/blend blends heads that give {self.labels.name!r}, and {id} gives {head.labels.name!r}")
        self.heads = {id: heads[id] for id in wanted}
        self.reads = next((head.reads for head in self.heads.values() if head.reads is not None), None)
        self.speaks = next((head.speaks for head in self.heads.values() if head.speaks is not None), None)

    def used_checkpoints(self) -> Mapping[str, Checkpoint]:
        """The weights of all its heads, by ``head:tag``."""
        return {f"{id}:{tag}": record for id, head in self.heads.items() for tag, record in head.used_checkpoints().items()}

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Loads every head."""
        for head in self._given().values():
            head.load(device, dtype)
        self.embedding_from = next((head.embedding_from for head in self.heads.values() if head.embedding_from), None)

    def convert(self, fused: Output, sources: Sources) -> Output:
        """Values (N, 7); NaN where no head has evidence."""
        import torch

        rows = [head.convert(fused, sources).values[self.labels] for head in self._given().values()]
        values = torch.stack(rows, dim=1)
        weights = torch.tensor([self.options.heads[id] for id in self.heads])
        return Output({self.labels: normalise_rows(masked_mean(values, values.isfinite(), weights))})

    def _given(self) -> Mapping[str, Head]:
        if not self.heads:
            raise ConfigError("core/blend has no heads yet: hand them over with set_heads, as its options name them")
        return self.heads
