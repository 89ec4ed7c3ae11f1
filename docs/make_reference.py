"""Writes ``docs/reference.md`` from the docstrings of affectkit: ``python docs/make_reference.py``.

Each section is a list of paths; what is said of each comes from its docstring, its signature and its annotations.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, get_args, get_origin, get_overloads

import click
from docstrings import Docstring, Link, marked

from affectkit import api, errors, hookspecs, labels
from affectkit.cli import COMMANDS, cli

PAGE = Path(__file__).with_name("reference.md")
WIDTH = 110  # characters of a signature on one line

INTRO = """# Reference

Made from the docstrings by `python docs/make_reference.py`; do not edit it by hand. [From Python](python.md), [writing a plugin](plugins.md) and
[the command line](usage.md) say how to use all this. Times are seconds. In shapes, B is batch, T times or frames, N rows, M sources, C classes, D embedding.
"""

COMPONENTS = ("Component", "Modality", "Provider", "Fusion", "Head")
NEEDS = ("Needs", "Frames", "Audio", "Input", "Checkpoint")
TRAINED = ("Training", "Part", "Pace", "Turn", "About", "Written")
WATCHED = ("ClipTraining", "ClipOptions")
EXCHANGED = ("Clip", "Media", "Span", "Evidence", "Word", "Sources", "Output")

DATA = (
    "read",
    "folds",
    "Item",
    "Fold",
    "Dataset",
    "checks.check",
    "checks.Flaw",
    "scores.score_folds",
    "scores.FoldScores",
    "scores.FoldScore",
)

HEADINGS = {"affectkit.datasets.read": "datasets.read"}
"""Headings of what has the name of something else."""

ERRORS = {name: item for name, item in vars(errors).items() if isinstance(item, type) and issubclass(item, Exception)}


def resolve(path: str) -> Any:
    """The object of a dotted path."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def annotation(found: Any, module: ModuleType) -> str:
    """A type as its author wrote it; choices in place of the names of ``Literal`` types."""
    text = found if isinstance(found, str) else getattr(found, "__name__", str(found))
    text = re.sub(r"^ClassVar\[(.*)\]$", r"\1", text)

    def choices(match: re.Match[str]) -> str:
        value = getattr(module, match[0], None)
        return " | ".join(f'"{choice}"' for choice in get_args(value)) if str(get_origin(value)) == "typing.Literal" else match[0]

    return re.sub(r"\b[A-Z]\w+\b", choices, text)


def default_text(value: Any) -> str:
    """A default as one would write it."""
    for name, known in {"KNOWN": labels.KNOWN, **labels.KNOWN}.items():
        if type(value) is type(known) and value == known:
            return name.upper()
    if is_dataclass(value) and not isinstance(value, type) and value == type(value)():
        return f"{type(value).__name__}()"
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, FunctionType):
        return "..."
    return f'"{value}"' if isinstance(value, str) else repr(dict(value) if isinstance(value, Mapping) else value)


def parameters(function: Any) -> list[inspect.Parameter]:
    """What a function takes, or a method without the object that it belongs to."""
    found = list(inspect.signature(function).parameters.values())
    return found[1:] if found and found[0].name in ("self", "cls") else found


def signature(function: Any, name: str) -> str:
    """A call as one would write it, over several lines where it is long."""
    module = import_module(function.__module__)
    words: list[str] = []
    star = False
    for parameter in parameters(function):
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            words.append("*")
            star = True
        prefix = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}.get(parameter.kind.name, "")
        star = star or prefix == "*"
        typed = "" if parameter.annotation is parameter.empty else f": {annotation(parameter.annotation, module)}"
        default = "" if parameter.default is parameter.empty else f" = {default_text(parameter.default)}"
        words.append(f"{prefix}{parameter.name}{typed}{default}")
    given = inspect.signature(function).return_annotation
    back = "" if given is inspect.Signature.empty else f" -> {annotation(given, module)}"
    line = f"{name}({', '.join(words)}){back}"
    return line if len(line) <= WIDTH else f"{name}(\n    " + ",\n    ".join(words) + f",\n){back}"


