"""The trainings of this package: what they learn from is apart from what they are measured on, and a step of each works."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from affectkit_mini.detector import Faces
from affectkit_mini.listening import NUMBERS
from affectkit_mini.single_shot import FaceFinder, cells
from affectkit_mini.trainings import detection, sentence_features
from affectkit_mini.trainings.canvases import NO_FACE, Canvases, cut, goals
from affectkit_mini.trainings.detection_loss import loss, of_judge
from affectkit_mini.trainings.faces import RANDOM, FaceOptions, FaceTraining
from affectkit_mini.trainings.language import SceneTraining, TextTraining, distribution
from affectkit_mini.trainings.sentence_features import Sentences
from affectkit_mini.trainings.sequences import SequenceOptions, SequenceTraining
from affectkit_mini.trainings.teacher import Picture
from affectkit_mini.trainings.voices import VoiceOptions, VoiceTraining
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import f1_score

from affectkit import fitting, plugins
from affectkit.api import Part, Training, Turn, UsageError
from affectkit.metrics import ece
from affectkit.training_recipes import Plan
from affectkit.weight_files import load_tensors

TRAININGS = (detection.DetectionTraining, FaceTraining, SequenceTraining, VoiceTraining, SceneTraining, TextTraining)


def made(cls: type[Training]) -> Training:
    small = {
        SequenceTraining: SequenceOptions(sequences=48),
        FaceTraining: FaceOptions(start=RANDOM),
        VoiceTraining: VoiceOptions(start=RANDOM),
    }  # what the last two begin with are packages of their own
    return cls(small[cls]) if cls in small else cls()


@pytest.fixture
def little(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Few of the files that mini/faces learns from and is measured on."""
    monkeypatch.setattr(detection, "CROPS", (60, 20))
    monkeypatch.setattr(detection, "COMPOSITES", 4)
    names = [
        "video/single_face.mp4",
        "video/hungry.mkv",
        "images/angry.jpg",
        "images/happy.jpg",
        "images/no-faces.jpg",
        "images/single_face.jpg",
    ]
    for name in ("weights", "faces", "video_edge/park.mp4", "images_unlabelled/deepface_0000.jpg", *names):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(shared_data / name)
    return tmp_path


def test_a_recipe_for_every_training_with_the_name_of_its_weights() -> None:
    registry = plugins.load(only=["mini"])
    found = {recipe.path.stem: Plan.load(recipe.path) for recipe in registry.plugin("mini").training_recipes}
    assert {f"mini/{cls.name}" for cls in TRAININGS} <= {plan.training for plan in found.values()}
    assert all(plan.name == stem and plan.training == f"mini/{stem}_training" for stem, plan in found.items())


@pytest.mark.parametrize("cls", TRAININGS, ids=lambda cls: cls.name)
def test_parts_are_apart_and_a_step_works(cls: type[Training], shared_data: Path, request: pytest.FixtureRequest) -> None:
    training = made(cls)
    parts = training.parts(request.getfixturevalue("little") if cls is detection.DetectionTraining else shared_data)
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
        assert training.predict(network, held).shape == (3, len(training.labels))


def test_figures_of_faces_are_those_of_the_detector(little: Path) -> None:
    training = detection.DetectionTraining()
    held = training.parts(little)["validation"]
    assert {name: int(rows.sum()) for name, rows in held.views.items()} == {"clips": 12, "pictures": 2, "composites": 4}
    detector = Faces()
    network = FaceFinder()
    network.load_state_dict({name: value.float() for name, value in load_tensors(detector.weights()).items()})
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = training.figures(network.eval(), held, torch.zeros(len(held), 1), {})
    assert (found["clips, frames"], found["clips, faces"], found["clips, recall"]) == (12, 12, 1)
    assert (found["pictures, faces"], found["pictures, recall of the largest face"], found["pictures, false boxes per frame"]) == (1, 1, 0)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    network.answer.bias.data[0] = 50.0  # a face in every cell
    everywhere = training.figures(network, held.take(np.flatnonzero(held.views["pictures"])), torch.zeros(2, 1), {})
    assert everywhere["pictures, false boxes per frame"] > 10
    assert everywhere["clips, frames"] == 0


