"""``affectkit plugins``: what is installed, what it offers, and why something is not there."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cached_property
from importlib.util import find_spec
from inspect import getattr_static
from textwrap import indent
from typing import TYPE_CHECKING, Any

import click

from affectkit.cli.check import check
from affectkit.cli.new import new
from affectkit.cli.options import PluginChoice, plugin_options, settings

if TYPE_CHECKING:
    from affectkit.components import Component
    from affectkit.needs import Checkpoint, Input, Needs
    from affectkit.plugins import Entry, Plugin

PLURALS = {
    "provider": "providers",
    "modality": "modalities",
    "fusion": "fusions",
    "head": "heads",
    "submitter": "submitters",
    "training": "trainings",
}
BY_OPTIONS = "depends on its options"

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON.")


@click.group(invoke_without_command=True)
@json_option
@plugin_options()
@click.pass_context
def plugins(context: click.Context, plugins: PluginChoice, as_json: bool) -> None:
    """List the plugins, one line each, or show one of them.

    A plugin that cannot be loaded is listed with the reason and stops nothing.
    """
    settings(context).plugins = plugins  # for list and show
    if context.invoked_subcommand is None:
        _list(plugins, as_json)


plugins.add_command(new)
plugins.add_command(check)


@plugins.command("list")
@json_option
@plugin_options()
def list_command(plugins: PluginChoice, as_json: bool) -> None:
    """List the plugins, one line each."""
    _list(plugins, as_json)


@plugins.command("show")
@click.argument("name")
@json_option
@plugin_options()
def show_command(plugins: PluginChoice, name: str, as_json: bool) -> None:
    """Show one plugin: its components with options and weights, or why it is broken."""
    registry = plugins.registry
    registry.plugin(name)  # raises where there is none
    found = [plugin for plugin in registry.plugins if plugin.name == name]
    if as_json:
        stories = [story(plugin) for plugin in found]
        click.echo(json.dumps(stories[0] if len(stories) == 1 else stories, indent=2, ensure_ascii=False))
        return
    for position, plugin in enumerate(found):
        click.echo("\n" * (position > 0) + "\n".join(_page(plugin)))


def _list(choice: PluginChoice, as_json: bool) -> None:
    found = choice.registry.plugins
    if as_json:
        click.echo(json.dumps([summary(plugin) for plugin in found], indent=2, ensure_ascii=False))
        return
    rows = [(plugin.name, plugin.version or "-", plugin.distribution, plugin.state, offers(plugin)) for plugin in found]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[4]]).rstrip())
    broken = [plugin.name for plugin in found if plugin.failure]
    if broken:
        click.echo(f"{len(broken)} cannot be used. The full story: affectkit plugins show {broken[0]}", err=True)


def offers(plugin: Plugin) -> str:
    """What a plugin offers, or why it does not, in one line."""
    if plugin.failure:
        return f"{plugin.failure.stage}: {plugin.failure.error}"
    if plugin.state == "blocked":
        return f"left out by -p no:{plugin.name}"
    parts = []
    for kind, plural in PLURALS.items():
        names = [entry.cls.name for entry in plugin.components if entry.kind == kind]
        if names:
            parts.append(f"{kind if len(names) == 1 else plural} {', '.join(names)}")
    if plugin.recipes:
        stems = [recipe.path.stem for recipe in plugin.recipes]
        parts.append(f"{'recipe' if len(stems) == 1 else 'recipes'} {', '.join(stems)}")
    if plugin.training_recipes:
        stems = [recipe.path.stem for recipe in plugin.training_recipes]
        parts.append(f"{'training recipe' if len(stems) == 1 else 'training recipes'} {', '.join(stems)}")
    if plugin.commands:
        parts.append(f"{'command' if len(plugin.commands) == 1 else 'commands'} {', '.join(sorted(plugin.commands))}")
    if any("run" in hook or "media" in hook for hook in plugin.hooks):
        parts.append("follows runs")
    return "; ".join(parts) or "nothing"


def summary(plugin: Plugin) -> dict[str, Any]:
    """A plugin as plain data, without the details of its components."""
    return {
        "name": plugin.name,
        "version": plugin.version,
        "distribution": plugin.distribution,
        "state": plugin.state,
        "summary": plugin.summary,
        "licence": plugin.licence,
        "location": plugin.location,
        "hooks": list(plugin.hooks),
        "components": [{"id": entry.id, "kind": entry.kind} for entry in plugin.components],
        "recipes": {recipe.name: str(recipe.path) for recipe in plugin.recipes},
        "training_recipes": {recipe.name: str(recipe.path) for recipe in plugin.training_recipes},
        "commands": sorted(plugin.commands),
        "failure": {"stage": plugin.failure.stage, "error": str(plugin.failure.error), "remedy": plugin.failure.remedy}
        if plugin.failure
        else None,
    }


def story(plugin: Plugin) -> dict[str, Any]:
    """A plugin as plain data, with all that its components declare and the traceback of its failure."""
    full = summary(plugin) | {"components": [component(entry) for entry in plugin.components]}
    if plugin.failure:
        full["failure"]["traceback"] = plugin.failure.traceback
    return full


def component(entry: Entry) -> dict[str, Any]:
    """What a component declares, as plain data in the order in which it is shown."""
    cls = entry.cls
    told: dict[str, Any] = {"id": entry.id, "kind": entry.kind, "summary": _first_line(cls)}
    for attribute in ("labels", "reads", "speaks"):
        if getattr(cls, attribute, None) is not None:
            told[attribute] = _labels(_declared(cls, attribute))
    if entry.kind == "provider":
        told |= {"evidence": _declared(cls, "kind"), "scope": _declared(cls, "scope")}
    if hasattr(cls, "needs"):
        told["needs"] = _needs(_declared(cls, "needs"))
    for attribute in ("unit", "context", "trained_for", "embedding_from"):
        if hasattr(cls, attribute):
            value = _declared(cls, attribute)
            told[attribute] = list(value) if isinstance(value, tuple) else value
    told["options"] = dict(_options(cls.Options))
    records = _declared(cls, "checkpoints")
    told["checkpoints"] = records if isinstance(records, str) else {tag: _checkpoint(record) for tag, record in records.items()}
    told["requires"] = {package: "installed" if _installed(package) else "not installed" for package in cls.requires}
    return told


def _first_line(cls: type[Component]) -> str:
    """The first line of the docstring, without its markup."""
    line = (cls.__doc__ or "").strip().partition("\n")[0]
    return re.sub(r"(?::\w+:)?(`+)(.+?)\1", r"\2", line)


def _declared(cls: type[Component], attribute: str) -> Any:
    if isinstance(getattr_static(cls, attribute), property | cached_property):
        return BY_OPTIONS
    return getattr(cls, attribute)


def _labels(labels: Any) -> Any:
    if isinstance(labels, str):
        return labels
    sets = labels if isinstance(labels, tuple) else (labels,)
    return {item.name: list(item.labels) for item in sets}


def _needs(needs: Needs | str) -> list[str] | str:
    if isinstance(needs, str):
        return needs
    wanted: Iterable[Input | Any] = (needs.frames, needs.audio, *needs.inputs)
    return [_call_text(item) for item in wanted if item is not None]


def _call_text(item: Any) -> str:
    """A declaration as one would write it, without what is not asked for."""
    asked = [(field.name, getattr(item, field.name)) for field in fields(item)]
    return f"{type(item).__name__}({', '.join(f'{name}={value!r}' for name, value in asked if value not in (None, 0.0))})"


def _options(cls: type, values: Any = None, before: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Options by the keys that ``--set`` takes: those inside others as ``a.b``, with the values that they have there."""
    for item in fields(cls):
        made = item.default if item.default_factory is MISSING else item.default_factory()
        value = made if values is None else getattr(values, item.name)
        if is_dataclass(value):
            yield from _options(type(value), value, f"{before}{item.name}.")
            continue
        kind = item.type if isinstance(item.type, str) else getattr(item.type, "__name__", str(item.type))
        yield before + item.name, {"type": kind, **({"required": True} if value is MISSING else {"default": _plain(value)})}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _checkpoint(record: Checkpoint) -> dict[str, Any]:
    told = {"uri": record.uri, "licence": record.licence, "sha256": record.sha256, "source": record.source}
    return told | ({"labels": _labels(record.labels)} if record.labels else {})


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _page(plugin: Plugin) -> Iterator[str]:
    """The story of a plugin as lines of text."""
    yield f"{plugin.name}: {plugin.state}" + (f" ({offers(plugin)})" if plugin.state == "blocked" else "")
    about = {"summary": plugin.summary, "distribution": plugin.distribution, "version": plugin.version, "licence": plugin.licence}
    for word, value in (about | {"location": plugin.location, "hooks": ", ".join(plugin.hooks)}).items():
        if value:
            yield f"  {word + ':':14}{value}"
    if plugin.failure:
        yield f"  {'failed at:':14}{plugin.failure.stage}"
        yield f"  {'error:':14}{plugin.failure.error}"
        yield f"  {'what to do:':14}{plugin.failure.remedy}"
        yield "  traceback:"
        yield indent(plugin.failure.traceback.rstrip(), "    ")
    for entry in plugin.components:
        yield ""
        yield from _component_lines(component(entry))
    if plugin.recipes or plugin.training_recipes:
        yield ""
    for recipe in plugin.recipes:
        yield f"recipe {recipe.name}: {recipe.path}"
    for recipe in plugin.training_recipes:
        yield f"training recipe {recipe.name}: {recipe.path}"
    for name, command in sorted(plugin.commands.items()):
        yield f"command {name}: {command.get_short_help_str(90)}"


