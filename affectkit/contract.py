"""Checks of what a component class declares, made once when its plugin is loaded.

Each function raises :class:`PluginError` with a sentence that names the class, what was found and what to write instead.
A declaration may be a property where it depends on the options; then it is checked when the component is built.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from inspect import getattr_static
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from affectkit.challenges import Submitter
from affectkit.components import Component, Fusion, Head, Modality, Provider, Scope, Unit
from affectkit.config import SETTINGS
from affectkit.errors import PluginError
from affectkit.labels import LabelSet
from affectkit.needs import Checkpoint, Needs
from affectkit.trainings import Training

KINDS: Mapping[str, type[Component]] = {
    "provider": Provider,
    "modality": Modality,
    "fusion": Fusion,
    "head": Head,
    "submitter": Submitter,
    "training": Training,
}
"""The kinds of components and the class that each kind derives from."""

HOOKS: Mapping[str, str] = {
    "affectkit_providers": "provider",
    "affectkit_modalities": "modality",
    "affectkit_fusions": "fusion",
    "affectkit_heads": "head",
    "affectkit_submitters": "submitter",
    "affectkit_trainings": "training",
}
"""The hooks that return components, and the kind that each returns."""

# One segment of an id. A dot would be taken for a step into the recipe by ``--set``, a comma separates ids, a slash plugin and component.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_NAME_RULE = "letters, digits, '_' and '-', beginning with a letter or digit"


@dataclass(frozen=True)
class Recipe:
    """A recipe that a plugin ships: ``name`` is ``plugin/stem``."""

    name: str
    path: Path


def check_name(name: object, what: str) -> str:
    """The name itself, where it can be one segment of an id.

    >>> check_name("face_dynamic", "modality Face")
    'face_dynamic'
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PluginError(f"{what} has the name {name!r}; a name consists of {_NAME_RULE}")
    return name


def is_id(text: str) -> bool:
    """Whether a text has the form ``plugin/name``.

    >>> is_id("mini/audio"), is_id("audio"), is_id("./audio")
    (True, False, False)
    """
    parts = text.split("/")
    return len(parts) == 2 and all(_NAME.fullmatch(part) for part in parts)


def components(hook: str, returned: object) -> list[type[Component]]:
    """The component classes that an implementation of ``hook`` returned, each checked.

    Raises:
        PluginError: where it did not return classes of the right kind, or a class breaks the contract.
    """
    kind = HOOKS[hook]
    base = KINDS[kind]
    classes = _items(hook, returned, f"a list of classes derived from affectkit.api.{base.__name__}")
    for cls in classes:
        if not isinstance(cls, type):
            instead = f"return the class {type(cls).__name__}, not an instance of it" if isinstance(cls, base) else "return classes"
            raise PluginError(f"{hook} returned {_short(cls)}, which is not a class; {instead}")
        if not issubclass(cls, base):
            raise PluginError(f"{hook} returned {cls.__name__}, which does not derive from affectkit.api.{base.__name__}")
        _check_component(kind, cls)
    return classes


def recipes(plugin: str, returned: object, hook: str = "affectkit_recipes") -> list[Recipe]:
    """The recipes that an implementation of ``hook`` returned, each checked to be there.

    Raises:
        PluginError: where it did not return paths of YAML files that exist.
    """
    found = []
    for item in _items(hook, returned, "a list of paths of YAML files"):
        if not isinstance(item, str | os.PathLike):
            raise PluginError(f"{hook} returned {_short(item)}, which is not a path")
        path = Path(item)
        if path.suffix not in (".yaml", ".yml"):
            raise PluginError(f"{hook} returned {path}; a recipe is a YAML file (.yaml or .yml)")
        if not path.is_file():
            raise PluginError(f"{hook} names {path}, which does not exist; is it listed in the package data of the plugin?")
        found.append(Recipe(f"{plugin}/{check_name(path.stem, f'recipe {path}')}", path))
    return found


def _items(hook: str, returned: object, wanted: str) -> list[Any]:
    if returned is None:
        raise PluginError(f"{hook} returned nothing; return {wanted}")
    if not isinstance(returned, Iterable) or isinstance(returned, str | bytes | os.PathLike):
        raise PluginError(f"{hook} returned {_short(returned)}; return {wanted}")
    return list(returned)


