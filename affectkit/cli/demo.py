"""``affectkit demo``: the whole tool on a clip that it renders itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from affectkit.cli.options import PluginChoice, plugin_options
from affectkit.cli.run import execute, run_options


@click.command()
@plugin_options(select=True)
@run_options
def demo(plugins: PluginChoice, out: Path | None, as_json: bool, **options: Any) -> int:
    """Render a short clip from a public-domain portrait and analyse it.

    The clip, its subtitles and a description of the scene are written beside the run folder. It has no sound. To analyse a
    video of your own: affectkit run VIDEO.
    """
    from affectkit.demo import render
    from affectkit.session import Execution, Session, load_recipe

    folder = out or Path("affectkit-demo")
    session = Session(load_recipe(None, plugins.registry, modalities=plugins.modalities()), plugins.registry)
    clip = render(folder / "clip")
    return execute(session, (clip,), folder / "run", Execution(**options), as_json=as_json)
