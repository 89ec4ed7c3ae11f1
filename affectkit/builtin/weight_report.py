"""Which source carries which class: weights as a table and as a picture. M is sources, C classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from affectkit.errors import UsageError
from affectkit.files import replacing


def weight_table(weights: np.ndarray, sources: Sequence[str], labels: Sequence[str]) -> str:
    """Weights as a table of Markdown; the largest of each class is bold.

    Args:
        weights: (M, C) float; NaN for a class that nobody says.
        sources: M names.
        labels: C names.

    Raises:
        UsageError: where they do not match.

    >>> print(weight_table(np.array([[0.25, 0.6], [0.75, 0.4]]), ("face", "voice"), ("anger", "fear")))
    | source | anger | fear |
    |---|---|---|
    | face | 0.25 | **0.60** |
    | voice | **0.75** | 0.40 |
    """
    weights = _checked(weights, sources, labels)
    largest = np.nan_to_num(weights, nan=-1.0).max(axis=0)
    lines = ["| source | " + " | ".join(labels) + " |", "|---" * (len(labels) + 1) + "|"]
    for name, row in zip(sources, weights, strict=True):
        cells = ["-" if np.isnan(w) else f"**{w:.2f}**" if w == best else f"{w:.2f}" for w, best in zip(row, largest, strict=True)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def weight_picture(path: Path, weights: Mapping[str, np.ndarray], sources: Sequence[str], labels: Sequence[str]) -> None:
    """Writes a picture (PNG) with a panel for each fusion: a row per source, a column per class, dark where the weight is large.

    Args:
        path: the file; written in one step.
        weights: (M, C) floats by name of the fusion.
        sources: M names.
        labels: C names.

    Raises:
        UsageError: where they do not match, or there is nothing to show.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not weights:
        raise UsageError("there are no weights to draw")
    tables = {name: _checked(table, sources, labels) for name, table in weights.items()}
    width, height = 2.5 + 0.62 * len(labels), 1.3 + 0.34 * len(sources)
    figure = Figure(figsize=(width, height * len(tables)), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    for panel, (name, table) in zip(np.atleast_1d(figure.subplots(len(tables), 1)), tables.items(), strict=True):
        panel.imshow(np.nan_to_num(table), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        panel.set_title(name, loc="left", fontsize=10)
        panel.set_xticks(range(len(labels)), labels, fontsize=8, rotation=25, ha="right")
        panel.set_yticks(range(len(sources)), sources, fontsize=8)
        for (row, column), value in np.ndenumerate(table):
            if not np.isnan(value):
                panel.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color="white" if value > 0.6 else "black")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def _checked(weights: np.ndarray, sources: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (len(sources), len(labels)):
        raise UsageError(f"expected weights for {len(sources)} sources and {len(labels)} labels, found {weights.shape}")
    return weights
