"""What fusions with fitted weights share: their file, how sure they make their rows, which sources they take. N is rows, M sources, C classes.

The file is safetensors. Its header says for which sources and labels the weights were fitted, how (``record``), which fusion reads them
(``fusion``; :mod:`core/mhpf <affectkit.builtin.fusion>` where it says nothing), and how sure the fused rows are made (``sharpening``).
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from affectkit import headers
from affectkit.builtin.mean import check_labels, normalise_rows
from affectkit.components import Fusion, Output, Sources
from affectkit.errors import AffectKitError, CheckpointError, ConfigError
from affectkit.labels import KNOWN, LabelSet
from affectkit.missing import Wanted
from affectkit.needs import Checkpoint
from affectkit.options import build

if TYPE_CHECKING:
    import torch

Rows = Literal["normalised", "published"]
Missing = Literal["renormalised", "published"]
HEADER = ("sources", "labels", "record")


@dataclass(frozen=True)
class FittedOptions:
    """Options of fusions with fitted weights.

    Attributes:
        checkpoint: file of fitted weights: a path, or for instance ``package:affectkit_mini/weights/mhpf.safetensors``.
        rows: ``"normalised"`` rows are as sure as the file says (:class:`Sharpening`) and sum to 1 over the classes that are said;
            ``"published"`` leaves them as they are.
        missing: ``"renormalised"`` shares the weight of what is not valid among what is; ``"published"`` takes it as
            zeros with their full weight, as the paper's tables did.
    """

    checkpoint: str | None = None
    rows: Rows = "normalised"
    missing: Missing = "renormalised"


class FittedFusion(Fusion):
    """A fusion whose weights were fitted for some sources, in their order.

    A source that it was fitted for and that is not in the run counts as not valid.
    """

    Options: ClassVar[type] = FittedOptions
    made_as: ClassVar[str] = "fusion_mhpf.safetensors"
    """The file that :attr:`make` writes, for messages."""
    make: ClassVar[str] = "affectkit train fusion --predictions RUN --labels FILE --out ."

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._model: torch.nn.Module | None = None
        self._sharpening = Sharpening()

    def used_checkpoints(self) -> Mapping[str, Checkpoint]:
        """The file of weights, with the licence and source that its own record names."""
        return described(super().used_checkpoints())

    def check_given(self) -> None:
        """Refuses a recipe that names no weights."""
        name = self._name
        if not self.options.checkpoint:
            raise ConfigError(
                f"{name} is not fitted: the recipe names no weights for it. Make {self.made_as} with '{self.make}' and name it as "
                f"components.{name}.checkpoint in the recipe, or take --fusion core/mean, which needs none",
                wanted=Wanted(
                    name,
                    self.made_as,
                    make=self.make,
                    give=f"--set components.{name}.checkpoint=FILE",
                    instead="--fusion core/mean, which needs none",
                ),
            )

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Loads the fitted weights; they stay in single precision.

        Raises:
            ConfigError: where the recipe names none.
            CheckpointError: where the file is absent, damaged, or for other labels.
        """
        self.check_given()
        fitted = self.read(self.weights())
        self._model = fitted.model.to(device).eval()
        self._sharpening = fitted.sharpening
        self.trained_for = fitted.sources

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """Random weights for these sources."""
        from affectkit.weight_files import RANDOM, random_network

        if not sources:
            raise CheckpointError(
                f"{self.id} has random weights only for the sources of a recipe, and the recipe has none that it can fuse"
            )
        path = folder / f"{self.name}.safetensors"
        record = {"licence": RANDOM, "source": "affectkit weights tiny"}
        self.save(path, random_network(lambda: self.made(len(sources))), sources, record)
        return path

    @abstractmethod
    def made(self, sources: int) -> torch.nn.Module:
        """The network for so many sources of the labels, with its first parameters."""

    @abstractmethod
    def read(self, path: Path) -> Fitted:
        """The file of weights as a network.

        Raises:
            CheckpointError: naming the file and what is wrong with it.
        """

    def save(
        self, path: Path, model: torch.nn.Module, sources: Sequence[str], record: Mapping[str, Any], sharpening: Sharpening | None = None
    ) -> None:
        """Writes a network as :meth:`read` takes it; arguments as in :func:`save_fitted`."""
        save_fitted(path, f"core/{self.name}", model, sources, self.labels, record, sharpening)

    def weigh(self, model: torch.nn.Module, values: torch.Tensor, valid: torch.Tensor | None, sources: Sources) -> torch.Tensor:
        """Fused values (N, C) of values (N, M, C) in the order of :attr:`trained_for`, zeros where not valid.

        Args:
            model: the network.
            values: what the sources say.
            valid: (N, M, C) bool, ``None`` where all counts.
            sources: what else is known of the rows, in the order of the run.
        """
        fused: torch.Tensor = model(values, valid)
        return fused

    def fuse(self, sources: Sources) -> Output:
        """Fused values (N, C); NaN where no source is valid.

        Raises:
            ConfigError: where it is not loaded, or was not fitted for one of the sources.
        """
        import torch

        name = self._name
        if self._model is None or self.trained_for is None:
            raise ConfigError(f"{name} is not fitted: load its weights before fusing")
        check_labels(name, sources, self.labels)
        check_sources(name, self.trained_for, sources.names)
        shape = (len(sources.values), len(self.trained_for), len(self.labels))
        values = sources.values.new_zeros(shape)
        valid = torch.zeros(shape, dtype=torch.bool, device=values.device)
        places = [self.trained_for.index(source) for source in sources.names]
        values[:, places] = sources.values.where(sources.valid, 0.0)
        valid[:, places] = sources.valid
        device = next(iter(self._model.state_dict().values())).device
        mask = None if self.options.missing == "published" else valid.to(device)
        fused = self.weigh(self._model, values.to(device), mask, sources).detach().to(values.device)
        if mask is None:
            fused[~valid.any(dim=(1, 2))] = torch.nan
        if self.options.rows == "published":
            return Output({self.labels: fused})
        return Output({self.labels: self._sharpening(fused, sources.valid.any(dim=2).sum(dim=1))})

    @property
    def _name(self) -> str:
        return f"core/{self.name}"


