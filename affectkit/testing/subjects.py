"""Components under test: how they are made and loaded, what they are asked, and how two answers are compared."""

from __future__ import annotations

import copy
import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from importlib.util import find_spec
from inspect import getattr_static
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from affectkit.components import Component, Output
from affectkit.discovery import describe
from affectkit.errors import AffectKitError, CheckpointError, ConfigError, Problems
from affectkit.testing import surroundings

if TYPE_CHECKING:
    from affectkit.plugins import Registry

Examples = Callable[[], Any]


class ContractError(AffectKitError, AssertionError):
    """A component breaks the contract; the message says what, what was found, and what to do."""


class Unchecked(AffectKitError):
    """A check cannot be made here; the message says why, and how it could be."""


@contextmanager
def doing(action: str, advice: str = "") -> Iterator[None]:
    """Turns whatever a component raises into a :class:`ContractError` that says during what."""
    try:
        yield
    except (KeyboardInterrupt, ContractError, Unchecked):
        raise
    except BaseException as raised:  # a plugin may raise anything, also SystemExit
        raise ContractError(f"{action} raised {describe(raised)}{f'; {advice}' if advice else ''}") from raised


class Subject(ABC):
    """A component under test.

    Args:
        cls: its class.
        options: its options as a recipe gives them.
        id: ``plugin/name``, for messages.
        examples: gives what it is tried on, instead of what is made from its declarations; ``None`` asks the static method
            ``examples`` of the class, where it has one.
        registry: the plugins that make what the component needs of others; loaded when needed where it is not given.
        components: options of those others by id, as a recipe gives them.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        cls: type[Component],
        options: Mapping[str, Any] | None = None,
        *,
        id: str = "",
        examples: Examples | None = None,
        registry: Registry | None = None,
        components: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.cls = cls
        self.options = dict(options or {})
        self.id = id or cls.name or cls.__name__
        self.examples: Examples | None = examples if examples is not None else _examples_of(cls)
        self.components = components or {}
        self._registry = registry
        self._loaded: Any = None
        self._problem: AffectKitError | None = None
        self._given: Any = None
        self._answer: Any = None
        self._silence: AffectKitError | None = None
        self._folder: Path | None = None
        self.device = "cpu"

    @property
    def registry(self) -> Registry:
        """The plugins that are installed."""
        if self._registry is None:
            from affectkit import plugins

            self._registry = plugins.load()
        return self._registry

    @property
    def folder(self) -> Path:
        """A folder for what the checks write; it goes away with the subject."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="affectkit-check-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder

    def make(self) -> Any:
        """A new instance, not loaded.

        Raises:
            Unchecked: where the options that it must be given are not.
            ContractError: where it cannot be made.
        """
        from affectkit.config import component_options

        try:
            with surroundings.kept():
                component = self.cls(component_options(self.cls, self.options, self.id))
                component.id = self.id
                self.complete(component)
        except Unchecked:
            raise
        except (ConfigError, Problems) as error:
            if self.options:
                raise ContractError(f"it cannot be made with the options that are given: {error}") from error
            raise Unchecked(str(error)) from error
        except AffectKitError as error:
            raise ContractError(f"it cannot be made: {error}") from error
        except Exception as error:
            raise ContractError(f"making an instance raised {describe(error)}; take options=None and call super().__init__") from error
        return component

    def complete(self, component: Any) -> None:
        """Hands a new instance what it needs before it is loaded."""

    def load(self, device: str = "cpu") -> Any:
        """A new instance, loaded.

        Raises:
            Unchecked: where something that it needs is not here, with what to do about that.
            ContractError: where it cannot be loaded for another reason.
        """
        component = self.make()
        self._check_here(component)
        with surroundings.kept():
            self.load_into(component, device)
        return component

    def load_into(self, component: Any, device: str = "cpu") -> None:
        """Loads an instance, with nothing put back of what that changes; raises as :meth:`load` does."""
        import torch

        try:
            component.load(torch.device(device), torch.float32)
        except CheckpointError as error:
            raise Unchecked(str(error)) from error
        except ConfigError as error:
            raise Unchecked(str(error)) from error
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            raise ContractError(f"load raised {describe(error)}; let it load what its options ask for, or raise CheckpointError") from error

    def _check_here(self, component: Any) -> None:
        """Refuses to load where a package or weights are absent."""
        from affectkit import checkpoints

        absent = [package for package in component.requires if find_spec(package) is None]
        if absent:
            raise Unchecked(f"{self.id} needs the package {', '.join(absent)}, which is not installed; install it with pip")
        option = "checkpoint" if hasattr(component.options, "checkpoint") else None
        try:
            for tag, checkpoint in component.used_checkpoints().items():
                several = tag if len(component.checkpoints) > 1 else ""
                try:
                    checkpoints.resolve(checkpoint, owner=self.id, tag=several, option=option)
                except CheckpointError as error:
                    if checkpoint.uri.startswith(f"package:{self.cls.__module__.partition('.')[0]}/"):
                        raise ContractError(f"the weights of its own package are not in it: {error}") from error
                    raise
        except (CheckpointError, ConfigError) as error:
            raise Unchecked(str(error)) from error

    @property
    def loaded(self) -> Any:
        """The one instance that most checks share, loaded on the CPU.

        Raises:
            Unchecked: where it cannot be loaded, whatever the reason; the check of loading says whose fault that is.
        """
        if self._loaded is None and self._problem is None:
            try:
                self._loaded = self.load()
            except (Unchecked, ContractError) as error:
                self._problem = error
        if isinstance(self._problem, ContractError):
            raise Unchecked(f"it cannot be loaded: {self._problem}")
        if self._problem is not None:
            raise Unchecked(str(self._problem))
        return self._loaded

    @property
    def load_problem(self) -> AffectKitError | None:
        """Why it cannot be loaded, ``None`` where it can."""
        try:
            _ = self.loaded
        except Unchecked:
            return self._problem
        return None

    @property
    def given(self) -> Any:
        """What the component is asked, made once and handed out as a copy; raises as :attr:`answer` does."""
        if self._given is None:
            self._given = self._try(self.make_given)
        return copy.deepcopy(self._given)

    @property
    def answer(self) -> Any:
        """What the shared instance says to :attr:`given`.

        Raises:
            Unchecked: where it says nothing, whatever the reason; the check of answering says whose fault that is.
        """
        if self._answer is None:
            component, given = self.loaded, self.given
            self._answer = self._try(lambda: self.ask(component, given))
        return self._answer

    def example(self) -> Any:
        """What the author gives to try the component on."""
        with doing("examples()", "it is a static method and takes nothing"):
            return self.examples() if self.examples is not None else None

    def _try(self, action: Callable[[], Any]) -> Any:
        """Does something that the answer depends on, once; where it fails, everything that needs it cannot be checked."""
        if self._silence is None:
            try:
                with surroundings.kept():
                    return action()
            except (Unchecked, ContractError) as error:
                self._silence = error
        if isinstance(self._silence, ContractError):
            raise Unchecked(f"it does not answer: {self._silence}")
        raise self._silence

    @property
    def answer_problem(self) -> AffectKitError | None:
        """Why it does not answer although it is loaded, ``None`` where it does."""
        try:
            _ = self.answer
        except Unchecked as problem:
            return self._silence or problem
        return None

    @contextmanager
    def on(self, device: str) -> Iterator[None]:
        """Asks components on another device than the CPU for a while."""
        self.device = device
        try:
            yield
        finally:
            self.device = "cpu"

    @abstractmethod
    def make_given(self) -> Any:
        """What the component is asked: the author's examples, or what is made from its declarations.

        Raises:
            Unchecked: where it cannot be made.
        """

    @abstractmethod
    def ask(self, component: Any, given: Any) -> Any:
        """What a loaded instance answers, as :func:`difference` compares it.

        Raises:
            ContractError: where it raises.
        """


