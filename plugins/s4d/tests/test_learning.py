"""What a reduced network learns from real faces: sequences of FER2013's stills, and beside these the stills themselves, by the command's own steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from affectkit import plugins, training_rows
from affectkit.labels import BASIC7
from affectkit.making import make
from affectkit.options import build
from affectkit.testing import clips as tasks
from affectkit.training_recipes import Plan

NETWORK = {"patch": 16, "width": 128, "depth": 3, "heads": 4, "hidden": 256, "first": 1, "experts": 4, "adapter": 16}
PICTURES = 1500  # of each class


def learned(
    made: tasks.MadeClips, folder: Path, fer2013: Path, labels: tuple[str, ...], seed: int, share: float, epochs: int
) -> np.ndarray:
    """What the network says of the test list after it has learned from the training list and from pictures."""
    made.write(folder)
    pictures = tasks.write_stills(fer2013, folder / "pictures", labels, PICTURES)
    options = {
        "dataset": "csv",
        "size": 32,
        "frames": 8,
        "stride": 2,
        "augment": {"crop": 0.8},
        "mix": {},
        "falloff": 1.0,
        "network": NETWORK,
        "stills": {"dataset": "csv", "data": str(pictures), "read_size": 36, "operations": 0, "erase": 0.0, "batch": 1.0, "share": share},
    }
    recipe = {
        "training": "s4d/face_dynamic_training",
        "name": "face_dynamic",
        "batch_size": 16,
        "epochs": epochs,
        "seed": seed,
        "store": "fp32",
    }
    optimiser = {"rate": 1e-3, "decay": 0.05}
    plan = build(Plan, {**recipe, "data": str(folder), "optimiser": optimiser, "schedule": {"warmup": 0.1}, "options": options})
    registry = plugins.load(only=["s4d"])
    written = make(plan, registry, folder / "out", device="cpu")
    entry = registry.get(plan.training, "training")
    learner: Any = entry.cls(build(entry.cls.Options, plan.options))
    learner.parts(folder)
    assert learner.labels.labels == made.labels.labels
    network = learner.network().eval()
    network.load_state_dict(load_file(written.files[0]))
    said: np.ndarray = training_rows.logits_of(learner, network, learner.part(learner.fold.test), 32).softmax(1).numpy()
    return said


@pytest.mark.slow
@pytest.mark.timeout(3600)  # a minute or two, where nothing else runs
def test_order_is_learned(fer2013: Path, tmp_path: Path, seed: int) -> None:
    """From neutral to happiness or back: whatever is blind to order is right in one half."""
    made = tasks.order_clips(fer2013)
    said = learned(made, tmp_path, fer2013, ("neutral", "happiness"), seed, share=0.12, epochs=24)
    assert tasks.score(made, tasks.mean_probe(made), "war").value == 0.5
    found = tasks.score(made, said, "war")
    print(found)  # noqa: T201  with -s: the figures of the README
    assert found.value >= 0.9


@pytest.mark.slow
@pytest.mark.timeout(3600)  # a minute or two, where nothing else runs
def test_expressions_are_learned_better_than_from_the_mean_of_the_frames(fer2013: Path, tmp_path: Path, seed: int) -> None:
    made = tasks.expression_clips(fer2013, clips=1400, test=700)
    said = learned(made, tmp_path, fer2013, BASIC7.labels, seed, share=0.06, epochs=16)
    found = tasks.gain(made, said, tasks.mean_probe(made))
    print(tasks.score(made, said), found)  # noqa: T201  with -s: the figures of the README
    assert found.low is not None
    assert found.low > 0
