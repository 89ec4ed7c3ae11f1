"""Google docstrings in their parts, and their markup as Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field, is_dataclass

Link = Callable[[str], str]
"""The Markdown of a link, or of a name where there is nothing to link to, for the dotted path of a role."""


@dataclass
class Docstring:
    """A Google docstring in its parts.

    Attributes:
        text: paragraphs before and between the sections.
        sections: by heading (``Args``, ``Attributes``, ``Returns``, ``Raises``) the entries, name and meaning; the name is
            empty where a section is prose.
        examples: doctests.
    """

    text: list[str] = field(default_factory=list)
    sections: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, item: object) -> Docstring:
        """The docstring of a class, function or property; an empty one where there is none of its own."""
        raw = getattr(item, "__doc__", None) or ""
        if isinstance(item, type) and is_dataclass(item) and raw.startswith(f"{item.__name__}("):
            raw = ""  # dataclasses make one up
        found = cls()
        for block in re.split(r"\n\s*\n", inspect.cleandoc(raw)):
            heading, _, rest = block.partition("\n")
            if block.startswith(">>>"):
                found.examples.append(block)
            elif re.fullmatch(r"(Args|Attributes|Returns|Raises|Yields):", heading):
                found.sections[heading[:-1]] = _entries(rest, named=heading[:-1] not in ("Returns", "Yields"))
            elif block:
                found.text.append(_paragraph(block))
        return found

    @property
    def first(self) -> str:
        """The first paragraph."""
        return self.text[0] if self.text else ""


def _entries(text: str, named: bool) -> list[tuple[str, str]]:
    text = inspect.cleandoc("\n" + text)
    if not named:
        return [("", _paragraph(text))]
    parts = re.split(r"^(?=\S)", text, flags=re.MULTILINE)
    pairs = (part.partition(":") for part in parts if part.strip())
    return [(name.strip(), _paragraph(meaning)) for name, _, meaning in pairs]


def _paragraph(text: str) -> str:
    """A paragraph on one line; the items of a list stay on lines of their own."""
    lines: list[str] = []
    for line in text.strip().splitlines():
        item = re.match(r"\s*[*-] (.*)", line)
        if item:
            lines.append(f"- {item[1].strip()}")
        elif lines:
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(line.strip())
    return "\n".join(lines).replace("\n- ", "\n\n- ", 1).strip() if lines and not lines[0].startswith("- ") else "\n".join(lines)


def marked(text: str, link: Link) -> str:
    """The roles and literals of a docstring as Markdown."""
    text = re.sub(r":(?:class|func|meth|attr|data|mod):`~?([\w.]+)`", lambda m: link(m[1]), text)
    return re.sub(r"``(.+?)``", r"`\1`", text)
