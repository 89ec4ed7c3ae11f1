"""What FineCLIPER learns from real faces in a small CLIP: more than a linear reader of the mean frame, and the order of frames."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from affectkit_finecliper import clip_files
from affectkit_finecliper.trainings.clips import FaceDynamicTraining, TuningOptions
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

from affectkit import fitting, open_clip_files, weight_files
from affectkit.clip_reading import ClipReader
from affectkit.clip_training import ClipBatches
from affectkit.datasets.items import Fold
from affectkit.options import build
from affectkit.testing import clips as tasks
from affectkit.training import train
from affectkit.training_recipes import Plan

SIDE, WIDTH, STILLS = 24, 64, 8000
ORDER = {
    "onset": ("a face at rest that begins to smile", "a smile that fades"),
    "offset": ("a smile that fades", "a face that begins to smile"),
}


@pytest.fixture(scope="module")
def fer2013(shared_data: Path) -> Path:
    found = shared_data / "faces" / "fer2013.parquet"
    if not found.is_file():
        pytest.skip(f"there is no {found}")
    return found


@pytest.fixture(scope="module")
def seeing(fer2013: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP that sees faces, as one of random numbers does not: its one patch is the whole picture, read by the principal components of stills.

    Everything else in it is random, and no label was used. It sees frames one by one, so that before tuning it is blind to their order.
    """
    table = pd.read_parquet(fer2013)
    pictures = [
        cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_GRAYSCALE) for raw in table[table["split"] == tasks.TRAIN]["jpeg"][:STILLS]
    ]
    stills = np.stack([cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for picture in pictures]).reshape(STILLS, -1) / 255
    middle = stills.mean(0)
    sizes, axes = np.linalg.eigh(np.cov((stills - middle).T))
    filters = torch.from_numpy((axes[:, -WIDTH:] / np.sqrt(sizes[-WIDTH:])).T).float()
    folder = clip_files.write_tiny(tmp_path_factory.mktemp("seeing"), clip_files.tiny_config(SIDE, SIDE, WIDTH))
    tensors = weight_files.load_tensors(folder / open_clip_files.WEIGHTS[0])
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    colours = filters.view(WIDTH, 1, SIDE, SIDE).expand(-1, 3, -1, -1) / 3
    tensors["visual.conv1.weight"] = (colours * std).contiguous()  # CLIP sees (picture - mean) / std
    shift = filters @ torch.from_numpy(middle).float() - (colours * mean).sum((1, 2, 3))
    tensors["visual.positional_embedding"][1] = -shift
    weight_files.save_tensors(folder / open_clip_files.WEIGHTS[0], tensors, {"licence": weight_files.RANDOM})
    return folder


class OnTask(FaceDynamicTraining):
    """The training, on clips in memory."""

    task: tasks.MadeClips

    def read(self, data: Path) -> Fold:
        return self.task.fold()

    @cached_property
    def reader(self) -> ClipReader:
        return self.task.reader()


def learned(task: tasks.MadeClips, backbone: Path, work: Path, seed: int, epochs: int, **options: Any) -> Mapping[str, np.ndarray]:
    """Probabilities of the test list before and after a training."""
    given = {"backbone": str(backbone), "size": SIDE, "ratio": 1.0, "held": 0.2, "augment": {"crop": 1.0}, "descriptions": 0.0, **options}
    training = OnTask(build(TuningOptions, given))
    training.task = task
    parts = dict(training.parts(Path()))
    held = parts.pop("validation")
    side = fitting.halves(held.groups, 1)
    parts |= {"validation": held.take(np.flatnonzero(side)), "calibration": held.take(np.flatnonzero(~side))}
    recipe = {"training": "finecliper/face_dynamic_training", "epochs": epochs, "batch_size": 32, "options": given, "seed": seed}
    how = {"optimiser": {"rate": 3e-3, "decay": 0.05, "clip": 1.0}, "schedule": {"warmup": 0.08}}
    torch.manual_seed(seed)
    before = training.network().eval()
    after = train(training, build(Plan, recipe | how), parts, work, device="cpu").network
    batches, count = ClipBatches(training, training.fold.test), len(training.fold.test)

    @torch.inference_mode()
    def says(network: torch.nn.Module) -> np.ndarray:
        found = [
            training.predict(network, {name: torch.as_tensor(value) for name, value in batches(rows, None).items()})
            for rows in np.array_split(np.arange(count), 8)
        ]
        return torch.cat(found).softmax(1).numpy()

    return {"before": says(before), "after": says(after)}


@pytest.mark.slow
@pytest.mark.timeout(3600)  # a minute or two, where nothing else runs
def test_it_beats_a_linear_reader_of_the_mean_frame(fer2013: Path, seeing: Path, tmp_path: Path, seed: int):
    task = tasks.expression_clips(fer2013, clips=700, size=SIDE)
    found = learned(task, seeing, tmp_path, seed, epochs=22)
    gain = tasks.gain(task, found["after"], tasks.mean_probe(task))
    print(tasks.score(task, found["after"]), gain)  # noqa: T201  with -s: the figures of the README
    assert gain.low is not None
    assert gain.low > 0, gain


@pytest.mark.slow
@pytest.mark.timeout(3600)  # a minute or two, where nothing else runs
def test_it_learns_an_order_that_it_was_blind_to(fer2013: Path, seeing: Path, tmp_path: Path, seed: int):
    """Each clip is there forwards and backwards: whatever does not look at the order of frames is right in one half."""
    task = tasks.order_clips(fer2013, clips=480, size=SIDE)
    found = learned(task, seeing, tmp_path, seed, epochs=26, texts=ORDER)
    right = {name: tasks.score(task, values, "war") for name, values in found.items()}
    print(right)  # noqa: T201  with -s: the figures of the README
    assert right["before"].value == pytest.approx(0.5, abs=0.02)
    assert right["after"].value >= 0.9, right
