"""``finecliper/face_dynamic``: what its rows depend on and what they do not, the labels that it speaks, its files, and whole runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from affectkit_finecliper import clip_files
from affectkit_finecliper.face_dynamic import FaceDynamic, FaceDynamicOptions
from affectkit_finecliper.shape import STREAMS
from affectkit_finecliper.texts import TEXTS
from affectkit_finecliper.tuned import read_tuned
from affectkit_finecliper.views import DRAWN, drawn, nearest
from click.testing import CliRunner, Result
from open_clip import CLIP
from safetensors.torch import load_file, save_file

import affectkit
from affectkit import headers, open_clip_files, weight_files
from affectkit.api import BASIC7, COMPOUND7, CheckpointError, ConfigError, Evidence
from affectkit.batching import collate
from affectkit.cli import cli
from affectkit.labels import KNOWN
from affectkit.testing import ModalityContract

from .conftest import SIDE, face_clip, loaded, predict, values

ALL = ("parsing", "landmarks")


@pytest.fixture(scope="module")
def full(tuned: Mapping[str, str]) -> FaceDynamic:
    """With all streams."""
    return loaded(**tuned, streams=STREAMS)


@pytest.fixture(scope="module")
def alone(tuned: Mapping[str, str]) -> FaceDynamic:
    """With frames alone, by the same file."""
    return loaded(**tuned)


class TestFaceDynamic(ModalityContract):
    """What every modality promises, with random weights."""

    component = FaceDynamic

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def random_weights(cls, tuned: Mapping[str, str]) -> None:
        cls.options = dict(tuned)


@pytest.mark.parametrize("stream", STREAMS)
def test_each_stream_changes_what_is_said(stream: str, full: FaceDynamic):
    before, other = face_clip(maps=ALL), face_clip(seed=5, maps=ALL)
    kind = "faces" if stream == "frames" else stream
    changed = face_clip(maps=ALL)
    changed.inputs[kind] = other.inputs[kind]  # type: ignore[index]
    one, two = (values(predict(full, clip)) for clip in (before, changed))
    assert (one - two).abs().max() > 1e-4


def test_masking_the_streams_equals_leaving_them_out(full: FaceDynamic, alone: FaceDynamic):
    """A clip in which nothing could be drawn, a recipe without the streams, and a provider that never was there."""
    missing, never = face_clip(), face_clip()
    for name in ALL:
        never.inputs.pop(name)  # type: ignore[attr-defined]
    expected = values(predict(alone, face_clip(maps=ALL)))
    for clip in (missing, never):
        torch.testing.assert_close(values(predict(full, clip)), expected, atol=1e-6, rtol=0)


def test_one_missing_stream_leaves_the_other(full: FaceDynamic):
    both, one, none = (values(predict(full, face_clip(maps=maps))) for maps in (ALL, ("landmarks",), ()))
    assert (both - one).abs().max() > 1e-5
    assert (one - none).abs().max() > 1e-5


def test_rows_do_not_depend_on_their_neighbours(full: FaceDynamic):
    clips = [face_clip(16, 0, ALL), face_clip(5, 1), face_clip(9, 2, ("landmarks",)), face_clip(16, 3, ALL)]
    together = predict(full, *clips)
    for place, clip in enumerate(clips):
        apart = predict(full, clip)
        torch.testing.assert_close(values(together)[place], values(apart)[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.embeddings["clip"][place], apart.embeddings["clip"][0], atol=1e-5, rtol=0)
    assert torch.equal(values(together), values(predict(full, *clips)))


def test_the_order_of_crops_counts(alone: FaceDynamic):
    clip, turned = face_clip(), face_clip()
    faces = turned.inputs["faces"]
    turned.inputs["faces"] = Evidence("faces", {**faces.data, "crops": faces.data["crops"][::-1]}, times=faces.times)  # type: ignore[index]
    assert (values(predict(alone, clip)) - values(predict(alone, turned))).abs().max() > 1e-5


@pytest.mark.parametrize(("count", "least", "there"), [(2, 2, True), (1, 2, False), (1, 1, True), (3, 4, False)])
def test_windows_with_too_few_crops_are_no_evidence(count: int, least: int, there: bool):
    component = FaceDynamic(FaceDynamicOptions(tuned="clip", least=least))
    assert (component.preprocess(face_clip(count)) is not None) is there


def test_no_face_is_no_evidence():
    clip = face_clip()
    clip.inputs["faces"] = Evidence.none("faces", "no face")  # type: ignore[index]
    assert FaceDynamic(FaceDynamicOptions(tuned="clip")).preprocess(clip) is None


def test_a_map_that_could_not_be_drawn_is_the_nearest_that_could():
    valid = np.array([False, True, False, False, True, False])
    clip = face_clip(6, maps=("landmarks",), landmarks_valid=valid)
    maps = clip.inputs["landmarks"].data["maps"]
    found = drawn(clip.inputs["landmarks"], clip.inputs["faces"].times, 6)
    assert found is not None
    assert np.array_equal(found, maps[[1, 1, 1, 4, 4, 4]])
    assert drawn(Evidence("landmarks", {"maps": maps, "valid": np.zeros(6, bool)}), None, 6) is None
    assert nearest(np.zeros(3, bool)) is None


def test_maps_of_other_moments_are_matched_by_time():
    clip = face_clip(6, maps=("parsing",))
    parsing = clip.inputs["parsing"]
    assert parsing.times is not None
    every_second = Evidence("parsing", {"maps": parsing.data["maps"][::2], "valid": np.ones(3, bool)}, times=parsing.times[::2] + 0.1)
    found = drawn(every_second, clip.inputs["faces"].times, 6)
    assert found is not None
    assert np.array_equal(found, parsing.data["maps"][[0, 0, 2, 2, 4, 4]])


def test_it_asks_for_the_streams_that_it_looks_at():
    kinds = {
        streams: {item.kind for item in FaceDynamic(FaceDynamicOptions(tuned="clip", streams=streams)).needs.inputs}
        for streams in (("frames",), ("frames", "landmarks"), STREAMS)
    }
    assert kinds == {("frames",): {"faces"}, ("frames", "landmarks"): {"faces", "landmarks"}, STREAMS: {"faces", *DRAWN}}
    asked = FaceDynamic(FaceDynamicOptions(tuned="clip", streams=STREAMS)).needs.inputs
    assert len({(item.count, item.size, item.margin) for item in asked}) == 1


def test_labels_are_those_of_the_file_unless_others_are_asked_for(tuned: Mapping[str, str]):
    assert FaceDynamic(FaceDynamicOptions(**tuned)).labels == KNOWN["dfew7"]
    assert FaceDynamic(FaceDynamicOptions(tuned="clip")).labels == BASIC7
    assert FaceDynamic(FaceDynamicOptions(**tuned, labels="mafw11")).labels == KNOWN["mafw11"]
    assert FaceDynamic(FaceDynamicOptions(**tuned, labels=("bored", "keen"))).labels.labels == ("bored", "keen")


@pytest.mark.parametrize("name", ["basic8", "dfew7", "ferv39k7", "mafw11", "affectnet7", "compound7"])
def test_zero_shot_to_every_label_set(name: str, tuned: Mapping[str, str]):
    found = values(predict(loaded(**tuned, labels=name), face_clip()))
    assert found.shape == (1, len(KNOWN[name]))
    torch.testing.assert_close(found.sum(1), torch.ones(1))


def test_a_class_means_the_same_whatever_else_is_asked_for(tuned: Mapping[str, str]):
    """Shares of two classes keep their ratio, in whichever set and at whichever place they stand."""
    one, other = loaded(**tuned, labels="dfew7"), loaded(**tuned, labels="mafw11")
    ratios = []
    for component in (one, other):
        row = values(predict(component, face_clip()))[0].log()
        ratios.append(row[component.labels.index("fear")] - row[component.labels.index("anger")])
    torch.testing.assert_close(*ratios, atol=1e-4, rtol=0)


def test_texts_of_the_file_are_used_even_where_ours_have_changed(tuned: Mapping[str, str], tmp_path: Path):
    header = json.loads(weight_files.metadata(Path(tuned["tuned"]))["settings"])
    header["texts"]["anger"] = ["a face in a rage", "a peaceful face"]
    path = tmp_path / "other.safetensors"
    save_file(load_file(tuned["tuned"]), path, {"settings": json.dumps(header)})
    before, after = (values(predict(loaded(**{**tuned, "tuned": file}), face_clip())) for file in (tuned["tuned"], str(path)))
    assert (before - after).abs().max() > 1e-5


def test_the_temperature_of_the_file_is_used(tuned: Mapping[str, str], tmp_path: Path):
    header = json.loads(weight_files.metadata(Path(tuned["tuned"]))["settings"])
    path = tmp_path / "cooler.safetensors"
    save_file(load_file(tuned["tuned"]), path, {"settings": json.dumps({**header, "temperature": 2.0})})
    before, after = (values(predict(loaded(**{**tuned, "tuned": file}), face_clip())) for file in (tuned["tuned"], str(path)))
    torch.testing.assert_close(after, (before.log() / 2).softmax(1), atol=1e-5, rtol=0)


def test_files_hold_what_is_tuned_and_nothing_of_the_clip(tuned: Mapping[str, str]):
    names = set(load_file(tuned["tuned"]))
    assert not [name for name in names if name.startswith("clip.") and "_Adapter" not in name]
    header = read_tuned(Path(tuned["tuned"]), "finecliper/face_dynamic")
    assert header.shape.streams == STREAMS
    assert header.backbone == clip_files.load(Path(tuned["backbone"]), "", openai=False).fingerprint


def test_another_clip_than_the_one_that_was_tuned_is_refused(tuned: Mapping[str, str], tmp_path: Path):
    network = weight_files.random_network(lambda: CLIP(**clip_files.tiny_config()), seed=1)
    other = clip_files.write_tiny(tmp_path)
    weight_files.save_tensors(other / open_clip_files.WEIGHTS[0], network.state_dict(), {})
    with pytest.raises(CheckpointError, match=r"was tuned in another CLIP \([0-9a-f]{16}, found [0-9a-f]{16}\); give that one as backbone"):
        loaded(**{**tuned, "backbone": str(other)})


def test_a_stream_that_was_not_tuned_is_refused(tmp_path: Path):
    component = FaceDynamic(FaceDynamicOptions(tuned="clip"))
    written = {tag: str(component.write_random(tag, tmp_path)) for tag in ("backbone", "tuned")}
    with pytest.raises(ConfigError, match="was tuned on frames and does not know parsing; leave that out of streams"):
        loaded(**written, streams=("frames", "parsing"))


@pytest.mark.parametrize(
    ("name", "metadata", "message"),
    [
        ("head.safetensors", {}, "is no file of 'affectkit train finecliper/face_dynamic' (its header has no 'labels')"),
        ("head.safetensors", {"settings": json.dumps({"labels": list(BASIC7.labels)})}, "its header has no 'label_set'"),
        ("head.safetensors", {"settings": "{"}, "'settings' in its header is no JSON object"),
        (
            "head.safetensors",
            {"settings": json.dumps({"labels": ["anger", "fear"], "label_set": "two", "texts": {"fear": ["a", "b"], "joy": ["c", "d"]}})},
            "finecliper/face_dynamic: {path} is no file of 'affectkit train finecliper/face_dynamic' (its header has 2 labels and texts of 2, which differ in anger, joy)",
        ),
        ("head.pt", {}, "a whole CLIP is the option backbone"),
    ],
)
def test_files_of_other_kinds(name: str, metadata: dict[str, str], message: str, tuned: Mapping[str, str], tmp_path: Path):
    save_file({"weight": torch.zeros(2)}, tmp_path / name, metadata)
    with pytest.raises(CheckpointError) as caught:
        loaded(**{**tuned, "tuned": str(tmp_path / name)})
    assert message.replace("{path}", str(tmp_path / name)) in str(caught.value)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_that_is_none(temperature: float, tuned: Mapping[str, str], tmp_path: Path):
    path = Path(tuned["tuned"])
    settings = headers.mapping(path) | {"temperature": temperature}
    save_file(load_file(path), tmp_path / "cold.safetensors", {"settings": json.dumps(settings)})
    with pytest.raises(CheckpointError, match=r"cold\.safetensors is no file of .* \(its temperature is "):
        loaded(**{**tuned, "tuned": str(tmp_path / "cold.safetensors")})


def test_a_file_that_lacks_a_tensor(tuned: Mapping[str, str], tmp_path: Path):
    path = Path(tuned["tuned"])
    tensors = load_file(path)
    tensors.pop("temporal_embedding")
    save_file(tensors, tmp_path / "less.safetensors", weight_files.metadata(path))
    with pytest.raises(CheckpointError, match=r"face_dynamic: .*less\.safetensors does not fit .*1 missing: temporal_embedding"):
        loaded(**{**tuned, "tuned": str(tmp_path / "less.safetensors")})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 8}, r"1 of another shape: temporal_embedding \(1, 16, 32\) instead of \(1, 8, 32\)"),
        ({"streams": ["frames"]}, "4 unexpected: mixer"),
        ({"ratio": 0.5}, "of another shape: clip"),
        ({"ratoi": 0.5}, r"is no file of .* \(shape\.ratoi: unknown key\. Did you mean ratio\?\)"),
        ({"ratio": "wide"}, r"is no file of .* \(shape\.ratio: expected a number, found 'wide' \(text\)\)"),
        ({"depth": 3, "frames": "many"}, r"is no file of [\s\S]* shape\.frames: expected a whole number[\s\S]* shape\.depth: unknown key"),
        ({"negative": 2.0}, r"is no file of .* \(shape: frames must be at least 1, .* negative in \[0, 1\]"),
    ],
)
def test_a_header_that_is_not_that_of_its_tensors(change: dict[str, object], message: str, tuned: Mapping[str, str], tmp_path: Path):
    header = json.loads(weight_files.metadata(Path(tuned["tuned"]))["settings"])
    header["shape"] |= change
    path = tmp_path / "other.safetensors"
    save_file(load_file(tuned["tuned"]), path, {"settings": json.dumps(header)})
    with pytest.raises(CheckpointError, match=message):
        loaded(**{**tuned, "tuned": str(path)})


def test_without_a_file_it_says_how_one_is_made(backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_file({"conv.weight": torch.zeros(3)}, tmp_path / "face_dynamic.safetensors")  # what another plugin's training wrote
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        CheckpointError,
        match=r"Nobody publishes them\. Make them with 'affectkit train finecliper/face_dynamic --dataset NAME --data DIR --out \.'",
    ):
        loaded(backbone=str(backbone))


def test_a_text_that_is_too_long_for_clip(backbone: Path):
    with pytest.raises(
        ConfigError, match=r"CLIP reads texts of at most 77 tokens, and 'a face that looks word word .* has \d+; shorten it"
    ):
        loaded(tuned="clip", backbone=str(backbone), labels=("bored", "word " * 80))


def test_clip_as_it_is_says_something_without_a_file(backbone: Path):
    found = predict(loaded(tuned="clip", backbone=str(backbone)), face_clip())
    assert values(found).shape == (1, 7)
    assert found.quality["faces"].tolist() == [16.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"streams": ("landmarks",)}, "streams must begin with frames"),
        ({"least": 0}, "least must be at least 1"),
        ({"labels": "dfew"}, "there is no label set 'dfew'"),
    ],
)
def test_options_that_cannot_be(options: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        FaceDynamicOptions(**options)  # type: ignore[arg-type]


def call(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe of weights tiny."""
    out = tmp_path_factory.mktemp("tiny")
    found = call("weights", "tiny", "--recipe", "finecliper/finecliper", "--out", str(out))
    assert found.exit_code == 0, found.output
    return out / "tiny.yaml"


