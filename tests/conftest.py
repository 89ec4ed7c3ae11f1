"""Fixtures that several test modules share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("affectkit", deadline=None)  # a shared machine pauses now and then; examples are small anyway
settings.load_profile("affectkit")


@pytest.fixture
def stem(goldens: Path, request: pytest.FixtureRequest) -> Path:
    """The golden that a test names."""
    return goldens / "dev" / request.param
