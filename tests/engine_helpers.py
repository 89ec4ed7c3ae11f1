"""What the tests of the engine share: the fake plugins, recipes for them, and tables of what they said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from click.testing import CliRunner, Result

import affectkit
from affectkit import plugins
from affectkit.cli import cli
from affectkit.config import Recipe
from affectkit.plugins import Registry
from affectkit.session import RunResult

FAKES = Path(__file__).with_name("plugin_files")
PROVIDERS = {"faces": "fake/squares", "transcript": "odd/cues"}


@cache
def registry() -> Registry:
    """The fake plugins beside what is installed."""
    return plugins.load(plugins_dir=FAKES)


def recipe(*modalities: str, **changes: Any) -> Recipe:
    """A recipe of fake modalities with the mean as fusion and no head."""
    return Recipe.from_mapping({"modalities": list(modalities), "providers": PROVIDERS, "fusion": "core/mean", **changes})


def analyse(paths: str | Path | Sequence[Path], out: Path, *modalities: str, **options: Any) -> RunResult:
    """Runs fake modalities on the CPU; ``options`` of :func:`affectkit.run`, and ``changes`` to the recipe."""
    chosen = recipe(*modalities, **options.pop("changes", {}))
    return affectkit.run(paths, out, recipe=chosen, registry=registry(), **{"device": "cpu", **options})


def said(result: RunResult, source: str, labels: str = "basic7", column: str = "p_happiness", media: str | None = None) -> list[Any]:
    """What a source says in one column, in time order, NaN as ``None``."""
    table = result.read(labels)
    table = table[(table.source == source) & ((table.media == media) if media else True)].sort_values(["media", "track", "start"])
    return [None if pd.isna(value) else float(value) for value in table[column]]


def plain(level: float, size: tuple[int, int] = (32, 48)) -> Callable[[float], np.ndarray]:
    """Pictures of one grey ``level`` in [0, 255]."""
    return lambda _: np.full((*size, 3), level, dtype=np.uint8)


def steps(*levels: float, every: float = 2.0, size: tuple[int, int] = (32, 48)) -> Callable[[float], np.ndarray]:
    """Pictures that change their grey level every so many seconds."""
    return lambda t: np.full((*size, 3), levels[min(int(t / every + 1e-6), len(levels) - 1)], dtype=np.uint8)


def square(
    level: float, size: tuple[int, int] = (32, 48), box: tuple[int, int, int, int] = (8, 8, 24, 24)
) -> Callable[[float], np.ndarray]:
    """A face: a square of a grey ``level`` above 128 in ``box`` (x0, y0, x1, y1) on black."""

    def draw(_: float) -> np.ndarray:
        picture = np.zeros((*size, 3), dtype=np.uint8)
        picture[box[1] : box[3], box[0] : box[2]] = level
        return picture

    return draw


def command(*arguments: str | Path) -> Result:
    """Runs the command line with the fake plugins, in this process."""
    return CliRunner().invoke(cli, ["--plugins-dir", str(FAKES), *map(str, arguments)], terminal_width=400)


def recipe_file(path: Path, *modalities: str, extra: str = "") -> Path:
    """Writes a recipe of fake modalities as YAML; ``extra`` are lines of it."""
    providers = "\n".join(f"  {kind}: {name}" for kind, name in PROVIDERS.items())
    fusion = "" if "fusion:" in extra else "fusion: core/mean\n"
    path.write_text(f"modalities: [{', '.join(modalities)}]\nproviders:\n{providers}\n{fusion}{extra}\n")
    return path