@dataclass(frozen=True)
class Sharpening:
    """How sure fused rows are made: a weighted mean is less sure than the sources that agree in it.

    The values of a row of k sources are raised to ``(1 + growth * (k - 1)) / temperature``, which changes no order of classes.

    Attributes:
        temperature: T greater than 0, as in :func:`affectkit.fitting.fit_temperature`.
        growth: of the exponent with each source beyond the first, 0 or more.
    """

    temperature: float = 1.0
    growth: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.temperature < float("inf") and 0 <= self.growth < float("inf")):
            raise ConfigError(
                f"a sharpening has a temperature greater than 0 and a growth of 0 or more, found {self.temperature} and {self.growth}"
            )

    def __call__(self, values: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        """Rows (N, C) of ``count`` (N,) sources, of 0 or more, as rows that sum to 1; what is NaN stays NaN.

        >>> import torch
        >>> rows = Sharpening(growth=1.0)(torch.tensor([[0.2, 0.6], [0.2, 0.6]]), torch.tensor([1, 2]))
        >>> [[round(value, 2) for value in row] for row in rows.tolist()]
        [[0.25, 0.75], [0.1, 0.9]]
        """
        import torch

        exponent = ((1 + self.growth * (count - 1)) / self.temperature).to(values)
        logarithms = values.log() * exponent[:, None]
        largest = logarithms.nan_to_num(nan=-torch.inf).amax(dim=1, keepdim=True)
        return normalise_rows((logarithms - largest).exp())  # a large exponent would leave nothing of small values


@dataclass(frozen=True)
class Fitted:
    """Fitted weights and what travels with them.

    Attributes:
        model: the network.
        sources: M component ids, in the order of its weights.
        labels: C labels, in the order of its weights.
        record: how it was fitted.
        sharpening: how sure its rows are made; as they are, where the file says nothing.
    """

    model: Any
    sources: tuple[str, ...]
    labels: tuple[str, ...]
    record: Mapping[str, Any]
    sharpening: Sharpening = field(default_factory=lambda: Sharpening())


def check_sources(name: str, trained_for: Iterable[str] | None, sources: Iterable[str]) -> None:
    """Refuses sources that a fusion was not fitted for; sources of its own that are absent are no problem.

    Args:
        name: id of the fusion.
        trained_for: the sources that it was fitted for; ``None`` where it takes any.
        sources: the sources in the run.

    Raises:
        ConfigError: showing both sets and what to do.

    >>> check_sources("core/mhpf", ("mini/audio", "mini/text"), ("mini/text",))
    """
    if trained_for is None:
        return
    known, there = list(trained_for), list(sources)
    strange = [source for source in there if source not in known]
    if strange:
        raise ConfigError(
            f"{name} was not fitted for {', '.join(strange)}: its weights are for [{', '.join(known)}], the run has [{', '.join(there)}]; "
            f"leave those sources out, fit weights for this set of sources, or take --fusion core/mean, which needs none"
        )


def save_fitted(
    path: Path,
    fusion: str,
    model: torch.nn.Module,
    sources: Sequence[str],
    labels: LabelSet,
    record: Mapping[str, Any],
    sharpening: Sharpening | None = None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Writes fitted weights and what must travel with them.

    Args:
        path: the file, ending in .safetensors; written in one step.
        fusion: id of the fusion that reads it.
        model: the fitted network; it says its sizes as ``num_sources`` and ``num_classes``.
        sources: M component ids in the order of the weights.
        labels: the label set of the C classes.
        record: how it was fitted, as plain data; its ``"licence"``, ``"source"`` and ``"commercial"`` (true or false) go into the record of a run.
        sharpening: how sure its rows are made; ``None`` leaves them as they are.
        more: further plain data for the header.

    Raises:
        ConfigError: where sources or labels do not match the network.
    """
    from affectkit.weight_files import save_tensors

    if (model.num_sources, model.num_classes) != (len(set(sources)), len(labels)) or len(set(sources)) < len(sources):
        raise ConfigError(
            f"the network fuses {model.num_sources} sources of {model.num_classes} classes, "
            f"found {len(sources)} sources [{', '.join(sources)}] and {len(labels)} classes of {labels.name!r}; name each source once"
        )
    header = {"fusion": fusion, "sources": list(sources), "labels": list(labels.labels), "record": dict(record), **(more or {})}
    header |= {} if sharpening is None else {"sharpening": asdict(sharpening)}
    tensors = {key: value.float() for key, value in model.state_dict().items()}
    save_tensors(path, tensors, {key: json.dumps(value) for key, value in header.items()})


def read_header(
    path: Path, names: Sequence[str], labels: LabelSet, keys: Sequence[str] = ()
) -> tuple[dict[str, torch.Tensor], dict[str, Any], Sharpening]:
    """Tensors, header and sharpening of a file of fitted weights.

    Args:
        path: the file.
        names: names of its tensors.
        labels: the label set that its classes must be.
        keys: further keys of its header.

    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    tensors, header = read_tensors(path, names, (*HEADER, *keys))
    found = header["labels"]
    if isinstance(found, str) and found in KNOWN:
        found = list(KNOWN[found].labels)
    if found != list(labels.labels):
        raise CheckpointError(f"{path} was fitted for the labels {found}, expected {list(labels.labels)}; fit it for these")
    return tensors, header, _sharpening(path)


def check_named(path: Path, tensor: str, count: int, sources: Any) -> tuple[str, ...]:
    """The sources of a file, where they are as many as its weights are for.

    Raises:
        CheckpointError: where they are not.
    """
    if not isinstance(sources, list) or not all(isinstance(s, str) for s in sources) or len(set(sources)) != count or len(sources) != count:
        raise CheckpointError(f"{path}: {tensor} has {count} sources, and its header names {sources}; fit it anew")
    return tuple(sources)


def _sharpening(path: Path) -> Sharpening:
    found = headers.mapping(path, "sharpening")
    try:
        return build(Sharpening, found)
    except AffectKitError as error:
        raise CheckpointError(f"{path}: its header holds the sharpening {found} ({error}); fit it anew") from None


def read_tensors(
    path: Path, names: Sequence[str], keys: Sequence[str], plain: Sequence[str] = ()
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors in single precision and the header of a safetensors file that holds just these.

    Args:
        path: the file.
        names: names of its tensors.
        keys: keys of its header.
        plain: those whose values are text; the others are JSON.

    Raises:
        CheckpointError: naming the file, what was expected and what was found.
    """
    from affectkit import weight_files

    tensors = {key: tensor.float() for key, tensor in weight_files.load_tensors(path).items()}
    metadata = weight_files.metadata(path)
    if set(tensors) != set(names) or not set(keys) <= set(metadata):
        of = f"; it says that it is of {metadata['fusion']}" if "fusion" in metadata else ""
        raise CheckpointError(
            f"{path}: expected the tensors {sorted(names)} and a header with {sorted(keys)}, "
            f"found the tensors {sorted(tensors)} and a header with {sorted(metadata)}{of}; is it the right file?"
        )
    if bad := [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]:
        raise CheckpointError(f"{path}: {', '.join(bad)} holds numbers that are not finite; fit it anew")
    try:
        return tensors, {key: metadata[key] if key in plain else json.loads(metadata[key]) for key in keys}
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}: its header is not JSON ({error}); fit it anew") from None


def described(used: Mapping[str, Checkpoint]) -> dict[str, Checkpoint]:
    """Checkpoint records with the licence, terms and source that the record inside each file names, where the file is here."""
    from affectkit import checkpoints

    out = {}
    for tag, checkpoint in used.items():
        path = checkpoints.local(checkpoint)
        record = {} if path is None else headers.mapping(path, "record")
        licence, source = record.get("licence", checkpoint.licence), record.get("source", checkpoint.source)
        said = record.get("commercial")
        may = said if isinstance(said, bool) else checkpoint.commercial
        out[tag] = replace(checkpoint, licence=str(licence), source=str(source), commercial=may)
    return out
