"""Texts with labels, as Team RAS published their descriptions and as others may write them.

A table (CSV) has a row per text: ``video_name,text,Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other`` with a share per emotion, or
``video_name,text,label`` with its name. ``Other`` may be left out, and the name as well. The name of a video only says which rows belong together; it
may hold the label, so nothing ever reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from affectkit.api import BASIC7, BASIC8, UsageError
from affectkit.labels import canonical
from affectkit_ras.trainings.shares import shares_of
from affectkit_ras.transcripts import count_words

if TYPE_CHECKING:
    import pandas as pd

TEXT = ("text", "description", "transcript")
NAME = ("video_name", "media", "video", "file")
LABEL = ("label", "emotion")
PARTS = {"train": ("train",), "validation": ("dev", "val")}
"""How names of files begin, by the part that they are of."""


@dataclass(frozen=True)
class Texts:
    """N texts.

    Attributes:
        texts: (N) what is read.
        truth: (N,) int64 columns of ``basic8``, the largest share of each text.
        shares: (N, 8) float32 what share of a text has each label of ``basic8``; rows sum to 1.
        groups: (N,) the video that a text is of; the text itself where tables do not name it.
        views: (N,) the table that it is from.
    """

    texts: tuple[str, ...]
    truth: np.ndarray
    shares: np.ndarray
    groups: np.ndarray
    views: np.ndarray

    def take(self, keep: np.ndarray) -> Texts:
        """Some of the rows, (N,) bool."""
        texts = tuple(text for text, kept in zip(self.texts, keep.tolist(), strict=True) if kept)
        return Texts(texts, self.truth[keep], self.shares[keep], self.groups[keep], self.views[keep])


def read(data: Path, pattern: str, held: float, seed: int) -> dict[str, Texts]:
    """The texts to learn from, and those to measure on, with no video in both.

    Args:
        data: a table, or a folder with tables in it and its folders whose names begin with ``train`` and, perhaps, ``dev`` or ``val``.
        pattern: which tables of a folder are read, by their path in it: ``"*32B*_1.csv"``.
        held: share of the videos that are measured on where no table is for that.
        seed: which they are.

    Raises:
        UsageError: where there are no such tables, or one is wrong.
    """
    files = _files(data, pattern)
    found = {part: _joined([_table(path, data) for path in paths]) for part, paths in files.items() if paths}
    learned = found["train"]
    if "validation" not in found:
        names = np.unique(learned.groups)
        if len(names) < 4:
            raise UsageError(f"{data} has texts of {len(names)} videos; at least 4 are needed to learn, to measure and to calibrate")
        chosen = np.random.default_rng(seed).permutation(names)[: min(max(round(held * len(names)), 2), len(names) - 1)]
        found["validation"] = learned.take(np.isin(learned.groups, chosen))
    found["train"] = learned.take(~np.isin(learned.groups, found["validation"].groups))
    if empty := [part for part, texts in found.items() if not texts.texts]:
        raise UsageError(f"{data} leaves no texts for {empty[0]}: all of its videos are measured on as well")
    return found


def _files(data: Path, pattern: str) -> dict[str, list[Path]]:
    if not data.exists():
        raise UsageError(f"there is no {data}; --data must name a table of texts with labels, or a folder of them")
    if data.is_file():
        return {"train": [data]}
    tables = [path for path in sorted(data.rglob("*.csv")) if fnmatch(path.relative_to(data).as_posix(), pattern)]
    files = {part: [path for path in tables if path.name.startswith(begins)] for part, begins in PARTS.items()}
    if not files["train"]:
        seen = ", ".join(path.relative_to(data).as_posix() for path in tables[:5]) or "none"
        raise UsageError(f"{data} has no table train*.csv that fits {pattern!r}; tables that fit: {seen}")
    return files


def _table(path: Path, data: Path) -> Texts:
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UsageError(f"{path} is not a table of texts with labels ({str(error).splitlines()[0]})") from None
    table = table.rename(columns={name: str(name).strip() for name in table.columns})
    lower = {str(name).lower(): name for name in table.columns}
    text = next((lower[name] for name in TEXT if name in lower), None)
    if text is None:
        raise UsageError(f"{path} has no column {TEXT[0]!r}; found {', '.join(table.columns)}")
    shares = _shares(path, table, lower)
    texts = [" ".join(value.split()) for value in table[text]]
    name = next((lower[known] for known in NAME if known in lower), None)
    groups = [_video(value) for value in table[name]] if name is not None else texts
    view = path.stem if path == data else path.relative_to(data).with_suffix("").as_posix()
    rows = Texts(tuple(texts), shares.argmax(axis=1), shares, np.array(groups, dtype=object).astype(str), np.full(len(texts), view))
    return rows.take(shares.any(axis=1) & np.array([count_words(value) > 0 for value in texts], dtype=bool))


def _shares(path: Path, table: pd.DataFrame, lower: dict[str, str]) -> np.ndarray:
    """(N, 8) float32 shares of the labels of ``basic8``, which sum to 1, or are all 0 where a row says nothing."""
    import pandas as pd

    shares = {canonical(str(name)): name for name in table.columns if canonical(str(name)) in BASIC8.labels}
    if not [label for label in BASIC7.labels if label not in shares]:
        numbers = np.zeros((len(table), len(BASIC8)))
        for label, name in shares.items():
            numbers[:, BASIC8.index(label)] = pd.to_numeric(table[name], errors="coerce").fillna(0.0).clip(lower=0.0).to_numpy()
        return shares_of(numbers)
    named = next((lower[known] for known in LABEL if known in lower), None)
    if named is None:
        absent = [label for label in BASIC7.labels if label not in shares]
        raise UsageError(
            f"{path} has no labels: it needs a column per emotion ({', '.join(BASIC7.labels)}, and perhaps other; it lacks {', '.join(absent)}), "
            f"or a column {LABEL[0]!r} with their names"
        )
    names = [canonical(value) for value in table[named]]
    if strange := sorted({name for name in names if name and name not in BASIC8.labels}):
        raise UsageError(f"{path} has labels that are no basic emotions: {', '.join(strange[:5])}; known are {', '.join(BASIC8.labels)}")
    return np.array([[float(name == label) for label in BASIC8.labels] for name in names], dtype=np.float32).reshape(-1, len(BASIC8))


def _video(name: str) -> str:
    """The video that a window is cut from: ``01___0003.mp4`` and ``clip___Happy_0003.avi`` are of ``01`` and ``clip``."""
    return name.partition("___")[0] if "___" in name else Path(name).stem


def _joined(tables: Sequence[Texts]) -> Texts:
    texts = tuple(text for table in tables for text in table.texts)
    columns = (np.concatenate([getattr(table, name) for table in tables]) for name in ("truth", "shares", "groups", "views"))
    return Texts(texts, *columns)
