"""Trainings on clips: their parts and batches, kinds of rows, how they go on, and what is learned from real faces."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from affectkit import clip_reading, datasets, plugins, training, training_rows
from affectkit.api import ClipOptions, ClipTraining, ConfigError, LabelSet, Pace, Part, PluginError, Training, Turn, UsageError
from affectkit.cli import cli
from affectkit.clip_augmentation import Augmentation
from affectkit.clip_reading import ClipReader
from affectkit.clip_sampling import spread
from affectkit.clip_training import FRAMES, PICTURE, held_out
from affectkit.datasets.items import Fold, Item
from affectkit.making import make
from affectkit.options import build
from affectkit.testing import clips as tasks
from affectkit.testing.media import make_video
from affectkit.testing.trainings import stopped_after
from affectkit.training_recipes import Plan

PLUGINS = Path(__file__).parent / "clip_plugins"
WAYS = LabelSet("ways", ("right", "left"))
HUES = LabelSet("hues", ("dark", "grey", "light"))
RECIPE = {
    "training": "clipper/clips",
    "epochs": 2,
    "batch_size": 4,
    "optimiser": {"rate": 0.003},
    "seed": 3,
    "options": {
        "held": 0.3,
        "augment": {"crop": 0.7, "colour": 0.3, "turn": 5, "erase": 0.3},
        "mix": {"mixup": 0.8, "cutmix": 1.0, "smoothing": 0.1},
    },
}


@pytest.fixture(scope="module")
def registry() -> plugins.Registry:
    return plugins.load(plugins_dir=PLUGINS, only=["clipper"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A square that goes to the right or to the left, in folders of frames, of sixteen people; and pictures, dark or light."""
    folder = tmp_path_factory.mktemp("made")
    lines = ["file,label,split,group,fps"]
    for number in range(48):
        own = folder / f"{number:02}"
        own.mkdir()
        for step in range(12):
            picture = np.full((30, 24, 3), 40 + number, np.uint8)
            place = step if number % 2 == 0 else 11 - step
            picture[8:16, 2 * place : 2 * place + 4] = 250
            cv2.imwrite(str(own / f"{step + 1}.png"), picture)
        lines.append(f"{number:02},{WAYS.labels[number % 2]},{'test' if number >= 40 else 'train'},person {number // 2 % 16},25")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    lines = ["file,label,split"]
    for number in range(30):
        cv2.imwrite(str(folder / f"still {number}.png"), np.full((40, 40, 3), 20 + 90 * (number % 3), np.uint8))
        lines.append(f"still {number}.png,{HUES.labels[number % 3]},train")
    (folder / "stills.csv").write_text("\n".join(lines) + "\n")
    return folder


def plan_of(data: Path, **changes: Any) -> Plan:
    options = {**RECIPE["options"], **changes.pop("options", {})}  # type: ignore[dict-item]
    return build(Plan, {**RECIPE, "data": str(data), **changes, "options": options})


def training_of(registry: plugins.Registry, plan: Plan) -> ClipTraining:
    entry = registry.get("clipper/clips", "training")
    made = entry.cls(build(entry.cls.Options, plan.options))
    assert isinstance(made, ClipTraining)
    return made


# parts and batches


def test_torchvision_is_named_where_it_is_not_there(monkeypatch: pytest.MonkeyPatch, registry: plugins.Registry, made: Path) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)
    with pytest.raises(UsageError, match="pip install torchvision"):
        training_of(registry, plan_of(made)).parts(made)
    with pytest.raises(UsageError, match=r"with torchvision, which cannot be imported .*pip install torchvision"):
        Augmentation().transform(8)


def test_a_plugin_that_only_says_what_it_is_loads_neither() -> None:
    code = "import sys, affectkit.api, affectkit.clip_training, affectkit.testing.clips; print({'torch', 'torchvision'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


def test_validation_is_taken_from_the_training_list_by_groups_and_classes(registry: plugins.Registry, made: Path) -> None:
    parts = training_of(registry, plan_of(made)).parts(made)
    groups = {name: set(part.groups) for name, part in parts.items()}
    assert not groups["train"] & groups["validation"]
    assert len(parts["train"]) + len(parts["validation"]) == 40
    assert all(set(part.truth) == {0, 1} for part in parts.values())
    again = training_of(registry, plan_of(made)).parts(made)
    assert np.array_equal(again["validation"].groups, parts["validation"].groups)
    other = training_of(registry, plan_of(made, options={"split": 1})).parts(made)
    assert set(other["validation"].groups) != groups["validation"]
    assert parts["validation"].about == "csv fold 1, training list, kept for validation"


