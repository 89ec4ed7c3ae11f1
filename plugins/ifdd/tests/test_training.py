"""The training of ifdd/face_dynamic: its options, its loss, its interruption, and what it learns of real faces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from affectkit_ifdd.face_dynamic import FaceDynamic
from affectkit_ifdd.model import IFDD
from affectkit_ifdd.training import FaceDynamicTraining
from click.testing import CliRunner

from affectkit import plugins
from affectkit.api import CheckpointError, ConfigError, UsageError
from affectkit.cli import cli
from affectkit.datasets.scoring import say
from affectkit.making import make
from affectkit.options import build
from affectkit.testing import TrainingContract
from affectkit.testing import clips as tasks
from affectkit.testing.media import make_video
from affectkit.testing.trainings import stopped_after
from affectkit.training_recipes import Plan
from affectkit.weight_files import load_tensors, metadata

TINY = {"size": 32, "width": 8, "blocks": [1, 1, 1, 1], "start": "random"}
SMALL = {**TINY, "width": 16, "dropped": 0.1, "branches": 0.0}  # the published shares are for a large network that learns for long
LABELS = ("darker", "lighter")


@pytest.fixture(scope="module")
def registry() -> plugins.Registry:
    return plugins.load(only=["ifdd"])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of sixteen people that become lighter or darker, in a table."""
    folder = tmp_path_factory.mktemp("clips")
    lines = ["file,label,split,group"]
    for number in range(32):
        way = 1 if number % 2 else -1

        def picture(time: float, way: int = way, number: int = number) -> np.ndarray:
            return np.full((32, 32, 3), 128 + way * 100 * (time - 0.5) + number % 5, np.uint8)

        make_video(folder / f"{number:02}.mp4", seconds=1, fps=20, size=(32, 32), codec="mpeg4", picture=picture)
        lines.append(f"{number:02}.mp4,{LABELS[number % 2]},{'test' if number >= 28 else 'train'},person {number // 2}")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    return folder


def plan_of(data: Path, **changes: Any) -> Plan:
    options = {"dataset": "csv", "fold": None, "held": 0.3, "mix": {}, "augment": {"crop": 0.9}, **TINY, **changes.pop("options", {})}
    plain = {
        "training": "ifdd/face_dynamic_training",
        "name": "face_dynamic",
        "data": str(data),
        "epochs": 2,
        "batch_size": 6,
        "store": "fp32",
    }
    return build(Plan, {**plain, "optimiser": {"rate": 2e-3}, **changes, "options": options})


def training_of(data: Path, **options: Any) -> FaceDynamicTraining:
    training = FaceDynamicTraining(build(FaceDynamicTraining.Options, {**plan_of(data).options, **options}))
    training.parts(data)
    return training


def batch_of(training: FaceDynamicTraining, rows: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = training.sizes
    return {
        "frames": torch.rand(rows, sizes.frames, 3, sizes.side, sizes.side, generator=generator),
        "truth": torch.arange(rows) % sizes.classes,
    }


class TestWithoutData(TrainingContract):
    """What every training promises."""

    component = FaceDynamicTraining


def recipe(name: str, **options: Any) -> FaceDynamicTraining:
    """The training of an installed recipe, with a few options on top."""
    plan = Plan.load(
        f"ifdd/{name}",
        find=plugins.load().training_recipe,
        overrides=[f"options.{key}={json.dumps(value)}" for key, value in options.items()],
    )
    assert plan.optimiser.rate == 5e-5
    return FaceDynamicTraining(build(FaceDynamicTraining.Options, plan.options))


def watched(training: FaceDynamicTraining) -> tuple[Any, ...]:
    options = training.options
    return options.frames, options.stride, options.augment.crop, options.augment.flip, options.augment.colour, options.augment.hue


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("dfew", (16, 0, 0.5, 0.5, 0.4, 0.4)),
        ("ferv39k", (16, 1, 0.8, 0.5, 0.0, 0.0)),
        ("mafw", (32, 2, 0.5, 0.5, 0.4, 0.4)),
        ("csv", (16, 0, 0.5, 0.5, 0.4, 0.4)),
    ],
)
def test_the_recipes_are_those_of_the_paper(dataset: str, expected: tuple[Any, ...]) -> None:
    """Each data set as the authors have it, whether the recipe names it or ``--dataset``; all begin with the weights of Kinetics-400."""
    own = {"dfew": "face_dynamic", "csv": "face_dynamic"}.get(dataset, dataset)
    for training in (recipe("face_dynamic", dataset=dataset), recipe(own, **({"dataset": dataset} if dataset == "csv" else {}))):
        assert watched(training) == expected
        assert list(training.used_checkpoints()) == ["k400"]
        assert (training.options.mix.mixup, training.options.mix.cutmix, training.options.mix.smoothing) == (0.8, 1.0, 0.1)
        assert training.options.mix.switch == 0.5


