"""Whether everything that a run needs is well, and what to do where it is not: machine, plugins, weights, the default recipe.

A check gives findings; one that itself fails is a finding as well, so that the others are still made. Nothing is changed
and nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from affectkit import checkpoints, machine, weight_files
from affectkit.addresses import address
from affectkit.caches import offline
from affectkit.discovery import describe
from affectkit.errors import AffectKitError, CheckpointError, Problems
from affectkit.machine import Finding, Mark

if TYPE_CHECKING:
    from affectkit.components import Component
    from affectkit.config import Recipe
    from affectkit.plugins import Entry, Plugin, Registry

LARGE = 1 << 29  # bytes above which a file is not read to compare its digest: that would take seconds
GRAVITY: tuple[Mark, ...] = ("ok", "note", "problem")

Check = Callable[[], Iterable[Finding]]

MACHINE: dict[str, Check] = {
    "Python": machine.python,
    "torch": machine.torch,
    "CUDA": machine.cuda,
    "torchvision": machine.torchvision,
    "decoding": machine.decoding,
    "OpenCV": machine.opencv,
    "disk": machine.disk,
    "offline": machine.offline,
}


def examine(load: Callable[[], Registry]) -> Iterator[Finding]:
    """Makes every check, one after the other.

    Args:
        load: gives the plugins; called when it is their turn.
    """
    for subject, check in MACHINE.items():
        yield from guarded(subject, check)
    try:
        registry = load()
    except Exception as error:
        yield _failed("plugins", error)
        return
    for plugin in registry.plugins:
        yield from guarded(f"plugin {plugin.name}", partial(check_plugin, plugin))
    recipe: list[Recipe] = []
    yield from guarded("default recipe", partial(_read_default, registry, recipe))
    told = []
    for entry in registry.entries():
        for finding in guarded(entry.id, partial(check_weights, entry, recipe[0] if recipe else None)):
            told.append(finding.text)
            yield finding
    if recipe:
        yield from guarded("default recipe", partial(check_recipe, recipe[0], registry, told))


def guarded(subject: str, check: Check) -> Iterator[Finding]:
    """What a check finds; where it raises, that is a problem of its own."""
    try:
        yield from check()
    except Exception as error:  # anything may be broken where a doctor is called
        yield _failed(subject, error)


def check_plugin(plugin: Plugin) -> Iterator[Finding]:
    """Whether a plugin is loaded, and the packages are here that its distribution asks for."""
    subject = f"plugin {plugin.name}"
    origin = f"{plugin.distribution} {plugin.version}".strip()
    data = {"state": plugin.state, "distribution": plugin.distribution, "version": plugin.version}
    if plugin.failure:
        yield Finding(subject, "problem", f"{origin} is broken: {plugin.failure.error}", plugin.failure.remedy, data)
        return
    if plugin.state != "ok":
        yield Finding(subject, "note", f"{origin} is {plugin.state}", data=data)
        return
    if wrong := machine.requirements(plugin.distribution):
        remedy = f"pip install --upgrade {plugin.distribution}, or those packages"
        yield Finding(subject, "problem", f"{origin} needs {'; '.join(wrong)}", remedy, data)
        return
    count = len(plugin.components)
    yield Finding(subject, "ok", f"{origin}, {count} {'component' if count == 1 else 'components'}", data=data)


def check_weights(entry: Entry, recipe: Recipe | None = None) -> Iterator[Finding]:
    """Whether the weights that a component uses are here, and are the right ones.

    Args:
        entry: the component.
        recipe: whose options it has; its own defaults where there is none.
    """
    from affectkit.config import component_options

    try:
        component: Component = entry.cls(component_options(entry.cls, recipe.components.get(entry.id, {}) if recipe else {}, entry.id))
    except AffectKitError:
        return  # it has options without defaults: a recipe that uses it says which weights it needs
    component.id = entry.id
    used = component.used_checkpoints()
    found = [_look(component, tag) for tag in used]
    absent = [package for package in component.requires if find_spec(package) is None]
    if absent:
        found.append(("note", f"the package {', '.join(absent)} is not installed", "pip install 'affectkit[all]'"))
    if not found:
        return
    mark = max((mark for mark, _, _ in found), key=GRAVITY.index)
    remedies = dict.fromkeys(remedy for _, _, remedy in found if remedy)
    yield Finding(entry.id, mark, "; ".join(dict.fromkeys(text for _, text, _ in found)), "; ".join(remedies), {"checkpoints": list(used)})


def _look(component: Component, tag: str) -> tuple[Mark, str, str]:
    """Mark, text and remedy of one checkpoint."""
    from affectkit.inventory import Record, find

    checkpoint = component.used_checkpoints()[tag]
    place = find(Record(component.id, tag, checkpoint, True))
    if place.state == "unusable":
        return "problem", place.problem, ""
    name = checkpoints.file_name(checkpoint, place.path)
    if place.path is None and address(checkpoint).url:
        size = f" ({checkpoints.readable(place.size)})" if place.size else ""
        return "note", f"{name}{size} is not here", f"Where it is wanted: {_fetch(component, tag)}"
    if place.path is None and checkpoint.source.startswith(checkpoints.MADE):
        return "note", f"{name} is not here, and nobody publishes it", f"Where it is wanted: {checkpoint.source}"
    if place.path is not None and weight_files.is_random(place.path):
        return "note", f"{name} holds random numbers, for trying only", ""
    if place.path is not None and checkpoint.sha256 is not None and (place.size or 0) > LARGE:
        return "ok", f"{name} is here, too large to compare its digest now (affectkit weights verify {component.id})", ""
    try:
        checkpoints.resolve(checkpoint, owner=component.id, tag=tag if len(component.checkpoints) > 1 else "")
    except CheckpointError as error:
        return "problem", str(error).removeprefix(f"{component.id}: "), ""
    return "ok", f"{name} is here, {'verified' if checkpoint.sha256 else 'no digest is published'}", ""


def _fetch(component: Component, tag: str) -> str:
    """The command that gets a checkpoint."""
    from affectkit.session import DEFAULT_RECIPE

    name = component.id
    if len(component.checkpoints) > 1:
        name += f":{DEFAULT_RECIPE if tag == checkpoints.GIVEN else tag}"
    return f"affectkit weights fetch {name}{', where downloads are allowed' if offline() else ''}"


def check_recipe(recipe: Recipe, registry: Registry, told: Iterable[str] = ()) -> Iterator[Finding]:
    """Whether the recipe that ``affectkit run`` follows has all that it needs.

    Args:
        recipe: the recipe.
        registry: the plugins.
        told: problems that were found already.
    """
    from affectkit.assembly import assemble

    subject = "default recipe"
    try:
        assembled = assemble(recipe, registry)
    except AffectKitError as error:
        problems = error.problems if isinstance(error, Problems) else (error,)
        known = list(told)
        new = [problem for problem in problems if not any(text and text in str(problem) for text in known)]
        for problem in new:
            yield Finding(subject, "problem", f"{recipe.name}: {problem}")
        if not new:
            yield Finding(subject, "problem", f"{recipe.name} cannot run", "See the problems above")
        return
    yield Finding(subject, "ok", f"{recipe.name}: {len(assembled.components)} components, all that it must have is here")


def _read_default(registry: Registry, found: list[Recipe]) -> Iterator[Finding]:
    """Puts the default recipe into ``found``; says so where there is none."""
    from affectkit.config import Recipe
    from affectkit.session import DEFAULT_RECIPE

    try:
        found.append(Recipe.load(DEFAULT_RECIPE, find=registry.recipe))
    except AffectKitError as error:
        remedy = "pip install affectkit-mini, or give affectkit run a recipe with --recipe or modalities with --plugins"
        yield Finding("default recipe", "problem", str(error), remedy)


def _failed(subject: str, error: Exception) -> Finding:
    """A check that raised; programs get the traceback."""
    from traceback import format_exception

    if isinstance(error, AffectKitError):
        return Finding(subject, "problem", str(error))
    remedy = "The check itself failed: report it with what affectkit doctor --json says of it"
    if isinstance(error, ImportError) and error.name:
        remedy = f"Install the package that provides {error.name.partition('.')[0]}, again where it is there"
    return Finding(subject, "problem", describe(error), remedy, {"traceback": "".join(format_exception(error))})