def test_what_to_know_of_a_list_is_told_and_on_the_card(registry: plugins.Registry, made: Path, tmp_path: Path) -> None:
    plan = plan_of(made)
    training = training_of(registry, plan)
    training.parts(made)
    assert training.notes() == ()
    training.fold = replace(training.fold, dataset="mafw", name="1", notes=("2 clips have no single label",))
    first, second = training.notes()
    assert first == "2 clips have no single label"
    assert re.fullmatch(r"mafw, fold 1: the train list has \d+ items, and that of its authors has 7333", second)
    cls = type(training)
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cls, "notes", lambda self: ("few clips",))
        done = make(plan, registry, tmp_path, limit=8, report=told.append)
    assert "note: few clips" in told
    assert "- Note: few clips" in done.files[2].read_text(encoding="utf-8")


def test_every_class_that_can_be_is_on_both_sides() -> None:
    items = [Item(str(i), Path(), label, str(i)) for i, label in enumerate([0] * 30 + [1] * 3 + [2])]
    labels = np.array([item.label for item in items])
    for seed in range(20):
        held = held_out(items, 0.1, seed)
        counts = [int(held[labels == label].sum()) for label in range(2)]
        assert counts[0] >= 3
        assert 1 <= counts[1] <= 2
    mixed = [Item(str(i), Path(), i % 7, f"film {i // 14}") for i in range(280)]
    films = {item.group for item, side in zip(mixed, held_out(mixed, 0.1, 0), strict=True) if side}
    assert len(films) == 2
    with pytest.raises(UsageError, match="2 groups of clips are too few"):
        held_out([items[0], items[33]], 0.5, 0)


def test_the_test_list_need_not_be_there_and_the_training_list_must(registry: plugins.Registry, made: Path, tmp_path: Path) -> None:
    lines = (made / "clips.csv").read_text().splitlines()
    table = tmp_path / "clips.csv"
    table.write_text("\n".join(line.replace(line[:2], f"gone/{line[:2]}", 1) if ",test," in line else line for line in lines) + "\n")
    assert len(training_of(registry, plan_of(table, options={"clips": str(made)})).parts(table)["train"]) > 0
    table.write_text("\n".join([lines[0], "gone/77,left,train,x,25", *lines[1:]]) + "\n")
    with pytest.raises(
        UsageError, match=r"csv: 1 of 41 clips to learn from are not there: gone/77 .*; --clips or options.clips names their folder"
    ):
        training_of(registry, plan_of(table, options={"clips": str(made)})).parts(table)


def test_a_batch_depends_on_its_turn_alone(registry: plugins.Registry, made: Path) -> None:
    learner = training_of(registry, plan_of(made))
    part = learner.parts(made)["train"]
    rows = np.array([3, 0, 5, 8])
    one, other = dict(part.batch(rows, Turn(1, 7, 0.1))), dict(part.batch(rows, Turn(1, 8, 0.1)))
    again = part.batch(rows, Turn(1, 7, 0.1))
    assert one["frames"].shape == (4, 8, 3, 24, 24)
    assert one["frames"].dtype == torch.float32
    assert 0 <= one["frames"].min() <= one["frames"].max() <= 1
    assert one["truth"].shape == (4, 2)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["frames"], other["frames"])
    measured = part.batch(rows, None)
    assert set(measured) == {"frames"}
    assert torch.equal(measured["frames"][2], part.batch(rows[2:3], None)["frames"][0])


class Mapped(ClipTraining):
    """Clips with maps, of which some have none, in two views."""

    def read(self, data: Path) -> Fold:
        return datasets.read("csv", data)

    def sample(self, count: int, random: np.random.Generator | None) -> np.ndarray:
        return np.stack([spread(count, self.options.frames)] * 2)

    def maps(self, item: Item, positions: np.ndarray) -> dict[str, np.ndarray | None]:
        return {
            "landmarks": None
            if item.label
            else np.broadcast_to(positions[..., None, None, None], (*positions.shape, 24, 24, 3)).astype(np.uint8)
        }

    def extra(self, items: Any, turn: Turn | None) -> dict[str, Any]:
        return {"length": np.array([len(item.id) for item in items])}

    def network(self) -> Any: ...
    def predict(self, network: Any, batch: Any) -> Any: ...
    def about(self) -> Any: ...


