"""Descriptions of the clips of a data set, which FineCLIPER learns from and never needs afterwards: a table of texts, read for the clips of a fold.

The table is one of ``core/descriptions``: ``media,text`` or ``media,start,end,text``. ``affectkit finecliper describe`` writes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from affectkit.api import AffectKitError, ConfigError, LabelSet
from affectkit.builtin.descriptions import Row, Table
from affectkit.builtin.descriptions import read as read_table
from affectkit.datasets.items import Fold, Item
from affectkit.errors import did_you_mean, raise_all
from affectkit.labels import canonical

SHOWN = 5  # clips named in a message


def told(fold: Fold, path: Path, *, complete: bool = False) -> Fold:
    """A fold whose clips to learn from have the descriptions of a table; those to be tested on get none.

    The notes of the fold say how many clips have one, and how many of these name their own label, which a text that is learned from should not.

    Args:
        fold: of a data set.
        path: the table, CSV or TSV in UTF-8.
        complete: whether every clip must have one.

    Raises:
        ConfigError: where the table cannot be read, or is of other clips.
        Problems: for all that is wrong with its rows and clips.
    """
    texts = read(path, [item.id for item in fold.train], complete=complete, others=[item.id for item in fold.test])
    train = tuple(replace(item, text=texts.get(item.id, item.text)) for item in fold.train)
    named = naming(train, fold.labels)
    note = f"{len(texts)} of {len(train)} clips to learn from have a description in {path.name}"
    if named:
        note += f", and {len(named)} of these name the clip's own label ({_some(named)})"
    return replace(fold, train=train, notes=(*fold.notes, note))


def read(path: Path, ids: Sequence[str], *, complete: bool = False, others: Sequence[str] = ()) -> dict[str, str]:
    """The descriptions of clips by their ids.

    A row is of the clip whose id its name is, with or without suffix, with or without folders before it; zeros before a number may be missing, as spreadsheets
    drop them. Rows of one clip with times are joined in the order of time. Rows of clips that are not asked for are left out.

    Args:
        path: the table.
        ids: of the clips.
        complete: whether every clip must have a description.
        others: ids of clips that the table may be about as well.

    Raises:
        ConfigError: where the table cannot be read, or has no row of these clips.
        Problems: for clips that are described twice, and, where all must be, for those that are not described.
    """
    table = read_table(path)
    known = {*ids, *others}
    found: dict[str, dict[str, Sequence[Row]]] = {}
    for name, rows in table.rows.items():
        if (id := _id(name, known)) is not None:
            found.setdefault(id, {})[name] = rows
    wanted = set(ids)
    described = {id: rows for id, rows in found.items() if id in wanted}
    if not described:
        raise ConfigError(_foreign(table, ids))
    problems: list[AffectKitError] = []
    twice = [id for id, rows in described.items() if _doubled(rows)]
    if twice:
        problems.append(
            ConfigError(
                f"{path}: {len(twice)} clips are described more than once: {_some(twice)}. Keep one row of each, or give rows times"
            )
        )
    missing = [id for id in ids if id not in described]
    if complete and missing:
        problems.append(ConfigError(f"{path}: {len(missing)} of {len(ids)} clips have no description: {_some(missing)}"))
    raise_all(problems)
    return {id: " ".join(row.text for rows in named.values() for row in _in_time(rows)) for id, named in described.items()}


def naming(items: Sequence[Item], labels: LabelSet) -> list[str]:
    """Ids of the clips whose description names their own label, by the word or another that affectkit takes for it.

    Args:
        items: the clips.
        labels: what their labels count in.

    >>> say = lambda text: Item("1", Path("1.mp4"), 0, "1", text=text)
    >>> faces = LabelSet("two", ("anger", "neutral"))
    >>> naming([say("An angry man frowns."), say("The brows come down.")], faces)
    ['1']
    """
    meant = [canonical(label) for label in labels.labels]
    return [
        item.id
        for item in items
        if item.text and meant[item.label] in {canonical(word) for word in re.findall(r"[a-z]+", item.text.lower())}
    ]


def _id(name: str, known: set[str]) -> str | None:
    """The id that a written name means: the longest end of its path, with or without suffix, that is one."""
    parts = PurePosixPath(name.strip().replace("\\", "/")).parts
    for first in range(len(parts)):
        end = PurePosixPath(*parts[first:])
        for text in (str(end), str(end.with_suffix("")) if end.suffix else str(end)):
            if text in known:
                return text
    stem = PurePosixPath(parts[-1]).stem if parts else ""
    if stem.isdecimal():
        padded = {stem.zfill(width) for width in {len(id) for id in known if id.isdecimal()}} & known
        if len(padded) == 1:
            return padded.pop()
    return None


def _doubled(named: Mapping[str, Sequence[Row]]) -> bool:
    """Whether a clip has several rows for the same time, or rows under several names."""
    if len(named) > 1:
        return True
    spans = [row.span for rows in named.values() for row in rows]
    return len(set(spans)) < len(spans) or (None in spans and len(spans) > 1)


def _in_time(rows: Sequence[Row]) -> Iterator[Row]:
    yield from sorted(rows, key=lambda row: row.span.start if row.span else 0.0)


def _foreign(table: Table, ids: Sequence[str]) -> str:
    names = list(table.rows)
    return f"{table.path} describes none of the {len(ids)} clips: it has {_some(names)}, they are called {_some(ids)}. {did_you_mean(names[0], ids[:1000])}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
