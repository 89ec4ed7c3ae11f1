"""``affectkit fuse``: other fusions and heads over what runs have said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from affectkit.cli.options import PluginChoice, plugin_options
from affectkit.errors import UsageError


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@plugin_options()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder to write; new or empty.")
@click.option("--fusion", default="core/mean", show_default=True, metavar="ID", help="Fusion, or none.")
@click.option("--head", default="core/ppa", show_default=True, metavar="ID", help="Head, or none.")
@click.option("--source", "sources", multiple=True, metavar="ID", help="Source to fuse; may be repeated.  [default: all modalities]")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Option of a component: components.ID.NAME=VALUE.")
@click.option("--prior", metavar="NAME", help="Move the predicted shares toward these: cexpr_db, even, or label=share,...")
@click.option(
    "--strength", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="How far toward the prior: 1 for all the way."
)
@click.option("--soft", is_flag=True, help="Move the mean of the probabilities, instead of the shares of predicted classes.")
def fuse(
    plugins: PluginChoice,
    runs: tuple[Path, ...],
    out: Path,
    fusion: str,
    head: str,
    sources: tuple[str, ...],
    overrides: tuple[str, ...],
    prior: str | None,
    soft: bool,
    **given: Any,
) -> None:
    """Fuse the sources of run folders again, without running anything else.

    The sources of each RUN are read from its tables; those of the same media may be in different runs. The fusion and the head are applied to them, and written with
    them to the folder of --out.
    """
    from affectkit.config import Recipe
    from affectkit.labels import LabelSet
    from affectkit.priors import prior_of
    from affectkit.refusing import fuse_again

    registry = plugins.registry
    chosen = {"fusion": None if fusion == "none" else fusion, "head": None if head == "none" else head}
    recipe = Recipe(modalities=("given/source",), fusion=chosen["fusion"], head=chosen["head"]).override(overrides)
    strange = [name for name in recipe.components if name not in chosen.values()]
    if strange:
        raise UsageError(f"--set: {strange[0]} is neither the fusion nor the head of this command")
    wanted = None
    if prior is not None:
        last = chosen["head"] or chosen["fusion"]
        labels: Any = None if last is None else registry.get(last).cls.labels  # type: ignore[attr-defined]
        if not isinstance(labels, LabelSet):
            raise UsageError(f"--prior needs a head or a fusion whose labels are known; {last} says them only when it is loaded")
        wanted = prior_of(prior, labels)
    found = fuse_again(
        runs,
        out,
        registry,
        sources=sources,
        options=recipe.components,
        prior=wanted,
        fusion=chosen["fusion"],
        head=chosen["head"],
        hard=not soft,
        **given,
    )
    click.echo(f"fused {', '.join(found.sources)}: {found.media} media, written to {found.path}")
    if wanted is not None and found.prior is not None and found.divergences is not None:
        click.echo(f"{'':24}{'prior':>8}{'before':>8}{'after':>8}")
        for label, share, before, after in zip(wanted.labels.labels, wanted.shares, found.prior.before, found.prior.after, strict=True):
            click.echo(f"{label:24}{share:8.3f}{before:8.3f}{after:8.3f}")
        click.echo(f"{'divergence (nats)':24}{'':8}{found.divergences[0]:8.3f}{found.divergences[1]:8.3f}")
