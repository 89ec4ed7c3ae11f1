"""The lists of DFEW, FERV39k, MAFW and AffectNet: which files they are, and what a line of them means.

Each data set is read in the form of its authors and in that of S4D, which writes numbers where they write words, and other numbers. The name of a
file tells its form, and what is in it must agree: no score shows that an order of labels was taken for another one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from affectkit.cells import Cells, read_text, shown
from affectkit.datasets.items import MODES, Item, Mode
from affectkit.datasets.places import Places, rate
from affectkit.errors import ConfigError, LabelError, UsageError
from affectkit.labels import LabelSet

CAPTIONS = "single_label.txt"
FORM = "a list has one clip and its label in each line (docs/datasets.md shows them)"


@dataclass(frozen=True)
class Row:
    """One line of a list: the clip as it is named there, and the column of its label."""

    id: str
    label: int


Parse = Callable[[Path, LabelSet], tuple[list[Row], list[str]]]


@dataclass(frozen=True)
class Form:
    """One form of the lists of a data set.

    Attributes:
        pattern: path of a list with ``{mode}`` (train, test) and ``{fold}``, as :meth:`pathlib.Path.glob` takes it.
        parse: from a file and the label set to its rows and notes.
    """

    pattern: str
    parse: Parse

    def find(self, data: Path, fold: str) -> dict[Mode, Path]:
        """The lists of this form that are in a folder, or one folder below it, by mode.

        Raises:
            UsageError: where there are several of one mode.
        """
        paths = {mode: _only(data, self.pattern.format(mode=mode, fold=fold)) for mode in MODES}
        return {mode: path for mode, path in paths.items() if path is not None}


@dataclass(frozen=True)
class Lists:
    """Reads a data set that has two lists for each fold.

    Attributes:
        forms: in which they may be, the one that is preferred first.
        both: whether both lists must be there, or one does.
        described: whether there may be descriptions of its clips; those to learn from get them.
    """

    forms: tuple[Form, ...]
    both: bool = True
    described: bool = False

    def __call__(self, data: Path, fold: str, labels: LabelSet, places: Places, fps: float) -> tuple[dict[Mode, list[Item]], list[str]]:
        """As :class:`affectkit.datasets.items.Reader`."""
        form, paths = self._find(data, fold)
        items: dict[Mode, list[Item]] = {mode: [] for mode in MODES}
        notes: list[str] = []
        texts = captions(data) if self.described else {}
        for mode in MODES:
            if mode not in paths:
                notes.append(f"there is no list of items to {'learn from' if mode == 'train' else 'test on'}")
                continue
            rows, said = form.parse(paths[mode], labels)
            notes += said
            for row in rows:
                path = places(row.id)
                text = texts.get(row.id) if mode == "train" else None
                items[mode].append(Item(row.id, path, row.label, row.id, rate(path, fps), text))
        if texts:
            described = sum(item.text is not None for item in items["train"])
            notes.append(f"{described} of {len(items['train'])} items to learn from have a description")
        return items, notes

    def _find(self, data: Path, fold: str) -> tuple[Form, dict[Mode, Path]]:
        """The first form that is there, and its lists by mode.

        Raises:
            UsageError: where none is; the message says what they are called.
        """
        found = [(form, form.find(data, fold)) for form in self.forms]
        chosen = next((each for each in found if len(each[1]) == len(MODES)), None)
        if chosen is None and not self.both:
            chosen = next((each for each in found if each[1]), None)
        if chosen is None:
            names = "\n  or ".join(" and ".join(form.pattern.format(mode=mode, fold=fold) for mode in MODES) for form in self.forms)
            there = [str(path) for _, files in found for path in files.values()]
            only = f" (there is only {shown(there)})" if there else ""
            raise UsageError(f"{data} has no lists of fold {fold}{only}. Looked there, and one folder further down, for {names}")
        return chosen


def captions(data: Path) -> dict[str, str]:
    """The English descriptions of MAFW's clips, by id, where its ``single_label.txt`` is there.

    A line is ``03747.mp4 anger <br>...<br> A man speaks excitedly ...``, with the Chinese description first.

    Args:
        data: the folder of the data set.

    Raises:
        UsageError: where there are several such files.
        ConfigError: where it is not as it must be, with file and line.
    """
    path = _only(data, CAPTIONS)
    if path is None:
        return {}
    text = _words(path)
    text.fail(
        {i: "expected a clip, its label and two descriptions after <br>" for i, row in enumerate(text.rows) if "<br>" not in " ".join(row)}
    )
    return {_five_digits(row[0]): " ".join(row).rpartition("<br>")[2].strip() for row in text.rows}


def _only(data: Path, pattern: str) -> Path | None:
    """The one file of a pattern in a folder or one folder below it."""
    paths = sorted({*data.glob(pattern), *data.glob(f"*/{pattern}")})
    if len(paths) > 1:
        raise UsageError(f"{data} has several lists {pattern}: {shown([str(path) for path in paths])}; give the folder of one of them")
    return paths[0] if paths else None


# forms


def _table(path: Path, *columns: str) -> Cells:
    """A list with a header, of which the first column is a clip and the second a label."""
    text = read_text(path, FORM)
    if tuple(cell.lower() for cell in text.header[:2]) != columns:
        raise ConfigError(f"{path}, line 1: expected the columns {', '.join(columns)}, found {shown(text.header)}")
    text.fail({i: f"expected {' and '.join(columns)}, found {shown(row)}" for i, row in enumerate(text.rows) if len(row) < 2})
    return text


def _words(path: Path) -> Cells:
    """A list without a header: a clip, a space, and its label; more may follow."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text in UTF-8; {FORM}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    rows = {number: line.split() for number, line in enumerate(lines, 1) if line.strip()}
    if not rows:
        raise ConfigError(f"{path} has nothing in it; {FORM}")
    text = Cells(path, [], list(rows.values()), list(rows))
    text.fail({i: f"expected a clip and its label, found {shown(row)}" for i, row in enumerate(text.rows) if len(row) < 2})
    return text


