"""Fixtures that several test modules share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from affectkit.labels import BASIC7, BASIC8, COMPOUND7
from tests.plugin_site import Site
from tests.run_folders import one_hot, write_run
from tests.scored_runs import film, windows

settings.register_profile("affectkit", deadline=None)  # a shared machine pauses now and then; examples are small anyway
settings.load_profile("affectkit")


@pytest.fixture
def stem(goldens: Path, request: pytest.FixtureRequest) -> Path:
    """The golden that a test names."""
    return goldens / "dev" / request.param


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A folder on the path, for distributions of the test; what is imported from it is forgotten."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield Site(folder)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def two_films(tmp_path: Path) -> Path:
    """A run of two films; a face that is right in one and wrong in the other, its fusion and compound expressions."""
    films = {
        name: film(
            [
                *windows("far/face", BASIC7, [one_hot(BASIC7, face)] * 5),
                *windows("core/mean", BASIC8, [one_hot(BASIC8, face)] * 5),
                *windows("core/ppa", COMPOUND7, [one_hot(COMPOUND7, "sadly_angry")] * 5),
            ]
        )
        for name, face in (("a", "anger"), ("b", "happiness"))
    }
    return write_run(tmp_path / "run", films)
