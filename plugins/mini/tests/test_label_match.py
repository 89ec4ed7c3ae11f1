"""mini/label_match: faces matched with texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from affectkit_mini.label_match import CALLED, LabelMatch, LabelMatchOptions
from affectkit_mini.trainings.corpora import read_fer2013
from affectkit_mini.trainings.label_texts import HELD, LEARNED, held_texts, learned_texts
from affectkit_mini.trainings.labels import LabelOptions, LabelTraining
from click.testing import CliRunner, Result

from affectkit import fitting, read_run
from affectkit.api import BASIC7, COMPOUND7, ConfigError, Turn
from affectkit.cli import cli
from affectkit.labels import BASIC8, of_texts, projects
from affectkit.testing import ModalityContract

from .conftest import face_clip, predict

PLAIN = """
from affectkit.api import BASIC7, Modality, Output, hookimpl


class Plain(Modality):
    name = "plain"
    labels = BASIC7

    def preprocess(self, clip):
        return None

    def predict(self, batch):
        return Output({})


@hookimpl
def affectkit_modalities():
    return [Plain]
"""


def call(*words: str) -> Result:
    """A command, without a process of its own."""
    return CliRunner().invoke(cli, list(words))


class TestLabelMatch(ModalityContract):
    component = LabelMatch


class TestLabelMatchWithTexts(ModalityContract):
    component = LabelMatch
    options: ClassVar[Mapping[str, Any]] = {"labels": ["bored", "relieved", "in love with life"]}


@pytest.fixture(scope="module")
def asking() -> Callable[..., LabelMatch]:
    """Components with their packaged weights, by what they are asked for."""
    kept: dict[tuple[str, ...] | None, LabelMatch] = {}

    def make(*labels: str) -> LabelMatch:
        if labels not in kept:
            kept[labels] = LabelMatch(LabelMatchOptions(labels=labels or None))
            kept[labels].load(torch.device("cpu"), torch.float32)
        return kept[labels]

    return make


def test_without_texts_it_says_the_basic_and_the_compound_set(asking):
    values = predict(asking(), face_clip(2)).values
    assert set(values) == {BASIC7, COMPOUND7}
    for rows in values.values():
        torch.testing.assert_close(rows.sum(1), torch.ones(1))


def test_any_texts_are_a_set_of_their_own_that_no_fusion_reads(asking):
    component = asking("Bored", "much relieved", "happy")
    (labels,) = component.label_sets
    assert labels.labels == ("bored", "much_relieved", "happy")
    assert not projects(labels, BASIC8)
    torch.testing.assert_close(predict(component, face_clip()).values[labels].sum(1), torch.ones(1))


def test_the_order_of_texts_does_not_matter(asking):
    texts = ("bored", "relieved", "a person who won the lottery")
    first, second = asking(*texts), asking(*texts[::-1])
    one, other = (predict(part, face_clip(3)).values[part.label_sets[0]] for part in (first, second))
    torch.testing.assert_close(one, other.flip(1), atol=1e-5, rtol=0)
    assert first.label_sets != second.label_sets


def test_what_is_asked_beside_a_text_changes_its_share(asking):
    two, three = asking("bored", "relieved"), asking("bored", "relieved", "furious")
    shares = [predict(part, face_clip()).values[part.label_sets[0]][0] for part in (two, three)]
    assert (shares[1][:2] < shares[0]).all()
    torch.testing.assert_close(shares[1][0] / shares[1][1], shares[0][0] / shares[0][1], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("labels", [BASIC7, COMPOUND7], ids=lambda labels: labels.name)
def test_the_names_of_a_known_set_are_that_set(labels):
    assert of_texts(labels.labels) == labels
    assert of_texts([label.replace("_", " ").title() for label in labels.labels]) == labels
    assert len(CALLED[labels]) == len(labels)


def test_texts_by_label_are_classes(asking):
    """And say what the texts by themselves say."""
    component = LabelMatch(LabelMatchOptions(labels={"sadness": "bored", "happiness": "relieved"}))
    component.load(torch.device("cpu"), torch.float32)
    (labels,) = component.label_sets
    assert (labels.labels, labels.kind) == (("sadness", "happiness"), "categorical")
    alone = asking("bored", "relieved")
    one, other = (predict(part, face_clip()).values[part.label_sets[0]] for part in (component, alone))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ((), r"labels must be at least two texts, because each is compared with the others; found \[\]"),
        (("bored",), r"at least two texts.*found \['bored'\]"),
        (("bored", "Bored"), "labels has 'bored' and 'Bored', which are both the label 'bored'; leave one of them out"),
        (("at ease", "at-ease"), "which are both the label 'at_ease'"),
        (("bored", "?!"), "labels has a text without letters, '\\?!'"),
    ],
)
def test_texts_that_cannot_be_asked_for(texts: Sequence[str], message: str):
    with pytest.raises(ConfigError, match=message):
        LabelMatchOptions(labels=tuple(texts))


@pytest.mark.parametrize("prompts", [(), ("a face",)])
def test_prompts_without_a_place_for_the_text(prompts: Sequence[str]):
    with pytest.raises(ConfigError, match=r"each with \{\} where the text goes"):
        LabelMatchOptions(prompts=tuple(prompts))


def test_texts_that_measure_were_never_learned_from():
    learned = {text for texts in learned_texts() for text in texts}
    assert min(len(texts) for texts in learned_texts()) >= 40
    for kind, by_class in held_texts().items():
        assert learned.isdisjoint(text for texts in by_class for text in texts), kind
    words = {word for part in HELD.values() for word in (*part.states, *part.names)}
    assert words.isdisjoint(word for part in LEARNED.values() for word in (*part.states, *part.names))


@pytest.mark.parametrize(("kind", "least"), [("names", 0.55), ("words", 0.40), ("phrases", 0.40)])
def test_accuracy_with_texts_that_were_never_learned_from(kind: str, least: float, shared_data: Path, asking):
    pictures, truth, _ = read_fer2013(shared_data, "public_test")
    rows = np.random.default_rng(0).permutation(len(pictures))[:300]
    component = asking()
    with torch.inference_mode():
        points = component._towers.faces(*component._net.net.read(torch.from_numpy(pictures[rows]).float() / 255))
    hits = []
    for draw in range(6):
        random = np.random.default_rng(draw)
        texts = tuple(str(random.choice(some)) for some in held_texts()[kind])
        asked = asking(*texts)
        hits.append(((points @ next(iter(asked._points.values())).T).argmax(1).numpy() == truth[rows]).mean())
    assert np.mean(hits) >= least, hits


def test_the_run_says_that_it_is_a_similarity(shared_data: Path, tmp_path: Path):
    video, out = shared_data / "video" / "single_face.mp4", tmp_path / "run"
    chosen = ["--plugins", "mini/face_static,mini/label_match", "--fusion", "core/mean"]
    found = call("run", str(video), "--out", str(out), "--labels", "bored, relieved", *chosen)
    assert found.exit_code == 0, found.output
    said = found.output
    assert "mini/label_match compares the face with texts: a similarity, not validated recognition." in said
    (medium,) = json.loads((out / "run.json").read_text())["media"].values()
    mean = medium["mean"]["mini/label_match"]
    assert set(mean) == {"bored", "relieved"}
    assert sum(mean.values()) == pytest.approx(1, abs=1e-3)
    first = max(mean, key=mean.get)
    assert f"mini/label_match {first} {mean[first]:.2f}, " in said


def test_where_the_recipe_has_no_modality_that_takes_texts_it_joins(shared_data: Path, tmp_path: Path):
    video = shared_data / "video" / "single_face.mp4"
    found = call("run", str(video), "--out", str(tmp_path / "run"), "--labels", "bored,relieved", "--dry-run", "--json")
    recipe = json.loads(found.stdout)["recipe"]
    assert recipe["modalities"][-1] == "mini/label_match"
    assert recipe["components"]["mini/label_match"]["labels"] == ["bored", "relieved"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--labels", "bored,,relieved"], "--labels has an empty text in 'bored,,relieved'; write for instance --labels bored,relieved"),
        (["--labels", "bored,Bored"], "which are both the label 'bored'"),
        (["--labels", "bored"], "labels must be at least two texts"),
        (["--labels", "a,b", "--plugins", "mini/audio"], "and none of mini/audio does; add one of: "),
        (
            ["--labels", "a,b", "--plugins-dir", ".", "-p", "no:mini", "-p", "no:finecliper", "--recipe", "run.yaml"],
            "no plugin that is installed has one",
        ),
    ],
)
def test_labels_that_cannot_be_given(words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text("modalities: [plain/plain]\n")
    Path("plain.py").write_text(PLAIN)
    found = call("run", "talk.mp4", "--dry-run", *words)
    assert found.exit_code != 0
    assert message in found.stderr


@pytest.mark.parametrize("recipe", ["mini/label_match", "mini/mini"])
def test_recipes_that_ship_with_it_are_complete(recipe: str, shared_data: Path, tmp_path: Path):
    video = shared_data / "video" / "single_face.mp4"
    chosen = ["--plugins", "mini"] if recipe == "mini/mini" else []
    found = call("run", str(video), "--out", str(tmp_path / "run"), "--recipe", recipe, *chosen, "--dry-run", "--json")
    assert "mini/label_match" in json.loads(found.stdout)["recipe"]["modalities"]


def test_a_step_of_the_training(shared_data: Path):
    training = LabelTraining(LabelOptions(pictures=64))
    parts = training.parts(shared_data)
    fitting.check_disjoint(parts, training.name)
    assert len(parts["train"]) == 64
    network, rows = training.network(), np.arange(8)
    losses = []
    for _ in range(2):
        batch = {name: torch.as_tensor(value) for name, value in parts["train"].batch(rows, Turn(seed=1, step=5, done=0.1)).items()}
        torch.manual_seed(0)
        losses.append(training.loss(network, batch, torch.ones(7)))
    assert torch.equal(*losses), "random numbers that are not those of the step"
    losses[0].backward()
    assert all(value.grad is not None for value in network.parameters())


@pytest.mark.parametrize("choice", [("--recipe", "mini/label_match"), ("--plugins", "mini/label_match")], ids=" ".join)
def test_texts_of_ones_own_need_no_other_option(choice: tuple[str, str], shared_data: Path, tmp_path: Path):
    """Fusions and heads that have nothing to read are left out, unless they are asked for."""
    picture = shared_data / "images" / "happy.jpg"
    done = CliRunner().invoke(cli, ["run", str(picture), *choice, "--labels", "bored,happy", "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert "Left out, since texts of one's own give it nothing to read: " in done.stderr
    table = read_run(tmp_path / "run")
    mine = table[table.source == "mini/label_match"]
    assert (mine.p_happy > 0.6).all()
    assert "core/direct" not in set(table.source)
    refused = CliRunner().invoke(
        cli, ["run", str(picture), *choice, "--labels", "bored,happy", "--head", "core/direct", "--out", str(tmp_path / "two")]
    )
    assert refused.exit_code == 2
    assert "core/direct needs a modality that says 'compound7' itself" in refused.output
