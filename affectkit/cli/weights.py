"""``affectkit weights``: which weights there are, under which licence, whether they are here, and getting them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from affectkit.cli.options import PluginChoice, plugin_options, settings
from affectkit.errors import AffectKitError, CheckpointError, PluginError, UsageError, did_you_mean, raise_all

if TYPE_CHECKING:
    from affectkit.checkpoints import Progress
    from affectkit.components import Checkpoint
    from affectkit.plugins import Entry, Registry

UNITS = ("B", "kB", "MB", "GB")


@dataclass(frozen=True)
class Record:
    """One checkpoint of a component; ``default`` where the component uses it unless told otherwise."""

    component: str
    tag: str
    checkpoint: Checkpoint
    default: bool

    @property
    def name(self) -> str:
        """What ``weights fetch`` takes."""
        return f"{self.component}:{self.tag}"


json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON.")
names_argument = click.argument("names", nargs=-1, metavar="[ID]...")


@click.group()
@plugin_options()
@click.pass_context
def weights(context: click.Context, plugins: PluginChoice) -> None:
    """List, get and check the weights of components.

    An ID is a plugin (mini), a component (core/whisper), or one checkpoint of a component (core/whisper:small).
    """
    settings(context).plugins = plugins


@weights.command("list")
@names_argument
@json_option
@plugin_options()
def list_command(plugins: PluginChoice, names: tuple[str, ...], as_json: bool) -> None:
    """List weights: component and tag, file, size, licence, and whether they are here."""
    told = [_told(record) for record in select(plugins.registry, names, every=True)]
    if as_json:
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    _print_table(
        [(item["name"] + ("*" if item["default"] else ""), item["file"], item["size"], item["licence"], item["state"]) for item in told]
    )
    if told:
        click.echo("* used unless the recipe chooses another. To get one: affectkit weights fetch ID", err=True)
    else:
        click.echo("No component has weights of its own.", err=True)


@weights.command("fetch")
@click.argument("names", nargs=-1, required=True, metavar="ID...")
@click.option("--all", "every", is_flag=True, help="Every checkpoint of a component, not only the one it uses unless told otherwise.")
@plugin_options()
def fetch_command(plugins: PluginChoice, names: tuple[str, ...], every: bool) -> None:
    """Download weights where they are not here, and check their digests.

    An ID is a plugin (mini), a component (core/whisper), or one checkpoint of a component (core/whisper:small).
    """
    from affectkit import checkpoints

    problems: list[AffectKitError] = []
    found = select(plugins.registry, names, every=every)
    if not found:
        click.echo(f"{', '.join(names)}: no weights of its own, nothing to fetch.")
    for record in found:
        try:
            before = checkpoints.local(record.checkpoint)
            with _progress(record.name) as progress:
                path = checkpoints.resolve(record.checkpoint, fetch=True, owner=record.component, tag=record.tag, progress=progress)
        except CheckpointError as error:
            problems.append(error)
            continue
        came = "is here" if path == before else f"downloaded ({_size(path)})"
        click.echo(f"{record.name}: {came}: {path}\n  licence {record.checkpoint.licence}{_source(record.checkpoint)}")
    raise_all(problems)


@weights.command("verify")
@names_argument
@plugin_options()
def verify_command(plugins: PluginChoice, names: tuple[str, ...]) -> None:
    """Compare the digests of the weights that are here with those that were published."""
    from affectkit import checkpoints

    problems: list[AffectKitError] = []
    rows = []
    for record in select(plugins.registry, names, every=True):
        try:
            if checkpoints.local(record.checkpoint) is None:
                continue
            path = checkpoints.resolve(record.checkpoint, owner=record.component, tag=record.tag)
        except CheckpointError as error:
            problems.append(error)
            rows.append((record.name, "damaged", ""))
            continue
        rows.append((record.name, "ok" if record.checkpoint.sha256 else "no digest published", str(path)))
    _print_table(rows)
    if not rows:
        click.echo("None of these weights is here.", err=True)
    raise_all(problems)


def select(registry: Registry, names: Sequence[str], every: bool) -> list[Record]:
    """The checkpoints that names stand for, each once; all there are where no name is given.

    Args:
        registry: the plugins.
        names: plugins, components, or ``component:tag``.
        every: whether a plugin or component stands for all its checkpoints, or for those that it uses unless told otherwise.

    Raises:
        PluginError: where a plugin or component is unknown, broken or blocked.
        UsageError: where a component has no such tag.
        Problems: where there are several of them.
    """
    problems: list[AffectKitError] = []
    found: dict[str, Record] = {}
    for name in names or [entry.id for entry in registry.entries()]:
        id, colon, tag = name.partition(":")
        try:
            entries = [registry.get(id)] if "/" in id else _of_plugin(registry, id)
            chosen = [record for entry in entries for record in records(entry)]
        except AffectKitError as error:
            problems.append(error)
            continue
        if colon:
            tags = [record.tag for record in chosen]
            if tag not in tags:
                problems.append(UsageError(f"{id} has no checkpoint {tag!r}. {did_you_mean(tag, tags)}"))
            chosen = [record for record in chosen if record.tag == tag]
        elif not every:
            chosen = [record for record in chosen if record.default]
        found |= {record.name: record for record in chosen}
    raise_all(problems)
    return list(found.values())


def records(entry: Entry) -> list[Record]:
    """The checkpoints of a component, those that it uses with its default options marked."""
    try:
        component = entry.cls()
        used, known = component.used_checkpoints(), component.checkpoints
    except (AffectKitError, TypeError):  # it has options without defaults, so nothing is used by default
        used, known = {}, entry.cls.checkpoints if isinstance(entry.cls.checkpoints, Mapping) else {}
    return [Record(entry.id, tag, checkpoint, tag in used) for tag, checkpoint in known.items()]


def _of_plugin(registry: Registry, name: str) -> list[Entry]:
    plugin = registry.plugin(name)
    if plugin.state != "ok":
        raise PluginError(f"plugin {name} is {plugin.state}; affectkit plugins show {name} says why")
    return list(plugin.components)


def _told(record: Record) -> dict[str, Any]:
    from affectkit import checkpoints

    path, name, state = None, Path(record.checkpoint.uri).name, "not here"
    try:
        name = checkpoints.address(record.checkpoint).name
        path = checkpoints.local(record.checkpoint)
    except CheckpointError as error:
        state = str(error)
    return {
        "name": record.name,
        "component": record.component,
        "tag": record.tag,
        "default": record.default,
        "file": name,
        "size": "-" if path is None else _size(path),
        "licence": record.checkpoint.licence,
        "state": state if path is None else "here",
        "path": None if path is None else str(path),
        "uri": record.checkpoint.uri,
        "sha256": record.checkpoint.sha256,
        "source": record.checkpoint.source,
    }


def _source(checkpoint: Checkpoint) -> str:
    return f", {checkpoint.source}" if checkpoint.source else ""


def _size(path: Path) -> str:
    """Size of a file as one reads it, in powers of 1000."""
    size = float(path.stat().st_size)
    for unit in UNITS:
        if size < 1000 or unit == UNITS[-1]:
            break
        size /= 1000
    return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}"


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    if not rows:
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@contextmanager
def _progress(name: str) -> Iterator[Progress | None]:
    """A bar on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(name, total=None)

        def told(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        yield told
