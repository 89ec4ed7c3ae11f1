"""The mixture of adapter experts: a router sends every token to two of eight small networks. N is tokens of all rows, E experts, K experts per token, D width."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Mlp(nn.Module):
    """Two layers with GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to (..., width)."""
        said: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return said


class Router(nn.Module):
    """How much each expert is wanted for a token; with noise of a learned size while it learns (Shazeer et al. 2017, arXiv 1701.06538, eq. 4).

    It always computes in single precision: which two experts are the largest hangs on small differences.
    """

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.topkroute_linear = nn.Linear(width, experts)
        self.noise_linear = nn.Linear(width, experts)

    def forward(self, tokens: Tensor, noisy: bool) -> Tensor:
        """Logits (N, E) float32 of tokens (N, D)."""
        with torch.autocast(tokens.device.type, enabled=False):
            tokens = tokens.float()
            logits: Tensor = self.topkroute_linear(tokens)
            if noisy:
                logits = logits + torch.randn_like(logits) * functional.softplus(self.noise_linear(tokens))
        return logits


class Routed(NamedTuple):
    """What the experts make of tokens.

    Attributes:
        values: (B, N, D), what is added to the tokens.
        balance: the load-balance loss, a number that is 1 where all experts are wanted alike and at most E.
        load: (E,) int64, tokens that were sent to each expert.
        dropped: (E,) int64, those of them that it had no room for.
    """

    values: Tensor
    balance: Tensor
    load: Tensor
    dropped: Tensor


class ExpertLayer(nn.Module):
    """Mixture of adapter experts (S4D, arXiv 2409.06154, section "Mixture of Adapter Experts").

    Each token goes to the K experts with the largest logits, and gets the sum of what they say, weighted by the softmax over these K logits. The assignments are
    sorted by expert once, so that every expert sees its tokens as one matrix; there is no loop over tokens.

    Args:
        width: of a token.
        experts: E.
        top_k: K.
        hidden: of an expert.
        capacity: as published, an expert serves at most ``N * K / E * capacity`` tokens, in the order of rows, times and places; the others get nothing from it.
            ``None`` serves all.
        noisy: whether the router is noisy also where nothing is learned, as published.
    """

    def __init__(self, width: int, experts: int, top_k: int, hidden: int, capacity: float | None = None, noisy: bool = False) -> None:
        super().__init__()
        self.top_k, self.capacity, self.noisy = top_k, capacity, noisy
        self.router = Router(width, experts)
        self.experts = nn.ModuleList(Mlp(width, hidden) for _ in range(experts))

    def forward(self, x: Tensor) -> Routed:
        """Tokens (B, N, D) to what is added to them."""
        tokens, count = x.flatten(0, -2), len(self.experts)
        logits = self.router(tokens, self.training or self.noisy)
        kept, chosen = logits.topk(self.top_k, dim=1)
        wanted = chosen.flatten()
        order = wanted.argsort(stable=True)  # by expert, and within an expert as the tokens come
        load = torch.bincount(wanted, minlength=count)
        rows = order // self.top_k
        room = len(wanted) if self.capacity is None else int(len(wanted) / count * self.capacity)
        said, first = [], 0
        for expert, sent in zip(self.experts, load.tolist(), strict=True):
            served = min(sent, room)
            out = expert(tokens[rows[first : first + served]])
            said.append(functional.pad(out, (0, 0, 0, sent - served)))
            first += sent
        places = torch.empty_like(order)
        places[order] = torch.arange(len(order), device=order.device)
        each = torch.cat(said)[places].unflatten(0, (-1, self.top_k))
        values = (each * kept.softmax(1)[..., None]).sum(1)
        return Routed(values.view_as(x), balance(logits, load), load, (load - room).clamp_min(0))


def balance(logits: Tensor, load: Tensor) -> Tensor:
    """The load-balance loss of the Switch Transformer (Fedus et al. 2022, arXiv 2101.03961, eq. 4), for several experts per token.

    ``E * sum(share of the assignments * mean probability)`` over the experts. Its gradient goes through the probabilities alone.

    Args:
        logits: (N, E) float32 of the router.
        load: (E,) int64 assignments of each expert.

    >>> balance(torch.zeros(4, 2), torch.tensor([4, 4])), balance(torch.tensor([[50.0, 0.0]]), torch.tensor([1, 0]))
    (tensor(1.), tensor(2.))
    """
    return len(load) * (load / load.sum() * logits.softmax(1).mean(0)).sum()
