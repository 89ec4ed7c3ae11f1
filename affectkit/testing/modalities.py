"""Checks of modalities: what they say of clips, alone and in batches."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from affectkit.components import Modality, Output
from affectkit.errors import PluginError
from affectkit.evidence import Evidence
from affectkit.labels import LabelSet
from affectkit.media import Clip
from affectkit.needs import Input
from affectkit.testing import examples, surroundings
from affectkit.testing.subjects import ContractError, Subject, Unchecked, difference, doing, names

if TYPE_CHECKING:
    import torch

Tensors = Mapping[str, "torch.Tensor"]

SUM = 1e-4  # by which a row of a categorical set may miss 1
EDGE = 1e-6  # by which a value may miss its range
ALONE = 1e-5  # by which a row may differ from what is said of it alone, in single precision


@dataclass
class Said:
    """What a modality makes of clips: the tensors of those that are evidence to it, and what it says of them as one batch."""

    rows: list[dict[str, torch.Tensor]]
    output: Output


class ModalitySubject(Subject):
    """A modality under test; it is given clips."""

    kind = "modality"

    def make_given(self) -> list[Clip]:
        if self.examples is not None:
            return list(self.example())
        return examples.modality_clips(self.make(), self._third_party)

    def _third_party(self, item: Input, clip: Clip, number: int) -> Evidence:
        """Evidence of a kind that only plugins know, by the installed providers of it."""
        from affectkit.testing.providers import provided

        return provided(self.registry, item, clip, number)

    def ask(self, component: Modality, given: Sequence[Clip]) -> Said:
        rows = self.rows(component, given)
        if not rows:
            raise Unchecked(
                "none of the clips that were made from its needs is evidence to it: preprocess gave None for all of them; "
                "give clips that are: a static method examples() of the class, or of its test class, that returns them"
            )
        return Said(rows, self.predict(component, rows))

    def rows(self, component: Modality, given: Sequence[Clip]) -> list[dict[str, Any]]:
        """The tensors of the clips that are evidence."""
        from affectkit.batching import as_tensors

        rows = []
        for clip in given:
            with doing("preprocess"):
                made = component.preprocess(clip)
            if made is not None:
                try:
                    rows.append(as_tensors(made))
                except PluginError as error:
                    raise ContractError(str(error)) from error
        return rows

    def predict(self, component: Modality, rows: Sequence[Tensors], action: str = "predict") -> Output:
        """What is said of rows as one batch; ``action`` says in messages what is done."""
        return self.predict_batch(component, self.batch(rows), action)

    def batch(self, rows: Sequence[Tensors]) -> dict[str, Any]:
        """Rows as one batch, as the engine makes it."""
        from affectkit.batching import collate

        try:
            return collate(rows)
        except PluginError as error:
            raise ContractError(str(error)) from error

    def predict_batch(self, component: Modality, batch: Tensors, action: str = "predict") -> Output:
        """What is said of a batch; ``action`` says in messages what is done."""
        import torch

        moved = batch if self.device == "cpu" else {key: tensor.to(self.device) for key, tensor in batch.items()}
        with doing(action), torch.inference_mode():
            output = component.predict(moved)
        if not isinstance(output, Output):
            raise ContractError(f"predict returned a {type(output).__name__}; return Output({{LABELS: values}})")
        return output

    @property
    def said(self) -> Said:
        """What the shared instance says of all clips."""
        said: Said = self.answer
        return said


def labels_match_columns(subject: ModalitySubject) -> None:
    """It returns float32 values (B, C) of exactly the label sets that it declares, all of them finite."""
    import torch

    said, declared = subject.said, subject.loaded.label_sets
    if set(said.output.values) != set(declared):
        raise ContractError(
            f"it declares the label sets [{names(declared)}] and returned [{names(list(said.output.values))}]; return exactly what is declared"
        )
    for labels in declared:
        values, shape = said.output.values[labels], (len(said.rows), len(labels))
        if not isinstance(values, torch.Tensor) or tuple(values.shape) != shape:
            found = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
            raise ContractError(f"for {shape[0]} clips the values of {labels.name!r} must be {shape}, found {found}; one column per label")
        if values.dtype != torch.float32:
            raise ContractError(f"the values of {labels.name!r} must be float32, found {values.dtype}; end predict with .float()")
        if not bool(torch.isfinite(values).all()):
            raise ContractError(
                f"values of {labels.name!r} are not finite; where there is no evidence, let preprocess return None, and divide by nothing that may be 0"
            )


def rows_sum_to_one(subject: ModalitySubject) -> None:
    """Rows of categorical label sets are distributions: they sum to 1."""
    for labels, values in _values(subject, "categorical"):
        total = values.sum(dim=1)
        worst = float(total[(total - 1).abs().argmax()])
        if abs(worst - 1) > SUM:
            raise ContractError(
                f"rows of {labels.name!r} must sum to 1, found one that sums to {worst:.5g}; use softmax, or declare kind='multilabel'"
            )


def values_in_range(subject: ModalitySubject) -> None:
    """Values lie in the range of their label set: probabilities in [0, 1], quantities in [low, high]."""
    for labels, values in _values(subject):
        low, high = float(values.min()), float(values.max())
        if low < labels.low - EDGE or high > labels.high + EDGE:
            raise ContractError(
                f"values of {labels.name!r} must lie in [{labels.low:g}, {labels.high:g}], found {low:.5g} to {high:.5g}; "
                "use sigmoid, softmax or tanh, not logits"
            )


def _values(subject: ModalitySubject, kind: str = "") -> list[tuple[LabelSet, Any]]:
    """The values of the declared label sets, of one kind; those of the wrong shape are another check's."""
    values = subject.said.output.values
    found = [(s, values[s]) for s in subject.loaded.label_sets if s in values and (not kind or s.kind == kind)]
    return [(s, v) for s, v in found if getattr(v, "ndim", 0) == 2 and len(v)]


