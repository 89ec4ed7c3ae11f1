"""Fixtures of all tests in this repository: the real inputs that lie beside a checkout where somebody has them."""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path
from types import ModuleType

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # several processes share the processors: each computes with one thread
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts what runs in its background with Ctrl-C ignored, and tests send it to programs.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real videos, sound, text and pictures; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("AFFECTKIT_TEST_DATA", Path(__file__).resolve().parents[1] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real inputs are not here: {folder} (set AFFECTKIT_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def seed() -> int:
    """Of the trainings whose figures a README has; ``AFFECTKIT_TEST_SEED`` is another."""
    return int(os.environ.get("AFFECTKIT_TEST_SEED", "0"))


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
