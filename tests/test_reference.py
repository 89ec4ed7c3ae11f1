"""The reference is made from the docstrings, says what the code says, and leaves nothing out."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

import click
import pytest

import affectkit
from affectkit import api, errors, hookspecs, labels, testing
from affectkit.cli import COMMANDS, cli

DOCS = Path(__file__).resolve().parent.parent / "docs"
sys.path.append(str(DOCS))
MAKER = vars(import_module("make_reference"))
PAGE = (DOCS / "reference.md").read_text(encoding="utf-8")

PATHS = [path for section in MAKER["sections"]() for path in section.paths]


def documented() -> Iterator[tuple[str, Any]]:
    """Every class and function of the reference, and the methods of the classes, by name."""
    for path in PATHS:
        item = MAKER["resolve"](path)
        yield path, item
        if isinstance(item, type):
            yield from ((f"{path}.{name}", member) for name, member in MAKER["members"](item).items())


def test_it_is_up_to_date() -> None:
    assert MAKER["text"]() == PAGE, "the code has changed: run python docs/make_reference.py"


def test_it_is_written_where_it_is_read(tmp_path: Path) -> None:
    for path in DOCS.glob("*.py"):
        shutil.copy(path, tmp_path)
    subprocess.run([sys.executable, str(tmp_path / "make_reference.py")], check=True, cwd=DOCS.parent)
    assert (tmp_path / "reference.md").read_text(encoding="utf-8") == MAKER["text"]()


def test_nothing_is_left_out() -> None:
    headings = set(re.findall(r"^#{2,4} (.*)$", PAGE, re.MULTILINE))
    raised = {name for name, item in vars(errors).items() if isinstance(item, type) and issubclass(item, errors.AffectKitError)}
    public = {name: item for module in (affectkit, api, testing) for name in module.__all__ for item in [getattr(module, name)]}
    described = {name for name, item in public.items() if isinstance(item, type | FunctionType)}
    assert described - raised <= headings
    tables = set(re.findall(r"^\| `(\w+)", PAGE, re.MULTILINE))
    assert {name for name in vars(hookspecs) if name.startswith("affectkit_")} <= tables
    assert {name.upper() for name in labels.KNOWN} <= tables
    assert raised <= tables
    commands = {name: cli.get_command(click.Context(cli), name) for name in COMMANDS}
    below = {f"{name} {member}" for name, command in commands.items() if isinstance(command, click.Group) for member in command.commands}
    assert {f"affectkit {name}" for name in {*commands, *below}} <= headings


def test_no_heading_is_there_twice() -> None:
    anchors = [MAKER["anchor"](heading) for heading in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)]
    assert sorted(anchors) == sorted(set(anchors))


def test_no_markup_of_docstrings_is_left() -> None:
    text = re.sub(r"^```pycon\n.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert not re.findall(r"(?<!`)``[^`\n]|:(?:class|func|meth|attr|data|mod):", text)


@pytest.mark.parametrize(("path", "item"), list(documented()), ids=lambda value: value if isinstance(value, str) else "")
def test_docstrings_speak_of_what_is_there(path: str, item: Any) -> None:
    """A summary is there; the arguments that are told exist, and those of a function are told all or none."""
    doc = MAKER["Docstring"].of(item)
    assert doc.first, f"{path} has no docstring"
    told = {name.lstrip("*") for names, _ in doc.sections.get("Args", ()) for name in names.split(", ")}
    if isinstance(item, FunctionType):
        takes = {parameter.name for parameter in MAKER["parameters"](item)}
        assert told in (set(), takes), f"{path}: tells of {sorted(told)}, takes {sorted(takes)}"
    elif isinstance(item, type) and is_dataclass(item):
        meanings = MAKER["meanings"](item)
        assert set(meanings) == {field.name for field in fields(item) if not field.name.startswith("_")}, path


@pytest.mark.parametrize("path", [path for path in PATHS if not path.startswith("affectkit.testing")])
def test_everything_has_an_import_that_works(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert f"`from {module} import {name}`" in PAGE
    assert hasattr(import_module(module), name)


def test_a_docstring_in_its_parts() -> None:
    def example(a: int, *rest: str) -> int:
        """Does something with ``a``, as :func:`affectkit.run` does.

        Kinds:
          * one kind
            of it
          * another

        Args:
            a: a number
                that goes on.
            *rest: others.

        Returns:
            The same number.

        >>> 1 + 1
        2
        """
        return a

    doc = MAKER["Docstring"].of(example)
    assert doc.text == ["Does something with ``a``, as :func:`affectkit.run` does.", "Kinds:\n\n- one kind of it\n- another"]
    assert doc.sections == {"Args": [("a", "a number that goes on."), ("*rest", "others.")], "Returns": [("", "The same number.")]}
    assert doc.examples == [">>> 1 + 1\n2"]
    assert MAKER["marked"](doc.first, lambda path: f"<{path}>") == "Does something with `a`, as <affectkit.run> does."
    assert MAKER["signature"](example, "example") == "example(a: int, *rest: str) -> int"
