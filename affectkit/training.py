"""The training of one network with mmengine's Runner: steps, devices, the state of an unfinished training, the choice of the epoch.

The only module that imports mmengine's Runner, and it is imported when something is trained. The Runner owns the loop, the launcher of several
devices and the scaling of losses. The state of an unfinished training is kept here and not by the Runner: its own checkpoints hold bound
functions, which ``torch.load`` refuses to read since 2.6.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from affectkit.errors import StoreError, UsageError, did_you_mean
from affectkit.fitting import MAIN, class_weights, metrics
from affectkit.training_recipes import Plan
from affectkit.training_rows import Order, loader, logits_of, not_finite
from affectkit.trainings import Part, Trained, Training
from affectkit.weight_files import save_torch

Launcher = Literal["none", "pytorch", "slurm"]
Report = Callable[[str], None]

LAUNCHERS = {
    "pytorch": ("torchrun", ("RANK", "WORLD_SIZE", "MASTER_ADDR")),
    "slurm": ("srun", ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NODELIST")),
}
"""The program that starts the processes of a launcher, and what it tells them."""

KEEP_EVERY = 60.0  # seconds after which the state is written within an epoch


def train(
    training: Training,
    plan: Plan,
    parts: Mapping[str, Part],
    work: Path,
    *,
    device: str = "auto",
    launcher: Launcher = "none",
    report: Report = lambda line: None,
) -> Trained:
    """Trains a network, or goes on where an earlier call for the same work folder was stopped.

    Args:
        training: what is trained.
        plan: its recipe.
        parts: its rows: ``"train"`` and ``"validation"``, and others that are only told.
        work: folder of the unfinished state; made where it is not there.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:0"``; with a launcher each process takes the device of its number.
        launcher: who started the processes, as mmengine's Runner takes it.
        report: gets a line per epoch.

    Raises:
        UsageError: where the work folder holds a training by another recipe, the device cannot do the precision, or the loss is no number.
    """
    device = _device(device, launcher, plan.precision)
    torch.manual_seed(plan.seed)
    network = training.network()
    order = Order(parts["train"], plan, training)
    learned = parts["train"].truth[parts["train"].own()]
    model = _Model(training, network, class_weights(learned, training.labels, plan.balance.exponent), plan.precision, device)
    course = _Course(training, plan, parts, order, work, report)
    work.mkdir(parents=True, exist_ok=True)
    runner = _Runner(
        model,
        str(work),
        device=device,
        train_dataloader=loader(parts["train"], order, plan.workers),
        train_cfg={"by_epoch": True, "max_epochs": plan.epochs},
        optim_wrapper=_optimiser(training, plan, network),
        default_hooks=dict.fromkeys(("timer", "sampler_seed", "logger", "param_scheduler", "checkpoint")),
        custom_hooks=[course],
        launcher=launcher,
        env_cfg={"dist_cfg": {"backend": "nccl" if device.startswith("cuda") else "gloo"}},
        randomness={"seed": plan.seed},
        cfg={"find_unused_parameters": parts["train"].kinds is not None},  # rows of one kind need not use what is there for another
        log_level="ERROR",
        experiment_name=f"{training.name}-{os.getpid()}-{time.monotonic_ns()}",
    )
    runner.train()
    state = course.best or course.state_of_now(network)
    network.load_state_dict(state["network"])
    return Trained(
        network.cpu().eval(), state["epoch"], len(course.history), tuple(course.history), _device_name(device), dist.is_main_process()
    )


def leave() -> None:
    """Ends the connection between the processes of a launcher: a process that exits with its threads still running may be aborted."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


class _Model(BaseModel):
    """The network as mmengine wants it: one call that gives the loss of a batch."""

    def __init__(self, training: Training, network: nn.Module, weights: np.ndarray, precision: str, device: str) -> None:
        super().__init__()
        self.network = network
        self.training_of = training
        self.register_buffer("weights", torch.from_numpy(weights), persistent=False)
        self.lower = (torch.device(device).type, torch.bfloat16) if precision == "bf16" else None

    def forward(self, batch: Mapping[str, Tensor], mode: str = "loss") -> dict[str, Tensor]:
        """The loss; in fp16 the Runner's own wrapper of the optimiser has entered the lower precision already."""
        if self.lower is None:
            return {"loss": self.training_of.loss(self.network, batch, self.weights)}
        with torch.autocast(*self.lower):
            return {"loss": self.training_of.loss(self.network, batch, self.weights)}