def test_maps_views_and_further_tensors(made: Path) -> None:
    learner = Mapped(ClipOptions(frames=4, size=24, augment=Augmentation(crop=0.5), held=0.3))
    part = learner.parts(made)["train"]
    rows = np.array([0, 1, 2, 3])
    for turn in (None, Turn(0, 0, 0.0)):
        batch = part.batch(rows, turn)
        there = part.truth[rows] == 0
        assert batch["frames"].shape == batch["landmarks"].shape == (4, 2, 4, 3, 24, 24)
        assert batch["landmarks_mask"].tolist() == there.tolist()
        assert not batch["landmarks"][torch.from_numpy(~there)].any()
        assert (batch["landmarks"][torch.from_numpy(there)][:, :, :, 0, 5, 5] * 255).round().tolist() == [[[1, 4, 7, 10]] * 2] * int(
            there.sum()
        )
        assert batch["length"].tolist() == [2, 2, 2, 2]
    views = part.batch(rows, Turn(0, 0, 0.0))["frames"]
    assert not torch.equal(views[:, 0], views[:, 1])
    learner.options = replace(learner.options, read_size=20)
    with pytest.raises(PluginError, match=r"the map landmarks of .. is \(2, 4, 24, 24, 3\), the frames are \(2, 4, 20, 20, 3\)"):
        part.batch(rows, None)
    twisted = Mapped(ClipOptions(frames=4, size=24, augment=Augmentation(operations=2), held=0.3))
    with pytest.raises(UsageError, match=r"augment\.operations must be 0 with landmarks"):
        twisted.parts(made)["train"].batch(rows, Turn(0, 0, 0.0))


def test_the_checks_of_plugins_take_labels_that_come_with_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTKIT_PLUGINS_DIR", str(PLUGINS))
    checked = CliRunner().invoke(cli, ["plugins", "check", "clipper"])
    assert checked.exit_code == 0, checked.output
    assert "clipper/clips makes its network when it has seen the data" in checked.output
    shown = CliRunner().invoke(cli, ["plugins", "show", "clipper"])
    assert shown.exit_code == 0, shown.output


def test_options_that_cannot_be(registry: plugins.Registry, made: Path) -> None:
    for wrong in ({"held": 0.0}, {"frames": 0}, {"read_size": -1}):
        with pytest.raises(ConfigError, match="held must be between 0 and 1, frames, size and read_size at least 1"):
            training_of(registry, plan_of(made, options=wrong))
    with pytest.raises(ConfigError, match=r"augment.crops: unknown key. Did you mean crop"):
        training_of(registry, plan_of(made, options={"augment": {"crops": 1}}))


# kinds of rows


def kinds_part(clips: int = 40, stills: int = 60, **paces: Any) -> Part:
    truth = np.concatenate([np.arange(clips) % 2, np.where(np.arange(stills) < 6, 2, 0)]).astype(np.int64)
    kinds = np.repeat(["clip", "still"], [clips, stills])
    found = {"clip": Pace(), "still": Pace(batch=2.0, share=0.5, foreign=True)} | paces
    return Part(truth, np.arange(clips + stills).astype(str), lambda rows, turn: {"rows": rows}, kinds=kinds, paces=found)


def test_batches_are_of_one_kind_and_kinds_take_turns(registry: plugins.Registry, made: Path) -> None:
    learner = training_of(registry, plan_of(made))
    learner.labels = WAYS
    order = training_rows.Order(kinds_part(), plan_of(made), learner)
    epochs = []
    for epoch in range(2):
        order.epoch, order.first = epoch, 0
        epochs.append([rows for rows, _ in order])
    for steps in epochs:
        assert len(steps) == len(order) == 40 // 4 + int(60 // 8 * 0.5)
        assert all(len(rows) == (4 if rows[0] < 40 else 8) for rows in steps)
        assert all((rows < 40).all() or (rows >= 40).all() for rows in steps)
        seen = np.concatenate([rows for rows in steps if rows[0] < 40])
        assert sorted(seen) == list(range(40))
    patterns = [[rows[0] < 40 for rows in steps] for steps in epochs]
    assert patterns[0] != patterns[1]
    assert not all(patterns[0][:10])
    order.epoch, order.first = 1, 5
    assert [rows.tolist() for rows, _ in order] == [rows.tolist() for rows in epochs[1][5:]]


