"""Fixtures that several test modules share."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest
import torch
from affectkit_s4d.model import S4D, Sizes

from affectkit.checkpoints import random_network

SMALL = Sizes(side=32, frames=4, width=32, depth=3, heads=2, hidden=64, first=1, experts=4, adapter=8)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real videos, sound, text and pictures; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("AFFECTKIT_TEST_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real inputs are not here: {folder} (set AFFECTKIT_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def goldens(shared_data: Path) -> Path:
    """Folder of numbers computed with the published implementations."""
    folder = shared_data.parent / "goldens"
    if not folder.is_dir():
        pytest.skip(f"goldens are not here: {folder}")
    return folder


@pytest.fixture(scope="session")
def golden(goldens: Path) -> ModuleType:
    """The loader that lies beside the goldens."""
    spec = importlib.util.spec_from_file_location("affectkit_goldens", goldens / "golden.py")
    if spec is None or spec.loader is None:
        pytest.skip(f"there is no loader in {goldens}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
