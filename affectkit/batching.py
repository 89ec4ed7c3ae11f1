"""Batches: many preprocessed clips as one, forward passes that survive a full GPU, outputs checked against their labels."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from affectkit.components import Modality, Output
from affectkit.errors import PluginError, UsageError

if TYPE_CHECKING:
    from affectkit.labels import LabelSet

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Row:
    """What a modality says about one clip, as numbers on the CPU."""

    values: Mapping[LabelSet, torch.Tensor]
    embeddings: Mapping[str, torch.Tensor]
    quality: Mapping[str, float]
    note: Mapping[str, Any] | None


@dataclass
class Item:
    """A preprocessed clip on its way to a forward pass.

    Attributes:
        modality: component id.
        tensors: what its preprocessing gave.
        owner: whoever waits for it.
        done: is told its row, or the error that it met.
    """

    modality: str
    tensors: Mapping[str, torch.Tensor]
    owner: Any
    done: Callable[[Row | Exception], None]

    @property
    def size(self) -> int:
        """Bytes of its tensors."""
        return bytes_of(self.tensors)


def bytes_of(tensors: Mapping[str, torch.Tensor]) -> int:
    """Bytes that tensors take.

    >>> bytes_of({"x": torch.zeros(2, 3)})
    24
    """
    return sum(t.numel() * t.element_size() for t in tensors.values())


def choose_device(name: str) -> torch.device:
    """``auto`` takes the first GPU there is; otherwise the named device, refused where it is not there.

    Raises:
        UsageError: for an unknown name or an absent device.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:0") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise UsageError(f"device {name!r} is not here ({count} CUDA devices found); use --device auto or cpu")
    elif device.type not in ("cpu", "mps"):
        raise UsageError(f"device {name!r} is not supported; use auto, cpu, cuda or cuda:0")
    return device


def as_tensors(given: Any) -> dict[str, torch.Tensor]:
    """What a modality's preprocessing returned, as a dictionary.

    Raises:
        PluginError: where it is something else than a mapping of tensors.
    """
    if not isinstance(given, Mapping):
        raise PluginError(f"preprocess must return a mapping of tensors or None, found {type(given).__name__}")
    for key, value in given.items():
        if not isinstance(value, torch.Tensor):
            raise PluginError(f"preprocess must return a mapping of tensors, found {type(value).__name__} for {key!r}")
    return dict(given)


def mean_of_views(rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean per clip, (B, D), of what is said of its views, in an order of additions that does not depend on the batch.

    Args:
        rows: (N, D), of those views that the mask tells, in its order.
        mask: (B, V) bool; each clip has a view.

    >>> mean_of_views(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[True, False], [True, True]])).tolist()
    [[1.0], [3.0]]
    """
    padded = rows.new_zeros(*mask.shape, rows.shape[1])
    padded[mask] = rows
    return padded.sum(1) / mask.sum(1, keepdim=True)


def collate(rows: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Stacks clips into a batch; the first dimension may differ and is padded with zeros.

    Args:
        rows: B mappings with the same keys; tensors of one key agree in all but their first dimension.

    Returns:
        Per key a tensor with leading dimension B and, for tensors of at least one dimension, ``<key>_mask`` (B, T) bool that
        is true where an entry is real.

    Raises:
        PluginError: where keys or shapes do not fit together.

    >>> batch = collate([{"x": torch.ones(2, 3)}, {"x": torch.ones(1, 3)}])
    >>> tuple(batch["x"].shape), batch["x_mask"].tolist()
    ((2, 2, 3), [[True, True], [True, False]])
    """
    keys = list(rows[0])
    if any(list(row) != keys for row in rows):
        raise PluginError(f"preprocess must return the same keys for every clip, found {sorted({tuple(row) for row in rows})}")
    batch: dict[str, torch.Tensor] = {}
    for key in keys:
        tensors = [row[key] for row in rows]
        if len({(t.dim(), tuple(t.shape[1:]), t.dtype) for t in tensors}) > 1:
            raise PluginError(
                f"preprocess must return {key!r} with one dtype and the same shape but for its first dimension, "
                f"found {sorted({(tuple(t.shape), str(t.dtype)) for t in tensors})}"
            )
        if tensors[0].dim() == 0:
            batch[key] = torch.stack(tensors)
            continue
        lengths = torch.tensor([t.shape[0] for t in tensors])
        batch[key] = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)
        batch[f"{key}_mask"] = torch.arange(batch[key].shape[1])[None, :] < lengths[:, None]
    return batch


