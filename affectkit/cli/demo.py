"""``affectkit demo``: the whole tool on a clip that it renders itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from affectkit.cli.options import PluginChoice, plugin_options
from affectkit.cli.run import execute, run_options


@click.command()
@plugin_options(select=True)
@click.option(
    "--out", type=click.Path(path_type=Path), default="affectkit-demo", show_default=True, help="Folder for the clip and its run folder."
)
@run_options
def demo(plugins: PluginChoice, out: Path, as_json: bool, **options: Any) -> int:
    """Render a short clip from a public-domain portrait and analyse it.

    The clip, its subtitles and a description of the scene are written to OUT/clip, the run folder to OUT/run. The clip has no sound. To analyse a
    video of your own: affectkit run VIDEO.
    """
    from affectkit.demo import render
    from affectkit.session import Execution, Session, load_recipe

    session = Session(load_recipe(None, plugins.registry, modalities=plugins.modalities()), plugins.registry)
    clip = render(out / "clip")
    return execute(session, (clip,), out / "run", Execution(**options), as_json=as_json)
