"""Which weights there are: those that components declare, and those that installed recipes name for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from affectkit import checkpoints
from affectkit.addresses import address
from affectkit.config import Recipe, component_options
from affectkit.errors import AffectKitError, CheckpointError, PluginError, UsageError, did_you_mean, raise_all
from affectkit.needs import Checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from affectkit.components import Component
    from affectkit.plugins import Entry, Registry

State = Literal["here", "not here", "to train", "unusable"]

TRAINED = "trained"  # tag of a file that no recipe names and no component looks for


@dataclass(frozen=True)
class Record:
    """One checkpoint of a component.

    Attributes:
        component: id of the component.
        tag: which of its checkpoints; the name of the recipe where a recipe names a file of its own.
        checkpoint: the file and what travels with it.
        default: whether the component uses it unless told otherwise.
        named: whether something names the file; where not, it must be made and given, wherever it is.
    """

    component: str
    tag: str
    checkpoint: Checkpoint
    default: bool
    named: bool = True

    @property
    def name(self) -> str:
        """What ``weights fetch`` takes."""
        return f"{self.component}:{self.tag}"


@dataclass(frozen=True)
class Found:
    """Where the file of a record is.

    Attributes:
        state: ``"unusable"`` where its URI cannot be followed, ``"to train"`` where nobody publishes it and it is not here.
        path: the file, ``None`` where it is not here.
        size: its bytes, ``None`` where they are not known.
        problem: why it is unusable.
    """

    state: State
    path: Path | None = None
    size: int | None = None
    problem: str = ""


def find(record: Record) -> Found:
    """Looks for the file of a record, without reading it."""
    if not record.named:
        return Found("to train")
    try:
        path = checkpoints.local(record.checkpoint)
    except CheckpointError as error:
        return Found("unusable", None, record.checkpoint.size, str(error))
    if path is None and not address(record.checkpoint).url and record.checkpoint.source.startswith(checkpoints.MADE):
        return Found("to train")
    if path is None:
        return Found("not here", None, record.checkpoint.size)
    return Found("here", path, checkpoints.size(path))


def select(registry: Registry, names: Sequence[str], every: bool) -> list[Record]:
    """The checkpoints that names stand for, each once; all there are where no name is given.

    Args:
        registry: the plugins.
        names: plugins, which stand for what their recipes name for other components as well, components, or ``component:tag``.
        every: whether a plugin or component stands for all its checkpoints, or for those that it uses unless told otherwise.

    Raises:
        PluginError: where a plugin or component is unknown, broken or blocked.
        UsageError: where a component has no such tag.
        Problems: where there are several of them.
    """
    problems: list[AffectKitError] = []
    found: dict[str, Record] = {}
    recipes = installed_recipes(registry)
    for name in names or [entry.id for entry in registry.entries()]:
        id, colon, tag = name.partition(":")
        try:
            chosen = [record for entry in entries(registry, id) for record in records(entry, recipes)]
            if "/" not in id:
                others = [entry for entry in registry.entries() if entry.plugin != id]
                chosen += [record for entry in others for record in records(entry, recipes) if record.tag.startswith(f"{id}/")]
        except AffectKitError as error:
            problems.append(error)
            continue
        if colon:
            tags = [record.tag for record in chosen]
            if tag not in tags:
                problems.append(UsageError(f"{id} has no checkpoint {tag!r}. {did_you_mean(tag, tags)}"))
            chosen = [record for record in chosen if record.tag == tag]
        elif not every:
            chosen = [record for record in chosen if record.default]
        found |= {record.name: record for record in chosen}
    raise_all(problems)
    return list(found.values())


def entries(registry: Registry, name: str) -> list[Entry]:
    """The component of that id, or all components of the plugin of that name.

    Raises:
        PluginError: where there is none, or the plugin is broken or blocked.
    """
    if "/" in name:
        return [registry.get(name)]
    plugin = registry.plugin(name)
    if plugin.state != "ok":
        raise PluginError(f"plugin {name} is {plugin.state}; affectkit plugins show {name} says why")
    return list(plugin.components)


def records(entry: Entry, recipes: Mapping[str, Recipe] | None = None) -> list[Record]:
    """The checkpoints of a component, those that it uses with its default options marked.

    Args:
        entry: the component.
        recipes: recipes by name; a file that one of them names for the component is a checkpoint as well, and one that it lacks.
    """
    try:
        component = entry.cls()
        used, known = component.used_checkpoints(), component.checkpoints
    except (AffectKitError, TypeError):  # it has options without defaults, so nothing is used by default
        used, known = {}, entry.cls.checkpoints if isinstance(entry.cls.checkpoints, Mapping) else {}
    told = [Record(entry.id, tag, checkpoint, tag in used) for tag, checkpoint in {**known, **used}.items()]
    for name, recipe in (recipes or {}).items():
        try:
            chosen = entry.cls(component_options(entry.cls, recipe.components.get(entry.id, {}), entry.id))
            named = chosen.used_checkpoints()
        except (AffectKitError, TypeError):  # a recipe that does not fit says so where it is used
            continue
        told += [Record(entry.id, name, named["given"], not known)] if "given" in named else []
        if entry.id in (recipe.fusion, recipe.head) and (wanted := _unmade(chosen, entry.id)):
            told.append(Record(entry.id, name, wanted, True, named=False))
    if not told:
        with suppress(AffectKitError, TypeError):
            wanted = _unmade(entry.cls(), entry.id)
            told += [] if wanted is None else [Record(entry.id, TRAINED, wanted, False, named=False)]
    return told


def _unmade(component: Component, id: str) -> Checkpoint | None:
    """The file that a component refuses to go without, where nobody publishes it and no recipe names it."""
    component.id = id
    try:
        component.check_given()
    except AffectKitError as error:
        if error.wanted is not None and error.wanted.make:
            return Checkpoint(error.wanted.name, licence="that of the data it was made of", source=error.wanted.make)
    return None


def trained_option(entry: Entry) -> str | None:
    """The option of a component that takes the file that ``affectkit train`` writes for it; ``None`` where it has none.

    That is ``checkpoint`` or, of a component that uses several files at once, the one whose record says that it is made so.

    Args:
        entry: the component.
    """
    options = [item.name for item in fields(entry.cls.Options)]
    if "checkpoint" in options:
        return "checkpoint"
    try:
        used = entry.cls().used_checkpoints()
    except (AffectKitError, TypeError):  # it has options without defaults
        used = entry.cls.checkpoints
    made = f"{checkpoints.MADE}{entry.id} "
    return next((tag for tag, found in used.items() if tag in options and made in f"{found.source} "), None)


def installed_recipes(registry: Registry) -> dict[str, Recipe]:
    """The recipes of all plugins by name; those that cannot be read are left out."""
    found = {}
    for name in registry.recipes():
        try:
            found[name] = Recipe.load(name, find=registry.recipe)
        except AffectKitError:
            continue
    return found
