"""Where plugins come from: affectkit itself, entry points of installed distributions, and folders of one-file plugins.

Nothing is imported here; a :class:`Candidate` knows how to be.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module, metadata
from pathlib import Path

import affectkit
from affectkit.errors import PluginError, UsageError

GROUP = "affectkit"
"""The group of entry points that plugins are found by."""

CORE = "core"
"""The name of the plugin that ships with affectkit."""


@dataclass(frozen=True)
class Candidate:
    """A plugin before it is imported.

    Attributes:
        name: its name, the first part of the ids of its components.
        distribution: the installed distribution, or the file of a one-file plugin.
        version: version of the distribution; empty where there is none.
        summary: one line that says what it is.
        licence: licence of the distribution as its metadata states it; empty where it states none.
        location: folder or file that it comes from.
        target: what is imported, for messages.
        load: imports it and returns the module or object that holds the hooks; may raise anything.
        requires: the requirements of its distribution.
    """

    name: str
    distribution: str
    version: str = ""
    summary: str = ""
    licence: str = ""
    location: str = ""
    target: str = ""
    load: Callable[[], object] = lambda: None
    requires: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """Distribution and version as one reads them."""
        return f"{self.distribution} {self.version}".strip()


def candidates(folder: str | os.PathLike[str] | None = None) -> list[Candidate]:
    """Every plugin that can be found, in the order in which they are loaded: core, then the installed ones by name, then files.

    Raises:
        UsageError: where ``folder`` is not a folder.
    """
    return [_core(), *sorted(_installed(), key=lambda found: (found.name, found.distribution)), *_files(folder)]


def describe(raised: BaseException) -> str:
    """What was raised, in one line.

    >>> describe(ValueError("no\\nluck"))
    'ValueError: no luck'
    """
    try:
        text = " ".join(str(raised).split())
    except Exception:  # a plugin's own exception class may fail to print
        text = ""
    return f"{type(raised).__name__}: {text}" if text else type(raised).__name__


def _core() -> Candidate:
    return Candidate(
        CORE,
        "affectkit",
        affectkit.__version__,
        "What ships with affectkit: faces, words, fusions and heads",
        "Apache-2.0",
        str(Path(affectkit.__file__).parent / "builtin"),
        "affectkit.builtin",
        lambda: import_module("affectkit.builtin"),
    )


def _installed() -> Iterator[Candidate]:
    """One candidate per entry point of our group; the first of two distributions of the same name on the path counts."""
    seen = set()
    for distribution in metadata.distributions():
        try:
            text = distribution.read_text("entry_points.txt") or ""
        except (OSError, UnicodeError):
            continue  # of somebody else, as far as can be known: nothing of it can be read
        if not re.search(rf"^\s*\[\s*{GROUP}\s*\]", text, re.MULTILINE):
            continue
        found = _metadata(distribution)
        key = re.sub(r"[-_.]+", "-", found.distribution).lower()
        if key in seen:
            continue
        seen.add(key)
        try:
            points = [point for point in distribution.entry_points if point.group == GROUP]
        except Exception as raised:  # importlib.metadata raises TypeError, ValueError or AttributeError by version
            unreadable = _raiser(PluginError(f"its entry_points.txt cannot be read: {describe(raised)}"))
            yield replace(found, name=found.distribution, target="entry_points.txt", load=unreadable)
            continue
        for point in points:
            yield replace(found, name=point.name, target=point.value, load=point.load)


def _metadata(distribution: metadata.Distribution) -> Candidate:
    """What the metadata of a distribution say, still without the name of a plugin."""
    location = str(distribution.locate_file(""))
    try:
        fields = distribution.metadata
        licence = fields["License-Expression"] or fields["License"] or ""
        name, version, summary = fields["Name"] or _folder(distribution), fields["Version"] or "", fields["Summary"] or ""
        return Candidate("", name, version, summary, licence, location, requires=tuple(distribution.requires or ()))
    except Exception:  # metadata that cannot be parsed say nothing; the plugin itself may still work
        return Candidate("", _folder(distribution), location=location)


def _folder(distribution: metadata.Distribution) -> str:
    return Path(str(getattr(distribution, "_path", "unknown"))).name.partition("-")[0]


def _raiser(error: Exception) -> Callable[[], object]:
    def fail() -> object:
        raise error

    return fail


def _files(folder: str | os.PathLike[str] | None) -> Iterator[Candidate]:
    if folder is None:
        return
    path = Path(folder)
    if not path.is_dir():
        raise UsageError(f"--plugins-dir {path}: there is no such folder")
    for file in sorted(path.glob("*.py")):
        if not file.name.startswith("_"):
            yield Candidate(file.stem, file.name, location=str(file), target=file.name, load=_file_loader(file.resolve()))


def _file_loader(file: Path) -> Callable[[], object]:
    def load_file() -> object:
        from importlib.util import module_from_spec, spec_from_file_location

        name = f"affectkit_file_{file.stem}"
        spec = spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise PluginError(f"{file} is not a Python file")
        module = module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up there while they are made
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module

    return load_file