def test_an_option_that_is_given_goes_before_what_is_published() -> None:
    given = recipe("face_dynamic", dataset="mafw", frames=16, stride=0, augment={"crop": 1.0})
    assert watched(given) == (16, 0, 1.0, 0.5, 0.0, 0.0)
    assert watched(recipe("mafw", stride=4)) == (32, 4, 0.5, 0.5, 0.4, 0.4)


def test_windows_of_a_stride_lie_anywhere_in_training_and_in_the_middle_otherwise(data: Path) -> None:
    training = training_of(data, stride=2)
    assert training.sample(41, None).tolist() == list(range(5, 36, 2))
    starts = {int(training.sample(41, np.random.default_rng(seed))[0]) for seed in range(50)}
    assert len(starts) > 5
    whole = training_of(data)
    assert whole.sample(32, None).tolist() == list(range(1, 32, 2))


def test_the_constraint_counts_the_same_in_every_batch(data: Path) -> None:
    """Twice the same clips have the same loss; with ``released_behaviour`` the constraint has twice its weight."""
    for released, same in ((False, True), (True, False)):
        training = training_of(data, released_behaviour=released)
        torch.manual_seed(0)
        network = training.network().eval()
        once = batch_of(training, 4)
        twice = {name: torch.cat([value, value]) for name, value in once.items()}
        weights = torch.ones(len(training.labels))
        with torch.no_grad():
            small, large = (float(training.loss(network, batch, weights)) for batch in (once, twice))
        assert (abs(small - large) < 1e-6) is same


def test_the_constraint_has_its_weight(data: Path) -> None:
    """The loss is the cross-entropy and so much of the constraint; by default as much as in the authors' batches of sixteen."""
    found = {}
    for weight in (0.0, 1.6, None):
        training = training_of(data, **({} if weight is None else {"constraint": weight}))
        torch.manual_seed(0)
        network = training.network().eval()
        batch, weights = batch_of(training, 16), torch.ones(2)
        with torch.no_grad():
            found[weight] = float(training.loss(network, batch, weights))
            constraint = network.see(batch["frames"].transpose(1, 2)).constraint  # type: ignore[operator]
    each = torch.nn.functional.smooth_l1_loss(constraint, torch.zeros_like(constraint), reduction="none").mean((1, 2))
    assert found[None] == found[1.6]
    assert found[1.6] - found[0.0] == pytest.approx(0.1 * float(each.sum()), rel=1e-3)


