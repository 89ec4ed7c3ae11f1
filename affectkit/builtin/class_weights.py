"""``core/dirichlet``, ``core/convex`` and ``core/probability_fusion``: the components around :mod:`affectkit.builtin.weighting`.

Their file is that of :mod:`affectkit.builtin.fitted`, with ``weights`` (M, C), or with the tensors of the published version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from affectkit.builtin.avcer import TABLES, Level, table
from affectkit.builtin.fitted import Fitted, FittedFusion, FittedOptions, check_named, read_header, save_fitted
from affectkit.errors import CheckpointError, ConfigError, did_you_mean
from affectkit.labels import LabelSet
from affectkit.needs import Checkpoint

if TYPE_CHECKING:
    import torch

    from affectkit.builtin.weighting import Weighting

Version = Literal["v1", "v3", "v4", "v5"]
VERSIONS: tuple[Version, ...] = get_args(Version)
"""Names of the versions that team RAS published before MHPF, those of :data:`affectkit.builtin.weighting.VERSIONS`."""


class ConvexFusion(FittedFusion):
    """``core/convex``: the weights of each class are the point of the simplex under which the fused rows are most likely.

    :func:`affectkit.builtin.simplex.convex_fit` fits them, by exponentiated gradient or by expectation and maximisation.
    """

    name = "convex"
    made_as = "fusion_convex.safetensors"

    def made(self, sources: int) -> torch.nn.Module:
        from affectkit.builtin.weighting import ClassWeights

        return ClassWeights(sources, len(self.labels))

    def read(self, path: Path) -> Fitted:
        return load_weights(path, self.labels)


@dataclass(frozen=True)
class DirichletOptions(FittedOptions):
    """Options of ``core/dirichlet``: those of all fitted fusions, and the tables of AVCER.

    Attributes:
        table: instead of a file: ``"avcer8"``, ``"avcer7"`` or ``"avcer_video"``, see :mod:`affectkit.builtin.avcer`.
        sources: the sources of that table, in its order: a static face, a dynamic face, and sound.
        level: ``"single"`` weights by source and class, or ``"double"`` ones, by source as well.
        parity: keeps the weight of ``avcer7`` that was copied wrongly where it was published.
    """

    table: str | None = None
    sources: tuple[str, ...] = ()
    level: Level = "single"
    parity: bool = False

    def __post_init__(self) -> None:
        if self.table is None:
            if self.sources or self.level != "single" or self.parity:
                raise ConfigError("sources, level and parity are of a table of AVCER; give table as well, for instance avcer8")
            return
        if self.table not in TABLES:
            raise ConfigError(f"table: AVCER published no table {self.table!r}. {did_you_mean(self.table, TABLES)}")
        if self.checkpoint is not None:
            raise ConfigError("table and checkpoint are two answers to one question; give one of them")
        count = len(TABLES[self.table].single)
        if len(self.sources) != count or len(set(self.sources)) != count:
            raise ConfigError(
                f"the table {self.table} is for {count} sources: {', '.join(ROLE_NAMES[:count])}; name them in this order in sources, "
                f"found [{', '.join(self.sources)}]"
            )


ROLE_NAMES = ("a static face", "a dynamic face", "sound")


class DirichletFusion(FittedFusion):
    """``core/dirichlet``: the best of many random weights per source and class, as AVCER (6th ABAW, arXiv 2403.12687) found its own; or those.

    :func:`affectkit.builtin.simplex.dirichlet_search` finds them. The tables that AVCER published need no file. They know no ``other``, which then no fused row says.
    """

    name = "dirichlet"
    Options = DirichletOptions
    made_as = "fusion_dirichlet.safetensors"

    def used_checkpoints(self) -> Mapping[str, Checkpoint]:
        """The file of weights; none for a table of AVCER."""
        return {} if self.options.table is not None else super().used_checkpoints()

    def check_given(self) -> None:
        """Refuses a recipe that names neither weights nor a table of AVCER."""
        if self.options.table is None:
            super().check_given()

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Loads the fitted weights, or takes the table; errors as of every fitted fusion."""
        if self.options.table is None:
            super().load(device, dtype)
            return
        import torch

        from affectkit.builtin.weighting import ClassWeights

        weights = table(self.options.table, self.labels, self.options.level, self.options.parity)
        model = ClassWeights(*weights.shape)
        model.load_state_dict({"weights": torch.from_numpy(weights)})
        self._model = model.to(device).eval()
        self.trained_for = self.options.sources

    def made(self, sources: int) -> torch.nn.Module:
        from affectkit.builtin.weighting import ClassWeights

        return ClassWeights(sources, len(self.labels))

    def read(self, path: Path) -> Fitted:
        return load_weights(path, self.labels)


