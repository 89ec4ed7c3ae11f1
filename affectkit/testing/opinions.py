"""Checks of fusions and heads: what they make of sources, with some of them missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from affectkit.components import Component, Fusion, Head, Modality, Output, Sources
from affectkit.errors import AffectKitError, PluginError
from affectkit.labels import BASIC8, LabelSet
from affectkit.testing import examples, surroundings
from affectkit.testing.modalities import EDGE, SUM, ModalitySubject
from affectkit.testing.subjects import ContractError, Subject, Unchecked, difference, doing, names

if TYPE_CHECKING:
    import torch

NAMES = ("made/face", "made/voice", "made/words")
ROWS = 8
ALL, WITHOUT_FIRST, ONLY_LAST, NOTHING, CLASS_UNSAID, CLASS_OF_ONE = range(6)  # what each row lacks; the others lack nothing
ALONE = 1e-5  # by which a row may differ from what is said of it alone

Given = tuple[Output, Sources]


class OpinionSubject(Subject):
    """A fusion or head under test; it is given fused values (none for a fusion) and sources."""

    def make_given(self) -> Given:
        if self.examples is not None:
            made = self.example()
            return made if isinstance(made, tuple) else (Output({}), made)
        return self.make_sources()

    def make_sources(self) -> Given:
        """Fused values and sources, made from what the component declares."""
        raise NotImplementedError

    def ask(self, component: Any, given: Given) -> Output:
        import torch

        fused, sources = given
        action = "fuse" if isinstance(component, Fusion) else "convert"
        advice = "" if self.examples else "where it needs embeddings or quality of certain sources, give them: a static method examples()"
        with doing(action, advice), torch.inference_mode():
            output = component.fuse(sources) if isinstance(component, Fusion) else component.convert(fused, sources)
        if not isinstance(output, Output):
            raise ContractError(f"{action} returned a {type(output).__name__}; return Output({{self.labels: values}})")
        return output

    @property
    def values(self) -> torch.Tensor:
        """What the shared instance says, (N, C).

        Raises:
            Unchecked: where it has the wrong shape, which is another check's.
        """
        labels = self.loaded.labels
        values = self.answer.values.get(labels)
        if values is None or tuple(values.shape) != (len(self.given[1].values), len(labels)):
            raise Unchecked("it does not return values of its label set, as another check says")
        return cast("torch.Tensor", values)


class FusionSubject(OpinionSubject):
    """A fusion under test."""

    kind = "fusion"

    def make_sources(self) -> Given:
        component = self.loaded
        return Output({}), sources(component.labels, component.trained_for or NAMES)


class HeadSubject(OpinionSubject):
    """A head under test."""

    kind = "head"

    def complete(self, component: Any) -> None:
        """Gives a blend the heads that its options name, as in a run."""
        from affectkit.builtin.blend import Blend

        if isinstance(component, Blend):
            component.set_heads({name: self._part(name) for name in component.blends()})

    def _part(self, name: str) -> Head:
        try:
            entry = self.registry.get(name, "head")
            options = self.components.get(name)
            head: Head = HeadSubject(entry.cls, options, id=name, registry=self.registry, components=self.components).make()
        except PluginError as error:
            raise Unchecked(str(error)) from error
        return head

    def make_sources(self) -> Given:
        component: Head = self.loaded
        made = sources(component.reads or BASIC8, NAMES)
        if component.speaks is not None and component.speaks != made.labels:
            made = replace(made, others={component.speaks: sources(component.speaks, NAMES[:2])})
        elif component.speaks is not None:
            made = sources(component.speaks, NAMES)
        if component.embedding_from is not None:
            made = replace(made, embeddings={component.embedding_from: self._embedding(component.embedding_from)})
        if component.reads is None:
            return Output({}), made
        fused = torch_nanmean(made.values)
        return Output({component.reads: fused}), made

    def _embedding(self, name: str) -> torch.Tensor:
        """An embedding (N, D) as the modality that it comes from makes it, with a NaN row where there is no evidence."""
        source, _, key = name.partition(":")
        advice = "give fused values and sources: a static method examples() of the class, or of its test class, that returns both"
        try:
            entry = self.registry.get(source, "modality")
            said = ModalitySubject(cast("type[Modality]", entry.cls), id=entry.id, registry=self.registry).said.output
            found = said.embeddings[key]
        except (AffectKitError, KeyError) as error:
            raise Unchecked(f"it reads the embedding {name!r}, which cannot be made here ({error}); {advice}") from error
        rows = found[[i % len(found) for i in range(ROWS)]].clone()
        rows[NOTHING] = float("nan")
        return rows


def torch_nanmean(values: torch.Tensor) -> torch.Tensor:
    """(N, C) mean of (N, M, C) over the sources that say something."""
    return values.nanmean(dim=1)


def sources(labels: LabelSet, named: Sequence[str], rows: int = ROWS) -> Sources:
    """Sources of one label set that disagree, with some of them missing in some rows; see :data:`ALL` and the following.

    Args:
        labels: their label set.
        named: M component ids.
        rows: N.
    """
    import torch

    random = np.random.default_rng(7)
    if labels.kind == "categorical":
        made = examples.distributions(rows, (len(named), len(labels)))
    else:
        made = random.uniform(labels.low, labels.high, (rows, len(named), len(labels))).astype(np.float32)
    valid = np.ones(made.shape, dtype=bool)
    valid[WITHOUT_FIRST, 0] = len(named) == 1
    valid[ONLY_LAST, :-1] = False
    valid[NOTHING] = False
    valid[CLASS_UNSAID, :, -1] = False
    valid[CLASS_OF_ONE, 1:, 0] = False
    made[~valid] = np.nan
    return Sources(labels, tuple(named), torch.from_numpy(made), torch.from_numpy(valid))


def take(given: Given, rows: Sequence[int]) -> Given:
    """Some rows of fused values and sources."""
    fused, made = given

    def part(values: Mapping[Any, Any]) -> dict[Any, Any]:
        return {key: tensor[list(rows)] for key, tensor in values.items()}

    def cut(found: Sources) -> Sources:
        others = {labels: cut(other) for labels, other in found.others.items()}
        index = list(rows)
        return Sources(
            found.labels, found.names, found.values[index], found.valid[index], part(found.embeddings), part(found.quality), others
        )

    return Output(part(fused.values), part(fused.embeddings), part(fused.quality)), cut(made)


def permuted(found: Sources, order: Sequence[int]) -> Sources:
    """The same sources in another order."""
    index = list(order)
    return replace(found, names=tuple(found.names[i] for i in index), values=found.values[:, index], valid=found.valid[:, index])


def labels_match_columns(subject: OpinionSubject) -> None:
    """It returns floats (N, C) of its label set, one row per row of the sources."""
    import torch

    output, labels, rows = subject.answer, subject.loaded.labels, len(subject.given[1].values)
    values = output.values.get(labels)
    if values is None:
        raise ContractError(f"it declares the label set {labels.name!r} and returned [{names(list(output.values))}]; return self.labels")
    found = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
    if found != (rows, len(labels)):
        raise ContractError(
            f"for {rows} rows the values of {labels.name!r} must be {(rows, len(labels))}, found {found}; one column per label"
        )
    if not values.is_floating_point():
        raise ContractError(f"the values of {labels.name!r} must be floats, found {values.dtype}")


def values_in_range(subject: OpinionSubject) -> None:
    """Values lie in the range of its label set, where they are not NaN."""
    labels, values = subject.loaded.labels, subject.values
    said = values[values.isfinite()]
    if bool(values.isinf().any()):
        raise ContractError(f"values of {labels.name!r} are infinite; a row or column that says nothing is NaN")
    if len(said) and (float(said.min()) < labels.low - EDGE or float(said.max()) > labels.high + EDGE) and not published(subject):
        raise ContractError(
            f"values of {labels.name!r} must lie in [{labels.low:g}, {labels.high:g}], found {float(said.min()):.5g} to {float(said.max()):.5g}"
        )


def rows_sum_to_one(subject: OpinionSubject) -> None:
    """Rows of a categorical label set sum to 1 over the classes that are said."""
    labels, values = subject.loaded.labels, subject.values
    said = values[~values.isnan().all(dim=1)]
    if labels.kind != "categorical" or published(subject) or not len(said):
        return
    total = said.nansum(dim=1)
    worst = float(total[(total - 1).abs().argmax()])
    if abs(worst - 1) > SUM:
        raise ContractError(f"rows of {labels.name!r} must sum to 1 over the classes that are said, found one that sums to {worst:.5g}")


def published(subject: Subject) -> bool:
    """Whether an option asks for rows as a paper published them, which need not sum to 1."""
    return getattr(subject.loaded.options, "rows", "") == "published"


def missing_sources(subject: FusionSubject) -> None:
    """Where sources are missing the result is that of the others; where all are, or none can say a class, it is NaN."""
    labels, values, valid = subject.loaded.labels, subject.values, subject.given[1].valid
    said = valid.any(dim=1)
    rows = said.any(dim=1)
    lost = rows & values.isnan().all(dim=1)
    if bool(lost.any()):
        row = int(lost.nonzero()[0])
        there = int(valid[row].any(dim=1).sum())
        raise ContractError(
            f"a row in which {there} of {valid.shape[1]} sources have evidence is NaN; fuse those that have (Sources.valid says which)"
        )
    gaps = said & values.isnan()
    if bool(gaps.any()):
        row, column = gaps.nonzero()[0].tolist()
        raise ContractError(
            f"{labels.labels[column]!r} is NaN in a row in which a source says it; classes that others cannot say must not take it with them"
        )
    invented = ~rows & ~values.isnan().all(dim=1)
    if bool(invented.any()):
        raise ContractError("a row in which no source has evidence is given values; it must be NaN, which counts as no evidence")


def sources_by_name(subject: FusionSubject) -> None:
    """Sources are found by their names: their order, which is that of the recipe, does not matter, nor does one that is not in the run."""
    component, (fused, made) = subject.loaded, subject.given
    order = list(range(len(made.names)))[::-1]
    with surroundings.kept():
        turned = subject.ask(component, (fused, permuted(made, order)))
        if found := difference(subject.answer, turned, ALONE):
            raise ContractError(
                f"the same sources in another order give another result: {found}; "
                "they come in the order of the recipe, so find each by its name in Sources.names"
            )
        if len(order) > 1:
            valid = made.valid.clone()
            valid[:, 0] = False
            without = replace(made, valid=valid, values=made.values.where(valid, float("nan")))
            one = subject.ask(component, (fused, without))
            other = subject.ask(component, (fused, permuted(made, range(1, len(order)))))
            if found := difference(one, other, ALONE):
                raise ContractError(f"a source that is not in the run is not taken as one without evidence: {found}; see Sources.names")


def nothing_in_nothing_out(subject: HeadSubject) -> None:
    """A row without evidence stays NaN, and one with evidence does not become it."""
    values = subject.values
    if subject.examples is not None:
        return  # which row of the author's own lacks evidence is not known
    if not bool(values[NOTHING].isnan().all()):
        raise ContractError("a row in which nothing has evidence is given values; it must be NaN, which counts as no evidence")
    if bool(values[ALL].isnan().all()):
        raise ContractError("a row in which everything has evidence is NaN; give it values")


def rows_independent(subject: OpinionSubject) -> None:
    """A row says the same alone and beside others, in any order."""
    component, given, output = subject.loaded, subject.given, subject.answer
    count = len(given[1].values)
    with surroundings.kept():
        for rows in (*([i] for i in range(count)), list(range(count))[::-1]):
            found = difference(_part(output, rows), subject.ask(component, take(given, rows)), ALONE)
            if found:
                raise ContractError(
                    f"row {rows[0] + 1} is told differently {'alone' if len(rows) == 1 else 'when the rows are turned round'}: {found}; "
                    "compute nothing over the rows"
                )


def _part(output: Output, rows: Sequence[int]) -> Output:
    index = list(rows)
    notes = None if output.notes is None else [output.notes[i] for i in index]
    values = {labels: tensor[index] for labels, tensor in output.values.items()}
    embeddings = {name: tensor[index] for name, tensor in output.embeddings.items()}
    return Output(values, embeddings, {name: tensor[index] for name, tensor in output.quality.items()}, notes)


def refuses_unfitted(subject: OpinionSubject) -> None:
    """Asked without its weights it refuses with an error that says so, rather than guess."""
    component = subject.make()
    if type(component).load is Component.load:
        return  # it has nothing to load
    problem = subject.load_problem
    if isinstance(problem, ContractError):
        raise Unchecked(f"it cannot be loaded: {problem}")
    given = subject.given if problem is None else (Output({}), sources(component.labels, NAMES))
    if problem is not None and isinstance(component, Head):
        given = (Output({component.reads or BASIC8: torch_nanmean(given[1].values)}), given[1])
    weights = bool(component.checkpoints) or hasattr(component.options, "checkpoint")
    action = "fuse" if isinstance(component, Fusion) else "convert"
    with surroundings.kept():
        try:
            output = component.fuse(given[1]) if isinstance(component, Fusion) else component.convert(*given)
        except AffectKitError:
            return
        except Exception as error:
            raise ContractError(
                f"{action} before load raised {type(error).__name__}: {error}; raise ConfigError with what has to be loaded first"
            ) from error
    if weights and problem is not None and isinstance(output, Output):
        raise ContractError(f"{action} answers although its weights are not loaded; raise ConfigError with what has to be loaded first")
