"""Recipe files: YAML that can hold only plain data, files that build on other files, and ``--set`` on top.

A recipe is read by a loader of our own, stricter than ``yaml.safe_load``: no tags, no aliases, no doubled keys, and only
``true`` and ``false`` are truth values, so that ``language: no`` stays Norwegian. Every value remembers its file and line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from affectkit.errors import AffectKitError, ConfigError, UsageError
from affectkit.options import Where

BASE = "_base_"
SECTIONS = ("providers", "windows", "sampling", "components")
SUFFIXES = (".yaml", ".yml")
LARGEST = 1 << 20  # bytes; a recipe fits on a screen, what is larger is some other file

Find = Callable[[str], Path]

_PLAIN = "text, numbers, true, false, null, lists and mappings"
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Source:
    """The plain data of a recipe and where each of its values was written.

    Attributes:
        data: the merged mapping, without ``_base_``.
        places: ``"file:line"`` or the override, by keys.
        files: the files that were read, the outermost last.
    """

    data: Mapping[str, Any]
    places: Mapping[Where, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    def locate(self, where: Where) -> str:
        """``"file:line: "`` of a value, or of the nearest key above it that was written somewhere."""
        for length in range(len(where), 0, -1):
            if where[:length] in self.places:
                return f"{self.places[where[:length]]}: "
        for at, place in self.places.items():  # a key that --set made on the way to a deeper one
            if at[: len(where)] == where:
                return f"{place}: "
        return f"{self.files[-1]}: " if self.files else ""


def read(path_or_name: str | Path, find: Find | None = None) -> Source:
    """A recipe file with everything that it builds on.

    Args:
        path_or_name: a path (every ``Path``, and text that ends in .yaml or .yml), or the name of a recipe.
        find: gives the file of a named recipe.

    Raises:
        ConfigError: where a file is absent or unreadable, holds more than plain data, or builds on itself.
    """
    return _read(resolve(path_or_name, Path(), find), find, ())


def resolve(path_or_name: str | Path, folder: Path, find: Find | None) -> Path:
    """The file of a recipe: a path relative to ``folder``, or a name looked up with ``find``."""
    if isinstance(path_or_name, Path) or path_or_name.endswith(SUFFIXES):
        return folder / path_or_name
    if find is None:
        raise ConfigError(f"{path_or_name!r} is not the path of a recipe; a path ends in .yaml or .yml")
    return find(path_or_name)


def parse(text: str, name: str) -> tuple[Any, dict[Where, int]]:
    """One YAML document as plain data, and the line of every key and list item.

    Args:
        text: the document.
        name: what to call it in messages.

    Raises:
        ConfigError: naming the line, for broken YAML, tags, aliases and doubled keys.

    >>> parse("windows: {length: 4}", "recipe.yaml")
    ({'windows': {'length': 4}}, {('windows',): 1, ('windows', 'length'): 1})
    """
    lines: dict[Where, int] = {}
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None, lines
            _check(node, (), lines)
            return loader.construct_document(node), lines
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError(f"{name}:{mark.line + 1 if mark else 1}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is not YAML: {str(error).splitlines()[0]}") from None
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None
    except RecursionError:
        raise ConfigError(f"{name} is nested too deeply for a recipe") from None


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` on top of ``base``: mappings merge key by key, everything else replaces.

    >>> merge({"windows": {"length": 4, "step": 2}, "modalities": [1]}, {"windows": {"step": 1}, "modalities": [2]})
    {'windows': {'length': 4, 'step': 1}, 'modalities': [2]}
    """
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        out[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return out


def override(source: Source, overrides: Iterable[str]) -> Source:
    """``--set key.path=value`` on top of a recipe, merged by mmengine; values are YAML, keys of lists are indices.

    Raises:
        UsageError: where an override has no ``=`` or no key.
        ConfigError: where its value is not YAML or its key leads through something that is no mapping.
    """
    overrides = list(overrides)
    if not overrides:
        return source
    from mmengine.config import Config  # a third of a second, and only needed here

    # One level of our own: mmengine reserves top-level names such as "text", which must get our message about unknown keys.
    config = Config({"recipe": _without_null(source.data)})
    places = dict(source.places)
    for text in overrides:
        key, equals, value = text.partition("=")
        key = key.strip()
        where = tuple(key.split("."))
        if not equals or not all(where):
            raise UsageError(f"--set {text}: write --set key.path=value, for instance --set components.mini/audio.batch_size=8")
        place = f"--set {text}"
        parsed, _ = parse(value, place)
        try:
            above = _at(config.to_dict(), ("recipe", *where[:-1]))
            if isinstance(above, list) and not isinstance(parsed, Mapping):  # mmengine merges only mappings into lists
                above[int(where[-1])] = parsed
                key, parsed = ".".join(where[:-1]), above
            config.merge_from_dict({f"recipe.{key}": parsed})
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            raise ConfigError(f"{place}: {_obstacle(config.to_dict()['recipe'], where)}") from None
        places = {at: line for at, line in places.items() if at[: len(where)] != where} | {where: place}
    return Source(config.to_dict()["recipe"], places, source.files)


def _read(path: Path, find: Find | None, stack: tuple[Path, ...]) -> Source:
    real = path.resolve()
    if real in stack:
        chain = " -> ".join(item.name for item in (*stack[stack.index(real) :], real))
        raise ConfigError(f"{path} builds on itself: {chain}; break the circle in one {BASE}")
    data, lines = parse(_text(path), str(path))
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a recipe is a mapping with keys such as modalities, fusion and head, found {type(data).__name__}")
    places = {where: f"{path}:{line}" for where, line in lines.items()}
    bases = data.pop(BASE, [])
    merged = Source({})
    files: tuple[Path, ...] = ()
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str):
            raise ConfigError(f"{places[(BASE,)]}: {BASE} takes the path or the name of a recipe, or a list of them, found {base!r}")
        try:
            below = _read(resolve(base, path.parent, find), find, (*stack, real))
        except AffectKitError as error:
            raise ConfigError(f"{error} ({BASE} in {places[(BASE,)]})") from error
        merged = _over(merged, below)
        files += tuple(item for item in below.files if item not in files)
    own = {where: place for where, place in places.items() if where[0] != BASE}
    return _over(Source(merged.data, merged.places, files), Source(data, own, (path,)))


