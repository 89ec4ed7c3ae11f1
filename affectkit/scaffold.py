"""A new plugin as a package: folders and files rendered from ``templates/``, one small working component of the kind asked for.

A file ``NAME.template`` becomes ``NAME`` with ``$names`` filled in, ``gitignore`` becomes ``.gitignore``, and the folder ``package``
gets the name of the package.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from string import Template

import affectkit
from affectkit import discovery
from affectkit.errors import PluginError, StoreError, UsageError, did_you_mean

TEMPLATES = Path(__file__).parent / "templates"
SUFFIX = ".template"
LONGEST = 40  # letters of a name; file systems and tables stay readable
RESERVED = ("affectkit", discovery.CORE)

# One or more runs of letters and digits with a hyphen or underscore between them, as PyPI and Python both take it.
_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")


@dataclass(frozen=True)
class Names:
    """What a plugin is called in the places where it has a name.

    Attributes:
        plugin: first part of the ids of its components, as ``--plugins`` takes it.
        distribution: what pip installs.
        package: what Python imports.
    """

    plugin: str
    distribution: str
    package: str

    @classmethod
    def of(cls, name: str) -> Names:
        """The names of a plugin.

        Raises:
            UsageError: where ``name`` cannot be one.

        >>> Names.of("my-model")
        Names(plugin='my-model', distribution='affectkit-my-model', package='affectkit_my_model')
        """
        if not _NAME.fullmatch(name) or len(name) > LONGEST:
            better = "-".join(re.findall(r"[a-z0-9]+", name.lower()))[:LONGEST].strip("-")
            hint = f"; for instance {better}" if _NAME.fullmatch(better) else ""
            raise UsageError(
                f"{name!r} cannot be the name of a plugin: lower-case letters and digits, '-' or '_' between them, "
                f"beginning with a letter, at most {LONGEST}{hint}"
            )
        if name in RESERVED:
            raise UsageError(f"{name!r} is affectkit's own name; choose another, for instance my-{name}")
        plain = re.sub("^affectkit[-_]", "", name)
        if plain != name:
            raise UsageError(
                f"leave out {name[: -len(plain)]!r}: the plugin {plain} gets the distribution affectkit-{plain.replace('_', '-')}"
            )
        return cls(name, f"affectkit-{name.replace('_', '-')}", f"affectkit_{name.replace('-', '_')}")


@dataclass(frozen=True)
class Kind:
    """One kind of plugin that can be written.

    Attributes:
        component: name of the component in the package that is written.
        summary: one line that says what it does.
        folders: folders of templates, each on top of the one before.
        requires: requirements of the package beside affectkit.
        command: how to try it on a video, a line or several; ``{id}``, ``{plugin}`` and ``{package}`` are filled in.
        note: a sentence that explains the command, with the same names.
    """

    component: str
    summary: str
    folders: tuple[str, ...]
    requires: tuple[str, ...]
    command: str
    note: str


KINDS: Mapping[str, Kind] = {
    "modality": Kind(
        "colours",
        "The mood that the colours of pictures set",
        ("common", "modality"),
        ("numpy>=1.26", "torch>=2.6"),
        "affectkit run VIDEO --plugins {plugin} --fusion core/mean --out out",
        "`VIDEO` is any video or picture. `affectkit run` prints the most likely expressions; the tables are in the folder `out`.",
    ),
    "provider": Kind(
        "words",
        "Words from a table beside the medium",
        ("common", "provider"),
        (),
        "affectkit run VIDEO --plugins mini/text --set providers.transcript={id} --fusion core/mean --out out",
        "`VIDEO` is any video with a table of words beside it: `talk.words.csv` beside `talk.mp4`, with the columns `start,end,word`. "
        "The modality `mini/text`, of the package affectkit-mini, reads the words.",
    ),
    "fusion": Kind(
        "log_pool",
        "The geometric mean of the sources",
        ("common", "sources", "fusion"),
        (),
        "affectkit run VIDEO --fusion {id} --out out",
        "`VIDEO` is any video. The sources are those of the default recipe; name others with `--plugins`.",
    ),
    "head": Kind(
        "minimum",
        "Compound expressions by the less likely of their two emotions",
        ("common", "sources", "head"),
        (),
        "affectkit run VIDEO --head {id} --out out",
        "`VIDEO` is any video. What the head reads is fused from the sources of the default recipe.",
    ),
    "submitter": Kind(
        "videos",
        "One line per video: the expression that is most likely over all of it",
        ("common", "sources", "submitter"),
        (),
        "affectkit submit out --to {id} --template LIST --out predictions.csv",
        "`out` is a run folder of `affectkit run`, `LIST` a text file with the name of one video a line.",
    ),
    "training": Kind(
        "mood_training",
        "The mood of pictures, learned from labelled ones",
        ("common", "training"),
        ("numpy>=1.26", "torch>=2.6"),
        "python -m {package}.example data\n"
        "affectkit train {plugin}/mood --data data --out weights\n"
        "affectkit run data/pictures/000.png --plugins {plugin} --set components.{plugin}/mood.checkpoint=weights/mood.safetensors "
        "--fusion core/mean --out out",
        "`data` is a folder of made pictures with `labels.csv`; put your own there. `weights` gets the weights, their record and their model card, and "
        "the modality `{plugin}/mood` reads them.",
    ),
}
"""The kinds of plugins that can be written, by the name of the kind."""


@dataclass(frozen=True)
class Scaffold:
    """What was written: the folder, its names, and the id of its component."""

    folder: Path
    names: Names
    kind: str

    @property
    def id(self) -> str:
        """Id of the component."""
        return f"{self.names.plugin}/{KINDS[self.kind].component}"

    @property
    def command(self) -> str:
        """The command that tries it, a line or several."""
        return self.filled(KINDS[self.kind].command)

    def filled(self, text: str) -> str:
        """A text of its kind with its own names."""
        return text.format(id=self.id, plugin=self.names.plugin, package=self.names.package)


def create(name: str, kind: str = "modality", out: Path | None = None, files: Path | None = None) -> Scaffold:
    """Writes a plugin as a package that can be installed.

    Args:
        name: name of the plugin, for instance ``"my-model"``.
        kind: what it contributes, one of :data:`KINDS`.
        out: folder to write, absent or empty; ``None`` is ``name`` in the current folder.
        files: folder of one-file plugins whose names are taken as well.

    Raises:
        UsageError: for a name that cannot be one, an unknown kind, or a folder that is not empty.
        PluginError: where the name is taken.
        StoreError: where the folder cannot be written; nothing is left of it.
    """
    if kind not in KINDS:
        raise UsageError(f"there is no kind of plugin {kind!r}. {did_you_mean(kind, KINDS)}")
    names = Names.of(name)
    _check_free(names, files)
    folder = out if out is not None else Path(name)
    _check_empty(folder)
    made = Scaffold(folder, names, kind)
    try:
        _write(folder, render(made))
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error.strerror or error}") from error
    return made


def render(made: Scaffold) -> dict[str, str]:
    """The text of every file by its path in the folder, with ``/``."""
    kind = KINDS[made.kind]
    values = {
        "plugin": made.names.plugin,
        "distribution": made.names.distribution,
        "package": made.names.package,
        "id": made.id,
        "kind": made.kind,
        "pin": pin(affectkit.__version__),
        "dependencies": ", ".join(f'"{text}"' for text in (f"affectkit{pin(affectkit.__version__)}", *kind.requires)),
        "summary": kind.summary,
        "try_it": made.command,
        "try_note": made.filled(kind.note),
    }
    return {path: Template(text).substitute(values) for folder in kind.folders for path, text in _templates(folder, made.names.package)}


def pin(version: str) -> str:
    """The versions of affectkit that a plugin written for ``version`` accepts: up to the next one that may break it.

    >>> pin("0.1.3"), pin("2.4.0")
    ('>=0.1,<0.2', '>=2.4,<3')
    """
    major, minor = (int(part) for part in version.split(".")[:2])
    return f">={major}.{minor},<{major + 1}" if major else f">=0.{minor},<0.{minor + 1}"


def _templates(folder: str, package: str) -> Iterator[tuple[str, str]]:
    for path in sorted((TEMPLATES / folder).rglob(f"*{SUFFIX}")):
        *parents, file = path.relative_to(TEMPLATES / folder).parts
        written = file.removesuffix(SUFFIX)
        parts = [package if part == "package" else part for part in parents]
        yield "/".join([*parts, ".gitignore" if written == "gitignore" else written]), path.read_text(encoding="utf-8")


def _check_free(names: Names, files: Path | None) -> None:
    """Refuses names that something installed has; none of it is imported."""
    same = re.compile(re.sub("[-_]", "[-_]", names.plugin))
    for found in discovery.candidates(files):
        if same.fullmatch(found.name):
            raise PluginError(
                f"there is a plugin {found.name} already, of {found.origin}; choose another name, or uninstall {found.distribution}"
            )
    spec = find_spec(names.package)
    if spec is not None:
        where = spec.origin or next(iter(spec.submodule_search_locations or ()), "somewhere")
        raise PluginError(f"there is a package {names.package} already ({where}), which this one would hide; choose another name")


def _check_empty(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; name an empty or new folder with --out, or remove what is in it")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder with --out")


def _write(folder: Path, files: Mapping[str, str]) -> None:
    """Writes all files into a folder of another name and moves them, so that nothing half-written is left where writing fails."""
    there = folder.exists()
    beside = folder if there else folder.parent  # an empty folder stays the same one: somebody may be in it
    beside.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".affectkit-", dir=beside))
    try:
        made = temporary / "made"
        for path, text in files.items():
            target = made / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        if not there:
            made.rename(folder)
        else:
            for item in sorted(made.iterdir()):
                item.rename(folder / item.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