def rows_independent(subject: ModalitySubject) -> None:
    """A row says the same alone and in a batch of any size and order, beside shorter and longer neighbours."""
    component, rows = subject.loaded, subject.said.rows
    count = len(rows)
    batches = [list(range(count)), list(range(count))[::-1], [*range(count), *range(count)]]
    batches += [[i, (i + 1) % count] for i in range(count)]
    with surroundings.kept():
        alone = [_row(subject.predict(component, [row]), 0) for row in rows]
        for batch in batches:
            output = subject.predict(component, [rows[i] for i in batch])
            for place, i in enumerate(batch):
                if found := difference(alone[i], _row(output, place), ALONE):
                    raise ContractError(
                        f"clip {i + 1} is told differently alone and in place {place + 1} of a batch of {len(batch)}: {found}; "
                        "use the masks, call .eval() in load, and compute nothing over the batch (no batch statistics)"
                    )


def _row(output: Output, place: int) -> Output:
    """One row of an output."""
    with doing("reading the rows of an output", "return one row per clip"):
        notes = None if output.notes is None else [output.notes[place]]
        return Output(
            {labels: values[place] for labels, values in output.values.items()},
            {name: values[place] for name, values in output.embeddings.items()},
            {name: values[place] for name, values in output.quality.items()},
            notes,
        )


def padding_ignored(subject: ModalitySubject) -> None:
    """What lies beyond the mask has no influence, whatever it is and however much of it there is."""
    import torch

    component, rows = subject.loaded, subject.said.rows
    batch = subject.batch(rows)
    padded = [key for key in batch if f"{key}_mask" in batch and not bool(batch[f"{key}_mask"].all())]
    if not padded:
        return  # its clips are all of one length
    changed = dict(batch)
    for key in padded:
        real = batch[f"{key}_mask"]
        changed[key] = batch[key].clone()
        changed[key][~real] = batch[key][real].flip(0)[torch.arange(int((~real).sum())) % int(real.sum())]
    longer = {}
    for key, tensor in batch.items():
        key_padded = key in padded or (key.endswith("_mask") and key.removesuffix("_mask") in padded)
        extra = torch.zeros((len(tensor), 3, *tensor.shape[2:]), dtype=tensor.dtype) if key_padded else None
        longer[key] = tensor if extra is None else torch.cat([tensor, extra], dim=1)
    with surroundings.kept():
        before = subject.predict_batch(component, batch)
        for other, what in ((changed, "other numbers"), (longer, "more zeros")):
            if found := difference(before, subject.predict_batch(component, other), ALONE):
                raise ContractError(
                    f"{what} in the padding of {', '.join(map(repr, padded))}, where the mask is false, change the result: {found}; "
                    "multiply by the mask, or give it to the network, before anything is summed or averaged"
                )


