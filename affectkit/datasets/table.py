"""Clips in a table of one's own: a column with the file, one with the label, and one that says which clips are for learning.

::

    file,label,fold,group             file,label,split,fps,text
    anna/01.mp4,happy,1,anna          anna/01,happy,train,30,She laughs at something off camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affectkit.annotations import MEDIA, TIMES, read
from affectkit.cells import Cells, floats, read_text, shown
from affectkit.datasets.items import MODES, Item, Mode
from affectkit.datasets.places import Places, rate
from affectkit.errors import ConfigError, UsageError
from affectkit.labels import LabelSet

NAME = "clips.csv"


@dataclass(frozen=True)
class Table:
    """A table of clips.

    Attributes:
        labels: the label set of its labels.
        folds: names of its folds in order; ``"1"`` where it says train and test itself.
        items: all clips.
        side: per clip the fold in which it is tested on, or ``"train"`` or ``"test"``.
    """

    labels: LabelSet
    folds: tuple[str, ...]
    items: tuple[Item, ...]
    side: tuple[str, ...]

    def part(self, fold: str, mode: Mode) -> list[Item]:
        """The clips of a fold that are for learning (``"train"``) or for testing (``"test"``)."""
        split = not self.folds or set(self.side) <= set(MODES)
        return [
            item
            for item, side in zip(self.items, self.side, strict=True)
            if (side == mode if split else (side == fold) == (mode == "test"))
        ]


def read_table(data: Path, labels: LabelSet | None, clips: Path | None, fps: float) -> Table:
    """Reads a table of clips.

    Args:
        data: the table, or a folder with one called ``clips.csv``.
        labels: what its labels count in; ``None`` for the smallest known set that has all of their names, or a set of their own.
        clips: the folder to which the files are relative; that of the table where it is not given.
        fps: frames per second of folders of frames that the table says nothing of.

    Raises:
        UsageError: where there is no table.
        ConfigError: for what is wrong in it, with file and line.
    """
    path = data / NAME if data.is_dir() else data
    if not path.is_file():
        raise UsageError(
            f"there is no table of clips at {path}; --data takes a CSV file, or a folder with {NAME}; --dataset names other data sets"
        )
    text = read_text(path, "a table of clips has the columns file, label and split or fold (docs/datasets.md shows it)")
    header = [cell.lower() for cell in text.header]
    timed = sorted({name for names in TIMES for name in names} & set(header))
    if timed:
        raise ConfigError(f"{path} has the column {shown(timed)}: a row is a whole clip here; cut the clips, or score a run with --labels")
    ways = [name for name in ("split", "fold") if name in header]
    if len(ways) != 1:
        what = "both a column split and a column fold; keep one" if ways else "no column split (train, test) or fold (1, 2, ...)"
        raise ConfigError(f"{path} has {what}: it says which clips are for learning and which for testing. Found {shown(text.header)}")
    found = read(path, labels)
    if len(found.references) != 1 or (kind := next(iter(found.references))).kind != "categorical":
        raise ConfigError(f"{path} needs one class per clip, in a column label; found {', '.join(s.name for s in found.references)}")
    own, values = kind, found.references[kind]
    wrong: dict[int, str] = dict.fromkeys(np.flatnonzero(np.isnan(values).all(axis=1)).tolist(), "has no label")
    rows = [row + [""] * (len(header) - len(row)) for row in text.rows]
    text = Cells(text.path, text.header, rows, text.lines, text.unit)

    def column(name: str) -> list[str]:
        return [row[header.index(name)].strip() for row in rows] if name in header else [""] * len(rows)

    names = column(next(name for name in MEDIA if name in header))
    side, groups, texts = column(ways[0]), column("group"), column("text")
    rates = floats(text, header.index("fps"), "fps", wrong) if "fps" in header else np.full(len(rows), np.nan)
    for i, value in enumerate(side):
        if not value or (ways == ["split"] and value not in MODES):
            wrong.setdefault(i, f"{ways[0]} must be {'train or test' if ways == ['split'] else 'the name of a fold'}, found {value!r}")
    for i in np.flatnonzero(rates <= 0).tolist():
        wrong.setdefault(i, f"fps must be greater than 0, found {rates[i]:g}")
    text.fail(wrong)
    places = Places(path.parent if clips is None else clips)
    paths = [places(name) for name in names]
    items = tuple(
        Item(name, path, int(np.argmax(value)), group or name, rate(path, float(fps if np.isnan(own_rate) else own_rate)), said or None)
        for name, path, value, group, own_rate, said in zip(names, paths, values, groups, rates, texts, strict=True)
    )
    folds = ("1",) if ways == ["split"] else tuple(sorted(set(side), key=lambda name: (len(name), name)))
    return Table(own, folds, items, tuple(side))
