"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


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
