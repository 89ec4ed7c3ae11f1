"""The trainings of this package: what they learn from is apart from what they are measured on, and a step of each works."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from affectkit_mini.trainings import sentence_features
from affectkit_mini.trainings.faces import FaceTraining
from affectkit_mini.trainings.language import SceneTraining, TextTraining, distribution
from affectkit_mini.trainings.sentence_features import Sentences
from affectkit_mini.trainings.sequences import SequenceOptions, SequenceTraining
from affectkit_mini.trainings.voices import VoiceOptions, VoiceTraining
from sklearn.feature_extraction.text import TfidfVectorizer
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
    rows = np.linspace(0, len(parts["train"]) - 1, 15).astype(np.int64)
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
    held = {name: torch.as_tensor(value) for name, value in parts["validation"].batch(np.arange(3), None).items()}
    with torch.inference_mode():
        assert training.predict(network, held).shape == (3, 7)


def test_voices_are_measured_by_those_who_did_not_hear_them(shared_data: Path) -> None:
    """What a member learns in a step does not depend on the voices that it leaves out."""
    training = VoiceTraining()
    parts = training.parts(shared_data)
    voices = np.unique(parts["train"].groups)
    assert len(voices) == 26
    assert {len(np.unique(parts[name].groups)) for name in ("validation", "calibration")} == {13}
    rows = np.array([np.flatnonzero(parts["train"].groups == voice)[0] for voice in voices])
    batch = {name: torch.as_tensor(value) for name, value in parts["train"].batch(rows, None).items()}
    batch["truth"] = torch.from_numpy(parts["train"].truth[rows])
    assert sorted(batch["fold"].bincount().tolist()) == [5, 5, 5, 5, 6]

    def learned(features: torch.Tensor) -> list[torch.Tensor]:
        torch.manual_seed(0)
        network = training.network()
        training.loss(network, {**batch, "features": features}, torch.ones(7)).backward()
        return [*(value.grad for value in network.weights), network.standard.running_mean.view(10, -1)]

    left_out = 2
    other = torch.where((batch["fold"] == left_out)[:, None], batch["features"].flip(1), batch["features"])
    for before, after in zip(learned(batch["features"]), learned(other), strict=True):
        same = [torch.equal(*pair) for pair in zip(before, after, strict=True)]
        assert same == [member % 5 == left_out for member in range(10)]
    network = training.network().eval()
    said = network(batch["features"], batch["fold"])[0]
    for fold in range(5):
        some = batch["fold"] == fold
        torch.testing.assert_close(said[some], network(batch["features"][some], fold)[0])


def test_words_of_scenes_are_those_of_training(shared_data: Path) -> None:
    training = SceneTraining()
    with pytest.raises(UsageError, match=r"call parts\(\) first"):
        training.network()
    parts = training.parts(shared_data)
    network: Any = training.network()
    reference = TfidfVectorizer(sublinear_tf=True, max_features=2048).fit(training._texts)
    rarity = dict(zip(network.known.tolist(), network.rarity.tolist(), strict=True))
    assert network.known.tolist() == sorted(rarity)
    sure = [word for word in reference.get_feature_names_out() if zlib.crc32(word.encode()) in rarity]
    assert len(sure) > 1900  # scikit-learn takes those that occur most often, this those that are in most texts
    for word in sure[::50]:
        assert rarity[zlib.crc32(word.encode())] == pytest.approx(reference.idf_[reference.vocabulary_[word]], rel=1e-5)
    assert not set(parts["train"].groups) & set(parts["validation"].groups)


def test_numbers_of_sounds_are_kept(tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "features.npy"
    rows = np.array([5])
    first = VoiceTraining(VoiceOptions(features=str(path))).parts(shared_data)["train"].batch(rows, None)["features"]
    monkeypatch.delattr("affectkit_mini.voice.describe")
    again = VoiceTraining(VoiceOptions(features=str(path))).parts(shared_data)["train"].batch(rows, None)["features"]
    assert np.array_equal(first, again)
    np.save(path, np.zeros((1, 2, 3), np.float32))
    with pytest.raises(UsageError, match=r"has the shape \(1, 2, 3\), expected \(8, 2067, 310\)"):
        VoiceTraining(VoiceOptions(features=str(path))).parts(shared_data)


def test_states_of_words_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{word} again and again" for word in ("joy", "fear", "anger", "what a long and winding road", "calm") * 3]
    rows, folder = np.array([4, 3, 0]), tmp_path / "states"
    alone = Sentences(texts).batch(rows)
    assert alone["mask"].sum(1).tolist() == [6, 11, 6]  # with the tokens for begin and end
    assert alone["embedding"].norm(dim=1).tolist() == pytest.approx([1.0] * 3)
    torch.testing.assert_close(Sentences(texts, means=True).batch(rows)["embedding"], alone["embedding"], atol=1e-3, rtol=0)
    Sentences(texts, folder=folder).batch(rows[:1])
    load = sentence_features.load_sentence_model
    monkeypatch.delattr("affectkit_mini.trainings.sentence_features.load_sentence_model")
    again = Sentences(texts, folder=folder)
    assert torch.equal(again.batch(rows[:1])["states"][0], alone["states"][0, :6])
    with pytest.raises(NameError):  # longer texts were not read yet
        again.batch(rows)
    monkeypatch.setattr("affectkit_mini.trainings.sentence_features.load_sentence_model", load, raising=False)
    Sentences(texts, folder=folder).batch(rows)
    monkeypatch.delattr("affectkit_mini.trainings.sentence_features.load_sentence_model")
    for name, value in Sentences(texts, folder=folder).batch(rows).items():
        assert torch.equal(value, alone[name])


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
