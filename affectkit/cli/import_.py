"""``affectkit import``: prediction files of others as a run folder."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder to write; new or empty.")
@click.option("--fps", type=float, help="Frames per second, for predictions of frames.")
@click.option(
    "--media", "table", type=click.Path(path_type=Path), metavar="TABLE", help="CSV media,frames,fps: how long media are, for submissions."
)
@click.option("--length", type=float, default=4.0, show_default=True, help="Seconds of numbered windows.")
@click.option("--step", type=float, default=2.0, show_default=True, help="Seconds from one numbered window to the next.")
@click.option("--logits", is_flag=True, help="The numbers are logits: take their softmax.")
@click.option("--order", metavar="SET", help="Label set of numbers without names, for instance affectnet7.")
def import_(
    files: tuple[str, ...], out: Path, fps: float | None, table: Path | None, length: float, step: float, logits: bool, order: str | None
) -> None:
    """Make a run folder of the prediction files of others.

    FILE is CSV or a pickle, as team RAS and AVCER write them; NAME=FILE names the source: a word, or the id of a component (ras/audio=FILE), as which it is
    fused like that component. Pickles are read without running anything that is in them. Then
    affectkit fuse, evaluate, compare, submit and train fusion work on the folder.
    """
    from affectkit.importing import import_predictions
    from affectkit.prediction_files import Reading, order_of, read_media

    reading = Reading(fps, length, step, logits, None if order is None else order_of(order), {} if table is None else read_media(table))
    found = import_predictions(files, out, reading)
    for source, count in found.rows.items():
        click.echo(f"{source}: {count} rows of {', '.join(found.label_sets[source])}")
    click.echo(f"wrote {found.path}: {found.media} media")
