"""Splitting of a clip into what stays and what moves, and the lifting that makes them two (IFDD, arXiv 2412.13168).

A clip is read as eight *slots* of two or four frames. Of them, four are taken as the static part and four as the dynamic part, at fractional indices
that depend on how alike the slots are (inter-frame static-dynamic splitting). The lifting then moves what both share into the static
part and leaves in the dynamic part what it does not explain (aggregation and disentanglement). B is batch, S slots, C channels, G the side of the grid of patches.

Attribute names are the keys of the published state dict.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import StochasticDepth

from affectkit_ifdd.sizes import SLOTS

REACH = 2.0  # slots by which an index can move
LAYERS = 7  # channels in which slots are compared
HEADS = 8


class Split(NamedTuple):
    """What the splitting says.

    Attributes:
        gate: (B, S, S) how alike two slots are, before the softmax.
        static_index: (B, S/2) slots, fractional, in [-2, S + 1].
        dynamic_index: (B, S/2) likewise.
        static: (B, S/2 * G * G, C) patches of the slots at ``static_index``, in the order of time, row, column.
        dynamic: (B, S/2 * G * G, C) likewise.
    """

    gate: Tensor
    static_index: Tensor
    dynamic_index: Tensor
    static: Tensor
    dynamic: Tensor


class Lifted(NamedTuple):
    """What the lifting says.

    Attributes:
        split: what it began with.
        static: (B, S/2 * G * G, C) after the update.
        dynamic: (B, S/2 * G * G, C) after the prediction.
        feature: (B, C) what the classifier reads.
    """

    split: Split
    static: Tensor
    dynamic: Tensor
    feature: Tensor


class Splitting(nn.Module):
    """Inter-frame static-dynamic splitting module (ISSM; IFDD, arXiv 2412.13168): which four slots are the static part, and which the dynamic part.

    The even slots are moved towards what is alike, the odd ones towards what is not, by two slots at the most::

        u = GELU(W x)                                            (S, 7 * G * G), of each slot
        A = u u^T / C                                            (S, S), the gate
        static_index  = (0, 2, 4, 6) + 2 tanh(W_a softmax(A))    softmax of each row
        dynamic_index = (1, 3, 5, 7) + 2 tanh(W_d softmax(-A))

    Args:
        channels: of a patch.
        aligned: whether index ``i`` reads slot ``i``. The published code makes its coordinates for one convention of ``grid_sample`` and calls it with
            the other, so that index ``i`` reads at ``8 i / 7 - 0.5``; weights that were trained so need ``False``.
    """

    index_even: Tensor
    index_odd: Tensor

    def __init__(self, channels: int, aligned: bool) -> None:
        super().__init__()
        self.aligned = aligned
        self.register_buffer("index_even", torch.arange(0, SLOTS, 2))
        self.register_buffer("index_odd", torch.arange(1, SLOTS, 2))
        self.dim_project = nn.Sequential(nn.Conv2d(channels, LAYERS, 1), nn.GELU())
        self.time_project = nn.Sequential(nn.Linear(SLOTS, SLOTS), nn.GELU(), nn.Linear(SLOTS, 1)).requires_grad_(
            False
        )  # published, never used
        self.offset_project_approx = nn.Sequential(nn.Linear(SLOTS * SLOTS, SLOTS // 2, bias=False), nn.Tanh())
        self.offset_project_detail = nn.Sequential(nn.Linear(SLOTS * SLOTS, SLOTS // 2, bias=False), nn.Tanh())

    def forward(self, patches: Tensor) -> Split:
        """Splits clips.

        Args:
            patches: (B, S, C, G, G) float.
        """
        channels = patches.shape[2]
        seen = self.dim_project(patches.flatten(0, 1)).unflatten(0, patches.shape[:2]).flatten(2)
        gate = (seen / channels) @ seen.transpose(1, 2)
        static_index = (
            self.index_even + REACH * self.offset_project_approx(gate.softmax(-1).flatten(1)).float()
        )  # bf16 has steps of 1/32 slot
        dynamic_index = self.index_odd + REACH * self.offset_project_detail((-gate).softmax(-1).flatten(1)).float()
        return Split(gate, static_index, dynamic_index, self.at(patches, static_index), self.at(patches, dynamic_index))

    def places(self, index: Tensor) -> Tensor:
        """Slots in [0, S - 1] that indices (B, K) read, between the first and the last."""
        read = index if self.aligned else index * SLOTS / (SLOTS - 1) - 0.5
        return read.clamp(0, SLOTS - 1)

    def at(self, patches: Tensor, index: Tensor) -> Tensor:
        """Patches (B, K * G * G, C) of the slots that indices (B, K) read, linear between two slots."""
        places = self.places(index.float())
        before = places.detach().floor().clamp(max=SLOTS - 2).long()
        share = (places - before).to(patches.dtype)[..., None, None, None]
        row = torch.arange(len(patches), device=patches.device)[:, None]
        mixed = patches[row, before] * (1 - share) + patches[row, before + 1] * share
        return mixed.flatten(3).transpose(2, 3).flatten(1, 2)


class Lifting(nn.Module):
    """Lifting-based aggregation-disentanglement module (LADM; IFDD, arXiv 2412.13168) over a splitting, and the feature of the clip.

    ``a`` are the patches of the static part and ``d`` those of the dynamic part, each after a layer norm; attention has eight heads::

        a = a + P_a(attention(Q_a a, K_d d, V_d d) + V_d d)      update: the static part takes what both share
        d = d - P_d(attention(Q_d d, K_a a, V_a a) + V_a a)      predict: the dynamic part loses what the new static part explains
        d = d + P attention(Q LN(d), K LN(d), V LN(d))
        feature = w^T MLP(LN(d))                                 without a residual; w weighs the patches

    Args:
        channels: of a patch.
        grid: patches of a side.
        aligned: as in :class:`Splitting`.
        dropped: share of the training clips for which a residual branch is left out.
        whole_dropped: whether the last layer, which has no residual, is left out for that share of the clips as well, so that their feature is zero, as the
            published code does.
    """

    def __init__(self, channels: int, grid: int, aligned: bool, dropped: float, whole_dropped: bool) -> None:
        super().__init__()
        # Positions that are published and never used: the patches carry theirs.
        self.spatial_pos = nn.Parameter(torch.zeros(grid * grid, channels), requires_grad=False)
        self.temporal_pos = nn.Parameter(torch.zeros(SLOTS, channels), requires_grad=False)
        self.class_pos = nn.Parameter(torch.zeros(channels), requires_grad=False)
        self.q_d = nn.Linear(channels, channels)
        self.kv_a = nn.Linear(channels, 2 * channels)
        self.q_a = nn.Linear(channels, channels)
        self.kv_d = nn.Linear(channels, 2 * channels)
        self.project_d = nn.Sequential(nn.Linear(channels, channels))
        self.project_a = nn.Sequential(nn.Linear(channels, channels))
        self.adapt_split = Splitting(channels, aligned)
        self.xa_norm = nn.LayerNorm(channels)
        self.xd_norm = nn.LayerNorm(channels)
        self.out_norm1 = nn.LayerNorm(channels)
        self.out_norm2 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Sequential(nn.Linear(channels, channels))
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Dropout(0.0), nn.Linear(4 * channels, channels), nn.Dropout(0.0)
        )
        self.project_compress = nn.Linear(SLOTS // 2 * grid * grid, 1, bias=False)
        self.drop = StochasticDepth(dropped, "row")
        self.drop_whole = StochasticDepth(dropped if whole_dropped else 0.0, "row")

    def forward(self, patches: Tensor) -> Lifted:
        """Lifts clips.

        Args:
            patches: (B, S, C, G, G) float.
        """
        split = self.adapt_split(patches)
        static, dynamic = self.xa_norm(split.static), self.xd_norm(split.dynamic)
        static = static + self.project_a(_explained(self.q_a(static), self.kv_d(dynamic)))  # update: what both share
        dynamic = dynamic - self.project_d(
            _explained(self.q_d(dynamic), self.kv_a(static))
        )  # predict: without what the static part explains
        query, key, value = (_heads(part) for part in self.qkv(self.out_norm1(dynamic)).chunk(3, -1))
        mixed = dynamic + self.drop(self.project(_merged(functional.scaled_dot_product_attention(query, key, value))))
        last = self.drop_whole(self.mlp(self.out_norm2(mixed)))
        return Lifted(split, static, dynamic, self.project_compress(last.transpose(1, 2)).squeeze(-1))


def _explained(query: Tensor, key_value: Tensor) -> Tensor:
    """What one part (B, N, 2C) says to the other (B, N, C): attention over it, and itself."""
    key, value = key_value.chunk(2, -1)
    return _merged(functional.scaled_dot_product_attention(_heads(query), _heads(key), _heads(value))) + value


def _heads(values: Tensor) -> Tensor:
    """(B, N, C) as (B, heads, N, C / heads)."""
    return values.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def _merged(values: Tensor) -> Tensor:
    return values.transpose(1, 2).flatten(2)
