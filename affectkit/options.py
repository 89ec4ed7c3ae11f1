"""Frozen dataclasses out of plain mappings, as recipes hold them: every unknown key and wrong type is reported, all together.

This is how the ``Options`` of a component and the recipe itself are made. Conversions are few: a whole number is a number,
a list is a tuple, text is a path, a mapping is a nested dataclass. Nothing else is guessed.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from affectkit.errors import AffectKitError, ConfigError, PluginError, did_you_mean, raise_all

T = TypeVar("T")
Where = tuple[str, ...]
Locate = Callable[[Where], str]

_WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    type(None): "null",
    None: "null",
}
_BAD = object()


def nowhere(where: Where) -> str:
    """A :data:`Locate` for values that come from no file."""
    return ""


def build(cls: type[T], mapping: Mapping[str, Any], *, where: Where = (), locate: Locate = nowhere) -> T:
    """An instance of the dataclass ``cls`` with the values of ``mapping``.

    Args:
        cls: a dataclass; its annotations say what is expected.
        mapping: field names to plain values (null, true or false, numbers, text, lists, mappings).
        where: keys under which ``mapping`` stands in the recipe, for messages.
        locate: gives the place of a key in its file, for instance ``"recipe.yaml:7: "``.

    Raises:
        ConfigError: for an unknown key, a wrong type, a missing value, or what the dataclass itself refuses.
        Problems: where there are several of them.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Beam:
    ...     width: int = 5
    ...     penalties: tuple[float, ...] = ()
    >>> build(Beam, {"penalties": [1, 0.5]})
    Beam(width=5, penalties=(1.0, 0.5))
    >>> build(Beam, {"widht": 3}, where=("components", "mini/text"))
    Traceback (most recent call last):
    affectkit.errors.ConfigError: components.mini/text.widht: unknown key. Did you mean width?
    """
    problems: list[AffectKitError] = []
    built = _dataclass(cls, mapping, where, locate, problems)
    raise_all(problems)
    if not isinstance(built, cls):
        raise PluginError(f"{cls.__name__} could not be built from {dict(mapping)!r}")
    return built


def show(where: Where) -> str:
    """Keys as ``--set`` takes them.

    >>> show(("components", "mini/audio", "batch_size"))
    'components.mini/audio.batch_size'
    """
    return ".".join(where)


def expected(annotation: Any) -> str:
    """What values an annotation admits, in words.

    >>> expected(tuple[float, ...]), expected(int | None)
    ('a list, each a number', 'a whole number or null')
    """
    if annotation in _WORDS:
        return _WORDS[annotation]
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(expected(arg) for arg in args))
    if origin is Literal:
        return "one of " + ", ".join(_plain(arg) for arg in args)
    if _is_list(origin or annotation):
        if not args:
            return "a list"
        if origin is tuple and args[-1] is not Ellipsis:
            return f"a list of {len(args)}: {', '.join(expected(arg) for arg in args)}"
        return f"a list, each {expected(args[0])}"
    if _is_mapping(origin or annotation) or is_dataclass(annotation):
        return "a mapping"
    return str(getattr(annotation, "__name__", annotation))


def found(value: Any) -> str:
    """A plain value and its type in words, shortened.

    >>> found("four"), found(None), found([1, 2])
    ("'four' (text)", 'null', '[1, 2] (a list)')
    """
    if value is None:
        return "null"
    words = "a list" if _is_list(type(value)) else "a mapping" if isinstance(value, Mapping) else _WORDS.get(type(value))
    text = _plain(value) if isinstance(value, bool) else repr(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return text if words is None or isinstance(value, bool) else f"{text} ({words})"


def _plain(value: Any) -> str:
    return {True: "true", False: "false", None: "null"}[value] if isinstance(value, bool | None) else str(value)


def _dataclass(cls: type, mapping: Any, where: Where, locate: Locate, problems: list[AffectKitError]) -> Any:
    if not isinstance(mapping, Mapping):
        return _refuse(cls, mapping, where, locate, problems)
    hints = _hints(cls)
    known: dict[str, Field[Any]] = {item.name: item for item in fields(cls) if item.init}
    before = len(problems)
    values = {}
    for key, value in mapping.items():
        at = (*where, str(key))
        if key in known:
            values[key] = _convert(hints[key], value, at, locate, problems)
        elif known:
            problems.append(ConfigError(f"{locate(at)}{show(at)}: unknown key. {did_you_mean(str(key), known)}"))
        else:
            problems.append(ConfigError(f"{locate(at)}{show(at)}: unknown key. {show(where) or cls.__name__} has no options."))
    for name, item in known.items():
        if name not in mapping and item.default is MISSING and item.default_factory is MISSING:
            at = (*where, name)
            problems.append(ConfigError(f"{locate(where)}{show(at)} is missing; give {expected(hints[name])}"))
    if len(problems) > before:
        return _BAD
    try:
        return cls(**values)
    except AffectKitError as error:
        problems.append(_placed(error, where, locate))
    except (TypeError, ValueError) as error:
        problems.append(ConfigError(f"{locate(where)}{show(where) or cls.__name__}: {error}"))
    return _BAD


def _placed(error: AffectKitError, where: Where, locate: Locate) -> AffectKitError:
    """The same sentence with its place in the recipe in front, where it has one."""
    place = f"{locate(where)}{show(where)}".removesuffix(": ")
    return ConfigError(f"{place}: {error}") if place else error


def _convert(annotation: Any, value: Any, where: Where, locate: Locate, problems: list[AffectKitError]) -> Any:
    """The value as the annotation wants it, or ``_BAD`` after noting what is wrong."""
    if annotation is Any or annotation is object:
        return value
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return _union(args, annotation, value, where, locate, problems)
    if origin is Literal:
        same = [arg for arg in args if type(arg) is type(value) and arg == value]
        if not same and isinstance(value, str):
            near = did_you_mean(value, [str(arg) for arg in args])
            problems.append(ConfigError(f"{locate(where)}{show(where)}: {value!r} is not {expected(annotation)}. {near}"))
            return _BAD
        return same[0] if same else _refuse(annotation, value, where, locate, problems)
    if _is_list(origin or annotation):
        return _sequence(origin or annotation, args, annotation, value, where, locate, problems)
    if _is_mapping(origin or annotation):
        if not isinstance(value, Mapping):
            return _refuse(annotation, value, where, locate, problems)
        inner = args[1] if len(args) == 2 else Any
        pairs = {key: _convert(inner, item, (*where, str(key)), locate, problems) for key, item in value.items()}
        return _BAD if any(item is _BAD for item in pairs.values()) else pairs
    if isinstance(annotation, type) and is_dataclass(annotation):
        return value if isinstance(value, annotation) else _dataclass(annotation, value, where, locate, problems)
    return _scalar(annotation, value, where, locate, problems)


def _scalar(annotation: Any, value: Any, where: Where, locate: Locate, problems: list[AffectKitError]) -> Any:
    if annotation is None or annotation is type(None):
        return None if value is None else _refuse(annotation, value, where, locate, problems)
    if annotation is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if annotation is Path and isinstance(value, str | Path):
        return Path(value)
    if isinstance(annotation, type) and isinstance(value, annotation) and not (annotation is int and isinstance(value, bool)):
        return value
    return _refuse(annotation, value, where, locate, problems)


def _union(args: tuple[Any, ...], annotation: Any, value: Any, where: Where, locate: Locate, problems: list[AffectKitError]) -> Any:
    """The first member that takes the value; the one that nearly does says what is wrong."""
    attempts: list[list[AffectKitError]] = []
    for arg in args:
        notes: list[AffectKitError] = []
        converted = _convert(arg, value, where, locate, notes)
        if converted is not _BAD:
            return converted
        if _same_shape(arg, value):
            attempts.append(notes)
    if len(attempts) == 1:
        problems.extend(attempts[0])
        return _BAD
    return _refuse(annotation, value, where, locate, problems)


def _same_shape(annotation: Any, value: Any) -> bool:
    kind = get_origin(annotation) or annotation
    if _is_list(type(value)):
        return _is_list(kind)
    if isinstance(value, str):
        return kind is Literal
    return isinstance(value, Mapping) and (_is_mapping(kind) or is_dataclass(kind))


def _sequence(
    kind: Any, args: tuple[Any, ...], annotation: Any, value: Any, where: Where, locate: Locate, problems: list[AffectKitError]
) -> Any:
    if not _is_list(type(value)):
        return _refuse(annotation, value, where, locate, problems)
    inner: Sequence[Any] = [args[0] if args else Any] * len(value)
    if kind is tuple and args and args[-1] is not Ellipsis:
        if len(args) != len(value):
            return _refuse(annotation, value, where, locate, problems)
        inner = args
    items = [_convert(arg, item, (*where, str(i)), locate, problems) for i, (arg, item) in enumerate(zip(inner, value, strict=True))]
    if any(item is _BAD for item in items):
        return _BAD
    return items if kind is list else tuple(items)


def _refuse(annotation: Any, value: Any, where: Where, locate: Locate, problems: list[AffectKitError]) -> Any:
    quotes = "; put it in quotes" if annotation is str and isinstance(value, int | float) else ""
    space = "; YAML wants a space after the colon" if value is None and where and ":" in where[-1] else ""
    text = f"expected {expected(annotation)}, found {found(value)}{quotes}{space}"
    problems.append(ConfigError(f"{locate(where)}{show(where)}: {text}" if where else f"{locate(where)}{text}"))
    return _BAD


def _is_list(kind: Any) -> bool:
    return kind in (list, tuple, Sequence)


def _is_mapping(kind: Any) -> bool:
    return kind in (dict, Mapping)


def _hints(cls: type) -> dict[str, Any]:
    try:
        return get_type_hints(cls)
    except NameError as error:
        raise PluginError(
            f"the annotations of {cls.__qualname__} cannot be read ({error}); import their names at the top of its module"
        ) from None