def test_a_run_on_a_real_clip(tiny: Path, shared_data: Path, tmp_path: Path):
    video = shared_data / "video" / "single_face.mp4"
    found = call("run", str(video), "--recipe", str(tiny), "--offline", "--out", str(tmp_path / "run"))
    assert found.exit_code == 0, found.output
    rows = affectkit.read_run(tmp_path / "run", "basic7")
    rows = rows[rows["source"] == "finecliper/face_dynamic"]
    assert rows["valid"].any()
    np.testing.assert_allclose(rows.loc[rows["valid"], [f"p_{label}" for label in BASIC7.labels]].sum(axis=1), 1, atol=1e-5)


def test_texts_of_the_command_line_are_asked_for(tiny: Path, shared_data: Path, tmp_path: Path):
    video = shared_data / "video" / "single_face.mp4"
    words = ["--recipe", str(tiny), "--offline", "--labels", "bored, much relieved"]
    found = call("run", str(video), *words, "--out", str(tmp_path / "run"))
    assert found.exit_code == 0, found.output
    assert "finecliper/face_dynamic compares the face with texts: a similarity, not validated recognition." in found.output
    (medium,) = json.loads((tmp_path / "run" / "run.json").read_text())["media"].values()
    mean = medium["mean"]["finecliper/face_dynamic"]
    assert set(mean) == {"bored", "much_relieved"}
    assert sum(mean.values()) == pytest.approx(1, abs=1e-3)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of two clips of each class of MAFW, of random pixels."""
    folder, random = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    lines = ["file,label,split"]
    for number, label in enumerate(KNOWN["mafw11"].labels * 2):
        clip = folder / str(number)
        clip.mkdir()
        for frame in range(3):
            cv2.imwrite(str(clip / f"{frame}.png"), random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
        lines.append(f"{number},{label},test")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_data_set_is_scored_by_name_of_its_labels_and_by_texts(table: Path, backbone: Path, tmp_path: Path):
    """The same texts, given by label in another order, say the same of every clip; other texts say something else."""
    mafw = KNOWN["mafw11"]
    ours = {label: list(astuple(TEXTS[label])) for label in mafw.labels[::-1]}
    words = ["evaluate", "finecliper/face_dynamic", "--dataset", "csv", "--data", str(table), "--bootstrap", "0", "--json"]
    words += ["--option", "tuned=clip", "--option", f"backbone={backbone}"]
    found = {}
    for name, labels in {"set": "mafw11", "same": ours, "other": {label: f"most {label}" for label in ours}}.items():
        result = call(*words, "--option", f"labels={json.dumps(labels)}", "--out", str(tmp_path / name))
        assert result.exit_code == 0, result.output
        scored = json.loads(result.stdout)
        assert (scored["labels"], scored["pooled"]["rows"]) == (list(mafw.labels), 22)
        rows = affectkit.read_run(tmp_path / name).sort_values("media")
        found[name] = rows[[f"p_{label}" for label in mafw.labels]].to_numpy()
    np.testing.assert_allclose(found["same"], found["set"], atol=1e-5)
    assert np.abs(found["other"] - found["set"]).max() > 1e-3


def test_a_data_set_is_not_scored_by_texts_that_stand_for_none_of_its_classes(table: Path, backbone: Path):
    words = ["evaluate", "finecliper/face_dynamic", "--dataset", "csv", "--data", str(table), "--option", "tuned=clip"]
    result = call(*words, "--option", f"backbone={backbone}", "--option", "labels=[bored, much relieved]")
    assert result.exit_code == 2
    assert (
        "is continuous, mafw11 is categorical; give each of its classes a text: --option 'labels={anger: TEXT, anxiety: TEXT,"
        in result.output
    )


def test_compound_expressions_are_asked_for_by_name(tiny: Path, shared_data: Path, tmp_path: Path):
    video = shared_data / "video" / "single_face.mp4"
    words = ["--recipe", str(tiny), "--offline", "--fusion", "none", "--set", "components.finecliper/face_dynamic.labels=compound7"]
    found = call("run", str(video), *words, "--out", str(tmp_path / "run"))
    assert found.exit_code == 0, found.output
    assert affectkit.read_run(tmp_path / "run", COMPOUND7.name)["valid"].any()


def test_all_streams_of_a_real_clip(shared_data: Path, tmp_path: Path):
    """The real network of landmarks, whose points and regions change what random adapters say."""
    landmarker = shared_data / "weights" / "face_landmarker.task"
    if not landmarker.is_file():
        pytest.skip(f"there is no {landmarker}")
    found = call("weights", "tiny", "finecliper/face_dynamic", "--recipe", "finecliper/streams", "--out", str(tmp_path / "tiny"))
    assert found.exit_code == 0, found.output
    words = ["--recipe", str(tmp_path / "tiny" / "tiny.yaml"), "--offline", "--embeddings"]
    words += ["--set", f"components.finecliper/landmarks.checkpoint={landmarker}"]
    video = str(shared_data / "video" / "single_face.mp4")
    points = {}
    for name, streams in (("all", "[frames,parsing,landmarks]"), ("frames", "[frames]")):
        out = tmp_path / name
        found = call("run", video, *words, "--set", f"components.finecliper/face_dynamic.streams={streams}", "--out", str(out))
        assert found.exit_code == 0, found.output
        (medium,) = json.loads((out / "run.json").read_text())["media"].values()
        assert medium["quality"]["finecliper/face_dynamic"]["streams"] == len(streams.split(","))
        rows = pd.read_parquet(out / "embeddings.parquet")
        points[name] = np.stack(rows.loc[rows["source"] == "finecliper/face_dynamic", "vector"].to_list())
    assert np.abs(points["all"] - points["frames"]).max() > 1e-4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_says_the_same(tuned: Mapping[str, str], full: FaceDynamic):
    other = FaceDynamic(FaceDynamicOptions(**tuned, streams=STREAMS))
    other.load(torch.device("cuda"), torch.float32)
    rows = [full.preprocess(face_clip(16, seed, ALL)) for seed in range(2)]
    batch = collate(rows)  # type: ignore[arg-type]
    with torch.inference_mode():
        expected = values(full.predict(batch))
        found = values(other.predict({name: value.cuda() for name, value in batch.items()}))
    torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=0)