def test_the_constraint_is_learned(data: Path) -> None:
    """A few steps on it alone bring the static part nearer to what neighbouring frames share."""
    training = training_of(data)
    torch.manual_seed(0)
    network = training.network()
    assert isinstance(network, IFDD)
    optimiser = torch.optim.AdamW([value for value in network.parameters() if value.requires_grad], 2e-3)
    given = batch_of(training, 4)["frames"].transpose(1, 2)
    before = network.see(given).constraint.abs().mean().item()
    for _ in range(40):
        optimiser.zero_grad()
        network.see(given).constraint.square().mean().backward()
        optimiser.step()
    assert network.see(given).constraint.abs().mean().item() < 0.5 * before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": "k400"}, "fit 224 pixels, width 96 and blocks"),
        ({"start": "k400", "size": 224, "width": 96, "blocks": [1, 2, 5, 2], "released_behaviour": True}, "expect standardised pixels"),
        ({"constraint": -1}, "must not be negative"),
        ({"dropped": 1.0}, r"dropped and branches must be in \[0, 1\), found 1\.0 and 0\.2"),
        ({"frames": 20}, "reads 16 or 32 frames, found 20"),
        ({"size": 50}, "multiple of 32 pixels, found 50"),
        ({"stills": {"dataset": "csv", "data": "x"}}, "learns from clips alone"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(FaceDynamicTraining.Options, {**TINY, **options})


def test_its_classes_are_those_of_the_data() -> None:
    with pytest.raises(UsageError, match="knows its classes when it has read its data"):
        FaceDynamicTraining(build(FaceDynamicTraining.Options, TINY)).network()


def test_without_the_weights_it_begins_with_it_says_so(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTKIT_CACHE", str(tmp_path))
    result = CliRunner().invoke(
        cli, ["train", "ifdd/face_dynamic", "--dataset", "csv", "--data", str(data), "--out", str(tmp_path), "--offline"]
    )
    assert result.exit_code == 2
    for words in ("mvit_v2_s-ae3be167.pth", "weights fetch ifdd/face_dynamic_training", "options.start=FILE", "options.start=random"):
        assert words in result.output


def test_a_file_to_begin_with_that_is_not_there(data: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"the weights k401 are not here .*; or give their file, --set options\.start=FILE, or begin with random"
    ):
        training_of(data, start="k401", size=224, width=96, blocks=[1, 2, 5, 2])


def test_it_really_begins_with_kinetics(data: Path, tmp_path: Path) -> None:
    """The network that is trained has the numbers of the file, in its published size."""
    from torchvision.models.video import mvit_v2_s

    path = tmp_path / "mvit_v2_s.pth"
    torch.manual_seed(5)
    torch.save(mvit_v2_s(weights=None).state_dict(), path)
    training = training_of(data, start=str(path), size=224, width=96, blocks=[1, 2, 5, 2])
    state, found = load_tensors(path), training.network().state_dict()
    assert torch.equal(found["embed.conv_proj.weight"], state["conv_proj.weight"])
    assert torch.equal(found["backbone.backbone.blocks.9.mlp.3.weight"], state["blocks.15.mlp.3.weight"])
    assert not training.sizes.released
    assert training.about().more["begun_with"] == str(path)


def test_what_is_trained_is_used(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the command to the component: labels, frames and stride travel in the file; scored on the test list as a data set."""
    words = ["train", "ifdd/face_dynamic", "--dataset", "csv", "--data", str(data), "--out", str(tmp_path), "--device", "cpu"]
    changes = {"epochs": 1, "batch_size": 6, "options.fold": "null", "options.held": 0.3, "options.stride": 1, "options.read_size": "null"}
    changes |= {f"options.{key}": json.dumps(value) for key, value in TINY.items()}
    result = CliRunner().invoke(cli, [*words, *(part for key, value in changes.items() for part in ("--set", f"{key}={value}"))])
    assert result.exit_code == 0, result.output
    path = tmp_path / "ifdd_face_dynamic.safetensors"
    settings = json.loads(metadata(path)["settings"])
    assert (settings["frames"], settings["stride"], settings["released"]) == (16, 1, False)
    component = FaceDynamic(FaceDynamic.Options(checkpoint=str(path)))
    assert component.labels.labels == tuple(settings["labels"])
    monkeypatch.chdir(tmp_path)
    assert FaceDynamic().labels == component.labels, "it is found in the folder in which one works"
    assert (component.needs.inputs[0].stride, component.needs.inputs[0].size) == (1, 32)
    component.load(torch.device("cpu"), torch.float32)
    test = training_of(data).fold.test
    found = say(component, test, device=torch.device("cpu"), dtype=torch.float32, batch_size=3)
    assert np.isfinite(found.values[component.labels]).all()
    assert found.values[component.labels].shape == (4, len(component.labels))


def test_a_training_that_was_killed_goes_on_to_the_same_bits(registry: plugins.Registry, data: Path, tmp_path: Path) -> None:
    """In its second epoch, with clips that are mixed and branches that are dropped."""
    plan = plan_of(data, options={"mix": {"mixup": 0.8, "cutmix": 1.0, "smoothing": 0.1}})
    whole = make(plan, registry, tmp_path / "whole", device="cpu")
    with stopped_after(FaceDynamicTraining, 4), pytest.raises(KeyboardInterrupt):
        make(plan, registry, tmp_path / "killed", device="cpu")
    assert not (tmp_path / "killed" / "face_dynamic.safetensors").exists()
    told: list[str] = []
    again = make(plan, registry, tmp_path / "killed", device="cpu", report=told.append)
    assert any("goes on in epoch 2" in line for line in told)
    first, second = (load_tensors(made.files[0]) for made in (whole, again))
    assert all(torch.equal(first[name], second[name]) for name in first)


def learned(registry: plugins.Registry, made: tasks.MadeClips, folder: Path, crop: float, **changes: Any) -> np.ndarray:
    """What the component says of the test list with the weights that a short training made."""
    made.write(folder)
    optimiser = {"rate": 2e-3, "decay": 0.05, "clip": 1.0}
    plan = plan_of(
        folder, optimiser=optimiser, schedule={"warmup": 0.1}, options={**SMALL, "held": 0.1, "augment": {"crop": crop}}, **changes
    )
    written = make(plan, registry, folder / "out", device="cpu", report=print)
    component = FaceDynamic(FaceDynamic.Options(checkpoint=str(written.files[0])))
    component.load(torch.device("cpu"), torch.float32)
    test = training_of(folder).fold.test
    said = say(component, test, device=torch.device("cpu"), dtype=torch.float32, batch_size=32).values[component.labels]
    found: np.ndarray = said[:, [component.labels.index(label) for label in made.labels.labels]]
    return found


@pytest.mark.slow
@pytest.mark.timeout(3600)  # a minute or two, where nothing else runs
def test_order_is_learned_from_real_faces(registry: plugins.Registry, shared_data: Path, tmp_path: Path) -> None:
    """From neutral to an expression or back, where whoever does not look at the order is right in one half of the clips."""
    made = tasks.order_clips(shared_data / "faces" / "fer2013.parquet", clips=600, size=32)
    assert tasks.score(made, tasks.mean_probe(made), "war").value == 0.5
    found = tasks.score(made, learned(registry, made, tmp_path, crop=0.9, epochs=4, batch_size=8, seed=1), "war")
    print(found)  # noqa: T201  with -s: the figures of the README
    assert found.value >= 0.9


@pytest.mark.slow
@pytest.mark.timeout(3600)  # a minute or two, where nothing else runs
def test_expressions_are_learned_better_than_from_the_mean_of_the_frames(
    registry: plugins.Registry, shared_data: Path, tmp_path: Path
) -> None:
    """Than by a linear reader of the mean image, with an interval over the groups of faces."""
    made = tasks.expression_clips(shared_data / "faces" / "fer2013.parquet", clips=1400, test=700, size=32)
    found = tasks.gain(made, learned(registry, made, tmp_path, crop=1.0, epochs=7, batch_size=16), tasks.mean_probe(made))
    print(found)  # noqa: T201  with -s: the figures of the README
    assert found.low is not None
    assert found.low > 0
