"""Runs and annotations that are scored, and what the commands say of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from affectkit.cli import cli
from affectkit.labels import LabelSet
from tests.run_folders import Film

LENGTH, STEP, FPS = 4.0, 2.0, 5.0
Said = tuple[str, LabelSet, int, float, float, Sequence[float] | None]


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, list(map(str, words)), terminal_width=200)


def told(*words: str | Path) -> dict[str, Any]:
    """What a command prints with --json."""
    found = call(*words, "--json")
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def write(path: Path, header: str, *lines: str) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def windows(source: str, labels: LabelSet, rows: Sequence[Sequence[float] | None], track: int = 0) -> list[Said]:
    """One row of a source per window of the grid; ``None`` where it has no evidence."""
    return [(source, labels, track, i * STEP, i * STEP + LENGTH, row) for i, row in enumerate(rows)]


def film(said: Sequence[Said], seconds: float = 12.0, **changes: Any) -> Film:
    return Film(round(seconds * FPS), said, FPS, **changes)


def edited(run: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A run whose ``run.json`` is changed in its place."""
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    change(info)
    (run / "run.json").write_text(json.dumps(info), encoding="utf-8")
    return run
