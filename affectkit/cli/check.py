"""``affectkit plugins check``: what the components of a plugin promise, and whether they keep it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import click

from affectkit.cli.options import PluginChoice, plugin_options, settings

if TYPE_CHECKING:
    from affectkit.plugins import Plugin, Registry
    from affectkit.testing import Outcome

WORDS = {"ok": "ok", "broken": "broken", "unchecked": "cannot be checked"}


@click.command("check")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--recipe", help="Recipe, by name or file, that the options of the components are taken from.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set one option: components.PLUGIN/NAME.OPTION=VALUE.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@plugin_options()
@click.pass_context
def check(
    context: click.Context, plugins: PluginChoice, names: tuple[str, ...], recipe: str | None, overrides: tuple[str, ...], as_json: bool
) -> int:
    """Check what plugins, or single components (PLUGIN/NAME), promise.

    Each component is made with its default options, loaded, and tried on clips that are made on the spot. A check whose weights, packages
    or inputs are not here is not passed: it cannot be checked. Exit status 1 where anything is broken.
    """
    settings(context).plugins = plugins
    registry = plugins.registry
    chosen = _choose(registry, names)
    options = _options(registry, recipe, overrides, chosen)
    found: list[dict[str, Any]] = []
    for plugin, ids in chosen:
        outcomes: list[Outcome] = []
        for outcome in _examine(plugin, ids, registry, plugins, options):
            if not as_json:
                _show(outcome, outcomes)
            outcomes.append(outcome)
        found.append(_story(plugin, outcomes))
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    elif len(found) > 1 or found[0]["checks"]:
        click.echo("")
    for story in found if not as_json else ():
        click.echo(_summary(story))
    return 1 if any(story["failure"] or story["counts"]["broken"] for story in found) else 0


def _choose(registry: Registry, names: Sequence[str]) -> list[tuple[Plugin, list[str]]]:
    """The plugins that are named, each once, with the ids of their components to check; raises for names that are unknown or blocked."""
    from affectkit.errors import AffectKitError, PluginError, raise_all

    chosen: dict[str, tuple[Plugin, list[str]]] = {}
    problems: list[AffectKitError] = []
    for name in dict.fromkeys(names):
        try:
            if "/" in name:
                ids, plugin = [registry.get(name).id], registry.plugin(name.partition("/")[0])
            else:
                plugin = registry.plugin(name)
                ids = [entry.id for entry in plugin.components]
            if plugin.state in ("blocked", "skipped"):
                raise PluginError(f"plugin {name} is {plugin.state} and cannot be checked; leave out -p no:{name}")
        except AffectKitError as problem:
            problems.append(problem)
            continue
        known = chosen.setdefault(plugin.name, (plugin, []))[1]
        known += [id for id in ids if id not in known]
    raise_all(problems)
    return list(chosen.values())


def _options(
    registry: Registry, recipe: str | None, overrides: Sequence[str], chosen: Sequence[tuple[Plugin, Sequence[str]]]
) -> Mapping[str, Mapping[str, Any]]:
    """Options by component id, as ``--recipe`` and ``--set`` give them; wrong ones are told before anything is checked."""
    from affectkit.config import Recipe, component_options
    from affectkit.errors import AffectKitError, ConfigError, UsageError, raise_all
    from affectkit.recipe_files import Source, override

    problems: list[AffectKitError] = []
    if recipe is not None:
        given = Recipe.load(recipe, find=registry.recipe, overrides=overrides).components
    else:
        data = override(Source({"components": {}}), overrides).data
        strange = [key for key in data if key != "components"]
        if strange:
            raise UsageError(
                f"--set {strange[0]}: only options of components can be set, for instance --set components.mini/faces.max_side=640"
            )
        given = data["components"]
    ids = {id for _, ids in chosen for id in ids}
    for id, values in given.items():
        try:
            if not isinstance(values, Mapping):
                raise ConfigError(f"components.{id}: write --set components.{id}.OPTION=VALUE")
            entry = registry.get(id)
            if id in ids:
                component_options(entry.cls, values, id)
        except AffectKitError as problem:
            if recipe is None or id in ids:
                problems.append(problem)
    raise_all(problems)
    return given


def _examine(
    plugin: Plugin, ids: Sequence[str], registry: Registry, choice: PluginChoice, options: Mapping[str, Mapping[str, Any]]
) -> Iterator[Outcome]:
    """Every outcome of a plugin; what its components print goes to standard error."""
    from affectkit.testing import examine
    from affectkit.testing.contracts import examine_plugin

    if plugin.failure is not None:
        return
    entries = [entry for entry in plugin.components if entry.id in ids]
    steps = [examine_plugin(plugin, registry, choice.folder)] if len(entries) == len(plugin.components) else []
    steps += [
        examine(entry.kind, entry.cls, options.get(entry.id), id=entry.id, registry=registry, components=options) for entry in entries
    ]
    for step in steps:
        while True:
            with redirect_stdout(sys.stderr):
                outcome = next(step, None)
            if outcome is None:
                break
            yield outcome


def _show(outcome: Outcome, before: Sequence[Outcome]) -> None:
    """One line; a heading where a component begins, and a reason that was told for it already is not told again."""
    mine = [other for other in before if other.component == outcome.component]
    if not mine:
        click.echo("\n" * bool(before) + outcome.component)
    reason = outcome.reason
    if any(other.reason == reason for other in mine):
        reason = "as above" if reason else ""
    click.echo(f"  {WORDS[outcome.state]:17}  {outcome.check}{': ' if reason else ''}{' '.join(reason.split())}")


def _story(plugin: Plugin, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    counts: Counter[str] = Counter(outcome.state for outcome in outcomes)
    failure = plugin.failure
    return {
        "plugin": plugin.name,
        "version": plugin.version,
        "distribution": plugin.distribution,
        "failure": {"stage": failure.stage, "error": str(failure.error), "remedy": failure.remedy} if failure else None,
        "counts": {state: counts[state] for state in WORDS},
        "checks": [vars(outcome) for outcome in outcomes],
    }


def _summary(story: Mapping[str, Any]) -> str:
    if failure := story["failure"]:
        name = story["plugin"]
        return (
            f"{name}: cannot be loaded, failed at {failure['stage']}: {failure['error']}. {failure['remedy']} "
            f"The full story: affectkit plugins show {name}"
        )
    counts = story["counts"]
    components = len({check["component"] for check in story["checks"]} - {story["plugin"]})
    parts = [f"{counts['ok']} ok", f"{counts['broken']} broken", f"{counts['unchecked']} cannot be checked here"]
    return f"{story['plugin']}: {components} component{'' if components == 1 else 's'}, {', '.join(parts)}"
