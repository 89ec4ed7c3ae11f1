"""``affectkit train``: weights, their record and their card from a training recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from affectkit.cli.options import PluginChoice, plugin_options
from affectkit.errors import UsageError

if TYPE_CHECKING:
    from affectkit.making import Made


@click.command()
@click.argument("recipe")
@plugin_options()
@click.option("--data", type=click.Path(path_type=Path), help="File or folder to learn from, instead of the recipe's.")
@click.option(
    "--predictions",
    multiple=True,
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="Run folder to learn from; may be repeated. Of core/fusion.",
)
@click.option("--labels", type=click.Path(path_type=Path), metavar="FILE", help="Annotations, instead of the recipe's options.labels.")
@click.option("--dataset", metavar="NAME", help="Data set in --data: dfew, ferv39k, mafw, csv, ...; of trainings on clips.")
@click.option("--fold", metavar="FOLD", help="Fold of it; its test list is never read.")
@click.option("--clips", type=click.Path(path_type=Path), metavar="DIR", help="Folder of its clips, where it is not found.")
@click.option("--out", type=click.Path(path_type=Path), default="affectkit-train", show_default=True, help="Folder of what is written.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one key of the recipe, for instance epochs=3.")
@click.option("--limit", type=click.IntRange(min=1), help="Rows of each part at most, for a quick try.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:0.")
@click.option(
    "--launcher",
    type=click.Choice(["none", "pytorch", "slurm"]),
    default="none",
    show_default=True,
    help="What started several processes: torchrun (pytorch) or srun (slurm).",
)
@click.option("--restart", is_flag=True, help="Throw an unfinished training away instead of going on with it.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON; progress goes to standard error.")
def train(
    plugins: PluginChoice,
    recipe: str,
    out: Path,
    data: Path | None,
    predictions: tuple[Path, ...],
    labels: Path | None,
    dataset: str | None,
    fold: str | None,
    clips: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
    **given: Any,
) -> None:
    """Make weights by the training recipe RECIPE.

    RECIPE is a YAML file or the name of an installed one (affectkit recipes --training lists them; fusion stands for core/fusion). It writes NAME.safetensors, NAME.json and the model card
    NAME.md into the folder of --out. The same command goes on with a training that was stopped.

    --dataset and --fold choose what a training on clips learns from, for instance affectkit train s4d/face_dynamic --dataset dfew --fold 1 --data DIR.
    """
    from affectkit.datasets import dataset as named
    from affectkit.making import make
    from affectkit.training_recipes import Plan

    if dataset is not None:
        named(dataset)  # a name that there is not has a better message here than as a key of the recipe
    said = {"dataset": dataset, "fold": fold, "clips": None if clips is None else str(clips)}
    chosen = {key: value for key, value in said.items() if value is not None}
    if recipe == "fusion":
        recipe = "core/fusion"
    plan = Plan.load(recipe, find=plugins.registry.training_recipe, overrides=(*overrides, *_keys(predictions, labels, chosen)), data=data)
    known = {item.name for item in fields(plugins.registry.get(plan.training, "training").cls.Options)}
    if strange := [f"--{key}" for key in chosen if key not in known]:
        raise UsageError(f"{plan.training} does not learn from a data set of clips; leave out {', '.join(strange)}")
    command = (
        _command(recipe, overrides, given["limit"], chosen)
        + " --predictions RUN" * bool(predictions)
        + " --labels FILE" * (labels is not None)
    )
    try:
        made = make(plan, plugins.registry, out, command=command, report=lambda line: click.echo(line, err=as_json), **given)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Stopped by Ctrl-C. The same command goes on with what was learned.") from None
    if not made.files:  # another process writes
        return
    if as_json:
        click.echo(json.dumps(dict(made.record) | {"files": [str(file) for file in made.files]}, indent=2, ensure_ascii=False))
    else:
        _show(made)


def _keys(predictions: tuple[Path, ...], labels: Path | None, chosen: Mapping[str, str]) -> list[str]:
    """What the options say that stand for keys of the recipe."""
    found = [f"options.{key}={json.dumps(value)}" for key, value in chosen.items()]
    found += [f"options.predictions={json.dumps([str(path) for path in predictions])}"] if predictions else []
    return found + ([f"options.labels={json.dumps(str(labels))}"] if labels is not None else [])


def _command(recipe: str, overrides: tuple[str, ...], limit: int | None, chosen: Mapping[str, str]) -> str:
    """What was called, without the places of this machine."""
    name = Path(recipe).name if recipe.endswith((".yaml", ".yml")) else recipe
    dataset = [f"--{key} {'CLIPS' if key == 'clips' else value}" for key, value in chosen.items()]
    words = ["affectkit train", name, *dataset, "--data DATA --out OUT", *(f"--set {_without_folder(text)}" for text in overrides)]
    return " ".join([*words, *([] if limit is None else [f"--limit {limit}"])])


def _without_folder(override: str) -> str:
    """A value that is a path, without the folders that other machines do not have.

    >>> _without_folder("options.backbone=/home/me/first/face.safetensors")
    'options.backbone=first/face.safetensors'
    >>> _without_folder("epochs=3")
    'epochs=3'
    """
    key, _, value = override.partition("=")
    path = Path(value)
    return f"{key}={Path(*path.parts[-2:]).as_posix()}" if path.is_absolute() and len(path.parts) > 2 else override


def _show(made: Made) -> None:
    record = made.record
    if made.lines:
        for line in (*made.lines, f"wrote {', '.join(str(file) for file in made.files)}"):
            click.echo(line)
        return
    for name, found in record["validation"].items():
        if name in ("calibration", "further"):
            fitted = f"temperature {record['temperature']:.3f}  " if name == "calibration" else ""
            click.echo(f"{name}: {fitted}" + "  ".join(f"{key} {value:.4f}" for key, value in found.items()))
            continue
        told = {key: score for key, score in found.items() if "/" not in key and not key.endswith("_all")}
        click.echo(f"validation {name}: " + "  ".join(f"{key} {_text(score)}" for key, score in told.items()))
    click.echo(f"wrote {', '.join(str(file) for file in made.files)}")


def _text(score: dict[str, float | None]) -> str:
    if score["value"] is None:
        return "-"
    between = "" if score["low"] is None else f" [{score['low']:.3f}, {score['high']:.3f}]"
    return f"{score['value']:.3f}{between}"
