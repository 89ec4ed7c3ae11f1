"""``affectkit finecliper``: descriptions to learn from."""

from __future__ import annotations

from pathlib import Path

import click

from affectkit.cli.options import PluginChoice, plugin_options

SHOWN = 5  # clips of which is said why they have no description


@click.group("finecliper")
def finecliper() -> None:
    """Descriptions of clips, for FineCLIPER to learn from."""


@finecliper.command("describe")
@click.argument("paths", nargs=-1, metavar="[CLIP]...", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The table, CSV: media,start,end,text.")
@click.option("--dataset", help="Describe the clips of a data set instead: dfew, ferv39k, mafw, csv ...")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the data set.")
@click.option("--fold", help="Of the data set.  [default: the training lists of all folds]")
@click.option("--describer", default="ras/describe", show_default=True, help="Id of a provider of descriptions.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="An option of the describer: components.ras/describe.checkpoint=7b."
)
@click.option("--length", type=float, default=10.0, show_default=True, help="Seconds of a window; a longer clip has several.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:0.")
@plugin_options()
def describe(
    plugins: PluginChoice,
    paths: tuple[Path, ...],
    out: Path,
    dataset: str | None,
    data: Path | None,
    fold: str | None,
    describer: str,
    overrides: tuple[str, ...],
    length: float,
    device: str,
) -> int:
    """Have a vision-language model describe how faces change, and write what it says as a table.

    A describer that takes a question is asked ours, which asks for movements of the face and for no emotion by name. The table is what the option described
    of the training finecliper/face_dynamic takes, and what affectkit run --descriptions takes.
    """
    import torch

    from affectkit import datasets
    from affectkit.api import UsageError
    from affectkit.batching import choose_device
    from affectkit_finecliper import describing

    if (dataset is None) == (not paths) or (dataset is None) != (data is None):
        raise UsageError("give clips, or --dataset NAME --data DIR for those of a data set")
    if dataset is None or data is None:
        chosen = [describing.Subject(path.name, path) for path in paths]
    else:
        names = [fold] if fold is not None else datasets.folds(dataset, data)
        chosen = describing.subjects([datasets.read(dataset, data, name) for name in names])
    if out.exists():
        raise UsageError(f"{out} is there already; give another file")
    recipe, provider = describing.make_describer(describer, overrides, plugins.registry, length)
    provider.load(choose_device(device), torch.float32)

    def tell(done: int) -> None:
        click.echo(f"\r{done} of {len(chosen)} clips", nl=done == len(chosen), err=True)

    with torch.inference_mode():
        written = describing.write(chosen, out, recipe, provider, tell=tell)
    click.echo(f"{out}: {written.rows} descriptions of {len(chosen) - len(written.silent) - len(written.failed)} clips")
    for what, without in (("said nothing of", written.silent), ("failed on", written.failed)):
        if without:
            click.echo(f"{describer} {what} {len(without)} clips:")
            for name, reason in list(without.items())[:SHOWN]:
                click.echo(f"  {name}: {reason}")
    return 1 if written.failed else 0