@dataclass(frozen=True)
class VersionOptions(FittedOptions):
    """Options of ``core/probability_fusion``: those of all fitted fusions, and the version.

    Attributes:
        version: ``"v1"``, ``"v3"``, ``"v4"`` or ``"v5"``; ``None`` for the one whose tensors the file has.
    """

    version: Version | None = None


class VersionFusion(FittedFusion):
    """``core/probability_fusion``: the versions of the probability fusion that team RAS published beside MHPF, which is version 6.

    v1 is MHPF with one head, v3 has one weight per source, v4 mixes v1 with the mean, v5 divides by a temperature. All are weights per source and class. Version 2
    fails for more than one row where it was published, and is not here: ``core/mhpf_gated`` is what it wanted to be.
    """

    name = "probability_fusion"
    Options = VersionOptions
    made_as = "fusion_v4.safetensors"
    make = 'affectkit train fusion --predictions RUN --labels FILE --out . --set "options.fusions=[mean, v4]"'

    def made(self, sources: int) -> torch.nn.Module:
        return _version(self.options.version or VERSIONS[0], sources, self.labels)

    def read(self, path: Path) -> Fitted:
        from affectkit import weight_files

        there = set(weight_files.load_tensors(path))
        told = next((name for name in VERSIONS if there == set(_version(name, 1, self.labels).state_dict())), VERSIONS[0])
        version = self.options.version or told
        tensors, header, sharpening = read_header(path, tuple(_version(version, 1, self.labels).state_dict()), self.labels)
        count = max((len(value) for name, value in tensors.items() if name in ("weights", "keys") and value.ndim), default=0)
        sources = check_named(path, "its weights", count, header["sources"])
        model = _version(version, max(count, 1), self.labels)
        shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        found = {name: tuple(value.shape) for name, value in tensors.items()}
        if found != shapes:
            raise CheckpointError(f"{path}: expected {shapes} for {count} sources of {len(self.labels)} labels, found {found}")
        model.load_state_dict(tensors)
        return Fitted(model, sources, self.labels.labels, header["record"], sharpening)


def _version(name: str, sources: int, labels: LabelSet) -> Weighting:
    """The network of a version, with its first parameters."""
    from affectkit.builtin import weighting

    return weighting.VERSIONS[name](sources, len(labels))


def save_weights(
    path: Path,
    fusion: str,
    weights: torch.Tensor,
    sources: Sequence[str],
    labels: LabelSet,
    record: Mapping[str, Any],
    sharpening: Any = None,
) -> None:
    """Writes weights (M, C) for ``core/dirichlet`` or ``core/convex``; other arguments and errors as in :func:`affectkit.builtin.fitted.save_fitted`."""
    from affectkit.builtin.weighting import ClassWeights

    model = ClassWeights(*weights.shape)
    model.load_state_dict({"weights": weights})
    save_fitted(path, fusion, model, sources, labels, record, sharpening)


def load_weights(path: Path, labels: LabelSet) -> Fitted:
    """Reads what :func:`save_weights` wrote.

    Args:
        path: the file.
        labels: the label set that its classes must be.

    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    from affectkit.builtin.weighting import ClassWeights

    tensors, header, sharpening = read_header(path, ("weights",), labels)
    weights = tensors["weights"]
    if weights.ndim != 2 or weights.shape[1] != len(labels) or not len(weights) or bool((weights < 0).any()):
        raise CheckpointError(f"{path}: expected weights (M, {len(labels)}) of 0 or more, found {tuple(weights.shape)}; fit it anew")
    sources = check_named(path, "weights", len(weights), header["sources"])
    model = ClassWeights(len(weights), len(labels))
    model.load_state_dict(tensors)
    return Fitted(model, sources, labels.labels, header["record"], sharpening)