def body(doc: Docstring, link: Link, *, skip: Iterable[str] = ()) -> Iterator[str]:
    """The text, sections and examples of a docstring."""
    yield from (marked(text, link) for text in doc.text)
    for heading, entries in doc.sections.items():
        if heading in skip:
            continue
        if heading == "Raises":
            lines = [f"- {link(name)}: {marked(meaning, link)}" for name, meaning in entries]
        else:
            lines = [f"- `{name}`: {marked(meaning, link)}" if name else marked(meaning, link) for name, meaning in entries]
        yield f"{heading}:\n\n" + "\n".join(lines)
    yield from (f"```pycon\n{example}\n```" for example in doc.examples)


def function_entry(path: str, link: Link) -> Iterator[str]:
    """A function: its heading, where it is imported from, how it is called, what it does."""
    function, name = resolve(path), path.rpartition(".")[2]
    yield f"### {HEADINGS.get(path, name)}"
    yield f"`from {path.rpartition('.')[0]} import {name}`"
    yield f"```py\n{signature(function, name)}\n```"
    yield from body(Docstring.of(function), link)


def meanings(cls: type) -> dict[str, str]:
    """What docstrings say of the attributes of a class, also of those that it derives from; what every component has is said once."""
    found: dict[str, str] = {}
    for base in (cls,) if issubclass(cls, api.Component) else reversed(cls.__mro__):
        sections = Docstring.of(base).sections if "__doc__" in vars(base) and base is not object else {}
        entries = [*sections.get("Args", ()), *sections.get("Attributes", ())]
        found |= {name: meaning for names, meaning in entries for name in names.split(", ")}
    return found


def attribute_lines(cls: type, link: Link) -> Iterator[str]:
    """The attributes of a class with their types and defaults."""
    described = meanings(cls)
    own = {f.name: f for f in fields(cls)} if is_dataclass(cls) else {}
    for name in described | dict.fromkeys(own):
        home = next((base for base in cls.__mro__ if name in inspect.get_annotations(base)), None)
        words = []
        if home is not None:
            words.append(f"`{annotation(inspect.get_annotations(home)[name], import_module(home.__module__))}`")
        if name in own:
            factory = own[name].default_factory
            value = own[name].default if factory is MISSING else factory()
        else:
            value = inspect.getattr_static(cls, name, MISSING)
        if value is not MISSING and not isinstance(value, property):
            words.append(f"default `{default_text(value)}`")
        kind = f" ({', '.join(words)})" if words else ""
        meaning = marked(described.get(name, ""), link)
        yield f"- `{name}`{kind}{': ' if meaning else ''}{meaning}"


def members(cls: type) -> dict[str, Any]:
    """The methods and properties that a class adds and describes, in the order of its text."""
    shown = {name: item for name, item in vars(cls).items() if not name.startswith("_") or name in ("__getitem__", "__len__")}
    plain = {name: getattr(item, "__func__", item) for name, item in shown.items()}
    return {name: item for name, item in plain.items() if isinstance(item, FunctionType | property) and item.__doc__}


def calls(cls: type, name: str, item: Any) -> list[str]:
    """How a method or property is written."""
    owner = cls.__name__ if isinstance(vars(cls)[name], classmethod) else re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()
    if isinstance(item, property):
        return [f"{owner}.{name} -> {inspect.signature(item.fget).return_annotation}"]  # type: ignore[arg-type]
    if name == "__getitem__":
        return [f"{owner}[start:end] -> {inspect.signature(item).return_annotation}"]
    if name == "__len__":
        return [f"len({owner}) -> int"]
    return [signature(one, f"{owner}.{name}") for one in get_overloads(item) or [item]]


