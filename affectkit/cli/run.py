"""``affectkit run``: from videos to basic and compound expressions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from affectkit.cli.options import PluginChoice, plugin_options
from affectkit.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from affectkit.components import Fusion, Head, Modality
    from affectkit.config import Recipe
    from affectkit.labels import LabelSet
    from affectkit.media import Media
    from affectkit.plugins import Entry, Registry
    from affectkit.session import Execution, RunResult, Session

WIDE = 1000  # columns of a terminal in which every table fits
LISTED = 6  # media named in one line


def run_options(function: Any) -> Any:
    """Options that ``run`` and ``demo`` share: how to compute, and what to print."""
    for option in reversed(
        (
            click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:0."),
            click.option(
                "--precision",
                type=click.Choice(["fp32", "bf16", "fp16"]),
                default="fp32",
                show_default=True,
                help="Precision of forward passes.",
            ),
            click.option("--batch-size", type=click.IntRange(min=1), help="Clips per forward pass, where the recipe does not say."),
            click.option("--workers", type=click.IntRange(min=1), help="Media that are read at once.  [default: one per core, at most 4]"),
            click.option(
                "--resume/--no-resume", default=True, help="Go on with what the run folder holds, or throw it away and start again."
            ),
            click.option("--strict", is_flag=True, help="Stop at the first failure instead of recording it."),
            click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON instead of a table."),
        )
    ):
        function = option(function)
    return function


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="VIDEO...", type=click.Path(path_type=Path))
@plugin_options(select=True)
@click.option("--out", type=click.Path(path_type=Path), default="affectkit-run", show_default=True, help="Run folder.")
@click.option("--recipe", help="Recipe, by name or file.  [default: mini/mini]")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one key of the recipe, for instance windows.step=1.")
@click.option("--fusion", help="Fusion instead of the recipe's, for instance core/mean; none for none.")
@click.option("--head", help="Head instead of the recipe's, for instance core/pfsa; none for none.")
@click.option("--subjects", type=click.Choice(["main", "all"]), help="The subject most present in each window, or every one.")
@click.option("--subtitles", type=click.Path(path_type=Path), help="Subtitle file to take the words from, instead of one beside the video.")
@click.option("--descriptions", type=click.Path(path_type=Path), help="CSV with descriptions of the scene (media, start, end, text).")
@click.option(
    "--labels", metavar="TEXT,TEXT...", help="Texts to match faces with, for instance bored,relieved; a similarity, not recognition."
)
@click.option("--fps", type=click.FloatRange(min=0, min_open=True), help="Frames per second of folders of numbered frames.")
@click.option("--sound", type=click.Path(path_type=Path), help="Sound file of a folder of numbered frames.")
@click.option("--video-stream", type=click.IntRange(min=0), help="Index of the video stream.  [default: the first]")
@click.option("--audio-stream", type=click.IntRange(min=0), help="Index of the audio stream.  [default: the first]")
@click.option("--embeddings", is_flag=True, help="Write embeddings as well.")
@click.option("--commercial", is_flag=True, help="Refuse weights whose terms do not allow commercial use.")
@click.option("--dry-run", is_flag=True, help="Check everything, print the plan, and stop before the first frame.")
@run_options
def run(plugins: PluginChoice, paths: tuple[Path, ...], **given: Any) -> int:
    """Analyse videos, sound files, pictures and folders of numbered frames.

    Every VIDEO is decoded once; the modalities' probabilities are fused and turned into compound expressions. Results are
    Parquet tables in the run folder; affectkit.read_run(OUT) reads them all. A folder stands for the media in it.
    """
    from affectkit.session import Execution, Inputs, Session, load_recipe

    components: dict[str, dict[str, Any]] = {}
    if given["subtitles"] is not None:
        components["core/subtitles"] = {"path": str(given["subtitles"])}
    if given["descriptions"] is not None:
        components["core/descriptions"] = {"path": str(given["descriptions"])}
    recipe = load_recipe(
        given["recipe"],
        plugins.registry,
        overrides=given["overrides"],
        modalities=plugins.modalities(),
        fusion=given["fusion"],
        head=given["head"],
        subjects=given["subjects"],
        components=components,
    )
    if given["labels"] is not None:
        recipe = asking(recipe, plugins.registry, given["labels"], chosen=plugins.selection is not None)
        with_all, recipe = recipe, _concluding(recipe, plugins.registry, fusion=given["fusion"] is None, head=given["head"] is None)
        if left_out := [id for id in (with_all.fusion, with_all.head) if id and id not in (recipe.fusion, recipe.head)]:
            click.echo(f"Left out, since texts of one's own give it nothing to read: {', '.join(left_out)}", err=True)
    inputs = Inputs(given["fps"], given["sound"], given["video_stream"], given["audio_stream"])
    session = Session(recipe, plugins.registry, inputs, commercial=given["commercial"])
    execution = Execution(**{item.name: given[item.name] for item in fields(Execution)})
    out = given["out"]
    if given["dry_run"]:
        session.prepare(out, execution)
        _show_plan(session, paths, given["as_json"])
        return 0
    return execute(session, paths, out, execution, as_json=given["as_json"])


def asking(recipe: Recipe, registry: Registry, text: str, *, chosen: bool) -> Recipe:
    """The recipe with texts for every modality that takes any; where it has none, those join it that are installed and whose weights are here.

    Args:
        recipe: what runs.
        registry: the plugins.
        text: the texts, separated by commas.
        chosen: whether the user named the modalities, so that none joins.

    Raises:
        UsageError: where no modality takes texts, or the text has an empty one; modalities refuse what else they cannot ask for.
    """
    texts = [part.strip() for part in text.split(",")]
    if not all(texts):
        raise UsageError(f"--labels has an empty text in {text!r}; write for instance --labels bored,relieved")
    able = {entry.id: entry for entry in registry.entries("modality") if getattr(entry.cls, "asked", False)}
    there = [id for name in recipe.modalities for id in registry.select(name)]
    asked = [id for id in able if id in there]
    if not asked and chosen:
        some = f"add one of: {', '.join(able)}" if able else "no plugin that is installed has one"
        raise UsageError(f"--labels is for modalities that match faces with texts, and none of {', '.join(there)} does; {some}")
    if not able:
        raise UsageError("--labels is for modalities that match faces with texts, and no plugin that is installed has one")
    joining = [] if asked else [id for id, entry in able.items() if _ready(entry)] or list(able)
    changed = recipe if asked else recipe.with_(modalities=[*there, *joining])
    return changed.with_(components={id: {"labels": texts} for id in asked or joining})


def _concluding(recipe: Recipe, registry: Registry, *, fusion: bool, head: bool) -> Recipe:
    """The recipe without its fusion and head, as far as either may be left out and what the modalities say of texts of one's own leaves them nothing to read."""
    from affectkit.config import component_options
    from affectkit.results import spoken

    sets: list[LabelSet] = []
    for id in (id for name in recipe.modalities for id in registry.select(name)):
        cls = registry.get(id, "modality").cls
        sets += cast("Modality", cls(component_options(cls, recipe.components.get(id, {}), id))).label_sets
    if fusion and recipe.fusion is not None:
        fused = cast("Fusion", registry.get(recipe.fusion, "fusion").cls)
        recipe = recipe if spoken(sets, fused.labels) else recipe.with_(fusion=None)
    if head and recipe.head is not None:
        last = cast("Head", registry.get(recipe.head, "head").cls)
        unread = (last.reads is not None and recipe.fusion is None) or (last.speaks is not None and last.speaks not in sets)
        recipe = recipe.with_(head=None) if unread else recipe
    return recipe