def _numbers(text: Cells, first: int, last: int, hint: str = "") -> list[int]:
    """The second column as whole numbers from ``first`` to ``last``."""
    wrong: dict[int, str] = {}
    found = []
    for i, row in enumerate(text.rows):
        cell = row[1].strip()
        found.append(int(cell) if cell.isascii() and cell.isdigit() else -1)
        if not first <= found[-1] <= last:
            wrong[i] = f"the label must be a number from {first} to {last}, found {cell!r}{hint}"
    text.fail(wrong)
    return found


def _named(text: Cells, labels: LabelSet) -> list[int]:
    """The second column as words of the label set."""
    wrong: dict[int, str] = {}
    found = []
    for i, row in enumerate(text.rows):
        try:
            found.append(labels.index(row[1]))
        except LabelError as error:
            wrong[i] = str(error)
    text.fail(wrong)
    return found


def _rows(text: Cells, labels: Sequence[int], name: Callable[[str], str] = str) -> list[Row]:
    return [Row(name(row[0].strip()), label) for row, label in zip(text.rows, labels, strict=True)]


def _five_digits(name: str) -> str:
    """Clips of DFEW and MAFW have numbers of five digits, which spreadsheets cut.

    >>> _five_digits("17"), _five_digits("00017.mp4")
    ('00017', '00017')
    """
    stem = name.removesuffix(".mp4")
    return stem.zfill(5) if stem.isascii() and stem.isdigit() else stem


def _dfew_from_0(path: Path, labels: LabelSet) -> tuple[list[Row], list[str]]:
    text = _table(path, "video_name", "label")
    hint = "; lists of this name count from 0, the official ones, set_1.csv to set_5.csv, from 1"
    return _rows(text, _numbers(text, 0, len(labels) - 1, hint), _five_digits), []


def _dfew_official(path: Path, labels: LabelSet) -> tuple[list[Row], list[str]]:
    text = _table(path, "video_name", "label")
    numbers = _numbers(text, 0, len(labels))
    if 0 in numbers and len(labels) not in numbers:
        raise ConfigError(
            f"{path} has labels from 0 to {max(numbers)}; lists of this name count from 1, with 0 for no single label. "
            f"If these count from 0, call them {'train' if 'train' in path.parent.name else 'test'}_{path.name}"
        )
    rows = _rows(text, [number - 1 for number in numbers], _five_digits)
    none = numbers.count(0)
    return [row for row in rows if row.label >= 0], [f"{none} clips of {path.name} have no single label and are left out"] if none else []


def _ferv_numbers(path: Path, labels: LabelSet) -> tuple[list[Row], list[str]]:
    text = _table(path, "path", "id")
    return _ferv(text, _numbers(text, 0, len(labels) - 1), labels), []


def _ferv_words(path: Path, labels: LabelSet) -> tuple[list[Row], list[str]]:
    text = _words(path)
    return _ferv(text, _named(text, labels), labels), []


def _ferv(text: Cells, found: Sequence[int], labels: LabelSet) -> list[Row]:
    """Rows of FERV39k, whose paths are SCENE/EMOTION/NUMBER: the label must be that of the path."""
    wrong: dict[int, str] = {}
    for i, row in enumerate(text.rows):
        parts = PurePosixPath(row[0].strip()).parts
        try:
            said = labels.index(parts[1]) if len(parts) == 3 else None
        except LabelError:
            said = None
        if said is None:
            wrong[i] = f"{row[0]!r} is not SCENE/EMOTION/NUMBER with one of {', '.join(labels.labels)}"
        elif said != found[i]:
            wrong[i] = f"{row[0]!r} has the label {row[1]!r}, which is {labels.labels[found[i]]} here: is the list in another order?"
    text.fail(wrong)
    return _rows(text, found)


def _mafw_numbers(path: Path, labels: LabelSet) -> tuple[list[Row], list[str]]:
    text = _table(path, "video_name", "labels")
    return _rows(text, _numbers(text, 0, len(labels) - 1), _five_digits), []


def _mafw_words(path: Path, labels: LabelSet) -> tuple[list[Row], list[str]]:
    text = _words(path)
    return _rows(text, _named(text, labels), _five_digits), []


def _affectnet(path: Path, labels: LabelSet) -> tuple[list[Row], list[str]]:
    text = _words(path)
    return _rows(text, _numbers(text, 0, len(labels) - 1)), []


DFEW = Lists(
    (
        Form("{mode}(single-labeled)/{mode}_set_{fold}.csv", _dfew_from_0),
        Form("{mode}(single-labeled)/set_{fold}.csv", _dfew_official),
        Form("{mode}_single-labeled/set_{fold}.csv", _dfew_official),
    )
)
FERV39K = Lists((Form("Annotation/{mode}.csv", _ferv_numbers), Form("All_scenes/{mode}_All.csv", _ferv_words)))
MAFW = Lists(
    (
        Form("anno/single/no_caption/set_{fold}/{mode}.csv", _mafw_numbers),
        Form("single/no_caption/set_{fold}/{mode}.txt", _mafw_words),
        Form("label/no_caption/set_{fold}/{mode}.txt", _mafw_words),
    ),
    described=True,
)
AFFECTNET = Lists((Form("{mode}_affectnet7*.txt", _affectnet),), both=False)
