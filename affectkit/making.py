"""From a training recipe to a file of weights with its record and its card: what ``affectkit train`` does."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import affectkit
from affectkit import fitting
from affectkit.errors import PluginError, StoreError, UsageError
from affectkit.files import replacing
from affectkit.intervals import RESAMPLES, Score, scores
from affectkit.model_cards import card
from affectkit.options import build
from affectkit.trainings import PARTS, Part, Trained, Training

if TYPE_CHECKING:
    import torch

    from affectkit.plugins import Registry
    from affectkit.training import Launcher, Report
    from affectkit.training_recipes import Plan


@dataclass(frozen=True)
class Made:
    """What was written, and its record.

    Attributes:
        files: weights, record and card.
        record: all that was measured; empty in a process that is not the one that writes.
        lines: what the command prints instead of the metrics of a part.
    """

    files: tuple[Path, ...]
    record: Mapping[str, Any]
    lines: tuple[str, ...] = ()


def make(
    plan: Plan,
    registry: Registry,
    out: Path,
    *,
    device: str = "auto",
    launcher: Launcher = "none",
    limit: int | None = None,
    restart: bool = False,
    command: str = "",
    report: Report = lambda line: None,
) -> Made:
    """Trains by a recipe and writes ``NAME.safetensors``, ``NAME.json`` and ``NAME.md`` into ``out``.

    The state of an unfinished training is in ``out/NAME.training``; the same call goes on with it.

    Args:
        plan: the recipe.
        registry: the plugins.
        out: folder of the files; made where it is not there.
        device: as in :func:`affectkit.training.train`; frozen networks that make features of the rows read there as well.
        launcher: as in :func:`affectkit.training.train`.
        limit: rows of each part at most, for a quick try; the record says so.
        restart: throws an unfinished training away.
        command: what was called, for the card.
        report: gets lines of progress.

    Raises:
        AffectKitError: for a recipe, data or training that do not fit; before anything is trained where that can be seen.
    """
    training = _component(plan, registry)
    training.device = _reading_device(device, launcher)
    name = plan.name or training.name
    parts = None if _at_once(training) else _parts(training, plan, limit)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{out} cannot be made or is no folder: {error.strerror or error}") from error
    if parts is None:
        if limit is not None:
            raise UsageError(f"{training.id} has no parts to limit; leave --limit out")
        written = training.make_at_once(plan.data, out, name, seed=plan.seed, command=command, report=report)
        if written is None:
            raise PluginError(f"{training.id} replaces make_at_once and made nothing; return what was written")
        return Made(written.files, written.record, written.lines)
    for note in training.notes():
        report(f"note: {note}")
    work = out / f"{name}.training"
    if restart and work.exists():
        shutil.rmtree(work)
    if not training.learns:
        network = training.network().eval()
        return _write(training, plan, parts, Trained(network, 0, 0, (), "cpu", True), out / f"{name}.safetensors", command, limit)
    from affectkit.training import leave, train

    trained = train(training, plan, parts, work, device=device, launcher=launcher, report=report)
    leave()
    if not trained.main:
        return Made((), {})
    return _write(training, plan, parts, trained, out / f"{name}.safetensors", command, limit)


def _reading_device(name: str, launcher: Launcher) -> str:
    """Where frozen networks read; with a launcher each process has the GPU of its number on its machine.

    Raises:
        UsageError: for an unknown name or an absent device.
    """
    import torch

    from affectkit.batching import choose_device

    if launcher == "none" or name == "cpu":
        return str(choose_device(name))
    number = os.environ.get("LOCAL_RANK" if launcher == "pytorch" else "SLURM_LOCALID", "0")
    return str(choose_device(f"cuda:{number}")) if torch.cuda.is_available() else "cpu"


def _at_once(training: Training) -> bool:
    """Whether a training makes its files without steps."""
    return type(training).make_at_once is not Training.make_at_once


def _component(plan: Plan, registry: Registry) -> Training:
    entry = registry.get(plan.training, "training")
    training = entry.cls(build(entry.cls.Options, plan.options, where=("options",)))
    training.id = entry.id
    if not isinstance(training, Training):
        raise TypeError(f"{entry.id} is no training")
    return training


def _parts(training: Training, plan: Plan, limit: int | None) -> dict[str, Part]:
    """The three parts, no group of which is in two of them."""
    if plan.data is None:
        raise UsageError(f"{plan.training} needs data: write data in the recipe or give --data")
    given = dict(training.parts(plan.data))
    wrong = [name for name in given if name not in PARTS]
    if wrong or not ({"train", "validation"} if training.learns else {"validation"}) <= set(given):
        raise PluginError(
            f"{training.id} gives the parts {', '.join(given) or 'none'}; they are train, validation and, if it likes, calibration"
        )
    if not training.calibrates and "calibration" in given:
        raise PluginError(f"{training.id} gives the part calibration and calibrates nothing; leave it out, or set calibrates = True")
    if training.calibrates and "calibration" not in given:
        held = given["validation"]
        side = fitting.halves(np.asarray(held.groups).astype(str), plan.seed)
        if side.all() or not side.any():
            raise PluginError(f"{training.id} has one group in its validation part; calibration needs others: give it a part of its own")
        given["calibration"], given["validation"] = held.take(np.flatnonzero(side)), held.take(np.flatnonzero(~side))
    fitting.check_disjoint(given, training.id)
    if training.learns and training.labels.kind == "categorical":
        fitting.check_classes(given["train"].truth[given["train"].own()], training.labels, training.id)
    training.limit = limit
    return {name: training.limited(given[name], plan.seed) for name in PARTS if name in given}


def _write(
    training: Training, plan: Plan, parts: Mapping[str, Part], trained: Trained, path: Path, command: str, limit: int | None
) -> Made:
    """Rounds the weights as they are stored, fits what is fitted on the calibration part, measures, and writes."""
    import torch

    from affectkit.checkpoints import sha256
    from affectkit.training_rows import logits_of
    from affectkit.weight_files import load_tensors

    tensors = {name: _stored(value, plan.store) for name, value in trained.network.state_dict().items()}
    trained.network.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in tensors.items()})
    held = [name for name in parts if name != "train"]
    said = {name: logits_of(training, trained.network, parts[name], plan.batch_size) for name in held}
    settings = dict(training.settings(said["calibration"], parts["calibration"].truth)) if training.calibrates else {}
    about = training.about()
    header = {
        "name": path.stem,
        "licence": about.licence,
        "settings": json.dumps({"labels": training.labels.labels, **settings}),
    }
    if about.commercial is not None:
        header["commercial"] = "yes" if about.commercial else "no"
    training.write(path, tensors, header)
    record = {
        "name": path.stem,
        "title": about.title,
        "sha256": sha256(path),
        "bytes": path.stat().st_size,
        "parameters": sum(value.numel() for value in load_tensors(path).values()),
        "label_set": training.labels.name,
        "labels": list(training.labels.labels),
        "what": about.what,
        "data": about.data,
        "licence": about.licence,
        "commercial": about.commercial,
        "limits": about.limits,
        **about.more,
        "apart": about.apart,
        "notes": list(training.notes()),
        "command": command,
        "limited_to": limit,
        "rows": {name: {"rows": len(part), "groups": len(np.unique(part.groups)), "about": part.about} for name, part in parts.items()},
        "epoch": trained.epoch,
        "epochs_made": trained.epochs,
        "epoch_chosen_by": None if plan.early_stopping is None else plan.early_stopping.metric or fitting.MAIN[training.labels.kind],
        **settings,
        "validation": _measured(training, trained.network, parts["validation"], said["validation"], settings),
        "plan": {key: value for key, value in plan.to_mapping().items() if key != "data"},
        "history": list(trained.history),
        "device": trained.device,
        "torch": torch.__version__,
        "affectkit": affectkit.__version__,
        "python": platform.python_version(),
    }
    files = (path, path.with_suffix(".json"), path.with_suffix(".md"))
    for file, text in zip(files[1:], (json.dumps(_plain(record), indent=2) + "\n", card(_plain(record))), strict=True):
        with replacing(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return Made(files, record)


def _measured(
    training: Training, network: torch.nn.Module, part: Part, logits: torch.Tensor, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Metrics of the validation part with intervals over its groups, by view, and the calibration error without the temperature."""
    import torch

    values = training.probabilities(logits, settings).numpy()
    plain = training.probabilities(logits, {key: value for key, value in settings.items() if key != "temperature"}).numpy()
    views: dict[str, np.ndarray | None] = {"all": None, **part.views}
    found: dict[str, Any] = {
        name: {metric: _score(score) for metric, score in scores(fitting.tally(training.labels, part, values, rows), RESAMPLES).items()}
        for name, rows in views.items()
    }
    if "temperature" in settings:
        before = fitting.metrics(training.labels, part, plain)["ece"]
        found["calibration"] = {"ece_before": before, "ece_after": found["all"]["ece"]["value"]}
    with torch.inference_mode():
        further = {name: float(value) for name, value in training.figures(network, part, logits, settings).items()}
    return found | ({"further": further} if further else {})


def _score(score: Score) -> dict[str, float | None]:
    return {"value": score.value, "low": score.low, "high": score.high}


def _stored(value: torch.Tensor, store: str) -> torch.Tensor:
    value = value.detach().cpu()
    return value.half() if store == "fp16" and value.is_floating_point() else value


def _plain(value: Any) -> Any:
    """For JSON, which has no NaN."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
