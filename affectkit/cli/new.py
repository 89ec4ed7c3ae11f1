"""``affectkit plugins new``: a plugin as a package, written so that it installs and runs."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from affectkit.cli.options import settings

# The kinds of affectkit.scaffold; written here so that --help reads no templates.
KINDS = ("modality", "provider", "fusion", "head", "submitter", "training")


@click.command("new")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), default="modality", show_default=True, help="What it contributes.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write, new or empty.  [default: NAME in the current folder]")
@click.pass_context
def new(context: click.Context, name: str, kind: str, out: Path | None) -> None:
    """Write a plugin NAME as a package that installs with pip and passes its own tests.

    It holds a small working component of its kind, to be replaced by yours, its tests, and a README with what to do next.
    """
    from affectkit.scaffold import create

    made = create(name, kind, out, settings(context).plugins.folder)
    click.echo(f"{made.folder}: {kind} {made.id}, in the package {made.names.package} of the distribution {made.names.distribution}")
    folder = shlex.quote(str(made.folder))
    lines = [f"pip install -e {folder}", *made.command.splitlines(), f"affectkit plugins check {made.names.plugin}"]
    click.echo("\n  ".join(["\nNext:", *lines]))
    click.echo(f"\nThen put your own into {made.folder / made.names.package / kind}.py; {made.folder / 'README.md'} goes on from there.")
