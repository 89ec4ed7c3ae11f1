"""Fixtures that several test modules share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from affectkit_s4d.model import S4D, Sizes

from affectkit.weight_files import random_network

SMALL = Sizes(side=32, frames=4, width=32, depth=3, heads=2, hidden=64, first=1, experts=4, adapter=8)


@pytest.fixture(scope="session")
def fer2013(shared_data: Path) -> Path:
    """Labelled stills of faces."""
    return shared_data / "faces" / "fer2013.parquet"


def small(**given: object) -> S4D:
    """A small network whose experts and router differ enough to matter, in evaluation mode."""
    network = random_network(lambda: S4D(SMALL, **given))  # type: ignore[arg-type]
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "moe_layer" in name:
                value.mul_(20)
    return network.eval()


def clips(count: int, sizes: Sizes = SMALL, seed: int = 0) -> torch.Tensor:
    """Clips (B, 3, T, S, S) of random pixels."""
    return torch.randn(count, 3, sizes.frames, sizes.side, sizes.side, generator=torch.Generator().manual_seed(seed))