def _ready(entry: Entry) -> bool:
    """Whether the weights of a component with its usual options are on this machine."""
    from affectkit.checkpoints import local

    return all(local(checkpoint) is not None for checkpoint in entry.cls().used_checkpoints().values())


def execute(session: Session, paths: tuple[Path, ...], out: Path, execution: Execution, *, as_json: bool) -> int:
    """Runs a session with a progress bar and shows what was found; exit status 1 where anything failed."""
    with _progress(as_json) as progress:
        result = session.run(paths, out, execution, progress)
    if as_json:
        click.echo(json.dumps(_summary(result), indent=2, ensure_ascii=False, default=str))
    else:
        _show(result, session)
    if random := _random_weights(session):
        click.echo(f"Random weights, so this run says nothing that is true: {', '.join(random)} (affectkit weights tiny)", err=True)
    return 1 if result.failures else 0


def _random_weights(session: Session) -> list[str]:
    """Ids of the components whose weights are random numbers."""
    from affectkit.weight_files import RANDOM

    return [name for name, record in session.assembly.record.items() if any(w["licence"] == RANDOM for w in record["weights"])]


@contextmanager
def _progress(quiet: bool) -> Iterator[Any]:
    """A bar per open medium on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    with Progress(console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def told(media: Media, at: float) -> None:
            if media.id not in tasks:
                tasks[media.id] = bars.add_task(media.id, total=media.duration or 1.0)
            bars.update(tasks[media.id], completed=(at - media.start) if media.duration else 1.0)

        yield told


def _summary(result: RunResult) -> dict[str, Any]:
    return {
        "out": str(result.path),
        "analysed": result.analysed,
        "skipped": result.skipped,
        "media": {name: _found(result, name) for name in result.media},
        "failures": [vars(failure) for failure in result.failures],
    }


def _found(result: RunResult, name: str) -> dict[str, Any]:
    """What was found in a medium: evidence and its quality per modality, and the mean over its windows for fusion and head."""
    record = result.media[name]
    return {
        "windows": record["windows"],
        "evidence": {source: had["share"] for source, had in record["evidence"].items()},
        "mean": record["mean"],
        "quality": record.get("quality", {}),
        "broke_at": record["broke_at"],
    }


def _show(result: RunResult, session: Session) -> None:
    if result.media:
        _show_shares(result, session)
        click.echo("Percent of windows with evidence, and the class with the highest mean over windows.")
        _show_matches(result, session)
        _show_quality(result)
    for (source, reason), names in _reasons(result).items():
        listed = ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
        click.echo(f"{source} has no evidence in {listed}: {reason}")
    if result.skipped:
        click.echo(f"Finished before, not analysed again: {', '.join(result.skipped)} (--no-resume starts anew)")
    for failure in result.failures:
        where = "" if failure.path in failure.message else f"{failure.path}: "
        click.echo(f"Failed: {where}{failure.component + ': ' if failure.component else ''}{failure.message}", err=True)
    click.echo(f"Results: {result.path}   (in Python: affectkit.read_run({str(result.path)!r}))")


def _show_shares(result: RunResult, session: Session) -> None:
    """A row per medium: share of windows with evidence by modality, and the class with the highest mean over its windows."""
    from rich.console import Console

    console = Console(highlight=False)
    table = _shares(result, session)
    if console.measure(table, options=console.options.update(width=WIDE)).maximum > console.width:
        table = _shares(result, session, narrow=True)
    console.print(table)


def _shares(result: RunResult, session: Session, *, narrow: bool = False) -> Table:
    """The table of the shares; a narrow one has the mean of a class below it."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Column, Table

    assembly = session.assembly
    last = [c.id for c in (assembly.fusion, assembly.head) if c is not None]
    heads = [name.replace("/", "/\n").replace("_", "_\n") for name in assembly.plan.modalities]
    table = Table(
        Column("media", overflow="fold"),
        "win-\ndows",
        *(Column(head, justify="right", no_wrap=True) for head in heads),
        *(Column(name.replace("/", "/\n") if narrow else name, overflow="fold") for name in last),
        box=SIMPLE_HEAD,
        header_style="bold",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name, record in result.media.items():
        evidence = [f"{had['share']:.0%}" for had in record["evidence"].values()]
        table.add_row(name, str(record["windows"]), *evidence, *(_best(record["mean"].get(source), narrow) for source in last))
    return table


def _show_matches(result: RunResult, session: Session) -> None:
    """What modalities say that match faces with texts: the mean over the windows, the largest first."""
    for source, modality in session.assembly.plan.modalities.items():
        if not modality.asked:
            continue
        for name, record in result.media.items():
            mean = record["mean"].get(source)
            if mean:
                said = ", ".join(f"{label} {mean[label]:.2f}" for label in sorted(mean, key=lambda key: -mean[key]))
                click.echo(f"{name}: {source} {said}")
        click.echo(f"{source} compares the face with texts: a similarity, not validated recognition.")


def _show_quality(result: RunResult) -> None:
    """A row per medium: the mean of each quality figure over the windows that have it; nothing where no component gives any."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Column, Table

    found = {name: record.get("quality", {}) for name, record in result.media.items()}  # media of earlier versions have none
    figures = list(dict.fromkeys((source, name) for sources in found.values() for source, names in sources.items() for name in names))
    if not figures:
        return
    heads = [f"{source}\n{name}".replace("/", "/\n").replace("_", "_\n") for source, name in figures]
    columns = [Column(head, justify="right", vertical="bottom", overflow="fold") for head in heads]
    table = Table(Column("media", overflow="fold"), *columns, box=SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for name, sources in found.items():
        values = [sources.get(source, {}).get(figure) for source, figure in figures]
        table.add_row(name, *("-" if value is None else f"{value:.3g}" for value in values))
    Console(highlight=False).print(table)
    click.echo("Quality of the evidence, mean over windows: pixels, shares, words; docs/results.md says what each figure is.")


def _reasons(result: RunResult) -> dict[tuple[str, str], list[str]]:
    """In which media, and how much of them, a modality has no evidence, by modality and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, record in result.media.items():
        for source, had in record["evidence"].items():
            for reason, count in had["reasons"].items():
                part = "" if count == had["windows"] else f" ({count} of {had['windows']} windows)"
                found.setdefault((source, reason), []).append(name + part)
    return found


def _best(mean: dict[str, float] | None, narrow: bool) -> str:
    if not mean:
        return "-"
    label = max(mean, key=lambda key: mean[key])
    return ("{}\n{:.2f}" if narrow else "{} {:.2f}").format(label, mean[label])


def _show_plan(session: Session, paths: tuple[Path, ...], as_json: bool) -> None:
    import yaml

    from affectkit.media import discover

    media, unreadable = discover(list(paths), **vars(session.inputs))
    assembly = session.assembly
    plan = {
        "recipe": assembly.recipe.to_mapping(),
        "components": {name: {"weights": [w["file"] for w in record["weights"]]} for name, record in assembly.record.items()},
        "providers": {kind: [p.id for p in found] for kind, found in assembly.plan.providers.items()},
        "unavailable": {kind: list(reasons) for kind, reasons in assembly.plan.unavailable.items()},
        "media": {m.id: session.plan_of(m) for m in media},
        "unreadable": {str(path): str(error) for path, error in unreadable},
    }
    text = json.dumps(plan, indent=2, default=str)
    click.echo(text if as_json else yaml.safe_dump(json.loads(text), sort_keys=False, allow_unicode=True).rstrip())