def test_made_pictures_say_where_their_faces_are() -> None:
    """A white square in black is the face: the cells that are asked for a box lie in it, and get its place."""
    rgb = np.zeros((200, 200, 3), np.uint8)
    rgb[60:140, 80:140] = 255
    box = np.array([80, 60, 140, 140, 90, 80, 130, 80, 110, 100, 90, 120, 130, 120], np.float32)
    picture = Picture("square.png", rgb, box[None], NO_FACE[1], np.concatenate([box, [0.9]])[None].astype(np.float32))
    random = np.random.default_rng(0)
    for _ in range(20):
        image, faces, doubtful = Canvases([picture], [picture]).around(random, picture, 160, 160)
        faces, doubtful = cut(faces, doubtful, 160, 160)
        goal, wanted = goals(faces, doubtful, 160, 160)
        assert set(map(tuple, wanted[wanted[:, 2] > 0])) <= set(map(tuple, faces))
        if not len(faces):
            continue
        assert (goal == 1).any()
        x0, y0, x1, y1 = faces[0, :4].round().astype(int).clip(0, 160)
        middle = image[(3 * y0 + y1) // 4 : (y0 + 3 * y1) // 4, (3 * x0 + x1) // 4 : (x0 + 3 * x1) // 4]
        assert middle.mean() > 200
        centres = cells(160, 160)[0].numpy()[goal == 1]
        assert ((centres > faces[0, :2] - 16) & (centres < faces[0, 2:4] + 16)).all()


def test_the_loss_of_faces_is_least_where_they_are() -> None:
    faces = np.array([[40, 40, 88, 100, 52, 60, 76, 60, 64, 74, 54, 86, 74, 86]], np.float32)
    goal, wanted = (torch.from_numpy(part)[None] for part in goals(faces, np.zeros((0, 4)), 128, 128))
    centres, strides = cells(128, 128)
    right = torch.zeros(1, len(centres), 15)
    right[..., 0] = torch.where(goal == 1, 8.0, -8.0)
    sides = wanted[..., 2:4] - wanted[..., :2]
    right[..., 1:3] = ((wanted[..., :2] + wanted[..., 2:4]) / 2 - centres) / strides
    right[..., 3:5] = (sides.clamp_min(1) / strides).log()
    right[..., 5:] = ((wanted[..., 4:].unflatten(-1, (5, 2)) - centres[:, None]) / strides[:, None]).flatten(-2)
    assert loss(right, goal, wanted, (128, 128)) < 0.01
    for part, change in ((slice(0, 1), 0), (slice(1, 3), 1.0), (slice(3, 5), 0.5), (slice(5, 15), 1.0)):
        wrong = right.clone()
        wrong[..., part] = -wrong[..., part] if change == 0 else wrong[..., part] + change
        assert loss(wrong, goal, wanted, (128, 128)) > loss(right, goal, wanted, (128, 128)) + 0.05


def test_the_judge_of_faces_learns_from_what_the_network_finds() -> None:
    """Two boxes are found, one is a face: the loss is that of a judge who says so, whatever the pictures' zoom."""
    faces = np.array([[40, 40, 88, 100, 52, 60, 76, 60, 64, 74, 54, 86, 74, 86]], np.float32)
    goal, wanted = (torch.from_numpy(part)[None] for part in goals(faces, np.zeros((0, 4)), 128, 128))
    centres, strides = cells(128, 128)
    answers = torch.zeros(1, len(centres), 15)
    answers[..., 0], answers[..., 1:3] = -9, 1000  # what the others find is beside the picture
    hit = int(torch.nonzero(goal[0] == 1)[0])
    far = int((centres - torch.tensor([116.0, 12.0])).norm(dim=1).argmin())
    answers[0, [hit, far], 0], answers[0, far, 1:3] = 5.0, 0.0
    answers[0, hit, 1:3] = ((wanted[0, hit, :2] + wanted[0, hit, 2:4]) / 2 - centres[hit]) / strides[hit]
    answers[0, hit, 3:5] = ((wanted[0, hit, 2:4] - wanted[0, hit, :2]) / strides[hit]).log()

    for zoom in (1, 2):
        large = torch.zeros(1, 128 * zoom, 128 * zoom, 3, dtype=torch.uint8)
        large[:, 40 * zoom : 100 * zoom, 40 * zoom : 88 * zoom] = 255

        def bright(views: torch.Tensor) -> torch.Tensor:
            return 20 * (views[:, :, 20:28, 20:28].mean((1, 2, 3)) > 0.5).float()[:, None] - 10

        assert of_judge(bright, answers, goal, wanted, (128, 128), large) < 0.01
        assert of_judge(lambda views: -bright(views), answers, goal, wanted, (128, 128), large) > 5
        assert of_judge(bright, answers, torch.full_like(goal, -1), torch.zeros_like(wanted), (128, 128), large) == 0  # all is doubtful


def test_voices_are_measured_by_those_who_did_not_hear_them(shared_data: Path) -> None:
    """What a member learns in a step does not depend on the voices that it leaves out."""
    training = VoiceTraining(VoiceOptions(start="random"))
    parts = training.parts(shared_data)
    voices = np.unique(parts["train"].groups)
    assert len(voices) == 26
    assert {len(np.unique(parts[name].groups)) for name in ("validation", "calibration")} == {13}
    rows = np.array([np.flatnonzero(parts["train"].groups == voice)[0] for voice in voices])
    batch = {name: torch.as_tensor(value) for name, value in parts["train"].batch(rows, None).items()}
    batch["truth"] = torch.from_numpy(parts["train"].truth[rows])
    assert sorted(batch["fold"].bincount().tolist()) == [5, 5, 5, 5, 6]
    first = training.network().state_dict()

    def fresh() -> Any:
        network = training.network()
        network.load_state_dict(first)
        return network

    def learned(numbers: torch.Tensor) -> list[torch.Tensor]:
        network = fresh()
        torch.manual_seed(0)
        training.loss(network, {**batch, "numbers": numbers}, torch.ones(7)).backward()
        assert all(value.grad is None for value in network.listener.parameters())
        gradients = [value.grad for value in (network.inner, network.outer, network.bias)]
        return [*gradients, network.standard.running_mean.view(5, -1), network.norm.running_mean.view(5, -1)]

    left_out = 2
    changed = torch.where((batch["fold"] == left_out)[:, None], batch["numbers"].flip(1), batch["numbers"])
    for before, after in zip(learned(batch["numbers"]), learned(changed), strict=True):
        assert [torch.equal(*pair) for pair in zip(before, after, strict=True)] == [member == left_out for member in range(5)]
    network = fresh().eval()
    said = network(batch["numbers"], batch["fold"])[0]
    for fold in range(5):
        some = batch["fold"] == fold
        torch.testing.assert_close(said[some], network(batch["numbers"][some], fold)[0])


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


def test_nothing_is_said_of_a_voice_with_more_confidence_than_in_training() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(7, size=2000)
    said = torch.from_numpy(random.normal(size=(2000, 7))).float()
    said[np.arange(2000), truth] += 2
    right = fitting.fit_temperature(said, truth, "categorical")
    for factor, expected in ((0.3 * right, 1.0), (3 / right, None)):
        found = VoiceTraining().settings(said * factor, truth)["temperature"]
        assert found == pytest.approx(expected or right * factor, rel=0.01)
        assert found >= 1


def test_numbers_of_sounds_are_kept_for_each_encoder(tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rows = tmp_path / "kept", np.array([5, 1500])
    training = VoiceTraining(VoiceOptions(start="random", features=str(folder)))
    first = training.parts(shared_data)["train"].batch(rows, None)
    assert (
        VoiceTraining(VoiceOptions(start="random", features=str(folder))).parts(shared_data)["train"].batch(rows, None).keys()
        == first.keys()
    )
    assert len(list(folder.iterdir())) == 2, "another encoder's are other numbers"
    monkeypatch.delattr("affectkit_mini.listening.hear")
    again = training.parts(shared_data)["train"].batch(rows, None)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    for path in folder.iterdir():
        np.save(path, np.zeros((1, 2, 3), np.float16))
    with pytest.raises(UsageError, match=rf"heard-.*\.npy has the shape \(1, 2, 3\), expected \(11, 2067, {NUMBERS}\)"):
        training.parts(shared_data)


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
    rows = distribution(scores, settings["exponent"])
    assert rows.sum(axis=1) == pytest.approx(1.0)
    told = TextTraining().figures(torch.nn.Identity(), Part(truth, np.arange(200), lambda rows, turn: {}), logits, settings)
    name, single = "macro_f1 at the thresholds", truth.sum(axis=1) == 1
    assert told[name] == pytest.approx(f1_score(truth, scores >= settings["thresholds"], average="macro"))
    assert told[f"{name}, lower"] < told[name] < told[f"{name}, upper"]
    hit = rows[single].argmax(axis=1) == truth[single].argmax(axis=1)
    assert told["accuracy on rows with one label"] == pytest.approx(hit.mean())
    assert told["ece on rows with one label"] == pytest.approx(ece(rows[single].max(axis=1), hit))
    assert (told["exponent g"], told["threshold of fear"]) == (settings["exponent"], settings["thresholds"][3])


def test_data_that_are_not_there(tmp_path: Path) -> None:
    for cls in TRAININGS:
        with pytest.raises(UsageError, match="--data must name the folder that holds faces, audio, text and scene"):
            made(cls).parts(tmp_path)


def test_made_sequences_share_no_still(shared_data: Path) -> None:
    parts = SequenceTraining(SequenceOptions(sequences=48)).parts(shared_data)
    assert {name: len(part) for name, part in parts.items()} == {"train": 48, "validation": 24, "calibration": 6}
    stills = {name: {picture.tobytes() for picture in part.batch.pictures} for name, part in parts.items()}  # type: ignore[attr-defined]
    assert not stills["train"] & (stills["validation"] | stills["calibration"])
    assert not stills["validation"] & stills["calibration"]


def test_a_quick_try_limits_what_is_measured_beside_the_validation_part() -> None:
    training, part = SceneTraining(), Part(np.arange(10), np.arange(10).astype(str), lambda rows, turn: {})
    assert training.limited(part) is part
    training.limit = 3
    assert len(set(training.limited(part).truth.tolist())) == 3
    assert training.limited(part).truth.tolist() == training.limited(part).truth.tolist()