def class_entry(path: str, known: Mapping[str, str], link: Link) -> Iterator[str]:
    """A class: what it is, its attributes, its methods."""
    cls, (module, _, name) = resolve(path), path.rpartition(".")
    doc = Docstring.of(cls)
    yield f"### {name}"
    bases = [link(base.__name__) for base in cls.__bases__ if base.__name__ in known]
    yield f"`from {module} import {name}`" + (f"; derives from {', '.join(bases)}" if bases else "")
    yield from body(Docstring(doc.text), link)
    lines = list(attribute_lines(cls, link))
    if lines:
        yield "Attributes:\n\n" + "\n".join(lines)
    yield from body(Docstring([], doc.sections, doc.examples), link, skip=("Args", "Attributes"))
    yield from member_entries(cls, link)


def member_entries(cls: type, link: Link) -> Iterator[str]:
    """The methods of a class: a list where a sentence says all, headings where they need more; of a contract its checks."""
    own = {name: (item, Docstring.of(item)) for name, item in members(cls).items()}
    checks = [f"- `{name.removeprefix('test_')}`: {marked(doc.first, link)}" for name, (_, doc) in own.items() if name.startswith("test_")]
    if checks:
        yield "Checks, each a test method:\n\n" + "\n".join(checks)
    elif any(doc.sections or doc.examples or len(doc.text) > 1 or "\n" in doc.first for _, doc in own.values()):
        for name, (item, doc) in own.items():
            special = {"__getitem__": f"{cls.__name__}[start:end]", "__len__": f"len({cls.__name__.lower()})"}
            yield f"#### {special.get(name, f'{cls.__name__}.{name}')}"
            yield "```py\n" + "\n".join(calls(cls, name, item)) + "\n```"
            yield from body(doc, link)
    elif own:
        lines = [f"- `{', '.join(calls(cls, name, item))}`: {marked(doc.first, link)}" for name, (item, doc) in own.items()]
        yield "Methods:\n\n" + "\n".join(lines)


def table(*rows: tuple[str, ...]) -> str:
    """A table; the first row is its head."""
    head, *rest = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *rest]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def hooks_table(link: Link) -> Iterator[str]:
    """The hooks, in the order of their module."""
    found = [item for name, item in vars(hookspecs).items() if name.startswith("affectkit_")]
    rows = [(f"`{signature(item, item.__name__)}`", marked(" ".join(Docstring.of(item).text), link)) for item in found]
    yield table(("hook", "what it gives, or is told"), *rows)


def label_table(link: Link) -> Iterator[str]:
    """Every label set that ships, and the other names of labels."""
    rows = []
    for known in labels.KNOWN.values():
        pairs = [f" ({' and '.join(pair)})" for pair in known.pairs or ()] or [""] * len(known)
        columns = ", ".join(f"`{label}`{pair}" for label, pair in zip(known.labels, pairs, strict=True))
        rows.append((f"`{known.name.upper()}`", known.kind, f"[{known.low:g}, {known.high:g}]", columns))
    yield table(("name", "kind", "range", "labels in column order"), *rows)
    aliases = ", ".join(f"`{alias}` is `{label}`" for alias, label in labels.ALIASES.items())
    yield f"Other words for the same label: {aliases}."


def errors_table(link: Link) -> Iterator[str]:
    """The errors and what they say."""
    rows = []
    for name, cls in ERRORS.items():
        doc = Docstring.of(cls)
        words = [*doc.text, *(f"`{attribute}`: {meaning}" for attribute, meaning in doc.sections.get("Attributes", ()))]
        rows.append((f"`{name}`", f"`{'affectkit.api' if name in api.__all__ else 'affectkit.errors'}`", marked(" ".join(words), link)))
    yield table(("error", "import from", "meaning"), *rows)


def value_text(parameter: click.Parameter) -> str:
    """What an option or argument takes."""
    if isinstance(parameter, click.Option) and (parameter.is_flag or parameter.count):
        return ""
    if parameter.metavar:
        return parameter.metavar
    if isinstance(parameter.type, click.Choice):
        return "|".join(map(str, parameter.type.choices))
    return (parameter.type.name if isinstance(parameter, click.Option) else parameter.name or "").upper().removesuffix(" RANGE")


