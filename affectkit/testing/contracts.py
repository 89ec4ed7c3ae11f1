"""What every component promises, as checks: for pytest as classes to derive from, for ``affectkit plugins check`` as a list.

A test module of a plugin needs no more than this::

    from affectkit.testing import ModalityContract
    from affectkit_motion.energy import Energy


    class TestEnergy(ModalityContract):
        component = Energy
        options = {"gain": 2.0}  # as a recipe gives them; may be left out

Clips, sources and media to try it on are made from what it declares. Where that is not enough (a modality that only
speaks about laughter, a kind of input of your own), give better ones with a static method ``examples`` of the test class, or of the
component itself: clips for modalities and providers, :class:`affectkit.components.Sources` for fusions, fused values and
sources for heads, the text or the path of an organisers' list for submitters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from traceback import StackSummary, TracebackException
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from affectkit.components import Component
from affectkit.discovery import describe
from affectkit.errors import AffectKitError
from affectkit.testing import common, modalities, opinions, providers, submissions, trainings
from affectkit.testing.subjects import ContractError, Subject, Unchecked

if TYPE_CHECKING:
    from affectkit.plugins import Plugin, Registry

State = Literal["ok", "broken", "unchecked"]

SUBJECTS: Mapping[str, type[Subject]] = {
    "provider": providers.ProviderSubject,
    "modality": modalities.ModalitySubject,
    "fusion": opinions.FusionSubject,
    "head": opinions.HeadSubject,
    "submitter": submissions.SubmitterSubject,
    "training": trainings.TrainingSubject,
}

_BEFORE: tuple[Callable[..., None], ...] = (common.light_import, common.declaration, common.loads, common.answers)
_ALWAYS: tuple[Callable[..., None], ...] = (
    common.same_answer_twice,
    common.inputs_unchanged,
    common.no_network,
    common.nothing_global,
)

CHECKS: Mapping[str, tuple[Callable[..., None], ...]] = {
    "provider": (
        *_BEFORE,
        providers.one_evidence_per_clip,
        providers.clips_independent,
        providers.well_formed,
        providers.reason_given,
        providers.poor_clips,
        providers.files_named,
        common.device_moved,
        *_ALWAYS,
    ),
    "modality": (
        *_BEFORE,
        modalities.labels_match_columns,
        modalities.rows_sum_to_one,
        modalities.values_in_range,
        modalities.rows_independent,
        modalities.padding_ignored,
        modalities.none_without_evidence,
        modalities.scant_evidence,
        modalities.extras_fit,
        modalities.batch_unchanged,
        modalities.threads_apart,
        common.device_moved,
        *_ALWAYS,
    ),
    "fusion": (
        *_BEFORE,
        opinions.labels_match_columns,
        opinions.values_in_range,
        opinions.missing_sources,
        opinions.sources_by_name,
        opinions.rows_independent,
        opinions.refuses_unfitted,
        *_ALWAYS,
    ),
    "head": (
        *_BEFORE,
        opinions.labels_match_columns,
        opinions.values_in_range,
        opinions.rows_sum_to_one,
        opinions.nothing_in_nothing_out,
        opinions.rows_independent,
        opinions.refuses_unfitted,
        *_ALWAYS,
    ),
    "submitter": (
        *_BEFORE,
        submissions.round_trip,
        submissions.every_line_answered,
        submissions.damage_found,
        submissions.damaged_lists,
        *_ALWAYS,
    ),
    "training": (common.light_import, common.declaration, trainings.network_made),
}
"""The checks of each kind of component, in the order in which they are made; each takes a :class:`Subject`."""


@dataclass(frozen=True)
class Outcome:
    """What became of one check of one component.

    Attributes:
        component: its id.
        check: name of the check.
        state: ``"ok"``, ``"broken"``, or ``"unchecked"`` where it could not be made here.
        reason: what is broken and what to do, or why it could not be checked; empty where all is well.
    """

    component: str
    check: str
    state: State
    reason: str = ""


def examine(
    kind: str,
    cls: type[Component],
    options: Mapping[str, Any] | None = None,
    *,
    id: str = "",
    registry: Registry | None = None,
    components: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[Outcome]:
    """Makes every check of a component, one after the other.

    Args:
        kind: ``"provider"``, ``"modality"``, ``"fusion"``, ``"head"``, ``"submitter"`` or ``"training"``.
        cls: its class.
        options: its options as a recipe gives them.
        id: ``plugin/name``.
        registry: the plugins that make what it needs of others; those that are installed where it is not given.
        components: options of those others by id, as a recipe gives them.
    """
    subject = SUBJECTS[kind](cls, options, id=id, registry=registry, components=components)
    for check in CHECKS[kind]:
        yield _outcome(subject.id, check, subject)


def examine_plugin(plugin: Plugin, registry: Registry, folder: Path | None = None) -> Iterator[Outcome]:
    """Makes the checks of a plugin as a whole: that listing it is fast, and that its recipes can be read.

    Args:
        plugin: the plugin, which works.
        registry: it and what is installed beside it.
        folder: where plugins of one file are, for one of those.
    """
    yield _outcome(plugin.name, common.light_listing, plugin, folder)
    if plugin.recipes:
        yield _outcome(plugin.name, common.recipes_readable, plugin, registry)


def _outcome(component: str, check: Callable[..., None], *arguments: Any) -> Outcome:
    name = check.__name__.replace("_", " ")
    try:
        check(*arguments)
    except Unchecked as problem:
        return Outcome(component, name, "unchecked", str(problem))
    except ContractError as problem:
        return Outcome(component, name, "broken", str(problem))
    except Exception as error:  # what a component returns may be anything
        return Outcome(component, name, "broken", f"what it returned cannot be looked at: {describe(error)}")
    return Outcome(component, name, "ok")


class Contract:
    """The common part of the classes for pytest.

    Attributes:
        component: the class under test.
        options: its options as a recipe gives them.
        examples: a static method that gives what it is tried on; ``None`` makes that from what it declares.
    """

    kind: ClassVar[str]
    component: ClassVar[type[Component]]
    options: ClassVar[Mapping[str, Any]] = {}
    examples: ClassVar[Callable[[], Any] | None] = None

    @classmethod
    def subject(cls) -> Subject:
        """The component under test, one for all checks of a class."""
        if "_subject" not in vars(cls):
            if not hasattr(cls, "component"):
                raise ContractError(f"{cls.__name__} names no component; write component = YourClass in it")
            cls._subject = SUBJECTS[cls.kind](cls.component, cls.options, examples=cls.examples)  # type: ignore[attr-defined]
        subject: Subject = vars(cls)["_subject"]
        return subject


def _with_tests(cls: type[Contract]) -> type[Contract]:
    """Gives a class a test method per check."""
    for check in CHECKS[cls.kind]:
        setattr(cls, f"test_{check.__name__}", _test(check))
    return cls


def _test(check: Callable[..., None]) -> Callable[[Contract], None]:
    def test(self: Contract) -> None:
        import pytest

        try:
            check(self.subject())
        except Unchecked as problem:
            skipped, told = True, f"cannot be checked: {problem}"
        except ContractError as problem:
            skipped, told = False, _story(problem)
        else:
            return
        if skipped:
            pytest.skip(told)
        pytest.fail(told, pytrace=False)

    test.__name__ = test.__qualname__ = f"test_{check.__name__}"
    test.__doc__ = check.__doc__
    return test


def _story(problem: ContractError) -> str:
    """What is broken and, where the component raised, its own part of the traceback."""
    cause = problem.__cause__
    if cause is None or isinstance(cause, AffectKitError):
        return str(problem)
    told = TracebackException.from_exception(cause)
    here = Path(__file__).parent
    told.stack = StackSummary.from_list([frame for frame in told.stack if Path(frame.filename).parent != here])
    return "\n".join((str(problem), "", *(line.rstrip() for line in told.format(chain=False))))


@_with_tests
class ProviderContract(Contract):
    """The contract of providers; derive a test class from it and name the component."""

    kind = "provider"


@_with_tests
class ModalityContract(Contract):
    """The contract of modalities; derive a test class from it and name the component."""

    kind = "modality"


@_with_tests
class FusionContract(Contract):
    """The contract of fusions; derive a test class from it and name the component."""

    kind = "fusion"


@_with_tests
class HeadContract(Contract):
    """The contract of heads; derive a test class from it and name the component."""

    kind = "head"


@_with_tests
class SubmitterContract(Contract):
    """The contract of submitters; derive a test class from it and name the component."""

    kind = "submitter"


@_with_tests
class TrainingContract(Contract):
    """The contract of trainings; derive a test class from it and name the component. Nothing is trained."""

    kind = "training"