def check_output(name: str, output: Output, label_sets: Sequence[LabelSet], size: int) -> None:
    """Refuses an output that breaks the contract: wrong shapes, NaN, values out of range, rows that do not sum to 1.

    Raises:
        PluginError: saying which label set is wrong and how.
    """
    for labels in label_sets:
        values = output.values.get(labels)
        if values is None:
            raise PluginError(f"{name} declares label set {labels.name!r} and returned {sorted(s.name for s in output.values)}")
        if tuple(values.shape) != (size, len(labels)):
            raise PluginError(f"{name} must return ({size}, {len(labels)}) values for {labels.name!r}, found {tuple(values.shape)}")
        if not bool(torch.isfinite(values).all()):
            raise PluginError(f"{name} returned values that are not finite for {labels.name!r}")
        slack = 1e-3 * (labels.high - labels.low)
        if bool((values < labels.low - slack).any() | (values > labels.high + slack).any()):
            raise PluginError(f"{name} returned values outside [{labels.low}, {labels.high}] for {labels.name!r}")
        if labels.kind == "categorical" and bool((values.sum(dim=1) - 1).abs().max() > 1e-2):
            total = values.sum(dim=1)
            worst = float(total[(total - 1).abs().argmax()])
            raise PluginError(f"{name} must return rows that sum to 1 for {labels.name!r}, found a row that sums to {worst:.3f}")
    for what, tensors, dims in (("embedding", output.embeddings, 2), ("quality", output.quality, 1)):
        for key, tensor in tensors.items():
            if tensor.dim() != dims or len(tensor) != size:
                shape = f"({size}, D)" if dims == 2 else f"({size},)"
                raise PluginError(f"{name} must return {shape} numbers for the {what} {key!r}, found {tuple(tensor.shape)}")
    if output.notes is not None and len(output.notes) != size:
        raise PluginError(f"{name} must return one note per clip, found {len(output.notes)} for {size} clips")


@dataclass
class Batcher:
    """Collects the clips of one modality across windows and files and runs them in batches.

    A batch that does not fit the memory of the device is halved and tried again, and later batches stay at the smaller size.
    Where a batch fails for another reason it is halved as well, so that one bad clip costs only its own row.

    Attributes:
        id: component id.
        modality: the loaded component.
        device: where its forward passes run.
        dtype: precision of the forward pass; other than float32 it runs under autocast.
        batch_size: clips per forward pass at most.
        halved: how often the batch was halved for want of memory.
        forwards: how many forward passes ran.
        extras: sizes of the embeddings and names of the quality that the first output had.
    """

    id: str
    modality: Modality
    device: torch.device
    dtype: torch.dtype
    batch_size: int
    pending: deque[Item] = field(default_factory=deque)
    halved: int = 0
    forwards: int = 0
    extras: tuple[Mapping[str, int], set[str]] | None = None

    def add(self, item: Item) -> None:
        """Takes a clip; runs when a batch is full."""
        self.pending.append(item)
        if len(self.pending) >= self.batch_size:
            self.run()

    def run(self) -> None:
        """Runs what is pending, one batch at the most."""
        size = min(self.batch_size, len(self.pending))
        items = [self.pending.popleft() for _ in range(size)]
        if items:
            self._run(items)

    def _run(self, items: list[Item]) -> None:
        problem: Exception | None = None
        rows: list[Row] = []
        try:
            rows = self._forward(items)
        except torch.OutOfMemoryError as error:
            problem = self._does_not_fit(str(error))
            if len(items) > 1:
                self.halved += 1
                self.batch_size = len(items) // 2
        except Exception as error:  # a plugin may raise anything; the clip that caused it is found by halving
            problem = error
        if problem is None:
            for item, row in zip(items, rows, strict=True):
                item.done(row)
        elif len(items) == 1:
            items[0].done(problem)
        else:
            self._free_memory()
            half = (len(items) + 1) // 2
            self._run_in_parts(items[:half])
            self._run_in_parts(items[half:])

    def _run_in_parts(self, items: list[Item]) -> None:
        """Runs items in batches that fit, as far as is known by now."""
        left = deque(items)
        while left:
            self._run([left.popleft() for _ in range(min(self.batch_size, len(left)))])

    def _does_not_fit(self, what: str) -> PluginError:
        return PluginError(
            f"{self.id}: one clip does not fit the memory of {self.device}; use --device cpu, or --precision bf16 on a GPU ({what})"
        )

    def _free_memory(self) -> None:
        """Gives cached memory back; outside of the handler, whose traceback holds the tensors of the failed batch."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _forward(self, items: list[Item]) -> list[Row]:
        self.forwards += 1
        batch = {k: v.to(self.device, non_blocking=True) for k, v in collate([item.tensors for item in items]).items()}
        with torch.inference_mode(), self._autocast():
            output = self.modality.predict(batch)
        values = {labels: v.detach().float().cpu() for labels, v in output.values.items()}
        embeddings = {k: v.detach().float().cpu() for k, v in output.embeddings.items()}
        quality = {k: v.detach().float().cpu() for k, v in output.quality.items()}
        check_output(self.id, Output(values, embeddings, quality, output.notes), self.modality.label_sets, len(items))
        self._check_same({k: v.shape[1] for k, v in embeddings.items()}, set(quality))
        return [
            Row(
                {labels: v[i] for labels, v in values.items()},
                {k: v[i] for k, v in embeddings.items()},
                {k: float(v[i]) for k, v in quality.items()},
                output.notes[i] if output.notes is not None else None,
            )
            for i in range(len(items))
        ]

    def _check_same(self, embeddings: Mapping[str, int], quality: set[str]) -> None:
        """Refuses an output with other embeddings or quality than the first one had: rows of a medium could not be put side by side."""
        if self.extras is None:
            self.extras = (embeddings, quality)
        if self.extras != (embeddings, quality):
            first, now = (f"embeddings {dict(sizes)} and quality {sorted(names)}" for sizes, names in (self.extras, (embeddings, quality)))
            raise PluginError(f"{self.id} must return the same embeddings and quality for every batch, found {now} after {first}")

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)
