"""``affectkit ifdd``: what the network saw, as a picture."""

from __future__ import annotations

from pathlib import Path

import click

from affectkit.cli.options import PluginChoice, plugin_options


@click.group("ifdd")
def ifdd() -> None:
    """What IFDD saw."""


@ifdd.command("picture")
@click.argument("video", type=click.Path(path_type=Path))
@plugin_options()
@click.option("--out", type=click.Path(path_type=Path), default="ifdd.png", show_default=True, help="The picture: PNG, PDF, SVG or JPEG.")
@click.option("--recipe", default="ifdd/ifdd", show_default=True, help="Recipe, by name or file.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one key of the recipe.")
@click.option("--at", type=float, help="Second of the window that is shown.  [default: the first in which there is a face]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:0.")
def picture(plugins: PluginChoice, video: Path, out: Path, recipe: str, overrides: tuple[str, ...], at: float | None, device: str) -> None:
    """Draw the faces of a window of VIDEO, the moments at which ifdd/face_dynamic splits them, and its static and dynamic parts.

    Of the window that holds the second --at it shows the subject that is most present.
    """
    from affectkit_ifdd.looking import look
    from affectkit_ifdd.picture import draw

    sights = look(video, plugins.registry, recipe=recipe, overrides=overrides, at=at, device=device)
    draw(sights, out)
    for sight in sights:
        label, share = sight.answer[0]
        click.echo(f"{sight.title}: {label} {share:.2f}")
        for name, frames in sight.frames.items():
            click.echo(f"  {name:8} frames {', '.join(f'{place:.2f}' for place in frames)}")
    click.echo(f"Picture: {out}")