def _check_component(kind: str, cls: type[Component]) -> None:
    what = f"{kind} {cls.__name__}"
    if missing := sorted(getattr(cls, "__abstractmethods__", ())):
        raise PluginError(f"{what} does not define {', '.join(missing)}; every {kind} must")
    if not cls.name:
        raise PluginError(f"{what} has no name; give it one, for instance name = {_snake(cls.__name__)!r}")
    check_name(cls.name, what)
    params = getattr(cls.Options, "__dataclass_params__", None)
    if not isinstance(cls.Options, type) or not is_dataclass(cls.Options) or params is None or not params.frozen:
        raise PluginError(f"{what}: Options must be a frozen dataclass (@dataclass(frozen=True)), found {_short(cls.Options)}")
    records = _declared(cls, "checkpoints")
    if records is not _LATER and not (isinstance(records, Mapping) and all(isinstance(r, Checkpoint) for r in records.values())):
        raise PluginError(f"{what}: checkpoints must be a mapping from tags to Checkpoint(...), found {_short(records)}")
    _check_type(what, cls, "requires", tuple, "a tuple of package names, for instance ('whisper',)")
    _CHECKS[kind](what, cls)


def _check_options(what: str, cls: type[Component]) -> None:
    """Refuses options that no recipe could set, because the engine takes keys of these names."""
    if taken := [item.name for item in fields(cls.Options) if item.name in SETTINGS]:
        raise PluginError(
            f"{what}: its Options have {' and '.join(taken)}, which in a recipe belong to the engine and never reach a component; "
            f"choose other names, for instance {taken[0]}_of_model"
        )


def _check_provider(what: str, cls: type[Component]) -> None:
    _check_options(what, cls)
    kind = _declared(cls, "kind")
    if kind is not _LATER and (not isinstance(kind, str) or not kind):
        raise PluginError(f"{what} has no kind; say what evidence it makes, for instance kind = 'faces'")
    _check_choice(what, cls, "scope", get_args(Scope))
    _check_type(what, cls, "needs", Needs, "a Needs(...)")


def _check_modality(what: str, cls: type[Component]) -> None:
    _check_options(what, cls)
    _check_labels(what, cls, several=True)
    _check_type(what, cls, "needs", Needs, "a Needs(...)")
    _check_choice(what, cls, "unit", get_args(Unit))
    context = _declared(cls, "context")
    if context is not _LATER and context is not None and not (isinstance(context, int | float) and context > 0):
        raise PluginError(f"{what}: context must be seconds greater than 0, or None for the window itself, found {_short(context)}")


def _check_fusion(what: str, cls: type[Component]) -> None:
    _check_labels(what, cls)
    trained_for = _declared(cls, "trained_for")
    if trained_for is not _LATER and trained_for is not None and not isinstance(trained_for, tuple):
        raise PluginError(f"{what}: trained_for must be a tuple of component ids or None, found {_short(trained_for)}")


def _check_head(what: str, cls: type[Component]) -> None:
    _check_labels(what, cls)
    for attribute in ("reads", "speaks"):
        _check_type(what, cls, attribute, LabelSet | None, "a LabelSet or None")
    source = _declared(cls, "embedding_from")
    if source is not _LATER and source is not None and not isinstance(source, str):
        raise PluginError(f"{what}: embedding_from must be 'plugin/component:name' or None, found {_short(source)}")


def _check_submitter(what: str, cls: type[Component]) -> None:
    _check_labels(what, cls, several=True)


def _check_training(what: str, cls: type[Component]) -> None:
    _check_labels(what, cls)


_CHECKS = {
    "provider": _check_provider,
    "modality": _check_modality,
    "fusion": _check_fusion,
    "head": _check_head,
    "submitter": _check_submitter,
    "training": _check_training,
}


def _check_labels(what: str, cls: type[Component], several: bool = False) -> None:
    labels = _declared(cls, "labels")
    if labels is _LATER or isinstance(labels, LabelSet):
        return
    if labels is None or labels == ():
        raise PluginError(f"{what} declares no labels; say what its columns mean, for instance labels = BASIC8")
    if not (several and isinstance(labels, tuple) and all(isinstance(item, LabelSet) for item in labels)):
        wanted = "a LabelSet or a tuple of LabelSets" if several else "a LabelSet"
        raise PluginError(f"{what}: labels must be {wanted}, found {_short(labels)}")


def _check_choice(what: str, cls: type[Component], attribute: str, choices: tuple[str, ...]) -> None:
    value = _declared(cls, attribute)
    if value is not _LATER and value not in choices:
        found = "has none" if value is None else f"found {value!r}"
        raise PluginError(f"{what}: {attribute} must be one of {', '.join(choices)}; {found}")


def _check_type(what: str, cls: type[Component], attribute: str, wanted: type | UnionType, words: str) -> None:
    value = _declared(cls, attribute)
    if value is not _LATER and not isinstance(value, wanted):
        raise PluginError(f"{what}: {attribute} must be {words}, found {_short(value)}")


_LATER = object()


def _declared(cls: type, attribute: str) -> Any:
    """The value of a class attribute, ``None`` where it is absent, ``_LATER`` where a property makes it from the options."""
    value = getattr_static(cls, attribute, None)
    return _LATER if isinstance(value, property | cached_property) else value


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _short(value: object) -> str:
    text = value.__name__ if isinstance(value, type) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
