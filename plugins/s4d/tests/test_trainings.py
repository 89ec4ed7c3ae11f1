"""Fine-tuning and pre-training: what a step learns from, the losses that are applied, stopping and going on, and what is learned from real faces."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from affectkit_s4d.face_dynamic import FaceDynamic
from affectkit_s4d.model import S4D
from affectkit_s4d.trainings.fine_tuning import FineTuning
from affectkit_s4d.trainings.pretraining import Pretraining, folder_of
from click.testing import CliRunner
from safetensors.torch import load_file

import affectkit
from affectkit import headers, plugins, training_rows, weight_files
from affectkit.api import CheckpointError, Clip, ConfigError, Evidence, Media, Span, Turn, UsageError
from affectkit.batching import collate
from affectkit.cli import cli
from affectkit.clip_training import FRAMES, PICTURE
from affectkit.labels import BASIC7, MAFW11
from affectkit.making import make
from affectkit.options import build
from affectkit.testing import clips as tasks
from affectkit.testing.trainings import stopped_after
from affectkit.training_recipes import Plan

SMALL = {"patch": 8, "width": 32, "depth": 3, "heads": 1, "hidden": 64, "first": 1, "experts": 4, "adapter": 8}
TINY = {"dataset": "csv", "size": 16, "frames": 4, "network": SMALL}


@pytest.fixture(scope="session")
def registry() -> plugins.Registry:
    return plugins.load(only=["s4d"])


@pytest.fixture(scope="module")
def little(fer2013: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few clips of two classes, and pictures of three."""
    folder = tmp_path_factory.mktemp("little")
    tasks.order_clips(fer2013, clips=40, test=8, frames=10, stills=4, groups=8).write(folder)
    tasks.write_stills(fer2013, folder / "stills", ("neutral", "happiness", "fear"), 12)
    return folder


def plan_of(data: Path, **changes: Any) -> Plan:
    options = {**TINY, "held": 0.3, "stills": {"dataset": "csv", "data": str(data / "stills")}, **changes.pop("options", {})}
    recipe = {"training": "s4d/face_dynamic_training", "name": "face_dynamic", "epochs": 2, "batch_size": 4, "seed": 3, "store": "fp32"}
    return build(Plan, {**recipe, "data": str(data), **changes, "options": options})


def training_of(plan: Plan, registry: plugins.Registry) -> Any:
    entry = registry.get(plan.training, "training")
    made = entry.cls(build(entry.cls.Options, plan.options))
    made.id = entry.id
    made.parts(plan.data)
    return made


def batch_of(part: Any, rows: np.ndarray, turn: Turn | None) -> dict[str, torch.Tensor]:
    return {name: torch.as_tensor(value) for name, value in {"truth": part.truth[rows], **part.batch(rows, turn)}.items()}


def both_kinds(part: Any) -> dict[str, dict[str, torch.Tensor]]:
    turn = Turn(0, 0, 0.0)
    return {kind: batch_of(part, np.flatnonzero(part.kinds == kind)[:4], turn) for kind in (FRAMES, PICTURE)}


def test_a_recipe_for_every_training_with_the_published_numbers(registry: plugins.Registry) -> None:
    found = {recipe.path.stem: Plan.load(recipe.path) for recipe in registry.plugin("s4d").training_recipes}
    assert {stem: plan.training for stem, plan in found.items()} == {
        stem: f"s4d/{stem}_training" for stem in ("face_dynamic", "pretraining")
    }
    fine, masked = found["face_dynamic"], found["pretraining"]
    assert fine.optimiser.rate / fine.batch_size == pytest.approx(1e-5 / 8)
    assert fine.schedule.last * 4e-5 == pytest.approx(1e-6 * 32 / 256)
    assert masked.optimiser.rate / masked.batch_size == pytest.approx(1.6e-3 / 512)
    options = registry.get("s4d/face_dynamic_training", "training").cls.Options()
    assert (options.mix.mixup, options.mix.cutmix, options.mix.smoothing, options.falloff, options.balance) == (0.8, 1.0, 0.1, 0.75, 1e-3)
    assert (options.size, options.frames) == (160, 16)
    assert (fine.epochs, fine.early_stopping.metric, fine.early_stopping.patience) == (100, "uar", None)  # the best of all 100 epochs
    assert {plan.store for plan in found.values()} == {"fp32"}


