"""Training: the same weights however often it is stopped, the choice of the epoch, classes in balance, temperatures, several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import recall_score

from affectkit import fitting, making, plugins, training_rows
from affectkit.api import PluginError, UsageError
from affectkit.errors import StoreError
from affectkit.labels import LabelSet
from affectkit.making import make
from affectkit.training_recipes import Plan, Schedule
from affectkit.trainings import Part, Training

PLUGINS = Path(__file__).parent / "plugin_files"
RECIPE = {"training": "learner/points", "epochs": 4, "batch_size": 16, "optimiser": {"rate": 0.02}, "average": 0.9, "seed": 3}


@pytest.fixture(scope="module")
def registry() -> plugins.Registry:
    return plugins.load(plugins_dir=PLUGINS, only=["learner"])


def plan_of(**changes: Any) -> Plan:
    from affectkit.options import build

    return build(Plan, {**RECIPE, "data": ".", **changes})


def write(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps({**RECIPE, "data": ".", **changes}), encoding="utf-8")
    return path


def run(arguments: list[str], folder: Path, code: str = "", **given: Any) -> subprocess.Popen[str]:
    """The command in a process of its own, which writes its state after each step."""
    program = f"import affectkit.training as t; t.KEEP_EVERY = 0.0; {code}\nfrom affectkit.cli import main; main()"
    environment = {**os.environ, "AFFECTKIT_PLUGINS_DIR": str(PLUGINS), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **given,
    )


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    write(tmp_path / "points.yaml", options={"slow": 0.02})
    arguments = ["train", "points.yaml", "--device", "cpu", "--out"]
    whole = run([*arguments, "whole"], tmp_path)  # in as many threads as the other, which share sums differently
    told = whole.communicate()[0]
    assert whole.returncode == 0, told
    arguments.append("killed")
    state = tmp_path / "killed" / "points.training" / "state.pt"
    for steps in (3, 14):  # within the first epoch of nine steps, and within the second
        process = run(arguments, tmp_path)
        try:
            deadline = time.monotonic() + 120
            while not (state.exists() and torch.load(state, weights_only=True)["iteration"] >= steps):
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < deadline
                time.sleep(0.005)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert not (tmp_path / "killed" / "points.safetensors").exists()
    process = run(arguments, tmp_path)
    told = process.communicate()[0]
    assert process.returncode == 0, told
    assert "goes on in epoch" in told
    one, other = (load_file(tmp_path / name / "points.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    expected, record = (json.loads((tmp_path / name / "points.json").read_text()) for name in ("whole", "killed"))
    assert record["sha256"] == expected["sha256"]
    assert record["validation"] == expected["validation"]


def test_ctrl_c_says_what_to_do(tmp_path: Path) -> None:
    write(tmp_path / "points.yaml", options={"slow": 0.05})
    process = run(["train", "points.yaml", "--out", "out", "--device", "cpu"], tmp_path)
    assert process.stdout is not None
    while "epoch 1/4" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    told = process.communicate()[0]
    assert process.returncode == 130, told
    assert "Stopped by Ctrl-C. The same command goes on with what was learned." in told
    assert (tmp_path / "out" / "points.training" / "state.pt").exists()


def test_workers_do_not_change_the_weights(registry: plugins.Registry, tmp_path: Path) -> None:
    alone = make(plan_of(), registry, tmp_path / "alone", device="cpu")
    helped = make(plan_of(workers=2), registry, tmp_path / "helped", device="cpu")
    other = make(plan_of(seed=4), registry, tmp_path / "other", device="cpu")
    assert alone.record["sha256"] == helped.record["sha256"] != other.record["sha256"]


@pytest.mark.slow
def test_two_processes_share_the_rows_and_agree(tmp_path: Path) -> None:
    write(tmp_path / "points.yaml", epochs=2)
    environment = {**os.environ, "AFFECTKIT_PLUGINS_DIR": str(PLUGINS), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "affectkit"]
    command += ["train", "points.yaml", "--out", "out", "--launcher", "pytorch", "--device", "cpu"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 2/2") == 1
    assert (tmp_path / "out" / "points.safetensors").exists()
    assert torch.load(tmp_path / "out" / "points.training" / "state.pt", weights_only=True)["iteration"] == 2 * (144 // 32)


def test_the_record_measures_what_was_written(registry: plugins.Registry, tmp_path: Path) -> None:
    made = make(plan_of(epochs=6, early_stopping={"metric": "uar", "patience": 2}), registry, tmp_path, device="cpu")
    record = made.record
    entry = registry.get("learner/points", "training")
    learner = entry.cls()
    assert isinstance(learner, Training)
    whole = learner.parts(Path())["validation"]
    side = fitting.halves(whole.groups, 3)
    held, calibration = whole.take(np.flatnonzero(~side)), whole.take(np.flatnonzero(side))
    network = learner.network()
    network.load_state_dict({name: value.float() for name, value in load_file(made.files[0]).items()})
    logits = training_rows.logits_of(learner, network, held, 7)
    expected = recall_score(held.truth, logits.argmax(1), average="macro")
    assert record["validation"]["all"]["uar"]["value"] == pytest.approx(expected)
    assert record["temperature"] == pytest.approx(
        fitting.fit_temperature(training_rows.logits_of(learner, network, calibration, 7), calibration.truth)
    )
    uars = [epoch["uar"] for epoch in record["history"]]
    assert record["epoch"] == 1 + int(np.argmax(uars))
    assert record["epochs_made"] == min(record["epoch"] + 2, 6)
    assert record["rows"]["train"]["groups"] + record["rows"]["validation"]["groups"] + record["rows"]["calibration"]["groups"] == 20
    card = made.files[2].read_text()
    assert f"| uar | {expected:.3f} |" in card
    assert "whose figures are therefore a little high" in card


def test_what_calibrates_nothing_measures_all_of_validation(
    registry: plugins.Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = registry.get("learner/points", "training").cls
    monkeypatch.setattr(cls, "calibrates", False)
    made = make(plan_of(epochs=1), registry, tmp_path, device="cpu")
    assert {name: part["groups"] for name, part in made.record["rows"].items()} == {"train": 12, "validation": 8}
    assert "temperature" not in made.record
    assert "temperature" not in made.files[2].read_text()
    assert "calibration" not in made.record["validation"]
    whole = cls.parts
    monkeypatch.setattr(cls, "parts", lambda self, data: {**whole(self, data), "calibration": whole(self, data)["validation"]})
    with pytest.raises(PluginError, match=r"learner/points gives the part calibration and calibrates nothing; leave it out"):
        make(plan_of(epochs=1), registry, tmp_path)


def test_training_again_measures_again_and_restart_forgets(registry: plugins.Registry, tmp_path: Path) -> None:
    lines: list[str] = []
    first = make(plan_of(epochs=1), registry, tmp_path, device="cpu")
    again = make(plan_of(epochs=1), registry, tmp_path, device="cpu", report=lines.append)
    assert lines[-1] == "was trained before"
    assert first.record["sha256"] == again.record["sha256"]
    with pytest.raises(UsageError, match=r"state.pt is of another recipe or of other rows; give another --out, or --restart"):
        make(plan_of(epochs=2), registry, tmp_path, device="cpu")
    with pytest.raises(UsageError, match=r"state.pt is of another recipe or of other rows; give another --out, or --restart"):
        make(plan_of(epochs=1), registry, tmp_path, device="cpu", limit=40)
    assert make(plan_of(epochs=2), registry, tmp_path, device="cpu", restart=True).record["epochs_made"] == 2


def test_bf16_on_the_processor(registry: plugins.Registry, tmp_path: Path) -> None:
    plain = make(plan_of(), registry, tmp_path / "fp32", device="cpu").record
    lower = make(plan_of(precision="bf16"), registry, tmp_path / "bf16", device="cpu").record
    assert plain["sha256"] != lower["sha256"]
    assert plain["history"][0]["loss"] == pytest.approx(lower["history"][0]["loss"], rel=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_precisions_on_a_gpu(registry: plugins.Registry, tmp_path: Path, precision: str) -> None:
    record = make(plan_of(precision=precision), registry, tmp_path, device="cuda").record
    assert record["validation"]["all"]["war"]["value"] > 0.6


def test_frozen_networks_are_told_the_device_before_they_read(
    registry: plugins.Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    def parts(self: Training, data: Path) -> None:
        told.append(self.device)
        raise UsageError("this is as far as the test goes")

    monkeypatch.setattr(registry.get("learner/points").cls, "parts", parts)
    for device in ("cpu", "cpu:0", "auto"):
        with pytest.raises(UsageError, match="as far as the test goes"):
            make(plan_of(), registry, tmp_path, device=device)
    assert told == ["cpu", "cpu:0", "cuda:0" if torch.cuda.is_available() else "cpu"]
    with pytest.raises(UsageError, match="unknown device 'gpu'; use auto, cpu, cuda or cuda:0"):
        make(plan_of(), registry, tmp_path, device="gpu")


def test_frozen_networks_of_several_processes_read_on_the_gpu_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("SLURM_LOCALID", "2")
    for there, expected in ((True, ["cuda:1", "cuda:2", "cpu"]), (False, ["cpu", "cpu", "cpu"])):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
        assert [making._reading_device(*given) for given in (("auto", "pytorch"), ("cuda", "slurm"), ("cpu", "pytorch"))] == expected


@pytest.mark.parametrize(
    ("changes", "given", "message"),
    [
        ({"precision": "fp16"}, {"device": "cpu"}, r"precision fp16 needs a GPU, and this training is on cpu; write precision: bf16"),
        ({"early_stopping": {"metric": "uaar"}}, {}, r"early_stopping.metric: there is no metric 'uaar'. Did you mean uar\?"),
        (
            {"optimiser": {"rate": 1e30}},
            {},
            r"the loss of learner/points is nan in epoch 1; choose a lower optimiser.rate or set optimiser.clip",
        ),
        (
            {"options": {"unknown": 19}},
            {},
            r"the loss of learner/points is nan in epoch 1; rows of its step \d have NaN or infinite numbers in points: look at the data",
        ),
        (
            {},
            {"launcher": "pytorch"},
            r"--launcher pytorch is for processes that torchrun starts, and there is no RANK, WORLD_SIZE, MASTER_ADDR; start",
        ),
        (
            {},
            {"launcher": "slurm"},
            r"there is no SLURM_PROCID, SLURM_NTASKS, SLURM_NODELIST; start them with srun, or leave out --launcher for one process",
        ),
        ({"options": {"classes": 1}}, {}, r"learner/points: all 144 rows to learn from are left; there must be two of left, middle, right"),
        ({"data": None}, {}, r"learner/points needs data: write data in the recipe or give --data"),
    ],
)
def test_what_cannot_be_trained(
    registry: plugins.Registry, tmp_path: Path, changes: dict[str, Any], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        make(plan_of(**changes), registry, tmp_path, **given)


def test_slurm_without_a_gpu(registry: plugins.Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NODELIST"):
        monkeypatch.setenv(name, "1")
    with pytest.raises(
        UsageError, match="--launcher slurm gives each process a GPU, and there is none; on processors start them with torchrun"
    ):
        make(plan_of(), registry, tmp_path, device="cpu", launcher="slurm")


def test_a_folder_that_cannot_be_made(registry: plugins.Registry, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StoreError, match="out cannot be made or is no folder: File exists"):
        make(plan_of(), registry, tmp_path / "out", device="cpu")


def test_nobody_is_in_two_parts(registry: plugins.Registry, tmp_path: Path) -> None:
    message = r"learner/points: person 0, person 3, .* in both train and validation; no speaker, subject or film may be in two parts"
    with pytest.raises(PluginError, match=message):
        make(plan_of(options={"shared": True}), registry, tmp_path)


def test_rare_classes_come_more_often_where_they_are_drawn_evenly(registry: plugins.Registry) -> None:
    learner = registry.get("learner/points", "training").cls()
    assert isinstance(learner, Training)
    part = learner.parts(Path())["train"]
    counts = {}
    for draw in ("shuffled", "even"):
        order = training_rows.Order(part, plan_of(balance={"draw": draw}), learner)
        seen = np.concatenate([rows for rows, _ in order])
        counts[draw] = np.bincount(part.truth[seen], minlength=3) / len(seen)
    assert counts["shuffled"][2] < 0.15 < 0.2 < counts["even"][2]
    assert len(np.unique(np.concatenate([rows for rows, _ in training_rows.Order(part, plan_of(), learner)]))) == 144


def test_rows_of_like_length_come_together(registry: plugins.Registry) -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 320)
    part = Part(np.zeros(320, int), np.arange(320), lambda rows, turn: {}, lengths=lengths)
    learner = registry.get("learner/points", "training").cls()
    assert isinstance(learner, Training)
    batches = [rows for rows, _ in training_rows.Order(part, plan_of(), learner)]
    assert sorted(np.concatenate(batches)) == list(range(320))
    assert max(np.ptp(lengths[rows]) for rows in batches) < 20


def test_the_temperature_is_that_of_a_fine_grid() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 4, 500)
    logits = torch.from_numpy(np.eye(4)[truth] * 3 + random.normal(size=(500, 4)) * 3)
    grid = np.geomspace(0.05, 20, 4000)
    losses = [float(torch.nn.functional.cross_entropy(logits / value, torch.from_numpy(truth))) for value in grid]
    assert fitting.fit_temperature(logits, truth) == pytest.approx(grid[np.argmin(losses)], rel=3e-3)
    units = (random.random((500, 4)) < 1 / (1 + np.exp(-logits.numpy() / 2.5))).astype(float)
    losses = [float(torch.nn.functional.binary_cross_entropy_with_logits(logits / value, torch.from_numpy(units))) for value in grid]
    assert fitting.fit_temperature(logits, units, "multilabel") == pytest.approx(grid[np.argmin(losses)], rel=3e-3)


def test_class_weights_and_chances() -> None:
    labels = LabelSet("three", ("a", "b", "c"))
    truth = np.array([0] * 8 + [1] * 2)
    assert fitting.class_weights(truth, labels, 0.5).tolist() == pytest.approx([(5 / 8) ** 0.5, (5 / 2) ** 0.5, 1.0])
    assert fitting.class_weights(truth, labels, 0.0).tolist() == [1.0, 1.0, 1.0]
    chances = fitting.even_chances(truth, labels)
    assert chances[:8].sum() == pytest.approx(chances[8:].sum())
    quantities = LabelSet("q", ("v",), "continuous", low=-1, high=1)
    with pytest.raises(PluginError, match="draw: even needs classes, and q has quantities; write draw: shuffled"):
        fitting.even_chances(np.zeros((3, 1)), quantities)


def test_schedules() -> None:
    cosine = Schedule(warmup=0.1)
    assert [cosine.share(done) for done in (0.0, 0.1, 0.55)] == pytest.approx([0.0, 1.0, 0.5])
    assert cosine.share(1.0) == pytest.approx(0.0)
    assert Schedule(warmup=0.0, last=0.2).share(1.0) == pytest.approx(0.2)
    assert Schedule(warmup=0.0, shape="constant").share(0.9) == 1.0


def test_parts_fit_together() -> None:
    with pytest.raises(PluginError, match="a Part has 2 rows in truth and 3 in groups"):
        Part(np.zeros(2, int), np.zeros(3), lambda rows, turn: {})
    with pytest.raises(PluginError, match="a Part has no rows"):
        Part(np.zeros(0, int), np.zeros(0), lambda rows, turn: {})