class _Runner(Runner):
    """mmengine's Runner on the device that was asked for, also where several processes share a machine without a GPU."""

    def __init__(self, model: nn.Module, work: str, *, device: str, **given: Any) -> None:
        self._wanted = device
        if given["launcher"] != "none" and device == "cpu" and not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo")  # the Runner's own way asks for a GPU
        super().__init__(model, work, **given)

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """The model on its device, and where there are several processes one of which the gradients are averaged."""
        if self.distributed and self._wanted == "cpu":
            return MMDistributedDataParallel(module=model.to("cpu"), find_unused_parameters=self.cfg["find_unused_parameters"])
        return super().wrap_model(model_wrapper_cfg, model) if self.distributed else model.to(self._wanted)

    def build_logger(self, log_level: int | str = "ERROR", log_file: str | None = None, **given: Any) -> Any:
        """Its warnings are about data that it does not know; errors are told."""
        logger = super().build_logger(log_level, log_file, **given)
        logger.setLevel(logging.ERROR)
        return logger

    def dump_config(self) -> None:
        """Nothing: there is no config file, the recipe is in the record of the weights."""


class _Course(Hook):
    """What happens around the steps: learning rate, random numbers, the moving average, the validation part, the state, the line per epoch."""

    priority = "LOW"

    def __init__(self, training: Training, plan: Plan, parts: Mapping[str, Part], order: Order, work: Path, report: Report) -> None:
        self.training, self.plan, self.parts, self.order, self.report = training, plan, parts, order, report
        self.path = work / "state.pt"
        self.digest = f"{training.id} {plan.digest()} {_rows_digest(parts)}"
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Any] | None = None
        self.average: dict[str, Tensor] = {}
        self.updates, self.step = 0, 0
        self.total: Tensor | float = 0.0
        self.losses: list[Tensor] = []  # of the steps of an epoch, as far as this process made them
        self._check_metric()

    def before_train(self, runner: Runner) -> None:
        """Goes on with the state that is there."""
        network = _network(runner)
        self.average = {name: value.detach().clone() for name, value in network.state_dict().items()}
        if self.path.exists():
            self._resume(runner, network)
        self.order.epoch, self.order.first = runner.epoch, self.step
        self.started, self.steps_before, self.kept = time.monotonic(), runner.iter, time.monotonic()
        if self._finished():
            runner.train_loop.stop_training = True
        self._tell("  ".join(f"{name} {len(part)} rows of {len(np.unique(part.groups))}" for name, part in self.parts.items()))
        if self.history or self.step:
            self._tell(f"goes on in epoch {runner.epoch + 1}, step {self.step + 1}" if not self._finished() else "was trained before")

    def before_train_epoch(self, runner: Runner) -> None:
        """The order of this epoch."""
        self.order.epoch, self.order.first = runner.epoch, self.step

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Learning rate, and the random numbers of dropout."""
        torch.manual_seed(int(np.random.SeedSequence([self.plan.seed, runner.iter, dist.get_rank()]).generate_state(1)[0]))
        share = self.plan.schedule.share(runner.iter / (len(self.order) * self.plan.epochs))
        for group in runner.optim_wrapper.optimizer.param_groups:
            group["lr"] = self.plan.optimiser.rate * share * group.get("scale", 1.0)

    @torch.no_grad()
    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """The moving average, and from time to time the state."""
        self.total = self.total + outputs["loss"].detach()
        self.losses.append(outputs["loss"].detach())
        self.step += 1
        if self.plan.average is not None:
            self.updates += 1
            decay = min(
                self.plan.average, (1 + self.updates) / (10 + self.updates)
            )  # a short memory at first: the beginning is worth little
            for name, value in _network(runner).state_dict().items():
                if value.is_floating_point():
                    self.average[name].lerp_(value.to(self.average[name].device), 1 - decay)
                else:
                    self.average[name].copy_(value)
        if time.monotonic() - self.kept > KEEP_EVERY and self.step < len(self.order):
            self._keep(runner, runner.epoch, runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        """Measures the validation part, keeps the best epoch and the state, and tells how far the training is."""
        network = _network(runner)
        sum_of_losses = torch.tensor(float(self.total))
        dist.all_reduce(sum_of_losses, "mean")
        loss = float(sum_of_losses) / len(self.order)
        if not math.isfinite(loss):
            raise UsageError(f"the loss of {self.training.id} is {loss} in epoch {runner.epoch + 1}; {self._remedy()}")
        found = self._measure(network)
        self.history.append({"loss": loss, **found})
        self._choose(network)
        self.step, self.total, self.losses = 0, 0.0, []
        self._keep(runner, runner.epoch + 1, runner.iter)
        self._tell(self._line(runner))
        if self._finished():
            runner.train_loop.stop_training = True

    def state_of_now(self, network: nn.Module) -> dict[str, Any]:
        """The weights that are measured and written, of the epoch that was made last."""
        weights = self.average if self.plan.average is not None else network.state_dict()
        return {"network": {name: value.detach().cpu().clone() for name, value in weights.items()}, "epoch": len(self.history)}

    def _measure(self, network: nn.Module) -> dict[str, float]:
        """Metrics of the validation part by the averaged weights; those of the first process hold for all, so that all stop together."""
        before = {name: value.detach().clone() for name, value in network.state_dict().items()}
        if self.plan.average is not None:
            network.load_state_dict(self.average)
        logits = logits_of(self.training, network, self.parts["validation"], self.plan.batch_size)
        network.load_state_dict(before)
        found = [metrics(self.training.labels, self.parts["validation"], self.training.probabilities(logits, {}).numpy())]
        dist.broadcast_object_list(found)
        return found[0]

    def _remedy(self) -> str:
        """What to do about a loss that is no number: where the rows of its first step have NaN, that, else the rate."""
        bad = next((step for step, loss in enumerate(self.losses) if not math.isfinite(float(loss))), None)
        if bad is not None:
            self.order.first = self.step - len(self.losses) + bad
            names = not_finite(self.parts["train"], *next(iter(self.order)))
            if names:
                return f"rows of its step {self.order.first + 1} have NaN or infinite numbers in {', '.join(names)}: look at the data"
        return "choose a lower optimiser.rate or set optimiser.clip"

    @property
    def metric(self) -> str:
        """The metric that chooses the epoch."""
        wanted = None if self.plan.early_stopping is None else self.plan.early_stopping.metric
        return wanted or MAIN[self.training.labels.kind]

    def _choose(self, network: nn.Module) -> None:
        if self.plan.early_stopping is None:
            return
        value = self.history[-1][self.metric]
        if self.best is None or value > self.best["value"]:
            self.best = {**self.state_of_now(network), "value": value}

    def _check_metric(self) -> None:
        held, labels = self.parts["validation"], self.training.labels
        known = metrics(labels, held, np.full((len(held), len(labels)), 1 / len(labels)))
        if self.metric not in known:
            raise UsageError(f"early_stopping.metric: there is no metric {self.metric!r}. {did_you_mean(self.metric, known)}")

    def _tell(self, line: str) -> None:
        if dist.is_main_process():
            self.report(line)

    def _finished(self) -> bool:
        """Whether there is nothing left to do."""
        rule = self.plan.early_stopping
        waited = 0 if self.best is None else len(self.history) - int(self.best["epoch"])
        return len(self.history) >= self.plan.epochs or (rule is not None and rule.patience is not None and waited >= rule.patience)

    def _keep(self, runner: Runner, epoch: int, step: int) -> None:
        """Writes all that the next step depends on, in one step: it is there in full, or as it was before."""
        if dist.is_main_process():
            content = {
                "digest": self.digest,
                "world": dist.get_world_size(),
                "epoch": epoch,
                "iteration": step,
                "step": self.step,
                "total": float(self.total),
                "network": _network(runner).state_dict(),
                "average": self.average,
                "updates": self.updates,
                "optimiser": runner.optim_wrapper.state_dict(),
                "history": self.history,
                "best": self.best,
            }
            save_torch(self.path, content)
        self.kept = time.monotonic()

    def _resume(self, runner: Runner, network: nn.Module) -> None:
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises what it finds in a damaged archive
            raise StoreError(f"{self.path} cannot be read ({type(error).__name__}); delete it to train from the beginning") from error
        if state["digest"] != self.digest:
            raise UsageError(
                f"{self.path} is of another recipe or of other rows; give another --out, or --restart to train from the beginning"
            )
        if state["world"] != dist.get_world_size():
            raise UsageError(
                f"{self.path} is of a training in {state['world']} processes, these are {dist.get_world_size()}; start as many, or give --restart"
            )
        network.load_state_dict(state["network"])
        device = next(network.parameters()).device
        self.average = {name: value.to(device) for name, value in state["average"].items()}
        runner.optim_wrapper.load_state_dict(state["optimiser"])
        self.updates, self.step, self.total = state["updates"], state["step"], state["total"]
        self.history, self.best = state["history"], state["best"]
        runner.train_loop._epoch, runner.train_loop._iter = state["epoch"], state["iteration"]

    def _line(self, runner: Runner) -> str:
        """Epoch, loss, the main metrics, the time that has passed and that is left."""
        steps = len(self.order) * self.plan.epochs
        done = (runner.epoch + 1) * len(self.order)
        spent = time.monotonic() - self.started
        left = 0.0 if self._finished() else spent / max(done - self.steps_before, 1) * (steps - done)
        shown = {name: value for name, value in self.history[-1].items() if "/" not in name and not name.endswith("_all")}
        figures = "  ".join(f"{name} {value:.4f}" for name, value in shown.items())
        best = "" if self.best is None else "  best" if self.best["epoch"] == len(self.history) else f"  best was {self.best['epoch']}"
        return f"epoch {runner.epoch + 1}/{self.plan.epochs}  {figures}  {clock(spent)}, {clock(left)} left{best}"


def clock(seconds: float) -> str:
    """Seconds as one reads them.

    >>> clock(75), clock(7325)
    ('1:15', '2:02:05')
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _rows_digest(parts: Mapping[str, Part]) -> str:
    """sha256 of what is known of all rows: their truth and groups."""
    found = hashlib.sha256()
    for name, part in parts.items():
        found.update(name.encode() + np.ascontiguousarray(part.truth).tobytes() + "\0".join(map(str, part.groups)).encode())
    return found.hexdigest()