def test_processes_have_the_same_kind_in_a_step(registry: plugins.Registry, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = training_of(registry, plan_of(made))
    learner.labels = WAYS
    monkeypatch.setattr(training_rows.dist, "get_world_size", lambda: 2)
    steps = []
    for rank in range(2):
        monkeypatch.setattr(training_rows.dist, "get_rank", lambda rank=rank: rank)
        steps.append([rows for rows, _ in training_rows.Order(kinds_part(), plan_of(made), learner)])
    assert len(steps[0]) == len(steps[1]) == 40 // 8 + int(60 // 16 * 0.5)
    for one, other in zip(*steps, strict=True):
        assert (one[0] < 40) == (other[0] < 40)
        assert not set(one) & set(other)


def test_a_kind_may_be_drawn_evenly_and_more_than_once(registry: plugins.Registry, made: Path) -> None:
    learner = training_of(registry, plan_of(made))
    learner.labels = WAYS
    part = kinds_part(clips=8, stills=600, clip=Pace(share=3.0), still=Pace(draw="even", foreign=True))
    steps = [rows for rows, _ in training_rows.Order(part, plan_of(made), learner)]
    clips, stills = (np.concatenate([rows for rows in steps if (rows[0] < 8) == side]) for side in (True, False))
    assert Counter(clips.tolist()) == dict.fromkeys(range(8), 3)
    rare = float((part.truth[stills] == 2).mean())
    assert 0.4 < rare < 0.6  # of 6 in 600
    assert part.own().tolist() == list(range(8))
    assert part.take(np.array([0, 1, 9])).own().tolist() == [0, 1]


def test_a_kind_needs_a_pace() -> None:
    with pytest.raises(PluginError, match="rows of kind still and no Pace of them"):
        replace(kinds_part(), paces={"clip": Pace()})
    with pytest.raises(PluginError, match="must be greater than 0"):
        Pace(share=0)


def test_pictures_are_learned_from_beside_clips(registry: plugins.Registry, made: Path) -> None:
    stills = {"dataset": "csv", "data": str(made / "stills.csv"), "batch": 2.0, "share": 1.0}
    learner = training_of(registry, plan_of(made, options={"stills": stills}))
    parts = learner.parts(made)
    assert len(learner.labels) == 2
    assert learner.stills is not None
    assert learner.stills.labels.labels == HUES.labels
    first = len(parts["train"].own())
    assert parts["train"].kinds is not None
    assert set(parts["train"].kinds[:first]) == {FRAMES}
    assert set(parts["train"].kinds[first:]) == {PICTURE}
    assert parts["validation"].kinds is None
    batch = parts["train"].batch(np.arange(first, first + 6), Turn(0, 0, 0.0))
    assert batch["picture"].shape == (6, 3, 24, 24)
    assert batch["truth"].shape == (6, 3)
    plan = plan_of(made, epochs=1)
    assert Counter(len(rows) for rows, _ in training_rows.Order(parts["train"], plan, learner)) == {4: first // 4, 8: 30 // 8}
    (made / "none.csv").write_text("file,label,split\nstill 0.png,dark,test\nstill 1.png,light,test\n")
    empty = training_of(registry, plan_of(made, options={"stills": {**stills, "data": str(made / "none.csv")}}))
    with pytest.raises(UsageError, match=r"options.stills: csv has no list of pictures to learn from"):
        empty.parts(made)


# training


def test_rates_of_groups_follow_the_schedule(tmp_path: Path) -> None:
    class Two(Training):
        """Two numbers with the same gradient."""

        name = "two"
        labels = WAYS
        calibrates = False

        def parts(self, data: Path) -> dict[str, Part]:
            part = Part(np.arange(8) % 2, np.arange(8).astype(str), lambda rows, turn: {"one": np.ones(len(rows), np.float32)})
            return {"train": part, "validation": part}

        def network(self) -> torch.nn.Module:
            made = torch.nn.Module()
            made.near, made.far = (torch.nn.Parameter(torch.zeros(())) for _ in range(2))
            return made

        def predict(self, network: torch.nn.Module, batch: Any) -> torch.Tensor:
            return torch.zeros(len(batch["one"]), 2)

        def loss(self, network: Any, batch: Any, weights: torch.Tensor) -> torch.Tensor:
            return -(network.near + network.far)

        def parameters(self, network: Any, decay: float) -> list[dict[str, Any]]:
            return [{"params": [network.near]}, {"params": [network.far], "scale": 0.25}]

        def about(self) -> Any: ...

    recipe = {"training": "x/two", "epochs": 3, "batch_size": 2, "optimiser": {"name": "sgd", "rate": 0.1, "momentum": 0.0}}
    plan = build(Plan, {**recipe, "schedule": {"warmup": 0.25, "shape": "linear"}})
    learner = Two()
    network: Any = training.train(learner, plan, learner.parts(Path()), tmp_path, device="cpu").network
    expected = sum(0.1 * plan.schedule.share(step / 12) for step in range(12))
    assert network.near.item() == pytest.approx(expected)
    assert network.far.item() == pytest.approx(expected / 4)


def test_a_stopped_training_goes_on_to_the_same_bits(
    registry: plugins.Registry, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "KEEP_EVERY", 0.0)
    stills = {"dataset": "csv", "data": str(made / "stills.csv")}
    plan = plan_of(made, options={"stills": stills}, average=0.9)
    whole = make(plan, registry, tmp_path / "whole", device="cpu")
    steps = [2, 9]  # within the first epoch and the second, or the end of the first
    entry = registry.get("clipper/clips", "training").cls
    for stop in steps:
        with stopped_after(entry, stop), pytest.raises(KeyboardInterrupt):
            make(plan, registry, tmp_path / "stopped", device="cpu")
    told: list[str] = []
    stopped = make(plan, registry, tmp_path / "stopped", device="cpu", report=told.append)
    assert any("goes on in epoch" in line for line in told)
    one, other = (load_file(found.files[0]) for found in (whole, stopped))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert stopped.record["sha256"] == whole.record["sha256"]
    helped = make(replace(plan, workers=2), registry, tmp_path / "helped", device="cpu")
    assert helped.record["sha256"] == whole.record["sha256"]


def test_later_epochs_do_not_decode_again_in_workers_either(
    registry: plugins.Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["file,label,split"]
    for number in range(8):
        make_video(tmp_path / f"{number}.mp4", seconds=0.5, fps=10, size=(32, 32))
        lines.append(f"{number}.mp4,{WAYS.labels[number % 2]},train")
    (tmp_path / "clips.csv").write_text("\n".join(lines) + "\n")
    decode, decoded = clip_reading._decode, tmp_path / "decoded.txt"

    def noted(item: Item, size: int) -> np.ndarray:
        with decoded.open("a") as file:
            file.write(f"{item.id}\n")
        return decode(item, size)

    monkeypatch.setattr(clip_reading, "_decode", noted)
    make(plan_of(tmp_path, epochs=3, batch_size=2, workers=1), registry, tmp_path / "out", device="cpu")
    assert Counter(decoded.read_text().split()) == {f"{number}.mp4": 1 for number in range(8)}


@pytest.mark.slow
def test_two_processes_learn_from_clips_and_pictures(made: Path, tmp_path: Path) -> None:
    """The layers of one kind have no gradient in the steps of the other."""
    stills = {"dataset": "csv", "data": str(made / "stills.csv")}
    recipe = {**RECIPE, "data": str(made), "options": {**RECIPE["options"], "stills": stills}}  # type: ignore[dict-item]
    (tmp_path / "clips.yaml").write_text(json.dumps(recipe))
    environment = {**os.environ, "AFFECTKIT_PLUGINS_DIR": str(PLUGINS), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "affectkit"]
    command += ["train", "clips.yaml", "--out", "out", "--launcher", "pytorch", "--device", "cpu"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 2/2") == 1
    assert (tmp_path / "out" / "clips.safetensors").exists()


def test_it_learns_which_way_a_square_goes(registry: plugins.Registry, made: Path, tmp_path: Path) -> None:
    plan = plan_of(made, epochs=12, options={"augment": {"flip": 0}, "mix": {}}, optimiser={"rate": 0.01})
    record = make(plan, registry, tmp_path, device="cpu").record
    assert record["validation"]["all"]["war"]["value"] == 1.0
    assert json.loads((tmp_path / "clips.json").read_text())["labels"] == ["left", "right"]


# tasks made of real faces


@pytest.fixture(scope="module")
def fer2013(shared_data: Path) -> Path:
    return shared_data / "faces" / "fer2013.parquet"


def test_the_order_task_cannot_be_read_without_order(fer2013: Path) -> None:
    made = tasks.order_clips(fer2013, clips=60, test=40, frames=8, stills=4, groups=5)
    assert len(made) == 100
    assert made.test.sum() == 40
    forward, back = ({made.frames[row].tobytes() for row in np.flatnonzero(made.truth == label)} for label in (0, 1))
    assert {np.frombuffer(film, np.uint8).reshape(8, 48, 48)[::-1].tobytes() for film in forward} == back
    assert not set(made.groups[made.test]) & set(made.groups[~made.test])
    assert tasks.score(made, tasks.mean_probe(made), "war").value == 0.5
    right = np.eye(2)[made.truth[made.test]]
    found = tasks.gain(made, right, tasks.mean_probe(made))
    assert found.value == 0.5
    assert found.low is not None
    assert found.low > 0.3


def test_made_clips_are_read_as_data_sets(fer2013: Path, tmp_path: Path) -> None:
    made = tasks.expression_clips(fer2013, clips=21, test=14, frames=6, stills=4, groups=3)
    again = tasks.expression_clips(fer2013, clips=21, test=14, frames=6, stills=4, groups=3)
    assert np.array_equal(made.frames, again.frames)
    assert np.bincount(made.truth[~made.test]).tolist() == [3] * 7
    made.write(tmp_path)
    table, lists = datasets.read("csv", tmp_path), datasets.read("mafw", tmp_path, 1)
    order = tasks.order_clips(fer2013, clips=8, test=4, frames=4, stills=2, groups=2)
    order.write(tmp_path / "order")
    assert datasets.read("csv", tmp_path / "order").labels.labels == order.labels.labels
    for fold, own in ((table, made.fold(tmp_path).train), (lists, made.fold(tmp_path).train)):
        assert [fold.labels.labels[item.label] for item in fold.train] == [made.labels.labels[item.label] for item in own]
        assert [item.path for item in fold.train] == [item.path for item in own]
    assert {item.group for item in table.train} == set(made.groups[~made.test])
    frames = ClipReader().open(table.test[0], 48).take(np.arange(6))
    memory = made.reader().open(made.fold().test[0], 48).take(np.arange(6))
    assert np.array_equal(frames, memory)
    assert made.reader().open(made.fold().test[0], 24).take(np.arange(2)).shape == (2, 24, 24, 3)
    with pytest.raises(UsageError, match="give the table of FER2013 as a Parquet file"):
        tasks.order_clips(tmp_path / "gone.parquet")


def learned(registry: plugins.Registry, made: tasks.MadeClips, folder: Path, **changes: Any) -> np.ndarray:
    """What the small network says of the test list after it has learned."""
    options = {"dataset": "csv", "size": 48, "frames": 16, "width": 24, "augment": {"crop": 0.7}, "mix": {}, "held": 0.1}
    plan = plan_of(folder, options=options, batch_size=16, optimiser={"rate": 0.002, "decay": 0.05}, store="fp32", **changes)
    made.write(folder)
    written = make(plan, registry, folder / "out", device="cpu")
    learner = training_of(registry, plan)
    learner.parts(folder)
    network = learner.network().eval()
    network.load_state_dict(load_file(written.files[0]))
    test = learner.part(learner.fold.test)
    return training_rows.logits_of(learner, network, test, 32).softmax(1).numpy()


@pytest.mark.slow
def test_order_is_learned_from_faces(registry: plugins.Registry, fer2013: Path, tmp_path: Path) -> None:
    made = tasks.order_clips(fer2013, clips=300)
    assert tasks.score(made, learned(registry, made, tmp_path, epochs=6), "war").value >= 0.9


@pytest.mark.slow
def test_expressions_are_learned_better_than_from_the_mean_of_the_frames(registry: plugins.Registry, fer2013: Path, tmp_path: Path) -> None:
    made = tasks.expression_clips(fer2013)
    found = tasks.gain(made, learned(registry, made, tmp_path, epochs=8), tasks.mean_probe(made))
    assert found.low is not None
    assert found.low > 0
