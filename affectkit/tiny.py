"""Random weights in the real formats, and a recipe that uses them: the whole tool without a download, saying nothing that is true."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from affectkit import weight_files
from affectkit.assembly import collecting
from affectkit.components import Component, Fusion, Modality
from affectkit.config import Recipe, component_options
from affectkit.errors import AffectKitError, CheckpointError, ConfigError, PluginError, UsageError, did_you_mean, raise_all
from affectkit.inventory import entries
from affectkit.results import spoken

if TYPE_CHECKING:
    from affectkit.plugins import Entry, Registry

NAME = "tiny.yaml"
HEADER = """\
# Written by affectkit weights tiny: the weights below are random numbers in the real formats.
# They are there to try the tool with; what a run with them says means nothing.
"""


@dataclass(frozen=True)
class Written:
    """One checkpoint that was written."""

    component: str
    tag: str
    path: Path


@dataclass
class Tiny:
    """What :func:`write` wrote.

    Attributes:
        recipe: the recipe that uses the weights.
        written: the weights.
        left_out: why a component that was not named itself has no random weights, by id.
    """

    recipe: Path
    written: list[Written] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def write(registry: Registry, base: str, names: Sequence[str], out: Path) -> Tiny:
    """Writes random weights and the recipe ``tiny.yaml`` that uses them.

    Args:
        registry: the plugins.
        base: name or file of the recipe that it builds on.
        names: plugins, components or ``component:tag`` that get random weights; everything that the recipe names where there are none.
        out: folder for a folder per component and the recipe.

    Raises:
        AffectKitError: where the recipe or a name is wrong, or a component that was named has no random weights.
    """
    recipe = Recipe.load(base, find=registry.recipe)
    done = Tiny(out / NAME)
    problems: list[AffectKitError] = []
    chosen: dict[str, dict[str, str]] = {}
    for name in names or _named(recipe, registry):
        id, _, tag = name.partition(":")
        own = bool(names) and "/" in id  # asked for by name, so what keeps it from being written is an error
        found: list[Entry] = []
        with collecting(problems, id):
            found = entries(registry, id)
        for entry in found:
            failed: list[AffectKitError] = []
            with collecting(failed, entry.id):
                for written in _write(entry, tag, recipe, registry, out, own):
                    done.written.append(written)
                    chosen.setdefault(entry.id, {})[option_of(entry, written.tag)] = str(written.path.resolve())
            if own:
                problems += failed
            elif failed:
                done.left_out[entry.id] = str(failed[0]).removeprefix(f"{entry.id}: ").removeprefix(f"{entry.id} ")
    raise_all(problems)
    _write_recipe(done.recipe, base, chosen)
    return done


def _named(recipe: Recipe, registry: Registry) -> list[str]:
    """Everything that a recipe names and that is installed, each once."""
    known = {entry.id for entry in registry.entries()} | {plugin.name for plugin in registry.plugins}
    return [name for name in dict.fromkeys([*recipe.ids(), *recipe.components]) if name in known]


def _write(entry: Entry, tag: str, recipe: Recipe, registry: Registry, out: Path, own: bool) -> Iterator[Written]:
    component = _component(entry, tag, recipe)
    tags = list(component.used_checkpoints()) or (["given"] if hasattr(component.options, "checkpoint") else [])
    if not tags and own:
        raise UsageError(f"{entry.id} has no weights and needs none")
    absent = [package for package in component.requires if find_spec(package) is None]
    if tags and absent:
        raise PluginError(f"{entry.id} needs the package {', '.join(absent)}, which is not installed: pip install 'affectkit[all]'")
    for each in tags:
        folder = out / entry.id
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"{folder} cannot be made: {error.strerror}; give another folder with --out") from None
        path = component.write_random(each, folder, _sources(recipe, registry, component) if isinstance(component, Fusion) else ())
        if not weight_files.is_random(path):
            raise PluginError(f"{entry.id} wrote {path} without saying in it that its numbers are random; correct its write_random")
        yield Written(entry.id, each, path)


def _component(entry: Entry, tag: str, recipe: Recipe) -> Component:
    """The component as the recipe sets it, with the checkpoint ``tag`` where one is asked for."""
    given = dict(recipe.components.get(entry.id, {}))
    if tag:
        known = entry.cls.checkpoints if isinstance(entry.cls.checkpoints, Mapping) else {}
        if tag not in known or not hasattr(entry.cls.Options, "checkpoint"):
            raise UsageError(f"{entry.id} has no checkpoint {tag!r} to choose. {did_you_mean(tag, known)}")
        given["checkpoint"] = tag
    component = entry.cls(component_options(entry.cls, given, entry.id))
    component.id = entry.id
    return component


def _sources(recipe: Recipe, registry: Registry, fusion: Fusion) -> tuple[str, ...]:
    """The modalities of a recipe that a fusion reads."""
    ids = dict.fromkeys(id for name in recipe.modalities for id in registry.select(name))
    found = {id: cast(Modality, _component(registry.get(id, "modality"), "", recipe)) for id in ids}
    return tuple(id for id, modality in found.items() if spoken(modality.label_sets, fusion.labels) is not None)


def option_of(entry: Entry, tag: str) -> str:
    """The option of a component that takes the path of a checkpoint."""
    for name in ("checkpoint", tag):
        if name in getattr(entry.cls.Options, "__dataclass_fields__", {}):
            return name
    raise ConfigError(
        f"{entry.id} has no option that takes the path of its checkpoint {tag!r}; its plugin must give it an option checkpoint, or {tag}"
    )


def _write_recipe(path: Path, base: str, components: Mapping[str, Mapping[str, Any]]) -> None:
    import yaml

    based = str(Path(base).resolve()) if base.endswith((".yaml", ".yml")) else base
    content = {
        "_base_": based,
        "name": "random weights, for trying only",
        "components": {id: dict(given) for id, given in components.items()},
    }
    with weight_files.writing(path) as file:
        file.write((HEADER + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)).encode())
