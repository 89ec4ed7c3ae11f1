"""``affectkit weights``: which weights there are, under which licence, whether they are here, getting and converting them, random ones."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from affectkit.cli.options import PluginChoice, plugin_options, settings
from affectkit.errors import AffectKitError, CheckpointError, raise_all

if TYPE_CHECKING:
    from affectkit.downloads import Progress
    from affectkit.inventory import Record
    from affectkit.needs import Checkpoint

HEADINGS = ("weights", "size", "state", "sha256", "licence", "from")
DIGITS = 8  # of a digest that are shown
LONGEST = 20  # characters of a licence that are shown
WIDTH = 100  # characters of a line of the list

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON.")
names_argument = click.argument("names", nargs=-1, metavar="[ID]...")


@click.group()
@plugin_options()
@click.pass_context
def weights(context: click.Context, plugins: PluginChoice) -> None:
    """List, get, check, try and convert the weights of components.

    An ID is a plugin (mini), a component (core/whisper), or one checkpoint of a component (core/whisper:small).
    """
    settings(context).plugins = plugins


@weights.command("list")
@names_argument
@click.option("--commercial", is_flag=True, help="Only those whose terms allow commercial use: what run --commercial takes.")
@json_option
@plugin_options()
def list_command(plugins: PluginChoice, names: tuple[str, ...], commercial: bool, as_json: bool) -> None:
    """List weights: component and tag, size, whether they are here, digest, licence, and where they come from."""
    from affectkit.inventory import select

    told = [_told(record) for record in select(plugins.registry, names, every=True)]
    every = len(told)
    told = [item for item in told if item["commercial"] or not commercial]
    if as_json:
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    if not told:
        click.echo(f"None of {every} allows commercial use." if every else "No component has weights of its own.", err=True)
        return
    _print_table([HEADINGS, *map(_row, told)], WIDTH)
    to_train = [item for item in told if item["state"] == "to train"]
    if to_train:
        click.echo("To train, since nobody publishes them:")
    for command in dict.fromkeys(item["source"] for item in to_train):
        click.echo(f"  {command}")
        _print_table([(f"    {item['name']}", item["file"]) for item in to_train if item["source"] == command])
    click.echo("* used unless the recipe chooses another. To get one: affectkit weights fetch ID. Paths and all else: --json", err=True)
    for item in told:
        if item["problem"]:
            click.echo(f"{item['name']}: {item['problem']}", err=True)


@weights.command("fetch")
@click.argument("names", nargs=-1, required=True, metavar="ID...")
@click.option("--all", "every", is_flag=True, help="Every checkpoint of a component, not only the one it uses unless told otherwise.")
@plugin_options()
def fetch_command(plugins: PluginChoice, names: tuple[str, ...], every: bool) -> None:
    """Download weights where they are not here, and check their digests.

    An ID is a plugin (mini), a component (core/whisper), or one checkpoint of a component (core/whisper:small).
    """
    from affectkit import checkpoints
    from affectkit.inventory import find, select

    problems: list[AffectKitError] = []
    found = select(plugins.registry, names, every=every)
    if not found:
        click.echo(f"{', '.join(names)}: no weights of its own, nothing to fetch.")
    for record in found:
        if find(record).state == "to train":
            click.echo(f"{record.name}: nobody publishes it. This makes it: {record.checkpoint.source}")
            continue
        try:
            before = checkpoints.local(record.checkpoint)
            with _progress(record.name) as progress:
                path = checkpoints.resolve(record.checkpoint, fetch=True, owner=record.component, tag=record.tag, progress=progress)
        except CheckpointError as error:
            problems.append(error)
            continue
        came = "is here" if path == before else f"downloaded ({checkpoints.readable(checkpoints.size(path))})"
        click.echo(f"{record.name}: {came}: {path}\n  licence {record.checkpoint.licence}{_source(record.checkpoint)}")
    raise_all(problems)


@weights.command("verify")
@names_argument
@plugin_options()
def verify_command(plugins: PluginChoice, names: tuple[str, ...]) -> None:
    """Compare the digests of the weights that are here with those that were published."""
    from affectkit import checkpoints, weight_files
    from affectkit.inventory import select

    problems: list[AffectKitError] = []
    rows = []
    for record in select(plugins.registry, names, every=True):
        try:
            if not record.named or checkpoints.local(record.checkpoint) is None:
                continue
            path = checkpoints.resolve(record.checkpoint, owner=record.component, tag=record.tag)
        except CheckpointError as error:
            problems.append(error)
            rows.append((record.name, "damaged", ""))
            continue
        random = weight_files.is_random(path)
        rows.append((record.name, "random" if random else "ok" if record.checkpoint.sha256 else "no digest published", str(path)))
    _print_table(rows)
    if not rows:
        click.echo("None of these weights is here.", err=True)
    raise_all(problems)


@weights.command("tiny")
@names_argument
@click.option("--out", type=click.Path(path_type=Path), default="affectkit-tiny", show_default=True, help="Folder for weights and recipe.")
@click.option("--recipe", default="mini/mini", show_default=True, help="Recipe that tiny.yaml builds on, by name or file.")
@plugin_options()
def tiny_command(plugins: PluginChoice, names: tuple[str, ...], out: Path, recipe: str) -> None:
    """Write small random weights in the real formats, and a recipe that uses them.

    With them anyone can try the whole tool without a download; what such a run says means nothing. Without an ID they are written for
    all that the recipe names.
    """
    from affectkit import checkpoints
    from affectkit.tiny import write

    done = write(plugins.registry, recipe, names, out)
    _print_table(
        [(f"{item.component}:{item.tag}", checkpoints.readable(checkpoints.size(item.path)), str(item.path)) for item in done.written]
    )
    for component, reason in done.left_out.items():
        click.echo(f"{component} is as in {recipe}: {reason}", err=True)
    left = f", with the weights of {recipe} for {', '.join(done.left_out)}" if done.left_out else ""
    click.echo(f"Random numbers: what a run with them says means nothing. To try it{left}:\naffectkit run --recipe {done.recipe} VIDEO")


@weights.command("convert")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--to", "out", type=click.Path(path_type=Path), required=True, help="The safetensors file to write.")
@click.option("--kind", type=click.Choice(["torchscript"]), default="torchscript", show_default=True, help="What FILE is.")
def convert_command(file: Path, out: Path, kind: str) -> None:
    """Write the weights of a TorchScript file as safetensors, which components take.

    TorchScript is a program. No other command opens it, and this one does so in a process of its own, without network, that writes nothing.
    """
    from affectkit import checkpoints
    from affectkit.torchscript import convert

    count = convert(file, out)
    click.echo(f"{out}: {count} tensors ({checkpoints.readable(checkpoints.size(out))}), sha256 {checkpoints.sha256(out)}")


def _told(record: Record) -> dict[str, Any]:
    """A record as plain data."""
    from affectkit import checkpoints, terms, weight_files
    from affectkit.inventory import find

    found = find(record)
    uri = record.checkpoint.uri
    return {
        "name": record.name,
        "component": record.component,
        "tag": record.tag,
        "default": record.default,
        "file": uri.rpartition("/")[2] if found.state == "unusable" else checkpoints.file_name(record.checkpoint, found.path),
        "size": found.size,
        "licence": weight_files.RANDOM if found.path and weight_files.is_random(found.path) else record.checkpoint.licence,
        "commercial": terms.commercial_use(record.checkpoint, found.path),
        "state": found.state,
        "problem": found.problem or None,
        "path": None if found.path is None else str(found.path),
        "looked_for": [str(place) for place in _places(record)],
        "uri": uri,
        "sha256": record.checkpoint.sha256,
        "source": record.checkpoint.source,
    }


def _places(record: Record) -> tuple[Path, ...]:
    """Where a file is looked for, in order."""
    from affectkit.addresses import address

    try:
        return address(record.checkpoint).places if record.named else ()
    except CheckpointError:
        return ()


def _row(told: dict[str, Any]) -> tuple[str, ...]:
    from affectkit import checkpoints
    from affectkit.addresses import origin

    name = told["name"] + ("*" if told["default"] else "")
    digest = told["sha256"][:DIGITS] if told["sha256"] else "-"
    size = "-" if told["size"] is None else checkpoints.readable(told["size"])
    source = "nobody" if told["state"] == "to train" else origin(told["uri"])
    return (name, size, told["state"], digest, _short(told["licence"], LONGEST), source)


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3].rstrip()}..."


def _source(checkpoint: Checkpoint) -> str:
    return f", {checkpoint.source}" if checkpoint.source else ""


def _print_table(rows: Sequence[tuple[str, ...]], width: int | None = None) -> None:
    if not rows:
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        line = "  ".join(cell.ljust(wide) for cell, wide in zip(row, widths, strict=True)).rstrip()
        click.echo(line if width is None else _short(line, width))


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