def _component_lines(told: dict[str, Any]) -> Iterator[str]:
    yield f"{told.pop('kind')} {told.pop('id')}"
    if about := told.pop("summary"):
        yield f"  {about}"
    for word, value in told.items():
        lines = [_line(key, item) for key, item in value.items()] if isinstance(value, dict) else [_text(value)]
        for position, line in enumerate(line for line in lines if line):
            yield f"  {word + ':' if position == 0 else '':14}{line}"


def _line(key: str, item: Any) -> str:
    """One label set, option, checkpoint or package of a component."""
    if not isinstance(item, dict):
        return f"{key}: {_text(item)}"
    if "uri" in item:
        digest = f"{item['sha256'][:12]}..." if item["sha256"] else "not given"
        details = [item["uri"], f"licence {item['licence']}", f"sha256 {digest}", item["source"]]
        return f"{key}: {', '.join(detail for detail in details if detail)}"
    return f"{key}: {item['type']} {'required' if 'required' in item else '= ' + _yaml(item['default'])}"


def _yaml(value: Any) -> str:
    """A value as one writes it in a recipe, or behind ``--set KEY=``."""
    import yaml

    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf)
    return text.removesuffix("...\n").rstrip("\n")


def _text(value: Any) -> str:
    if value is None:
        return ""
    return ", ".join(value) if isinstance(value, list) else str(value)