def test_clips_and_pictures_take_turns_as_published(little: Path, registry: plugins.Registry) -> None:
    """Twice as many pictures in a step, classes equally often; half as many steps of them as would show each once."""
    plan = plan_of(little)
    part = training_of(plan, registry).parts(little)["train"]
    order = training_rows.Order(part, plan, training_of(plan, registry))
    batches = [rows for rows, _ in order]
    kinds = [set(part.kinds[rows]) for rows in batches]
    assert all(len(kind) == 1 for kind in kinds)
    clips, pictures = ([rows for rows in batches if part.kinds[rows[0]] == kind] for kind in (FRAMES, PICTURE))
    assert (len(clips), len(pictures)) == (int((part.kinds == FRAMES).sum()) // 4, 36 // 8 // 2)
    assert {len(rows) for rows in clips} == {4}
    assert {len(rows) for rows in pictures} == {8}


def test_every_parameter_has_a_gradient_in_a_step_of_either_kind(little: Path, registry: plugins.Registry) -> None:
    """Without one, several processes wait for each other for ever."""
    training = training_of(plan_of(little), registry)
    for kind, batch in both_kinds(training.parts(little)["train"]).items():
        network = training.network()
        training.loss(network, batch, torch.ones(2)).backward()
        assert all(value.grad is not None for value in network.parameters())
        heads = {name: float(network.head[name].weight.grad.abs().max()) for name in ("image", "video")}
        assert (heads["video"] > 0, heads["image"] > 0) == (kind == FRAMES, kind == PICTURE)
        assert network.head["image"].weight.shape[0] == len(BASIC7)


def test_the_load_balance_loss_is_applied(little: Path, registry: plugins.Registry) -> None:
    """With the factor that the options give; as released it is lost. Noise and dropped tokens are left out, so that nothing else differs."""
    losses, routers = {}, {}
    batch = both_kinds(training_of(plan_of(little), registry).parts(little)["train"])[FRAMES]
    given: dict[str, dict[str, Any]] = {"none": {"balance": 0.0}, "much": {"balance": 10.0}}
    for name, options in (given | {"released": {"balance": 10.0, "released_behaviour": True}}).items():
        training = training_of(plan_of(little, options=options), registry)
        torch.manual_seed(0)
        network = training.network().eval()
        layers = [block.moe_layer for block in list(network.blocks)[1:]]
        for layer in layers:
            layer.capacity, layer.noisy = None, False
        loss = training.loss(network, batch, torch.ones(2))
        loss.backward()
        losses[name], routers[name] = loss.item(), layers[-1].router.topkroute_linear.weight.grad
        if name == "much":
            assert losses["much"] - losses["none"] == pytest.approx(10 * float(training.look(network, batch).balance.detach()), rel=1e-4)
    assert losses["released"] == pytest.approx(losses["none"], rel=1e-6)
    assert routers["much"].abs().max() > 2 * routers["none"].abs().max()


@pytest.mark.parametrize("name", ["face_dynamic", "pretraining"])
def test_steps_in_bf16(little: Path, registry: plugins.Registry, name: str) -> None:
    """As the recipes have it: about the same loss as in single precision, and gradients that are numbers."""
    options = {"hidden": 0.5, "repeats": 2} if name == "pretraining" else {}
    training = training_of(plan_of(little, training=f"s4d/{name}_training", options=options), registry)
    for batch in both_kinds(training.parts(little)["train"]).values():
        losses = []
        for lower in (False, True):
            torch.manual_seed(0)
            network = training.network()
            with torch.autocast("cpu", torch.bfloat16, enabled=lower):
                loss = training.loss(network, batch, torch.ones(2))
            loss.backward()
            losses.append(loss.item())
            assert all(torch.isfinite(value.grad).all() for value in network.parameters())
        assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_released_behaviour_learns_from_other_frames(little: Path, registry: plugins.Registry) -> None:
    training = training_of(plan_of(little, options={"stride": 4}), registry)
    released = training_of(plan_of(little, options={"stride": 4, "released_behaviour": True}), registry)
    assert [set(one.sample(10, np.random.default_rng(seed)).tolist()) for one, seed in ((released, 0), (released, 1))] == [{0, 9}] * 2
    assert {len(set(training.sample(10, np.random.default_rng(seed)).tolist())) for seed in range(20)} == {2, 3}
    assert training.sample(10, None).tolist() == [[0, 4, 8, 8]] * 2
    assert training.network().blocks[1].moe_layer.capacity is None
    assert released.network().blocks[1].moe_layer.capacity == 1.0


def test_what_is_measured_is_what_the_component_says(little: Path, registry: plugins.Registry, tmp_path: Path) -> None:
    made = make(plan_of(little, options={"stride": 1}), registry, tmp_path, device="cpu")
    training = training_of(plan_of(little, options={"stride": 1}), registry)
    part = training.part(training.fold.test)
    network = training.network().eval()
    network.load_state_dict(load_file(made.files[0]))
    logits = training_rows.logits_of(training, network, part, 3)
    measured = training.probabilities(logits, {"temperature": made.record["temperature"]})
    component = FaceDynamic(FaceDynamic.Options(checkpoint=str(made.files[0])))
    component.load(torch.device("cpu"), torch.float32)
    assert component.labels.labels == training.labels.labels
    assert component.needs.inputs[0].fps == tasks.FPS
    rows = []
    for item in training.fold.test:
        crops = training.reader.open(item, 16).take(np.arange(10))
        faces = Evidence("faces", {"crops": crops}, times=np.arange(10) / 25)
        media = Media(item.id, item.path, "video", 1.0, 25.0, (16, 16))
        rows.append(component.preprocess(Clip(media, Span(0.0, 0.4), track=0, inputs={"faces": faces})))
    with torch.inference_mode():
        said = component.predict(collate(rows)).values[component.labels]
    torch.testing.assert_close(said, measured, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_a_stopped_training_goes_on_to_the_same_bits(
    little: Path, registry: plugins.Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of either kind, with noise in the router, mixed clips and hidden tokens."""
    from affectkit import training

    monkeypatch.setattr(training, "KEEP_EVERY", 0.0)
    plans = [
        plan_of(little),
        plan_of(little, training="s4d/pretraining_training", name="pretraining", options={"repeats": 2, "hidden": 0.5}),
    ]
    for plan, cls in zip(plans, (FineTuning, Pretraining), strict=True):
        whole = make(plan, registry, tmp_path / "whole", device="cpu")
        with stopped_after(cls, 5), pytest.raises(KeyboardInterrupt):
            make(plan, registry, tmp_path / "stopped", device="cpu")
        told: list[str] = []
        stopped = make(plan, registry, tmp_path / "stopped", device="cpu", report=told.append)
        assert any("goes on in epoch" in line for line in told)
        assert stopped.record["sha256"] == whole.record["sha256"]


def test_from_pre_training_to_a_run_by_commands(fer2013: Path, shared_data: Path, tmp_path: Path) -> None:
    """Clips and pictures without labels, then clips in lists as MAFW has them, then a video."""
    data = tmp_path / "data"
    tasks.expression_clips(fer2013, clips=42, test=7, frames=10, stills=4, groups=6).write(data)
    tasks.write_stills(fer2013, data / "stills", ("neutral", "fear"), 12)
    runner = CliRunner()

    def call(line: str, *words: object) -> str:
        done = runner.invoke(cli, [*line.split(), "--device", "cpu", *map(str, words)])
        assert done.exit_code == 0, done.output
        return done.output

    sizes = [f"options.{name}={json.dumps(value)}" for name, value in TINY.items() if name != "dataset"]
    quick = [word for text in (*sizes, "epochs=1", "batch_size=8", "workers=0", "precision=fp32") for word in ("--set", text)]
    decoder = ["--set", "options.decoder_width=16", "--set", "options.decoder_heads=1", "--set", "options.decoder_depth=1"]
    stills = ["--set", f"options.stills.data={data / 'stills'}", "--set", "options.hidden=0.5"]
    call("train s4d/pretraining", "--data", data / "frames", "--out", tmp_path, *quick, *decoder, *stills)
    record = json.loads((tmp_path / "pretraining.json").read_text())
    assert record["rows"]["train"]["rows"] > 24
    assert {"error of hidden pixels", "error of the mean of each patch"} == set(record["validation"]["further"])
    start = ["--set", f"options.start={tmp_path / 'pretraining.safetensors'}"]
    call("train s4d/face_dynamic --dataset mafw --fold 1", "--data", data, "--out", tmp_path, *quick, *start)
    first, second = load_file(tmp_path / "pretraining.safetensors"), load_file(tmp_path / "s4d_face_dynamic.safetensors")
    assert (first["encoder.blocks.2.attn.qkv.weight"].float() - second["blocks.2.attn.qkv.weight"].float()).abs().max() < 1e-2
    settings = headers.mapping(tmp_path / "s4d_face_dynamic.safetensors")
    assert (settings["labels"], settings["rate"], settings["sizes"]["frames"]) == (list(MAFW11.labels), 25 / 4, 4)
    weights = ["--set", f"components.s4d/face_dynamic.checkpoint={tmp_path / 's4d_face_dynamic.safetensors'}"]
    video = shared_data / "video" / "single_face.mp4"
    told = call("run --recipe s4d/s4d --fusion none --head none --offline", video, *weights, "--out", tmp_path / "run")
    assert "single_face" in told
    assert affectkit.read_run(tmp_path / "run", "mafw11")["valid"].all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"falloff": 0.0}, ConfigError, "falloff must be in"),
        ({"stride": 0}, ConfigError, "stride at least 1"),
        ({"stills": {"data": ".", "read_size": 8}}, ConfigError, "read_size must be at least size, 16"),
        ({"size": 30}, UsageError, "side 30 is not a multiple of patch 8"),
        ({"frames": 5}, UsageError, "frames must be even, found 5$"),
        ({"network": {**SMALL, "depth": 0}}, UsageError, "sizes must be at least 1, found depth 0$"),
    ],
)
def test_options_that_make_no_network(
    little: Path, registry: plugins.Registry, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        training_of(plan_of(little, options=options), registry).network()


def test_a_start_of_another_network_is_refused(
    little: Path, registry: plugins.Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight_files.save_torch(tmp_path / "other.pt", {"model": {"conv.weight": torch.zeros(3)}})
    with pytest.raises(CheckpointError, match=r"s4d/face_dynamic_training: .* holds no weights of S4D"):
        training_of(plan_of(little, options={"start": str(tmp_path / "other.pt")}), registry).network()
    wider = S4D(training_of(plan_of(little, options={"network": {**SMALL, "width": 64, "adapter": 12}}), registry).sizes).state_dict()
    weight_files.save_torch(tmp_path / "wide.pt", {"model": wider})
    message = r"s4d/face_dynamic_training: .*wide\.pt is of a network of other sizes: width 64 instead of 32, adapter 12 instead of 8; set options.network"
    with pytest.raises(CheckpointError, match=message):
        training_of(plan_of(little, options={"start": str(tmp_path / "wide.pt")}), registry).network()
    with pytest.raises(
        CheckpointError, match=r"there is no file .*gone\.pt; options\.start is random, pretrained, or the path of a file of weights"
    ):
        training_of(plan_of(little, options={"start": str(tmp_path / "gone.pt")}), registry).network()
    monkeypatch.setenv("AFFECTKIT_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"affectkit weights fetch s4d/face_dynamic:pretrained"):
        training_of(plan_of(little, options={"start": "pretrained"}), registry).network()


def test_clips_and_pictures_of_a_folder(little: Path, tmp_path: Path) -> None:
    """A folder of frames is one clip, and the folders right below the data are the groups."""
    clips = folder_of(little, "clips").train
    assert {item.group for item in clips} == {"frames", "stills"}
    assert len([item for item in clips if item.group == "frames"]) == 48
    assert len(folder_of(little / "stills", "pictures").train) == 36
    with pytest.raises(UsageError, match="holds 0 clips; give a folder with more of them"):
        folder_of(tmp_path, "clips")


@pytest.mark.parametrize("options", [{"hidden": 1.0}, {"still_hidden": 0.0}, {"repeats": 0}])
def test_pre_training_that_cannot_be(registry: plugins.Registry, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="hidden and still_hidden must be between 0 and 1, repeats and stride at least 1"):
        build(registry.get("s4d/pretraining_training", "training").cls.Options, options)


def test_a_clip_is_learned_from_several_times_and_measured_once(little: Path, registry: plugins.Registry) -> None:
    """Each time with another crop and other hidden tokens; where it is measured, always the same."""
    plan = plan_of(little, training="s4d/pretraining_training", options={"repeats": 3, "hidden": 0.5})
    training = training_of(plan, registry)
    parts = training.parts(little)
    batch = both_kinds(parts["train"])[FRAMES]
    assert batch[FRAMES].shape == (4, 3, 4, 3, 16, 16)
    assert not torch.equal(batch[FRAMES][:, 0], batch[FRAMES][:, 1])
    network = training.network()
    assert training.errors(network, batch)[0].shape == (12,)
    held = [batch_of(parts["validation"], np.arange(2), None) for _ in range(2)]
    assert held[0]["hidden"].sum(1).tolist() == [4, 4]
    assert not torch.equal(held[0]["hidden"][0], held[0]["hidden"][1])
    assert torch.equal(held[0]["hidden"], held[1]["hidden"])
    mine, plain = training.errors(network.eval(), held[0])
    torch.testing.assert_close(training.predict(network, held[0])[:, 0], (plain / mine).log())
    order = training_rows.Order(parts["train"], plan, training)
    clips = int((parts["train"].kinds == FRAMES).sum())
    assert len(order) == max(clips // 1 // 3, 1) + 36 // 4


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(little: Path, tmp_path: Path) -> None:
    """The command in a process of its own, ended in the middle of its second epoch as if the power had failed."""
    options = {**TINY, "held": 0.3, "stills": {"dataset": "csv", "data": str(little / "stills")}}
    recipe = {
        "training": "s4d/face_dynamic_training",
        "epochs": 3,
        "batch_size": 4,
        "store": "fp32",
        "data": str(little),
        "options": options,
    }
    (tmp_path / "face_dynamic.yaml").write_text(json.dumps(recipe))
    program = "import affectkit.training as t; t.KEEP_EVERY = 0.0; from affectkit.cli import main; main()"
    arguments = [sys.executable, "-c", program, "train", "face_dynamic.yaml", "--device", "cpu", "--out"]

    def started(out: str) -> subprocess.Popen[str]:
        given: dict[str, Any] = {"cwd": tmp_path, "env": {**os.environ, "OMP_NUM_THREADS": "1"}, "text": True}
        return subprocess.Popen([*arguments, out], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **given)

    whole = started("whole")
    told = whole.communicate()[0]
    assert whole.returncode == 0, told
    state = tmp_path / "killed" / "face_dynamic_training.training" / "state.pt"
    process = started("killed")
    try:
        deadline = time.monotonic() + 200
        while not (state.exists() and torch.load(state, weights_only=True)["iteration"] >= 10):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (tmp_path / "killed" / "face_dynamic_training.safetensors").exists()
    process = started("killed")
    told = process.communicate()[0]
    assert process.returncode == 0, told
    assert "goes on in epoch" in told
    one, other = (load_file(tmp_path / name / "face_dynamic_training.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_benchmark_prints_what_experts_cost() -> None:
    """On a narrow network; that a loop over tokens says the same is measured there as well."""
    script = Path(__file__).resolve().parents[3] / "benchmarks" / "s4d_experts.py"
    if not script.is_file():
        pytest.skip("the benchmarks are not here: this is not a checkout")
    command = [sys.executable, str(script), "--width", "64", "--clips", "1", "--repeats", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^forward: MLP [\d.]+ ms, experts [\d.]+ ms, experts / MLP \d+\.\d\d$", done.stdout, re.MULTILINE)
    assert re.search(
        r"^100 tokens: a loop over tokens takes \d+ times as long, and says the same within [01-9.]+e-0[6-9]$", done.stdout, re.MULTILINE
    )
