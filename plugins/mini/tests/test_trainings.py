"""The trainings of this package: what they learn from is apart from what they are measured on, and a step of each works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from affectkit_mini.trainings.faces import FaceTraining
from affectkit_mini.trainings.language import SceneTraining, TextTraining, distribution
from affectkit_mini.trainings.sequences import SequenceOptions, SequenceTraining
from affectkit_mini.trainings.voices import VoiceTraining
from sklearn.metrics import f1_score

from affectkit import fitting, plugins
from affectkit.api import Training, Turn, UsageError
from affectkit.training_recipes import Plan

TRAININGS = (FaceTraining, SequenceTraining, VoiceTraining, SceneTraining, TextTraining)


def made(cls: type[Training]) -> Training:
    return cls(SequenceOptions(sequences=48)) if cls is SequenceTraining else cls()


def test_a_recipe_for_every_training_with_the_name_of_its_weights() -> None:
    registry = plugins.load(only=["mini"])
    found = {recipe.path.stem: Plan.load(recipe.path) for recipe in registry.plugin("mini").training_recipes}
    assert {f"mini/{cls.name}" for cls in TRAININGS} <= {plan.training for plan in found.values()}
    assert all(plan.name == stem and plan.training == f"mini/{stem}_training" for stem, plan in found.items())


@pytest.mark.parametrize("cls", TRAININGS, ids=lambda cls: cls.name)
def test_parts_are_apart_and_a_step_works(cls: type[Training], shared_data: Path) -> None:
    training = made(cls)
    parts = training.parts(shared_data)
    fitting.check_disjoint(parts, cls.name)
    torch.manual_seed(0)
    network = training.network()
    weights = torch.from_numpy(fitting.class_weights(parts["train"].truth, training.labels, 0.5))
    rows = np.arange(3)
    turn = Turn(seed=1, step=5, done=0.1)
    losses = []
    for _ in range(2):
        batch: dict[str, Any] = {"truth": parts["train"].truth[rows], **parts["train"].batch(rows, turn)}
        assert all(len(value) == len(rows) for value in batch.values())
        torch.manual_seed(0)
        losses.append(training.loss(network, {name: torch.as_tensor(value) for name, value in batch.items()}, weights))
    assert torch.isfinite(losses[0])
    assert torch.equal(*losses), "random numbers that are not those of the step"
    losses[0].backward()
    assert all(value.grad is not None for value in network.parameters() if value.requires_grad)
    network.eval()
    held = {name: torch.as_tensor(value) for name, value in parts["validation"].batch(rows, None).items()}
    with torch.inference_mode():
        assert training.predict(network, held).shape == (3, 7)


def test_voices_that_are_measured_are_not_those_of_training(shared_data: Path) -> None:
    parts = VoiceTraining().parts(shared_data)
    assert {len(set(part.groups)) for name, part in parts.items() if name != "train"} == {3}
    assert {f"ravdess {actor}" for actor in range(1, 17)} <= set(parts["train"].groups.tolist())
    assert parts["train"].chances is not None
    assert parts["train"].chances.sum() == pytest.approx(1.0)


def test_thresholds_are_the_best_of_the_grid() -> None:
    random = np.random.default_rng(0)
    truth = (random.random((200, 7)) < 0.2).astype(np.float32)
    logits = torch.from_numpy(truth * 2 - 1 + random.normal(size=truth.shape))
    settings = TextTraining().settings(logits, truth)
    scores = logits.sigmoid().numpy()
    for label, chosen in enumerate(settings["thresholds"]):
        best = max(f1_score(truth[:, label], scores[:, label] >= value) for value in np.linspace(0.05, 0.9, 86))
        assert f1_score(truth[:, label], scores[:, label] >= chosen) == pytest.approx(best)
    assert distribution(scores, settings["exponent"]).sum(axis=1) == pytest.approx(1.0)


def test_data_that_are_not_there(tmp_path: Path) -> None:
    for cls in TRAININGS:
        with pytest.raises(UsageError, match="--data must name the folder that holds faces, audio, text and scene"):
            made(cls).parts(tmp_path)