def _network(runner: Runner) -> nn.Module:
    model = runner.model.module if isinstance(runner.model, MMDistributedDataParallel) else runner.model
    found: nn.Module = model.network
    return found


def _optimiser(training: Training, plan: Plan, network: nn.Module) -> OptimWrapper:
    given, groups = plan.optimiser, training.parameters(network, plan.optimiser.decay)
    optimiser: torch.optim.Optimizer
    if given.name == "sgd":
        optimiser = torch.optim.SGD(groups, lr=given.rate, momentum=given.momentum, nesterov=given.momentum > 0)
    else:
        optimiser = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[given.name](groups, lr=given.rate)
    clip = None if given.clip is None else {"max_norm": given.clip}
    if plan.precision == "fp16":
        return AmpOptimWrapper(optimizer=optimiser, clip_grad=clip, dtype="float16")
    return OptimWrapper(optimizer=optimiser, clip_grad=clip)


def _device(name: str, launcher: Launcher, precision: str) -> str:
    """The device of this process."""
    from affectkit.batching import choose_device

    if launcher == "none":
        device = str(choose_device(name))
    else:
        device = "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"
        program, told = LAUNCHERS[launcher]
        if missing := [variable for variable in told if variable not in os.environ]:
            raise UsageError(
                f"--launcher {launcher} is for processes that {program} starts, and there is no {', '.join(missing)}; "
                f"start them with {program}, or leave out --launcher for one process"
            )
        if launcher == "slurm" and device == "cpu":
            raise UsageError("--launcher slurm gives each process a GPU, and there is none; on processors start them with torchrun")
    if precision == "fp16" and not device.startswith("cuda"):
        raise UsageError(f"precision fp16 needs a GPU, and this training is on {device}; write precision: bf16")
    return device


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"