def _examples_of(cls: type[Component]) -> Examples | None:
    """The static method ``examples`` of a component class; an attribute of that name that is something else is the component's own."""
    own = getattr_static(cls, "examples", None)
    return getattr(cls, "examples", None) if isinstance(own, staticmethod | classmethod) else None


def difference(one: Any, other: Any, tolerance: float = 0.0, where: str = "") -> str:
    """The first difference between two answers in a few words; empty where they are the same.

    Args:
        one: tensors, arrays, numbers, texts, dataclasses, and mappings and sequences of them.
        other: the same.
        tolerance: numbers may differ by this much, and by this share of them; embeddings and quality by ten times as much. NaN
            equals NaN.
        where: what is compared, for the text.

    >>> difference({"a": np.zeros(2)}, {"a": np.array([0, 0.5])}, 1e-5)
    'a differs by up to 0.5'
    """
    if isinstance(one, Output) and isinstance(other, Output):
        return difference(_plain(one), _plain(other), tolerance)
    if type(one) is not type(other) and not (isinstance(one, int | float) and isinstance(other, int | float)):
        return f"{where or 'it'} is a {type(one).__name__} and a {type(other).__name__}"
    if is_dataclass(one) and not isinstance(one, type):
        names = [item.name for item in fields(one)]
        return difference({n: getattr(one, n) for n in names}, {n: getattr(other, n) for n in names}, tolerance, where)
    if isinstance(one, Mapping):
        if list(map(str, one)) != list(map(str, other)):
            return f"{where or 'it'} has {[str(k) for k in one]} and {[str(k) for k in other]}"
        inner = ((f"{where} {key}".strip(), one[key], other[key]) for key in one)
        return next(filter(None, (difference(a, b, _slack(name, tolerance), name) for name, a, b in inner)), "")
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return f"{where or 'it'} has {len(one)} and {len(other)} entries"
        pairs = enumerate(zip(one, other, strict=True))
        return next(filter(None, (difference(a, b, tolerance, f"{where} [{i}]".strip()) for i, (a, b) in pairs)), "")
    if hasattr(one, "detach"):
        one, other = one.detach().cpu().float().numpy(), other.detach().cpu().float().numpy()
    if isinstance(one, np.ndarray | np.generic | int | float) and not isinstance(one, bool):
        return _numbers(np.asarray(one), np.asarray(other), tolerance, where)
    return "" if one == other else f"{where or 'it'} is {_short(one)} and {_short(other)}"


