"""Training recipes: what is made of which data, and how, on one screen of YAML.

::

    training: mini/scene                 # a component of kind training
    data: ../shared/data                 # or --data
    epochs: 10
    batch_size: 64                       # per device
    optimiser: {name: adamw, rate: 1.0e-3, decay: 0.1}
    schedule: {warmup: 0.05, shape: cosine}
    precision: fp32                      # bf16 on processors and GPUs, fp16 on GPUs
    average: 0.99                        # decay of a moving average of the weights, null for none
    balance: {exponent: 0.7}             # how much more a rare class counts
    early_stopping: {metric: macro_f1, patience: 3}
    seed: 1
    options: {hidden: 64}                # the training's own

``_base_`` and ``--set`` work as in other recipes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from affectkit import recipe_files
from affectkit.config import Precision
from affectkit.errors import ConfigError
from affectkit.options import build
from affectkit.recipe_files import Find, Source

Draw = Literal["shuffled", "even"]


@dataclass(frozen=True)
class Optimiser:
    """How parameters are moved.

    Attributes:
        name: ``"adamw"``, ``"adam"`` or ``"sgd"`` (with Nesterov's momentum).
        rate: largest learning rate.
        decay: pull of weights to zero.
        momentum: of ``"sgd"``.
        clip: largest norm of the gradient, ``None`` for any.
    """

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    rate: float = 1e-3
    decay: float = 0.01
    momentum: float = 0.9
    clip: float | None = None

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise ConfigError(f"rate must be greater than 0, found {self.rate}")
        if self.decay < 0 or (self.clip is not None and not self.clip > 0) or not 0 <= self.momentum < 1:
            raise ConfigError(
                f"decay must not be negative, clip greater than 0, and momentum in [0, 1); found {self.decay}, {self.clip} and {self.momentum}"
            )


@dataclass(frozen=True)
class Schedule:
    """The learning rate over the training.

    Attributes:
        warmup: share of the steps in which it rises from 0.
        shape: how it goes down afterwards.
        last: share of the largest rate that is left at the end; of no meaning with ``"constant"``.
    """

    warmup: float = 0.05
    shape: Literal["cosine", "linear", "constant"] = "cosine"
    last: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1 or not 0 <= self.last <= 1:
            raise ConfigError(f"warmup must be in [0, 1) and last in [0, 1], found {self.warmup} and {self.last}")

    def share(self, done: float) -> float:
        """Share of the largest rate where ``done`` of the steps, in [0, 1], are behind.

        >>> Schedule(warmup=0.1).share(0.05), Schedule(warmup=0.0, shape="linear").share(0.75)
        (0.5, 0.25)
        """
        from math import cos, pi

        if done < self.warmup:
            return done / self.warmup
        left = 1 - (done - self.warmup) / (1 - self.warmup)
        falling = {"cosine": 0.5 * (1 - cos(pi * left)), "linear": left, "constant": 1.0}[self.shape]
        return falling if self.shape == "constant" else self.last + (1 - self.last) * falling


@dataclass(frozen=True)
class Balance:
    """What is done about rare classes.

    Attributes:
        exponent: a class counts (mean rows of a class / its rows) to this power in the loss; 0 for all alike.
        draw: ``"shuffled"`` takes each row once per epoch, ``"even"`` draws rows so that classes are equally frequent.
    """

    exponent: float = 0.0
    draw: Draw = "shuffled"


@dataclass(frozen=True)
class Stopping:
    """When a training ends before its last epoch.

    Attributes:
        metric: metric of the validation part that must rise; ``None`` for the main one of the label set.
        patience: epochs without a new best one after which it ends; ``None`` for never, and then the metric only chooses the epoch.
    """

    metric: str | None = None
    patience: int | None = 5

    def __post_init__(self) -> None:
        if self.patience is not None and self.patience < 1:
            raise ConfigError(f"patience must be at least 1 epoch, found {self.patience}")


@dataclass(frozen=True)
class Plan:
    """A training recipe.

    Attributes:
        training: id of the component.
        name: of the files that are written; ``None`` for the name of the component.
        data: file or folder; ``None`` where ``--data`` gives it.
        options: options of the component.
        epochs: passes over the training part.
        batch_size: rows per step and device.
        optimiser: how parameters are moved.
        schedule: the learning rate.
        precision: of forward passes in training; measured is in fp32.
        average: decay of the moving average of the weights, which is then what is measured and written; ``None`` for none.
        balance: what is done about rare classes.
        early_stopping: chooses the epoch by the validation part; ``None`` takes the last epoch.
        seed: of everything that is random.
        workers: processes that prepare batches, at most one per processor; 0 for the training's own.
        store: precision in which weights are written.
    """

    training: str
    name: str | None = None
    data: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 10
    batch_size: int = 64
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    precision: Precision = "fp32"
    average: float | None = None
    balance: Balance = Balance()
    early_stopping: Stopping | None = None
    seed: int = 0
    workers: int = 0
    store: Literal["fp16", "fp32"] = "fp16"

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("workers", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, found {getattr(self, name)}")
        if self.average is not None and not 0 < self.average < 1:
            raise ConfigError(f"average must be between 0 and 1, for instance 0.999, found {self.average}")

    @classmethod
    def load(cls, path_or_name: str | Path, *, find: Find | None = None, overrides: Iterable[str] = (), data: Path | None = None) -> Plan:
        """A training recipe from its file, with overrides on top; ``data`` goes before what the recipe names.

        A relative path in the recipe is relative to the folder in which the command runs, as one on the command line.

        Raises:
            ConfigError: for one problem; its message names file and line.
            Problems: for several.
            UsageError: for an override that is none.
        """
        source = recipe_files.override(recipe_files.read(path_or_name, find), overrides)
        tidy = {key: value for key, value in source.data.items() if not (value is None and key == "options")}
        plan = build(cls, Source(tidy, source.places, source.files).data, locate=source.locate)
        return plan if data is None else replace(plan, data=data)

    def to_mapping(self) -> dict[str, Any]:
        """Plain data."""
        plain = asdict(self)
        return plain | {"data": None if self.data is None else str(self.data), "options": _plain(self.options)}

    def digest(self) -> str:
        """sha256 of all that the weights depend on: everything but the name, where the data are, and workers."""
        plain = self.to_mapping()
        for key in ("name", "data", "workers"):
            del plain[key]
        return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
