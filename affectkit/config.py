"""Recipes: what runs, with what, and how, on one screen of YAML.

::

    name: mini
    modalities: [mini/face_static, mini/audio]      # component ids; a plugin's name stands for all its modalities
    providers:
      faces: mini/faces                             # one id must be there
      transcript: [core/subtitles, core/whisper]    # of several, the first that has something to say about a medium
    fusion: core/mhpf
    head: core/ppa
    windows: {length: 4.0, step: 2.0, min_tail: 1.0}
    components:
      mini/audio: {batch_size: 16}                  # batch_size, precision, device, and the component's own options

``_base_: other.yaml`` (or the name of a recipe, or a list) builds on other recipes: mappings merge, everything else
replaces, and a provider set to null is left out.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from affectkit import recipe_files
from affectkit.components import Component, Modality, Provider
from affectkit.errors import AffectKitError, ConfigError, Problems, did_you_mean, raise_all
from affectkit.labels import Outside
from affectkit.options import build
from affectkit.recipe_files import Find, Source

Subjects = Literal["main", "all"]
Precision = Literal["fp32", "bf16", "fp16"]

FACES_FPS = 5.0  # one frame in five of a video at 25 frames per second: a face hardly moves in 0.2 s

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*/[A-Za-z0-9][A-Za-z0-9_-]*")
_PLUGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Windows:
    """The grid of windows over a medium.

    Attributes:
        length: length of a window in seconds.
        step: seconds from the start of one window to the start of the next.
        min_tail: a last window that is shorter than this many seconds is left out.
    """

    length: float = 4.0
    step: float = 2.0
    min_tail: float = 1.0

    def __post_init__(self) -> None:
        for name in ("length", "step"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be greater than 0 seconds, found {getattr(self, name)}")
        if not 0 <= self.min_tail <= self.length:
            raise ConfigError(f"min_tail must be between 0 and length ({self.length} seconds), found {self.min_tail}")


@dataclass(frozen=True)
class Settings:
    """What the engine itself takes per modality or provider; ``None`` leaves it to the run.

    Attributes:
        batch_size: clips per forward pass at most.
        precision: precision of forward passes.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:0"``.
    """

    batch_size: int | None = None
    precision: Precision | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, found {self.batch_size}")


SETTINGS = tuple(item.name for item in fields(Settings))


@dataclass(frozen=True)
class Recipe:
    """What runs, with what, and how.

    Attributes:
        name: free text.
        modalities: component ids, or plugin names that stand for all their modalities.
        providers: per kind of input one id, which must be there, or alternatives in the order in which they are tried.
        fusion: id of the fusion, ``None`` for none.
        head: id of the head, ``None`` for none.
        windows: the grid of windows.
        subjects: ``"main"`` analyses the subject most present in each window, ``"all"`` every one.
        outside: what becomes of labels that the fusion's label set does not have, as in :func:`affectkit.labels.project`.
        sampling: frames per second that a detector sees at least, by kind of input.
        components: per component id its options and :class:`Settings`.
    """

    modalities: tuple[str, ...]
    name: str = "unnamed"
    providers: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    fusion: str | None = None
    head: str | None = None
    windows: Windows = Windows()
    subjects: Subjects = "main"
    outside: Outside = "other"
    sampling: Mapping[str, float] = field(default_factory=lambda: {"faces": FACES_FPS})
    components: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Recipe:
        """A recipe from plain data, for instance from ``run.json``.

        Raises:
            ConfigError: for one problem.
            Problems: for several.

        >>> Recipe.from_mapping({"modalities": ["mini/audio"], "hed": "core/ppa"})
        Traceback (most recent call last):
        affectkit.errors.ConfigError: hed: unknown key. Did you mean head?
        """
        return cls._from_source(Source(mapping))

    @classmethod
    def load(cls, path_or_name: str | Path, *, find: Find | None = None, overrides: Iterable[str] = ()) -> Recipe:
        """A recipe from its file, with what it builds on and with overrides on top.

        Args:
            path_or_name: a path (a ``Path``, or text that ends in .yaml or .yml), or the name of an installed recipe.
            find: gives the file of a recipe by its name.
            overrides: ``key.path=value``, as ``--set`` takes them.

        Raises:
            ConfigError: for one problem; its message names file and line.
            Problems: for several.
            UsageError: for an override that is none.
        """
        source = recipe_files.read(path_or_name, find)
        data = {"name": Path(path_or_name).stem, **source.data}
        return cls._from_source(recipe_files.override(Source(data, source.places, source.files), overrides))

    @classmethod
    def _from_source(cls, source: Source) -> Recipe:
        recipe = build(cls, _tidy(source.data), locate=source.locate)
        raise_all(recipe._problems(source))
        return recipe

    def to_mapping(self) -> dict[str, Any]:
        """Plain data that :meth:`from_mapping` turns into an equal recipe.

        >>> Recipe(modalities=("mini/audio",)).to_mapping()["windows"]
        {'length': 4.0, 'step': 2.0, 'min_tail': 1.0}
        """
        order = ("name", *(item.name for item in fields(self) if item.name != "name"))
        return {name: _to_plain(getattr(self, name)) for name in order}

    def with_(self, **changes: Any) -> Recipe:
        """The same recipe with some keys changed; mappings merge, everything else replaces.

        >>> Recipe(modalities=("mini/audio",)).with_(windows={"step": 1}).windows
        Windows(length=4.0, step=1.0, min_tail=1.0)
        """
        return self.from_mapping(recipe_files.merge(self.to_mapping(), changes))

    def override(self, overrides: Iterable[str]) -> Recipe:
        """The same recipe with ``key.path=value`` changes, as ``--set`` takes them; raises as :meth:`load` does.

        >>> Recipe(modalities=("mini/audio",)).override(["windows.step=1"]).windows.step
        1.0
        """
        return self._from_source(recipe_files.override(Source(self.to_mapping()), overrides))

    def digest(self) -> str:
        """sha256 of all that the results depend on: everything but the name, batch sizes and devices."""
        plain = self.to_mapping()
        del plain["name"]
        for options in plain["components"].values():
            for setting in ("batch_size", "device"):
                options.pop(setting, None)
        plain["components"] = {name: options for name, options in plain["components"].items() if options}
        return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def alternatives(self, kind: str) -> tuple[str, ...]:
        """The providers of a kind of input, in the order in which they are tried; none where the recipe names none."""
        ids = self.providers.get(kind, ())
        return (ids,) if isinstance(ids, str) else ids

    def mandatory(self, kind: str) -> bool:
        """Whether the recipe names one provider of this kind, which must be there, rather than alternatives."""
        return isinstance(self.providers.get(kind), str)

    def settings(self, component: str) -> Settings:
        """What the recipe tells the engine about a component."""
        mapping = self.components.get(component, {})
        return Settings(**{key: mapping[key] for key in SETTINGS if key in mapping})

    def ids(self) -> tuple[str, ...]:
        """Everything that the recipe names to run: modalities (or plugins), providers, fusion and head."""
        providers = [item for kind in self.providers for item in self.alternatives(kind)]
        return tuple(dict.fromkeys([*self.modalities, *providers, *(item for item in (self.fusion, self.head) if item)]))

    def unknown_components(self, known: Iterable[str]) -> list[ConfigError]:
        """One error for each entry of ``components`` that is neither named in the recipe nor installed.

        Args:
            known: ids of the components that are installed.
        """
        known = set(known)
        named = set(self.ids())
        return [
            ConfigError(f"components.{name}: there is no such component. {did_you_mean(name, known | {i for i in named if '/' in i})}")
            for name in self.components
            if name not in known and name not in named and name.split("/")[0] not in named
        ]

    def _problems(self, source: Source) -> list[AffectKitError]:
        """What is wrong although every type is right."""
        problems: list[AffectKitError] = []

        def refuse(where: tuple[str, ...], text: str) -> None:
            problems.append(ConfigError(f"{source.locate(where)}{'.'.join(where)}: {text}"))

        def check_id(value: str, *where: str) -> None:
            if not _ID.fullmatch(value):
                refuse(where, f"{value!r} is not a component id; write plugin/component, for instance core/ppa")

        if not self.modalities:
            refuse(("modalities",), "a recipe needs at least one modality, for instance [mini/audio]")
        for index, value in enumerate(self.modalities):
            if not _PLUGIN.fullmatch(value):
                check_id(value, "modalities", str(index))
            if value in self.modalities[:index]:
                refuse(("modalities", str(index)), f"{value!r} is named twice")
        for kind in self.providers:
            for value in self.alternatives(kind):
                check_id(value, "providers", kind)
        for name in ("fusion", "head"):
            if (value := getattr(self, name)) is not None:
                check_id(value, name)
        kinds = {"faces", *self.providers}
        for kind, fps in self.sampling.items():
            if kind not in kinds:
                refuse(("sampling", kind), f"no provider makes {kind!r}. {did_you_mean(kind, kinds)}")
            if not fps > 0:
                refuse(("sampling", kind), f"frames per second must be greater than 0, found {fps}")
        for name, options in self.components.items():
            check_id(name, "components", name)
            try:
                build(Settings, {key: options[key] for key in SETTINGS if key in options}, where=("components", name), locate=source.locate)
            except Problems as error:
                problems.extend(error.problems)
            except ConfigError as error:
                problems.append(error)
        return problems


def component_options(cls: type[Component], mapping: Mapping[str, Any], component: str = "") -> Any:
    """The ``Options`` of a component class with the values that a recipe gives.

    Args:
        cls: the component class.
        mapping: its entry in the recipe's ``components``; :class:`Settings` of modalities and providers are left aside.
        component: its id, for messages.

    Raises:
        ConfigError: for one problem.
        Problems: for several.
    """
    aside = SETTINGS if issubclass(cls, Modality | Provider) else ()
    given = {key: value for key, value in mapping.items() if key not in aside}
    return build(cls.Options, given, where=("components", component or cls.name))


def _tidy(data: Mapping[str, Any]) -> dict[str, Any]:
    """Empty sections as empty mappings, providers set to null left out."""
    out = {key: value for key, value in data.items() if not (value is None and key in recipe_files.SECTIONS)}
    if isinstance(out.get("providers"), Mapping):
        out["providers"] = {kind: ids for kind, ids in out["providers"].items() if ids is not None}
    if isinstance(out.get("components"), Mapping):
        out["components"] = {name: {} if options is None else options for name, options in out["components"].items()}
    return out


def _to_plain(value: Any) -> Any:
    if isinstance(value, Windows):
        return {item.name: getattr(value, item.name) for item in fields(value)}
    if isinstance(value, Mapping):
        return {key: _to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
