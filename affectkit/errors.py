"""The errors of affectkit: one tree, sentences that say what happened, where, and what to do.

Usage, config, plugin, checkpoint and label errors are raised before the first frame is decoded and end a command with
status 2. A :class:`MediaError` belongs to one file: a run records it and goes on, and ends with status 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches

from affectkit.missing import Wanted, report


class AffectKitError(Exception):
    """Base of every error that affectkit raises on purpose.

    Attributes:
        wanted: the weights that are not here, where that is what is wrong.
    """

    def __init__(self, message: str = "", *, wanted: Wanted | None = None) -> None:
        super().__init__(message)
        self.wanted = wanted


class UsageError(AffectKitError):
    """The command line or a function call asks for something that cannot be."""


class ConfigError(AffectKitError):
    """A recipe cannot be read, names an unknown key, or contradicts itself."""


class PluginError(AffectKitError):
    """A plugin or one of its components breaks the contract, or is not installed."""


class CheckpointError(AffectKitError):
    """Weights are absent, damaged, or do not fit the network; the message names the file and how to get it."""


class LabelError(AffectKitError):
    """Two label sets do not match; the message shows both."""


class StoreError(AffectKitError):
    """A run folder cannot be written or read."""


class MediaError(AffectKitError):
    """One file cannot be read as a medium, or not to its end.

    Attributes:
        at: time in seconds at which reading stopped, or ``None`` where nothing could be read.
    """

    def __init__(self, message: str, *, at: float | None = None) -> None:
        super().__init__(message)
        self.at = at


class Problems(AffectKitError):
    """Several errors found before the first frame, reported together.

    Attributes:
        problems: the errors, in the order in which they were found.
        remarks: what else whoever mends them wants to know: text, or alternatives that are left out.
    """

    def __init__(self, problems: Sequence[AffectKitError], remarks: Sequence[object] = ()) -> None:
        self.problems, self.remarks = tuple(problems), tuple(remarks)
        super().__init__(report(self.problems, self.remarks))


@contextmanager
def asked_by(owner: str) -> Iterator[None]:
    """What is wrong with weights is said with who asked for them in front: a component's id, or that and a file.

    >>> with asked_by("mini/audio"):
    ...     raise CheckpointError("a.safetensors is damaged")
    Traceback (most recent call last):
    affectkit.errors.CheckpointError: mini/audio: a.safetensors is damaged
    """
    try:
        yield
    except CheckpointError as problem:
        raise CheckpointError(f"{owner}: {problem}") from None


def raise_all(problems: Sequence[AffectKitError], remarks: Sequence[object] = ()) -> None:
    """Raises nothing, the one error, or :class:`Problems` for several, or for one with remarks."""
    if len(problems) == 1 and not remarks:
        raise problems[0]
    if problems:
        raise Problems(problems, remarks)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence that offers the nearest known word, or lists what is known.

    >>> did_you_mean("mini/adio", ["mini/audio", "mini/text"])
    'Did you mean mini/audio?'
    >>> did_you_mean("x", ["b", "a"])
    'Known: a, b.'
    """
    names = sorted(known)
    near = get_close_matches(word, names, n=1)
    if near:
        return f"Did you mean {near[0]}?"
    return f"Known: {', '.join(names)}." if names else "None is installed."
