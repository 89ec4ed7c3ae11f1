"""What tells one network from another: weights made over a frozen network carry its fingerprint, because over another they would run and mean nothing."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SAMPLED = 64  # numbers of each parameter that are looked at


def fingerprint(module: torch.nn.Module) -> str:
    """Sixteen hexadecimal digits that tell one set of parameters from another, however it is stored: names, shapes and some numbers of each."""
    digest = hashlib.sha256()
    for name, value in sorted(module.named_parameters()):
        digest.update(f"{name} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().flatten()[:SAMPLED].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