def none_without_evidence(subject: ModalitySubject) -> None:
    """Preprocess returns None for a clip without evidence, rather than zeros, and does not raise."""
    component = subject.loaded
    for clip in subject.given:
        for what, bare in examples.empty(clip):
            with surroundings.kept(), doing(f"preprocess of a clip {what}", "return None where there is no evidence"):
                made = component.preprocess(bare)
            if made is not None:
                raise ContractError(
                    f"preprocess of a clip {what} returned {sorted(made) if isinstance(made, Mapping) else type(made).__name__}; "
                    "return None, so that the window counts as one without evidence"
                )


def scant_evidence(subject: ModalitySubject) -> None:
    """Clips with very little in them give None or an answer, and no error."""
    _ = subject.answer
    component = subject.loaded
    for clip in subject.given[:2]:
        for what, little in examples.scant(clip):
            advice = "return None from preprocess where that is too little"
            with surroundings.kept():
                with doing(f"preprocess of a clip with {what}", advice):
                    made = component.preprocess(little)
                if made is None:
                    continue
                output = subject.predict(component, [made], f"predict of a clip with {what}")
            for labels, values in output.values.items():
                if not bool(values.isfinite().all()):
                    raise ContractError(f"values of {labels.name!r} for a clip with {what} are not finite; {advice}")


def extras_fit(subject: ModalitySubject) -> None:
    """Embeddings (B, D), quality (B,) and notes (one mapping per clip) have one entry per clip, and are the same ones in every batch."""
    import torch

    said, component = subject.said, subject.loaded
    size, output = len(said.rows), said.output
    for what, tensors, dims in (("embedding", output.embeddings, 2), ("quality", output.quality, 1)):
        for name, tensor in tensors.items():
            shape = f"({size}, D)" if dims == 2 else f"({size},)"
            found = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            if not isinstance(tensor, torch.Tensor) or tensor.dim() != dims or len(tensor) != size:
                raise ContractError(f"for {size} clips the {what} {name!r} must be {shape}, found {found}; one row per clip")
            if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
                raise ContractError(
                    f"the {what} {name!r} must be finite floats, found {tensor.dtype} with values that are not; end with .float()"
                )
    if output.notes is not None and not (len(output.notes) == size and all(isinstance(note, Mapping) for note in output.notes)):
        raise ContractError(f"for {size} clips notes must be {size} mappings or None, found {len(output.notes)} entries")
    with surroundings.kept():
        alone = subject.predict(component, said.rows[:1])
    for what in ("embeddings", "quality"):
        many, one = ({name: v.shape[1:] for name, v in getattr(o, what).items()} for o in (output, alone))
        if many != one:
            raise ContractError(f"{what} must be the same in every batch, found {sorted(one)} for one clip and {sorted(many)} for {size}")


def batch_unchanged(subject: ModalitySubject) -> None:
    """Predict leaves its batch as it was; a batch that does not fit the memory of a GPU is used again, in halves."""
    batch = subject.batch(subject.said.rows)
    before = copy.deepcopy(batch)
    with surroundings.kept():
        subject.predict_batch(subject.loaded, batch)
    if found := difference(before, batch):
        raise ContractError(f"predict changes its batch: {found}; use no operations in place (those that end in _) on its tensors")


def threads_apart(subject: ModalitySubject) -> None:
    """Preprocess gives the same from several threads at once, as the engine calls it."""
    from concurrent.futures import ThreadPoolExecutor

    component, clips = subject.loaded, subject.given
    with surroundings.kept(), doing("preprocess in several threads", "keep nothing in self between calls"):
        single = [component.preprocess(clip) for clip in clips]
        with ThreadPoolExecutor(4) as pool:
            many = list(pool.map(component.preprocess, clips * 4))
    for number, made in enumerate(many):
        if found := difference(single[number % len(clips)], made):
            raise ContractError(f"preprocess gives another result in a thread beside others: {found}; keep nothing in self between calls")