def option_rows(command: click.Command) -> Iterator[tuple[str, str]]:
    """The options of a command and their meaning."""
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            names = "/".join(map(", ".join, filter(None, (option.opts, option.secondary_opts))))
            default = f" Default: `{option.default}`." if option.show_default and option.default is not None else ""
            yield f"`{f'{names} {value_text(option)}'.strip()}`", (option.help or "").replace("*", r"\*") + default


def command_entries(command: click.Command, words: str) -> Iterator[str]:
    """A command and those below it; options that the program itself has are only named."""
    yield f"### {words}"
    arguments = [f"[{text}]" if not (p.required or text.startswith("[")) else text for p, text in _arguments(command)]
    group = ["[COMMAND]" if command.invoke_without_command else "COMMAND"] if isinstance(command, click.Group) else []
    yield f"```text\n{' '.join([words, '[OPTIONS]', *arguments, *group])}\n```"
    text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    yield from (" ".join(block.split()) for block in text.split("\n\n") if block)
    common = dict(option_rows(cli)) if command is not cli else {}
    rows = [row for row in option_rows(command) if common.get(row[0]) != row[1]]
    if rows:
        yield table(("option", "meaning"), *rows)
    shared = [names for names, meaning in option_rows(command) if common.get(names) == meaning]
    if shared:
        yield f"And {', '.join(shared)}, as [affectkit](#affectkit) has {'it' if len(shared) == 1 else 'them'}."
    for name, member in command.commands.items() if isinstance(command, click.Group) and command is not cli else ():
        yield from command_entries(member, f"{words} {name}")


def _arguments(command: click.Command) -> list[tuple[click.Argument, str]]:
    return [(p, value_text(p)) for p in command.params if isinstance(p, click.Argument)]


def commands(link: Link) -> Iterator[str]:
    """The program and its commands."""
    yield from command_entries(cli, "affectkit")
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        if command is not None:
            yield from command_entries(command, f"affectkit {name}")


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def public(module: str) -> tuple[str, ...]:
    """The paths of the functions and classes that a module defines or lists."""
    found = import_module(module)
    listed = getattr(found, "__all__", None)
    names = listed or [n for n, item in vars(found).items() if not n.startswith("_") and getattr(item, "__module__", "") == module]
    return tuple(f"{module}.{name}" for name in names if isinstance(getattr(found, name), type | FunctionType))


@dataclass(frozen=True)
class Section:
    """A part of the page: what is said first, then tables, then an entry per path."""

    title: str
    paths: tuple[str, ...] = ()
    intro: str = ""
    blocks: Callable[[Link], Iterable[str]] = lambda link: ()