def _plain(output: Output) -> dict[str, Any]:
    """An output by the names that its parts have in messages."""
    told = {labels.name: values for labels, values in output.values.items()}
    told |= {f"embedding {name}": values for name, values in output.embeddings.items()}
    told |= {f"quality {name}": values for name, values in output.quality.items()}
    return told | ({} if output.notes is None else {"notes": list(output.notes)})


def _slack(name: str, tolerance: float) -> float:
    return tolerance * 10 if name.startswith(("embedding ", "quality ")) else tolerance


def _numbers(one: np.ndarray, other: np.ndarray, tolerance: float, where: str) -> str:
    what = where or "it"
    if one.shape != other.shape:
        return f"{what} has the shapes {one.shape} and {other.shape}"
    if one.dtype.kind not in "fiub" or other.dtype.kind not in "fiub":
        return "" if bool((one == other).all()) else f"{what} differs"
    one, other = one.astype(np.float64), other.astype(np.float64)
    if (np.isnan(one) != np.isnan(other)).any():
        return f"{what} is NaN in one and a number in the other"
    if np.allclose(one, other, atol=tolerance, rtol=tolerance, equal_nan=True):
        return ""
    return f"{what} differs by up to {float(np.nanmax(np.abs(one - other))):.3g}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def names(labels: Sequence[Any]) -> str:
    """Names of label sets, for messages."""
    return ", ".join(item.name for item in labels) or "none"
