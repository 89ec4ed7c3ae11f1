"""Checks of submitters: what they write passes their own check, and what is damaged does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affectkit.challenges import Asked, Problem, Submitter
from affectkit.errors import AffectKitError
from affectkit.labels import LabelSet
from affectkit.testing import examples
from affectkit.testing.subjects import ContractError, Subject, Unchecked, doing

LEAST = 4  # lines of a list that is worth trying
FRAMES = tuple(f"{video}/{frame:05d}.jpg" for video in ("01", "02-30-1280x720_left") for frame in range(1, 9))
VIDEOS = tuple(f"{number:02d}.mp4" for number in range(1, 9))


@dataclass(frozen=True)
class Task:
    """What a submitter is given: a list, what it asks for, and answers to it.

    Attributes:
        template: the organisers' list.
        asked: its lines.
        answers: (L, C) float64 by label set; some rows of categorical sets have a class that nobody can say, NaN.
    """

    template: Path
    asked: Asked
    answers: Mapping[LabelSet, np.ndarray]


class SubmitterSubject(Subject):
    """A submitter under test; it is given a list and answers."""

    kind = "submitter"

    def make_given(self) -> Task:
        submitter: Submitter = self.loaded
        for number, text in enumerate(self._lists(submitter)):
            template = self.folder / f"list{number}.txt"
            template.write_text(text, encoding="utf-8")
            try:
                with doing("read_template"):
                    asked = submitter.read_template(template)
            except ContractError as error:
                if self.examples is not None:
                    raise
                if isinstance(error.__cause__, AffectKitError):
                    continue  # a list of another challenge
                raise
            if not isinstance(asked, Asked):
                raise ContractError(f"read_template returned a {type(asked).__name__}; return Asked(names, videos, frames)")
            if len(asked) >= LEAST:
                return Task(template, asked, {labels: _answers(labels, len(asked)) for labels in submitter.label_sets})
        raise Unchecked(
            "it reads none of the common forms of an organisers' list; give one of at least four lines: "
            "a static method examples() of the class, or of its test class, that returns its text or its path"
        )

    def _lists(self, submitter: Submitter) -> Iterator[str]:
        """Lists to try: the author's, else frames below the header that the class names, frames, and videos."""
        if self.examples is not None:
            given = self.example()
            yield given.read_text(encoding="utf-8") if isinstance(given, Path) else given
            return
        header = getattr(submitter, "header", None)
        for lines in (FRAMES, VIDEOS):
            if isinstance(header, str):
                yield "\n".join((header, *lines)) + "\n"
            yield "\n".join(lines) + "\n"

    def ask(self, component: Submitter, given: Task) -> bytes:
        folder = self.folder / "written"
        folder.mkdir(exist_ok=True)
        out = folder / "submission.txt"
        with doing("write"):
            component.write(given.asked, given.answers, out)
        written = sorted(path.name for path in folder.iterdir())
        if written != [out.name]:
            raise ContractError(
                f"write(asked, answers, out) wrote {written or 'nothing'} where out is {out.name}; write that file and no other"
            )
        return out.read_bytes()

    def problems(self, content: bytes) -> list[Problem]:
        """What the check says of a file."""
        file = self.folder / "checked.txt"
        file.write_bytes(content)
        with doing("check"):
            found = self.loaded.check(file, self.given.template)
        if not isinstance(found, list) or not all(isinstance(problem, Problem) for problem in found):
            raise ContractError(f"check must return a list of Problem, found {found!r}")
        return found

    @property
    def lines(self) -> list[str]:
        """The lines of what it wrote.

        Raises:
            Unchecked: where it is no text.
        """
        try:
            return str(self.answer, "utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise Unchecked(f"what it writes is no text in UTF-8 (byte {error.start}), so no line of it can be damaged") from None


def _answers(labels: LabelSet, lines: int) -> np.ndarray:
    """Answers (L, C) float64 to a number of lines."""
    if labels.kind != "categorical":
        made = np.random.default_rng(5).uniform(labels.low, labels.high, (lines, len(labels)))
        made[0], made[1] = labels.low, labels.high
        return made
    made = examples.distributions(lines, (len(labels),), 5).astype(np.float64)
    made[::3, -1] = np.nan
    return made


def round_trip(subject: SubmitterSubject) -> None:
    """What it writes passes its own check, class that nobody can say or not."""
    found = subject.problems(subject.answer)
    if found:
        first = found[0]
        raise ContractError(
            f"its check finds {len(found)} problems in what it wrote itself, first in line {first.line}: {first.message}; make both agree"
        )


def every_line_answered(subject: SubmitterSubject) -> None:
    """Every line of the list is answered once, in the order of the list."""
    places = [[number for number, line in enumerate(subject.lines) if name in line] for name in subject.given.asked.names]
    if not any(places):
        raise Unchecked("the names of the list do not stand in what it writes, so the lines cannot be counted")
    for name, found in zip(subject.given.asked.names, places, strict=True):
        if len(found) != 1:
            raise ContractError(f"{name} of the list is answered in {len(found)} lines; leave out no line and double none")
    if places != sorted(places):
        raise ContractError("the lines are not in the order of the list; write them in the order of asked.names")


def damage_found(subject: SubmitterSubject) -> None:
    """Its check finds a line that is missing, doubled, strange or out of order, and a value that cannot be."""
    lines = subject.lines
    if subject.problems(subject.answer):
        raise Unchecked("its check refuses what it wrote itself, as another check says")
    names = subject.given.asked.names
    at = next((number for number, line in enumerate(lines) if names[1] in line), None)
    if at is None or at + 1 >= len(lines) or names[2] not in lines[at + 1]:
        raise Unchecked("it does not write a line of text for each line of the list, so no line of it can be damaged")
    head, _, _ = lines[at].rpartition(",")
    damaged: dict[str, tuple[int, list[str]]] = {
        "a line is missing": (0, [*lines[:at], *lines[at + 1 :]]),
        "the last line is missing": (0, lines[:-1]),
        "a line is there twice": (len(lines) + 1, [*lines, lines[at]]),
        "a line was not asked for": (at + 1, [*lines[:at], lines[at].replace(names[1], "not-asked-for"), *lines[at + 1 :]]),
        "two lines have changed places": (0, [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]),
        "it is empty": (0, []),
    }
    if head:
        for text in ("99", "nan", ""):
            damaged[f"a value is {text!r}"] = (at + 1, [*lines[:at], f"{head},{text}", *lines[at + 1 :]])
    for what, (line, rest) in damaged.items():
        found = subject.problems(("\n".join(rest) + "\n" * bool(rest)).encode())
        if not found:
            raise ContractError(f"its check finds nothing wrong with a file in which {what}; return a Problem for it")
        if line and all(problem.line != line for problem in found):
            told = sorted({problem.line for problem in found})
            raise ContractError(f"in a file in which {what} (line {line}) its check names the lines {told}; lines are counted from 1")


def damaged_lists(subject: SubmitterSubject) -> None:
    """A list that is empty, damaged or absent, and a file that is no text, are told in a sentence."""
    submitter = subject.loaded
    template = subject.given.template
    lines = template.read_text(encoding="utf-8").splitlines()
    folder = subject.folder
    bad = {
        "is empty": b"",
        "asks twice for the same": ("\n".join([*lines, lines[-1]]) + "\n").encode(),
        "is no text": bytes(range(128, 256)) * 8,
        "is not there": None,
    }
    for number, (what, content) in enumerate(bad.items()):
        path = folder / f"bad{number}.txt"
        if content is not None:
            path.write_bytes(content)
        try:
            submitter.read_template(path)
        except AffectKitError:
            pass
        except Exception as error:
            raise ContractError(f"read_template of a list that {what} raised {type(error).__name__}: {error}; raise UsageError") from error
        else:
            raise ContractError(f"read_template takes a list that {what}; raise UsageError that says what is wrong")
        try:
            found = submitter.check(path, template)
        except AffectKitError:
            found = [Problem(0, "refused")]
        except Exception as error:
            raise ContractError(f"check of a file that {what} raised {type(error).__name__}: {error}; raise UsageError") from error
        if not found:
            raise ContractError(f"its check finds nothing wrong with a file that {what}; return a Problem, or raise UsageError")
        with doing(f"recognises of a file that {what}", "return False"):
            submitter.recognises(path)
