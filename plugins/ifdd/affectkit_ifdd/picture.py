"""What IFDD saw of a clip as one picture: the faces, where the splitting reads, and the static and the dynamic part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.api import UsageError
from affectkit.files import replacing

if TYPE_CHECKING:
    import torch

    from affectkit_ifdd.face_dynamic import FaceDynamic

PARTS = {"static": "#2b6cb0", "dynamic": "#c05621"}
SUFFIXES = (".png", ".pdf", ".svg", ".jpg")
SHOWN = 0.45  # how much of a map covers the face


@dataclass(frozen=True)
class Sight:
    """What was seen of one view of a clip. T pictures, K indices of a part, S pixels of a side, G patches of a side.

    Attributes:
        title: of what, and when.
        pictures: (T, S, S, 3) uint8 RGB.
        times: (T,) float64 seconds.
        frames: (K,) float64 per part, the frames from 0, fractional, that the splitting reads.
        maps: (K, G, G) float64 per part: how far each patch after the lifting is from the mean of all patches of its part, in the length of its features.
        answer: probabilities by label, the largest first.
    """

    title: str
    pictures: np.ndarray
    times: np.ndarray
    frames: dict[str, np.ndarray]
    maps: dict[str, np.ndarray]
    answer: Sequence[tuple[str, float]]


def see(component: FaceDynamic, views: torch.Tensor, times: torch.Tensor, title: str) -> list[Sight]:
    """What a component sees of the views of a clip.

    Args:
        component: loaded.
        views: (V, T, S, S, 3) uint8 RGB, as its ``preprocess`` gives them.
        times: (V, T) float64 seconds.
        title: what it is of.
    """
    import torch

    with torch.inference_mode():
        seen = component.see(views)
    lifted, known = seen.lifted, component.known
    shares = (seen.logits.float() / known.temperature).softmax(1)
    index = {"static": lifted.split.static_index, "dynamic": lifted.split.dynamic_index}
    patches = {"static": lifted.static, "dynamic": lifted.dynamic}
    found = []
    for view in range(len(views)):
        order = shares[view].argsort(descending=True).tolist()
        found.append(
            Sight(
                title if len(views) == 1 else f"{title}, view {view + 1} of {len(views)}",
                views[view].cpu().numpy(),
                times[view].cpu().numpy(),
                {name: component.places(values)[view].double().cpu().numpy() for name, values in index.items()},
                {name: _strength(values[view], known.sizes.grid) for name, values in patches.items()},
                [(known.labels.labels[column], float(shares[view, column])) for column in order],
            )
        )
    return found


def draw(sights: Sequence[Sight], out: Path) -> None:
    """Draws views one under the other. The colours on the faces are distances from the mean of the part, each row scaled to its own largest one.

    Args:
        sights: at least one.
        out: the picture, by its suffix PNG, PDF, SVG or JPEG.

    Raises:
        UsageError: for another suffix.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{out} is no picture that can be drawn; give a name that ends in {', '.join(SUFFIXES)}")
    from matplotlib.figure import Figure

    count = len(sights[0].pictures)
    figure = Figure(figsize=(max(12, 0.75 * count), 5.6 * len(sights)), layout="constrained")
    for sight, part in zip(sights, figure.subfigures(len(sights), 1, squeeze=False).ravel(), strict=True):
        _view(part, sight)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        figure.savefig(temporary, format=out.suffix[1:].lower(), dpi=110)


def _view(figure: Any, sight: Sight) -> None:
    """The faces in a row, the course of the indices under them, and the faces at these with what is strong there."""
    count, parts = len(sight.pictures), len(sight.frames["static"])
    rows = figure.subfigures(3, 1, height_ratios=(1.1, 1.0, 3.2))
    best = ", ".join(f"{label} {share:.2f}" for label, share in sight.answer[:3])
    rows[0].suptitle(f"{sight.title}: {best}", fontsize=11)
    for axes, picture, time in zip(rows[0].subplots(1, count), sight.pictures, sight.times, strict=True):
        axes.imshow(picture)
        axes.set_title(f"{time:.2f} s", fontsize=7)
        axes.set_axis_off()
    axes = rows[1].subplots()
    for height, (name, colour) in enumerate(PARTS.items()):
        places = sight.frames[name]
        axes.scatter(places, np.full(len(places), height), s=60, color=colour, zorder=3)
        for number, place in enumerate(places, 1):
            axes.annotate(str(number), (place, height), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8, color=colour)
    axes.set(xlim=(-0.5, count - 0.5), ylim=(-0.6, 2.0), yticks=range(len(PARTS)), yticklabels=list(PARTS), xticks=range(count))
    axes.set_xlabel("frame", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(axis="x", alpha=0.3)
    grid = rows[2].subplots(len(PARTS), parts)
    for name, line in zip(PARTS, grid, strict=True):
        strongest = max(float(sight.maps[name].max()), 1e-12)
        for number, axes in enumerate(line):
            place = float(sight.frames[name][number])
            picture = between(sight.pictures, place)
            axes.imshow(picture)
            side = picture.shape[0]
            shown = axes.imshow(
                sight.maps[name][number] / strongest,
                cmap="magma",
                vmin=0,
                vmax=1,
                alpha=SHOWN,
                extent=(-0.5, side - 0.5, side - 0.5, -0.5),
                interpolation="bilinear",
            )
            axes.set_title(f"{name} {number + 1}: frame {place:.2f}", fontsize=8)
            axes.set_axis_off()
    legend = rows[2].colorbar(shown, ax=grid, ticks=(0, 1), shrink=0.7)
    legend.ax.set_yticklabels(("0", "largest\nof the row"), fontsize=8)
    legend.set_label("distance from the mean of the part", fontsize=8)


def between(pictures: np.ndarray, place: float) -> np.ndarray:
    """The picture at a fractional place, (S, S, 3) uint8: its neighbours laid over each other.

    >>> between(np.array([[[[0, 0, 0]]], [[[100, 100, 100]]]], np.uint8), 0.25).ravel()
    array([25, 25, 25], dtype=uint8)
    """
    place = min(max(place, 0.0), len(pictures) - 1.0)
    first = min(int(place), len(pictures) - 2)
    share = place - first
    mixed: np.ndarray = (1 - share) * pictures[first] + share * pictures[first + 1]
    return np.round(mixed).astype(np.uint8)


def _strength(patches: torch.Tensor, grid: int) -> np.ndarray:
    """How far each patch (K * G * G, C) is from the mean of all, (K, G, G)."""
    patches = patches.double()
    found: np.ndarray = (patches - patches.mean(0)).norm(dim=1).reshape(-1, grid, grid).cpu().numpy()
    return found
