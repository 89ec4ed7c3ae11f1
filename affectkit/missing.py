"""What a report says of weights that are not here: what to fetch with one command, what to make with which, what a run goes on without."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from affectkit.errors import AffectKitError


@dataclass(frozen=True)
class Wanted:
    """Weights that are not here, and how to come by them: exactly one of ``fetch`` and ``make``.

    Attributes:
        owner: id of the component that wants them.
        name: of the file, or of the repository where they are a folder; with the size and the source where they are known.
        fetch: what ``affectkit weights fetch`` takes to get them.
        make: the command that makes them, where nobody publishes them.
        give: how a local file or folder is given; empty where it cannot be.
        instead: what needs no weights, as a clause; empty where there is nothing.
    """

    owner: str
    name: str
    fetch: str = ""
    make: str = ""
    give: str = ""
    instead: str = ""

    @property
    def others(self) -> str:
        """What else one can do, to end a line with."""
        return "".join(f"; or {choice}" for choice in (self.give, self.instead) if choice)


@dataclass(frozen=True)
class LeftOut:
    """An alternative that a run goes on without.

    Attributes:
        kind: of input that it would make.
        error: why it is not ready.
    """

    kind: str
    error: AffectKitError

    def __str__(self) -> str:
        return f"Not here either, an alternative for {self.kind} without which a run goes on: {self.error}"


def report(problems: Sequence[AffectKitError], remarks: Sequence[object]) -> str:
    """All problems and remarks in lines; weights that are not here have one line each, in groups, where there are several of them."""
    absent = [problem.wanted for problem in problems if problem.wanted]
    beside = [remark for remark in remarks if isinstance(remark, LeftOut) and remark.error.wanted]
    if len(absent) + len(beside) < 2:
        return "\n".join([*_numbered(problems), *map(str, remarks)])
    others = [remark for remark in remarks if remark not in beside]
    lines = [*_numbered(problem for problem in problems if not problem.wanted), *map(str, others)]
    fetched, made = [item for item in absent if item.fetch], [item for item in absent if item.make]
    if fetched:
        lines.append(f"To fetch: affectkit weights fetch {' '.join(dict.fromkeys(item.fetch for item in fetched))}")
        lines += _table((item.owner, f"{item.name}{item.others}") for item in fetched)
    if made:
        lines.append("To make, since nobody publishes them:")
        lines += _table((item.owner, f"{item.name}: '{item.make}'{item.others}") for item in made)
    if beside:
        lines.append("A run goes on without these:")
        lines += _table(_without(remark) for remark in beside)
    if fetched or any(remark.error.wanted and remark.error.wanted.fetch for remark in beside):
        lines.append(_ending())
    return "\n".join(lines)


def _without(remark: LeftOut) -> tuple[str, str]:
    item = remark.error.wanted
    assert item is not None
    how = f"affectkit weights fetch {item.fetch}" if item.fetch else item.make
    return item.owner, f"alternative for {remark.kind}, {item.name}: '{how}'{item.others}"


def _ending() -> str:
    """Where fetching is forbidden or there is no network, and where files were looked for."""
    from affectkit.caches import cache_folder, offline

    forbidden = f"Downloads are forbidden here: fetch where they are allowed and copy the folder {cache_folder()}. " if offline() else ""
    return (
        f"{forbidden}With --offline, 'affectkit weights fetch' says what to download by hand and where to put it; "
        "'affectkit weights list --json' says where each was looked for."
    )


def _numbered(problems: Iterable[AffectKitError]) -> list[str]:
    return [f"{number}. {problem}" for number, problem in enumerate(problems, 1)]


def _table(rows: Iterable[tuple[str, str]]) -> list[str]:
    rows = list(rows)
    wide = max(len(owner) for owner, _ in rows)
    return [f"  {owner.ljust(wide)}  {text}" for owner, text in rows]
