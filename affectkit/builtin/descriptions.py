"""``core/descriptions``: what somebody, or some model, has written about windows of a medium.

A table (CSV or TSV) has one row per description::

    media,start,end,text
    clip.mp4,0,4,"A woman smiles at the camera."
    clip.mp4,,,"An interview in a studio."

``media`` (or ``video_name``, ``video``, ``file``, ``clip``, ``id``) is the file name, with or without suffix and folders; ``start`` and ``end``
are seconds; ``text`` may be called ``description``. Other columns, such as labels, are never read. Without times a row speaks for the
whole medium, wherever no row with times does. Names such as ``01___0003.mp4`` or ``clip___Happy_0003.avi`` are
numbered windows, as team RAS cuts them: number n covers ``n * step`` to ``n * step + length`` seconds after the start of
``01`` or ``clip``, unless a medium has that very name.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

from affectkit.components import Provider, Scope
from affectkit.errors import AffectKitError, ConfigError, did_you_mean, raise_all
from affectkit.evidence import Evidence
from affectkit.media import Media, Span
from affectkit.needs import Needs

if TYPE_CHECKING:
    from affectkit.media import Clip

KIND = "description"
BESIDE = ".descriptions.csv"
MEDIA = ("media", "video_name", "video", "file", "clip", "id")
TEXT = ("text", "description")
LEAST = 0.1  # share of a window that a further description must add to be worth its words
SHOWN = 10  # problems of one table that are reported

_NUMBERED = re.compile(r"(?P<video>.+)___(?:(?P<label>[^_]+)_)?(?P<index>\d{4,})(?:\.\w+)?")
_BY_FRAMES = re.compile(r".+___\d+_\d+_\d+(?:\.\w+)?")


@dataclass(frozen=True)
class Row:
    """One description.

    Attributes:
        text: what it says.
        span: the seconds it speaks for, ``None`` for the whole medium.
        relative: whether the span counts from the start of the medium instead of being presentation time.
    """

    text: str
    span: Span | None = None
    relative: bool = False


@dataclass(frozen=True)
class Table:
    """The descriptions of a file, by the name of the medium as it is written there (``""`` where there is no such column)."""

    path: Path
    rows: Mapping[str, Sequence[Row]] = field(default_factory=dict)

    def of(self, media: Media) -> Sequence[Row]:
        """The rows of a medium: those with its own id, else with most of its path, else with its name without suffix."""
        if media.id in self.rows and media.id != media.path.stem:
            return self.rows[media.id]
        parts = media.path.absolute().parts
        matches = [(_agreement(name, parts), name) for name in self.rows]
        best = max((match for match in matches if match[0]), default=None)
        return self.rows[best[1]] if best else ()


@dataclass(frozen=True)
class Options:
    """Options of :class:`Descriptions`.

    Attributes:
        path: the table; empty looks for ``STEM.descriptions.csv`` beside each medium.
        length: length of numbered windows in seconds.
        step: seconds from one numbered window to the next.
    """

    path: str = ""
    length: float = 4.0
    step: float = 2.0

    def __post_init__(self) -> None:
        for name in ("length", "step"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be greater than 0 seconds, found {getattr(self, name)}")


class Descriptions(Provider):
    """Descriptions of windows, read from a table."""

    name = "descriptions"
    kind: ClassVar[str] = KIND
    scope: ClassVar[Scope] = "window"
    needs = Needs()
    together = 1
    Options = Options

    def __init__(self, options: Any = None) -> None:
        """Reads the table that the options name; here, so that a wrong one is told together with all other problems of a recipe.

        Raises:
            ConfigError: where it is absent, has no usable columns, or times that are none.
        """
        super().__init__(options)
        given = self.options.path
        self._table = read(Path(given).expanduser(), self.options.length, self.options.step) if given else None
        self._beside: dict[Path, Table | str] = {}

    def provide(self, clips: Sequence[Clip]) -> Sequence[Evidence]:
        """One description per window: ``text``, and in ``quality`` its number of words."""
        return [self._describe(clip) for clip in clips]

    def files(self, media: Media) -> Sequence[Path]:
        """The table that the option names, or the one beside the medium."""
        return [Path(self.options.path).expanduser() if self.options.path else _beside(media)]

    def _describe(self, clip: Clip) -> Evidence:
        table = self._table or self._table_beside(clip.media)
        if isinstance(table, str):
            return Evidence.none(KIND, table)
        rows = table.rows.get("", ()) or table.of(clip.media)
        if not rows:
            near = did_you_mean(clip.media.path.name, list(table.rows)[:SHOWN])
            return Evidence.none(KIND, f"{table.path.name} has no row for {clip.media.path.name}. {near}")
        text = " ".join(texts(rows, clip.span, clip.media.start))
        if not text:
            return Evidence.none(KIND, f"{table.path.name} has no row for this window")
        return Evidence(KIND, {"text": text}, quality={"words": float(len(text.split()))})

    def _table_beside(self, media: Media) -> Table | str:
        """The table beside a medium, or why there is none."""
        path = _beside(media)
        if path not in self._beside:
            if path.is_file():
                try:
                    self._beside[path] = read(path, self.options.length, self.options.step, beside=True)
                except AffectKitError as error:  # one medium's own table stops no other medium
                    self._beside[path] = str(error)
            else:
                self._beside[path] = "no descriptions given (--descriptions FILE, or NAME.descriptions.csv beside NAME)"
        return self._beside[path]


def _beside(media: Media) -> Path:
    return media.path.with_name(media.path.stem + BESIDE)


def texts(rows: Iterable[Row], window: Span, start: float = 0.0) -> list[str]:
    """What the rows say about a window, the longest overlap first; a row that adds no further seconds is left out.

    Args:
        rows: the descriptions of one medium.
        window: the window, in seconds of presentation time.
        start: presentation time at which the medium starts.

    Returns:
        Texts in order; those of the same seconds are all kept. Where no row has times that overlap the window, the texts
        for the whole medium.

    >>> rows = [Row("a", Span(0, 4)), Row("b", Span(2, 6)), Row("c", Span(4, 8)), Row("all")]
    >>> texts(rows, Span(2, 6)), texts(rows, Span(3.5, 7.5)), texts(rows, Span(9, 13))
    (['b'], ['c', 'b'], ['all'])
    """
    by_span: dict[tuple[float, float], list[str]] = {}
    whole = []
    for row in rows:
        if row.span is None:
            whole.append(row.text)
            continue
        shift = start if row.relative else 0.0
        by_span.setdefault((row.span.start + shift, row.span.end + shift), []).append(row.text)
    if window.length == 0:  # an image, or one frame
        inside = [span for span in by_span if span[0] <= window.start < span[1] or span[0] == span[1] == window.start]
        return by_span[min(inside, key=lambda span: span[1] - span[0])] if inside else whole
    cut = [(max(low, window.start), min(high, window.end), low, high) for low, high in by_span]
    found: list[str] = []
    open_parts = [(window.start, window.end)]
    for low, high, *span in sorted((item for item in cut if item[0] < item[1]), key=lambda item: (item[0] - item[1], item[0])):
        rest = [part for a, b in open_parts for part in ((a, min(b, low)), (max(a, high), b)) if part[0] < part[1]]
        added = _total(open_parts) - _total(rest)
        if added >= LEAST * window.length:
            found.extend(by_span[span[0], span[1]])
            open_parts = rest
    return found or whole


def read(path: Path, length: float = 4.0, step: float = 2.0, beside: bool = False) -> Table:
    """A table of descriptions.

    Args:
        path: CSV, or TSV by suffix or header.
        length: length of numbered windows in seconds.
        step: seconds from one numbered window to the next.
        beside: whether it belongs to one medium, so that a column with its name is not needed.

    Raises:
        ConfigError: where it is absent, is no table with these columns, or a row is wrong.
        Problems: where several rows are wrong.
    """
    lines = _lines(path)
    delimiter = "\t" if path.suffix.lower() in (".tsv", ".tab") else max(",\t;", key=lines[0].count) if lines else ","
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    problems: list[AffectKitError] = []
    rows: dict[str, list[Row]] = {}
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
        media, text, start, end = _columns(path, header, beside)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            try:
                if len(cells) > len(header):
                    raise ConfigError(f"{len(cells)} columns where the header has {len(header)}; put texts with commas in quotes")
                cells += [""] * (len(header) - len(cells))
                name, row = _row(cells, media, text, start, end, length, step)
                if row.text:
                    rows.setdefault(name, []).append(row)
                    if row.relative and media is not None:  # the windows may also be files of their own
                        rows.setdefault(cells[media].strip(), []).append(Row(row.text))
            except ConfigError as error:
                problems.append(ConfigError(f"{path}, line {reader.line_num}: {error}"))
            if len(problems) == SHOWN:
                break
    except csv.Error as error:
        problems.append(ConfigError(f"{path}, line {reader.line_num}: not a row of a table ({error})"))
    raise_all(problems)
    if not rows:
        raise ConfigError(f"{path} has no rows with text")
    return Table(path, rows)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
    except FileNotFoundError:
        raise ConfigError(f"there is no table of descriptions at {path}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text in UTF-8; save the table of descriptions as CSV in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"the table of descriptions {path} cannot be read: {error.strerror}") from None


def _columns(path: Path, header: list[str], beside: bool) -> tuple[int | None, int, int | None, int | None]:
    """Positions of medium, text, start and end."""
    media, text, start, end = (
        next((header.index(name) for name in names if name in header), None) for names in (MEDIA, TEXT, ("start",), ("end",))
    )
    wanted = "media,start,end,text (start and end may be left out)"
    if text is None or (media is None and not beside):
        missing = "text" if text is None else "media"
        found = ", ".join(header)[:200] or "nothing"
        raise ConfigError(f"{path} has no column {missing!r}; a table of descriptions has the header {wanted}, found {found}")
    if (start is None) != (end is None):
        raise ConfigError(f"{path} has only one of the columns start and end; a table of descriptions has the header {wanted}")
    return media, text, start, end


def _row(
    cells: Sequence[str], media: int | None, text: int, start: int | None, end: int | None, length: float, step: float
) -> tuple[str, Row]:
    name = "" if media is None else cells[media].strip()
    if media is not None and not name:
        raise ConfigError("no name of a medium")
    if start is not None and end is not None and (cells[start].strip() or cells[end].strip()):
        low, high = _seconds(cells[start], "start"), _seconds(cells[end], "end")
        if low > high:
            raise ConfigError(f"start {low} is after end {high}")
        return name, Row(cells[text].strip(), Span(low, high))
    if _BY_FRAMES.fullmatch(name):
        raise ConfigError(f"{name} is numbered by frames, which say no time; give start and end in seconds")
    if match := _NUMBERED.fullmatch(name):
        low = int(match["index"]) * step
        return match["video"], Row(cells[text].strip(), Span(low, low + length), relative=True)
    return name, Row(cells[text].strip())


def _seconds(cell: str, column: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise ConfigError(f"{column} must be a number of seconds, found {cell.strip()!r}")
    return value


def _agreement(name: str, parts: Sequence[str]) -> int:
    """How well a written name fits a path: twice its number of parts, less one where it leaves out the suffix; 0 where it does not."""
    written = PurePosixPath(name.replace("\\", "/")).parts
    if not written or written[:-1] != tuple(parts[len(parts) - len(written) : -1]):
        return 0
    if written[-1] == parts[-1]:
        return 2 * len(written)
    return 2 * len(written) - 1 if written[-1] == PurePosixPath(parts[-1]).stem else 0


def _total(parts: Iterable[tuple[float, float]]) -> float:
    return sum(b - a for a, b in parts)