def _over(below: Source, above: Source) -> Source:
    """Two sources as one; a replaced value takes the places inside it along."""
    replaced = {where for where in above.places if not isinstance(_at(above.data, where), Mapping)}
    kept = {where: place for where, place in below.places.items() if not any(where[:n] in replaced for n in range(1, len(where) + 1))}
    return Source(merge(below.data, above.data), kept | dict(above.places), (*below.files, *above.files))


def _at(data: Any, where: Where) -> Any:
    """What stands under the keys, ``None`` where a mapping does not have one."""
    for key in where:
        data = data[int(key)] if isinstance(data, list) else None if data is None else data.get(key)
    return data


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"{path} is too large for a recipe ({path.stat().st_size} bytes); is it the right file?")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"there is no recipe at {path}; see 'affectkit recipes' for those that are installed, with --training for those of trainings"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text in UTF-8; is it a recipe?") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def _without_null(data: Mapping[str, Any]) -> dict[str, Any]:
    """Empty sections (``components:`` and nothing behind it) as empty mappings, so that ``--set`` can reach into them."""
    out = {key: {} if value is None and key in SECTIONS else value for key, value in data.items()}
    if isinstance(out.get("components"), Mapping):
        out["components"] = {name: {} if options is None else options for name, options in out["components"].items()}
    return out


def _obstacle(data: Any, where: Where) -> str:
    """Where the keys of an override stop to make sense."""
    for depth, key in enumerate(where):
        above = ".".join(where[:depth])
        if isinstance(data, list):
            if not key.isdigit() or int(key) >= len(data):
                return f"{above} is a list of {len(data)}; give an index below that, or the whole list as {above}=[...]"
            data = data[int(key)]
        elif isinstance(data, Mapping):
            if key not in data:
                break
            data = data[key]
        else:
            return f"{above} is {data!r}, not a mapping, and has no {key!r}"
    return f"{'.'.join(where)} is {data!r}, and a mapping cannot be merged into it"


class _Loader(yaml.SafeLoader):
    """Plain data only."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, Any]]] = {}  # noqa: RUF012  # filled below by add_implicit_resolver

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuses aliases: a few lines of them can stand for gigabytes."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, f"the alias *{event.anchor} is not allowed; use {BASE} to share", event.start_mark
            )
        return super().compose_node(parent, index)


_Loader.add_implicit_resolver(f"{_TAG}null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(f"{_TAG}bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(f"{_TAG}int", re.compile(r"^[-+]?(?:0|[1-9][0-9]{0,17})$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)$"),
    list("-+.0123456789"),
)


def _check(node: yaml.Node, where: Where, lines: dict[Where, int]) -> None:
    """Notes lines, and refuses what is not plain data."""
    kinds = {yaml.ScalarNode: ("null", "bool", "int", "float", "str"), yaml.SequenceNode: ("seq",), yaml.MappingNode: ("map",)}
    resolved = node.tag in [_TAG + kind for kind in kinds[type(node)]]
    if not resolved:
        tag = node.tag.replace(_TAG, "!!")
        raise _refused(f"the YAML tag {tag} is not allowed; a recipe holds only {_PLAIN}", node)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*where, str(index))] = item.start_mark.line + 1
            _check(item, (*where, str(index)), lines)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != f"{_TAG}str":
                raise _refused("a key must be text; put it in quotes", key)
            at = (*where, key.value)
            if at in lines:
                raise _refused(f"the key {key.value!r} is written twice, first in line {lines[at]}", key)
            lines[at] = key.start_mark.line + 1
            _check(value, at, lines)


def _refused(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