def sections() -> tuple[Section, ...]:
    """The parts of the page in their order."""
    run = ("affectkit.run", "affectkit.RunResult", "affectkit.session.Execution", "affectkit.session.Inputs", "affectkit.Recipe")
    reading = ("affectkit.read_run", "affectkit.read_timelines", "affectkit.read_frames", "affectkit.tables.FrameTimes")
    also = ("affectkit.read_subjects", "affectkit.read_quality", "affectkit.read_info", "affectkit.tables.read_label_set")
    label = ("affectkit.LabelSet", *(f"affectkit.labels.{name}" for name in ("canonical", "project", "projection")))
    evaluating = ("annotations.read", "references.Annotations", "evaluation.evaluate", "evaluation.Evaluation", "evaluation.Scored")
    comparing = ("comparison.compare", "comparison.Comparison", "comparison.Compared", "intervals.Score", "intervals.Difference")
    submitting = ("submit", "Choices", "Answered", "SetReport", "VideoReport")
    mentioned = {*COMPONENTS, *NEEDS, *EXCHANGED, *TRAINED, *WATCHED, *ERRORS, "LabelSet"}
    challenges = [name for name in api.__all__ if isinstance(getattr(api, name), type) and name not in mentioned]

    def of_api(names: Iterable[str]) -> tuple[str, ...]:
        return tuple(f"affectkit.api.{name}" for name in names)

    hooks = "A plugin implements some of these functions, each marked with `@hookimpl` of `affectkit.api`. "
    return (
        Section("Running", (*run, "affectkit.config.Windows", "affectkit.config.Settings")),
        Section("Reading a run folder", (*reading, *also), "[The run folder](results.md) says what each column holds."),
        Section("Timelines", ("affectkit.Timeline", "affectkit.timeline.frame_ranges", "affectkit.timeline.overlap_mean")),
        Section("Label sets", label, "All are in `affectkit.labels`, and by name in `affectkit.labels.KNOWN`.", label_table),
        Section(
            "Evaluating", tuple(f"affectkit.{name}" for name in (*evaluating, *comparing)), "What `affectkit evaluate` and `compare` do."
        ),
        Section(
            "Data sets",
            tuple(f"affectkit.datasets.{name}" for name in DATA),
            "What `affectkit evaluate --dataset` and `affectkit train --dataset` read. [Data sets](datasets.md) says what they are.",
        ),
        Section("Metrics", public("affectkit.metrics"), prose("affectkit.metrics")),
        Section("Submitting", tuple(f"affectkit.submission.{name}" for name in submitting), "What `affectkit submit` does."),
        Section(
            "Components", of_api(COMPONENTS), "What a plugin derives from. What is in `affectkit.api` is stable within a major version."
        ),
        Section("What components ask for", of_api(NEEDS)),
        Section("What components get and give", of_api(EXCHANGED)),
        Section("Challenge files", of_api(challenges)),
        Section(
            "Making weights",
            (
                *of_api(TRAINED),
                *(f"affectkit.training_recipes.{name}" for name in ("Plan", "Optimiser", "Schedule", "Balance", "Stopping")),
            ),
            "What `affectkit train` reads. [Training](training.md) says how it is used.",
        ),
        Section(
            "Learning from clips",
            (
                *of_api(WATCHED),
                "affectkit.clip_training.Stills",
                *(f"affectkit.clip_augmentation.{name}" for name in ("Augmentation", "Mixing")),
                *(f"affectkit.clip_reading.{name}" for name in ("Cache", "ClipReader")),
                *public("affectkit.clip_sampling"),
            ),
            "[Training](training.md#clips-of-a-data-set) says how these are used.",
        ),
        Section("Hooks", (), hooks + prose("affectkit.hookspecs").partition(". ")[2], hooks_table),
        Section("Testing a plugin", public("affectkit.testing"), "[Writing a plugin](plugins.md) says how these are used."),
        Section("Media for tests", public("affectkit.testing.media"), prose("affectkit.testing.media")),
        Section(
            "Clips for tests",
            tuple(f"affectkit.testing.clips.{name}" for name in ("MadeClips", "expression_clips", "order_clips", "mean_probe", "gain")),
            prose("affectkit.testing.clips"),
        ),
        Section("Errors", (), prose("affectkit.errors"), errors_table),
        Section("Command line", (), "Every command has `-h` and `--help`. Plugins may add commands.", commands),
    )


def prose(module: str) -> str:
    """What a module says of itself."""
    return "\n\n".join(Docstring.of(import_module(module)).text)


def text() -> str:
    """The whole page."""
    parts = sections()
    names = [HEADINGS.get(path, path.rpartition(".")[2]) for part in parts for path in part.paths]
    known = {name: anchor(name) for name in names} | dict.fromkeys(ERRORS, "errors")
    known |= dict.fromkeys(map(str.upper, labels.KNOWN), "label-sets")

    def link(path: str) -> str:
        name = HEADINGS.get(path) or next((part for part in reversed(path.split(".")) if part in known), "")
        return f"[`{path.removeprefix('affectkit.')}`](#{known[name]})" if name else f"`{path}`"

    blocks = [INTRO + "\n" + "\n".join(f"- [{part.title}](#{anchor(part.title)})" for part in parts)]
    for part in parts:
        blocks += [f"## {part.title}", *filter(None, (marked(part.intro, link),)), *part.blocks(link)]
        for path in part.paths:
            blocks += class_entry(path, known, link) if isinstance(resolve(path), type) else function_entry(path, link)
    return "\n\n".join(blocks) + "\n"


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
