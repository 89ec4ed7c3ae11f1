"""The pairings of which the weights of the fusion are made, and the prototypes of core/pfsa."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from affectkit_mini.trainings.fusion import PRESENT, SOURCES, PairingTraining, Said, _joined, pair

from affectkit.api import BASIC7, BASIC8, Part
from affectkit.builtin.fusion import load_mhpf
from affectkit.builtin.pfsa import load_pfsa
from affectkit.making import make
from affectkit.options import build
from affectkit.training_recipes import Plan


def made_up(strength: float, sources: int, seed: int, rows: int = 280) -> Said:
    """What sources say of rows of every class in turn; the number of a row stands in what they say of the last class."""
    random = np.random.default_rng(seed)
    truth = np.arange(rows) % len(BASIC7)
    logits = random.normal(size=(rows, sources, 7)) + strength * np.eye(7)[truth][:, None]
    values = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    return Said(values, truth, np.arange(rows) // len(BASIC7) % 2 == 0)


@pytest.fixture
def said() -> dict[str, Said]:
    return {"face": made_up(2.0, 2, 0), "audio": made_up(1.0, 1, 1), "text": made_up(0.5, 1, 2), "scene": made_up(0.0, 1, 3)}


def test_pairings_are_of_equal_label_and_of_one_side(said: dict[str, Said]) -> None:
    sides = {fitting: pair(said, 2000, fitting, 1) for fitting in (True, False)}
    for fitting, (values, truth, valid) in sides.items():
        assert valid.any(axis=(1, 2)).all()
        assert not values[~valid].any()
        audio = valid[:, 2, 0]
        assert audio.mean() == pytest.approx(PRESENT["audio"], abs=0.05)
        known = {
            row.tobytes(): label for row, label, side in zip(*_rows(said["audio"]), said["audio"].fitting, strict=True) if side == fitting
        }
        assert [known[row.tobytes()] for row in values[audio, 2, :7]] == truth[audio].tolist()
    assert not valid[..., BASIC8.index("other")].any()


def _rows(part: Said) -> tuple[np.ndarray, np.ndarray]:
    return part.rows[:, 0].astype(np.float32), part.truth


def test_the_better_source_gets_more_weight(said: dict[str, Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PairingTraining, "_faces", lambda self, data: said["face"])
    monkeypatch.setattr(PairingTraining, "_others", lambda self, data, name: said[name])
    from affectkit import plugins

    plan = {"training": "mini/mhpf_training", "name": "mhpf", "data": ".", "epochs": 20, "batch_size": 3000, "seed": 1, "store": "fp32"}
    plan |= {"optimiser": {"name": "adam", "rate": 0.05, "decay": 0.0}, "schedule": {"warmup": 0.0, "shape": "constant"}}
    plan |= {"options": {"pairings": 3000}}
    made = make(build(Plan, plan), plugins.load(only=["mini"]), tmp_path, device="cpu")
    fitted = load_mhpf(made.files[0], BASIC8)
    assert fitted.sources == SOURCES
    assert (fitted.record["licence"], fitted.record["commercial"]) == ("CC-BY-NC-SA-4.0", False)
    weights = fitted.model.weights()[:, :7].mean(dim=1).tolist()
    assert weights[0] > weights[2] > weights[4]
    further = made.record["validation"]["further"]
    assert made.record["validation"]["all"]["macro_f1"]["value"] > further["macro_f1 of the mean"]
    assert made.record["validation"]["all"]["ece"]["value"] < further["ece of the mean"] / 2


def test_prototypes_are_read_by_pfsa(shared_data: Path, tmp_path: Path) -> None:
    from affectkit import plugins

    plan = build(
        Plan, {"training": "mini/pfsa_training", "name": "pfsa", "data": str(shared_data), "options": {"pictures": 30}, "store": "fp32"}
    )
    made = make(plan, plugins.load(only=["mini"]), tmp_path, device="cpu", limit=150)
    found = load_pfsa(made.files[0])
    assert (tuple(found.prototypes.shape), found.embedding) == ((6, 128), "mini/face_static:face")
    assert made.record["validation"]["all"]["uar"]["value"] > 0.4  # 1/6 by chance
    assert "150 rows" in made.files[2].read_text()


def test_two_parts_as_one() -> None:
    def part(first: int, width: int) -> Part:
        def batch(rows: np.ndarray, turn: object) -> dict[str, torch.Tensor]:
            return {
                "states": torch.full((len(rows), width, 2), first) + torch.from_numpy(rows)[:, None, None],
                "row": torch.from_numpy(rows) + first,
            }

        return Part(np.zeros(4, dtype=np.int64), np.array(["a"] * 4), batch)

    both = _joined(part(0, 3), part(100, 5))
    found = both.batch(np.array([6, 1, 4]), None)
    assert found["row"].tolist() == [102, 1, 100]
    assert found["states"].shape == (3, 5, 2)
    assert found["states"][1, :, 0].tolist() == [1, 1, 1, 0, 0]
    assert both.batch(np.array([0, 2]), None)["states"].shape == (2, 3, 2)
