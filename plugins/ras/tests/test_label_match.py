"""ras/label_match: the published matching, its prompts, CLIP by open_clip."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from affectkit_ras.clip_model import Clip as ClipModel
from affectkit_ras.clip_model import write_tiny
from affectkit_ras.label_match import OPENAI, LabelMatch, matched, middle, shares
from affectkit_ras.label_texts import LABELS, SETS, texts
from open_clip.transformer import QuickGELU

from affectkit import weight_files
from affectkit.addresses import address
from affectkit.api import BASIC8, COMPOUND7, CheckpointError, Clip, ConfigError
from affectkit.config import component_options
from affectkit.open_clip_files import CONFIG, WEIGHTS
from affectkit.testing import ModalityContract

from .conftest import MEDIA, WINDOW, predict

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP in open_clip's format, whose points differ more than those of fresh numbers do."""
    folder = write_tiny(tmp_path_factory.mktemp("tiny"))
    tensors = weight_files.load_tensors(folder / WEIGHTS[0])
    tensors = {name: tensor if name == "logit_scale" else tensor * 4 for name, tensor in tensors.items()}
    weight_files.save_tensors(folder / WEIGHTS[0], tensors)
    return folder


def loaded(path: Path, **options: object) -> LabelMatch:
    component = LabelMatch(component_options(LabelMatch, {"checkpoint": str(path), **options}, "ras/label_match"))
    component.id = "ras/label_match"
    component.load(CPU, torch.float32)
    return component


def clip(count: int, seed: int = 0, height: int = 48, width: int = 64) -> Clip:
    frames = np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return Clip(MEDIA, WINDOW, frames=frames, frame_times=np.arange(count) / 5)


class TestLabelMatch(ModalityContract):
    """What every modality promises, with random weights."""

    component = LabelMatch

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def random_weights(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.options = {"checkpoint": str(LabelMatch().write_random("default", tmp_path_factory.mktemp("random")))}


def test_the_published_matching(golden: ModuleType, goldens: Path) -> None:
    meta, ref = golden.load(goldens / "dev" / "ras_clip_match")
    assert tuple(meta["constructor"]["labels"]) == tuple(group[0] for group in texts("words", ("{}",)))
    given = {rule["name"]: torch.from_numpy(golden.make_input(rule, meta["salt"])) for rule in meta["inputs"]}
    pictures, words = (torch.nn.functional.normalize(given[name], dim=1) for name in ("image_features", "text_features"))
    found = shares(matched(pictures @ words.T, 1.0).mean(0, keepdim=True))
    outputs = {
        "basic": found[BASIC8][0].numpy(),
        "compound": found[COMPOUND7][0].numpy(),
        "image_feature": pictures.double().mean(0).numpy(),
        "text_feature": words.mean(0).numpy(),
    }
    assert set(outputs) == set(meta["outputs"])
    rows = golden.compare(meta, ref, outputs)
    assert [(name, error, allowed) for name, error, allowed, ok in rows if not ok] == []


def test_the_component_does_the_published_matching(tiny):
    """Scale 1, softmax over all 15 for each frame, then the mean, then 8 and 7 made to sum to 1."""
    component, one = loaded(tiny, scale="published"), clip(5)
    output = predict(component, one)
    model = component._clip
    with torch.inference_mode():
        pictures = model.pictures(torch.from_numpy(middle(one.frames)))
        rows = (pictures @ model.texts([SETS["words"][label] for label in LABELS]).T).softmax(1).mean(0)
    torch.testing.assert_close(output.values[BASIC8][0], rows[:8] / rows[:8].sum(), atol=1e-6, rtol=0)
    torch.testing.assert_close(output.values[COMPOUND7][0], rows[8:] / rows[8:].sum(), atol=1e-6, rtol=0)
    torch.testing.assert_close(output.embeddings["image"][0], pictures.mean(0), atol=1e-6, rtol=0)


def test_the_scale_of_clip_makes_rows_that_say_something(tiny):
    published, own = (predict(loaded(tiny, scale=scale), clip(3)).values for scale in ("published", "clip"))
    for labels in (BASIC8, COMPOUND7):
        assert own[labels].max() - own[labels].min() > 3 * (published[labels].max() - published[labels].min())
        torch.testing.assert_close(own[labels].sum(1), torch.ones(1))
    tensors = weight_files.load_tensors(tiny / WEIGHTS[0])
    assert loaded(tiny)._clip.scale == pytest.approx(float(tensors["logit_scale"].exp()))


def test_texts_that_fit_much_worse_still_sum_to_one():
    cosines = torch.tensor([[1.0] * 8 + [-1.0] * 6 + [-0.9]])
    found = shares(matched(cosines, 100.0))
    assert found[COMPOUND7][0, 6] > 0.99
    torch.testing.assert_close(found[COMPOUND7].sum(), torch.tensor(1.0, dtype=torch.float64))


def test_neighbours_and_padding_do_not_matter(tiny):
    component = loaded(tiny)
    clips = [clip(1, 1), clip(7, 2), clip(3, 3)]
    together = predict(component, *clips)
    assert (together.values[BASIC8][0] - together.values[BASIC8][1]).abs().max() > 1e-3
    assert together.quality["frames"].tolist() == [1, 7, 3]
    for row, one in enumerate(clips):
        alone = predict(component, one)
        for labels, values in together.values.items():
            torch.testing.assert_close(values[row], alone.values[labels][0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.embeddings["image"][row], alone.embeddings["image"][0], atol=1e-5, rtol=0)


def test_without_frames_there_is_no_evidence():
    assert LabelMatch().preprocess(Clip(MEDIA, WINDOW)) is None


def test_black_frames_say_something_else(tiny):
    component, one = loaded(tiny), clip(2)
    black = Clip(MEDIA, WINDOW, frames=np.zeros_like(one.frames), frame_times=one.frame_times)
    rows = predict(component, one, black).values[BASIC8]
    assert (rows[0] - rows[1]).abs().max() > 1e-3


# --- texts


def test_three_sets_of_texts():
    assert len(LABELS) == 15
    for chosen in SETS.values():
        assert set(chosen) == set(LABELS)
        assert len(set(chosen.values())) == 15
    assert texts("people", ("{}",))[8] == ("person / people in the video experiences Fearfully Surprised emotion",)
    assert texts("words", ("{}",))[LABELS.index("sadly_angry")] == ("sadly angry",)


def test_every_set_gives_other_rows_and_the_labels_stay(tiny):
    rows = {name: predict(loaded(tiny, prompts=name), clip(2)).values[BASIC8] for name in SETS}
    assert (rows["words"] - rows["people"]).abs().max() > 1e-4
    assert (rows["words"] - rows["faces"]).abs().max() > 1e-4


def test_own_texts_move_their_own_label(tiny):
    """A text that is the word of another label has the same share as that label."""
    values = predict(loaded(tiny, prompts={"fear": "happy"}), clip(3)).values[BASIC8][0]
    assert values[BASIC8.index("fear")] == pytest.approx(float(values[BASIC8.index("happiness")]))


def test_several_texts_are_averaged(tiny):
    component = loaded(tiny, prompts={"fear": ["afraid", "in panic"]}, templates=["a {} face", "someone {}"])
    points = component._clip.texts(["a afraid face", "someone afraid", "a in panic face", "someone in panic"])
    expected = torch.nn.functional.normalize(points.mean(0), dim=0)
    torch.testing.assert_close(component._points[BASIC8.index("fear")], expected)
    torch.testing.assert_close(component._points.norm(dim=1), torch.ones(15))


def test_texts_are_read_once_per_load(tiny, monkeypatch):
    component = loaded(tiny)
    monkeypatch.setattr(component._clip._network, "encode_text", None)
    predict(component, clip(1))
    predict(component, clip(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompts": {"feer": "afraid"}}, "'feer' is none of the labels. Did you mean fear?"),
        ({"prompts": {"fear": []}}, "prompts: fear needs at least one text"),
        ({"prompts": {"fear": " "}}, "prompts: fear needs at least one text, and none that is empty"),
        ({"prompts": "sentences"}, "'sentences' is not one of words, people, faces"),
        ({"templates": ["a face"]}, "templates must be at least one sentence, each with {} where the text goes; found ['a face']"),
        ({"templates": []}, "templates must be at least one sentence"),
        ({"scale": "parity"}, "'parity' is not one of clip, published"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(ConfigError) as error:
        component_options(LabelMatch, options, "ras/label_match")
    assert message in str(error.value)


def test_texts_that_clip_does_not_read_to_their_end(tiny):
    with pytest.raises(ConfigError, match=r"ras/label_match: CLIP reads texts of at most 77 tokens, and 'very .* has 82; shorten it"):
        loaded(tiny, prompts={"fear": "very " * 79 + "afraid"})


# --- weights


def gates(model: torch.nn.Module) -> set[str]:
    return {type(module).__name__ for name, module in model.named_modules() if name.endswith("mlp.gelu")}


def test_openai_weights_have_quick_gelu_whatever_the_config_says(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("AFFECTKIT_CACHE", str(tmp_path))
    place = address(OPENAI).places[0]
    shutil.copytree(tiny, place)
    config = json.loads((place / CONFIG).read_text())
    del config["model_cfg"]["quick_gelu"]
    (place / CONFIG).write_text(json.dumps(config))
    component = LabelMatch()
    component.load(CPU, torch.float32)
    assert gates(component._clip._network) == {QuickGELU.__name__}
    assert gates(loaded(place)._clip._network) == {"GELU"}  # of a folder that a user gives, the config counts
    assert gates(loaded(tiny)._clip._network) == {QuickGELU.__name__}
    other = predict(loaded(place), clip(2)).values[BASIC8]
    right = predict(component, clip(2)).values[BASIC8]
    assert torch.equal(right, predict(loaded(tiny), clip(2)).values[BASIC8])
    assert (other - right).abs().max() > 1e-4  # GELU runs as well, and says something else


def transformers_twin(tiny: Path):
    """transformers' CLIP, whose activation for OpenAI's weights is quick_gelu, with the numbers of open_clip's."""
    from transformers import CLIPConfig, CLIPModel

    towers = {
        "text_config": {
            "hidden_size": 16,
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "eos_token_id": 49407,
        },
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 128,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "image_size": 32,
            "patch_size": 16,
        },
    }
    twin = CLIPModel(CLIPConfig(**towers, projection_dim=16))
    assert twin.config.text_config.hidden_act == twin.config.vision_config.hidden_act == "quick_gelu"
    names = {
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "attn.out_proj": "self_attn.out_proj",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }
    state = {}
    for name, tensor in weight_files.load_tensors(tiny / WEIGHTS[0]).items():
        tower = "vision_model." if name.startswith("visual.") else "text_model."
        name = name.removeprefix("visual.")
        if name.startswith("transformer.resblocks."):
            layer, inner = name.removeprefix("transformer.resblocks.").split(".", 1)
            prefix = f"{tower}encoder.layers.{layer}."
            if inner.startswith("attn.in_proj_"):
                kind = inner.removeprefix("attn.in_proj_")
                for part, chunk in zip("qkv", tensor.chunk(3), strict=True):
                    state[f"{prefix}self_attn.{part}_proj.{kind}"] = chunk
                continue
            block, kind = inner.rsplit(".", 1)
            state[f"{prefix}{names[block]}.{kind}"] = tensor
        else:
            key = (tower, name)
            state[OUTER[key]] = tensor.T if name in ("proj", "text_projection") else tensor
    missing, unexpected = twin.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.endswith("position_ids") for name in missing)
    return twin.eval()


OUTER = {
    ("vision_model.", "class_embedding"): "vision_model.embeddings.class_embedding",
    ("vision_model.", "positional_embedding"): "vision_model.embeddings.position_embedding.weight",
    ("vision_model.", "conv1.weight"): "vision_model.embeddings.patch_embedding.weight",
    ("vision_model.", "ln_pre.weight"): "vision_model.pre_layrnorm.weight",
    ("vision_model.", "ln_pre.bias"): "vision_model.pre_layrnorm.bias",
    ("vision_model.", "ln_post.weight"): "vision_model.post_layernorm.weight",
    ("vision_model.", "ln_post.bias"): "vision_model.post_layernorm.bias",
    ("vision_model.", "proj"): "visual_projection.weight",
    ("text_model.", "positional_embedding"): "text_model.embeddings.position_embedding.weight",
    ("text_model.", "token_embedding.weight"): "text_model.embeddings.token_embedding.weight",
    ("text_model.", "ln_final.weight"): "text_model.final_layer_norm.weight",
    ("text_model.", "ln_final.bias"): "text_model.final_layer_norm.bias",
    ("text_model.", "text_projection"): "text_projection.weight",
    ("text_model.", "logit_scale"): "logit_scale",
}


def test_it_is_the_clip_of_transformers(tiny):
    """The authors read CLIP with transformers; open_clip with QuickGELU says the same of the same numbers."""
    model, twin = ClipModel(tiny, "here", CPU, openai=False), transformers_twin(tiny)
    pictures = torch.from_numpy(middle(clip(3).frames))
    tokens = model._tokenizer(["happy", "sadly angry"])
    with torch.inference_mode():
        ours = model._network.encode_image(model.shown(pictures)), model._network.encode_text(tokens)
        vision, text = twin.vision_model(pixel_values=model.shown(pictures)), twin.text_model(input_ids=tokens)
        theirs = twin.visual_projection(vision.pooler_output), twin.text_projection(text.pooler_output)
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_the_full_network_from_a_file_of_weights(tmp_path):
    """ViT-B/32 as OpenAI made it: 151 million numbers in half precision, with the sizes that its TorchScript holds, loaded strictly."""
    from open_clip import CLIP, get_model_config

    network = weight_files.random_network(lambda: CLIP(**get_model_config("ViT-B-32-quickgelu")))
    state = {name: tensor.half() for name, tensor in network.state_dict().items()}
    state |= {"input_resolution": torch.tensor(224), "context_length": torch.tensor(77), "vocab_size": torch.tensor(49408)}
    weight_files.save_tensors(tmp_path / "openai.safetensors", state)
    component = loaded(tmp_path / "openai.safetensors")
    assert sum(parameter.numel() for parameter in component._clip._network.parameters()) == 151_277_313
    assert gates(component._clip._network) == {QuickGELU.__name__}
    assert component._clip.side == 224
    output = predict(component, clip(1, height=224, width=300))
    assert output.embeddings["image"].shape == (1, 512)
    torch.testing.assert_close(output.values[COMPOUND7].sum(1), torch.ones(1))


def broken(tiny: Path, folder: Path, what: str) -> Path:
    shutil.copytree(tiny, folder)
    weights, config = folder / WEIGHTS[0], folder / CONFIG
    if what == "no weights":
        weights.unlink()
    elif what == "no config":
        config.unlink()
    elif what == "half a config":
        config.write_text("{")
    elif what == "no model":
        config.write_text('{"model_cfg": 3}')
    elif what == "another config":
        config.write_text(json.dumps({"model_cfg": {"embed_dim": 16, "towers": 2}}))
    elif what == "half the weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        tensors = weight_files.load_tensors(weights)
        tensors["visual.other"] = tensors.pop("visual.proj")
        weight_files.save_tensors(weights, tensors)
    return folder


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no weights", "is not a folder of open_clip: it has no open_clip_model.safetensors"),
        ("no config", "is not a folder of open_clip: it has no open_clip_config.json"),
        ("half a config", "open_clip_config.json is damaged"),
        ("no model", "open_clip_config.json is damaged (model_cfg is no mapping)"),
        ("another config", "describes no CLIP that open_clip makes"),
        ("half the weights", "open_clip_model.safetensors is damaged or not a file of weights"),
        ("other tensors", "does not fit CLIP (62 tensors); 1 missing: visual.proj; 1 unexpected: visual.other"),
    ],
)
def test_folders_that_are_none(tiny, tmp_path, what, message):
    with pytest.raises(CheckpointError) as error:
        loaded(broken(tiny, tmp_path / "model", what))
    assert message in str(error.value)


def test_absent_weights_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFECTKIT_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    component = LabelMatch()
    component.id = "ras/label_match"
    with pytest.raises(
        CheckpointError, match=r"vit_base_patch32_clip_224\.openai are not here .* 'affectkit weights fetch ras/label_match'"
    ):
        component.load(CPU, torch.float32)


def test_random_weights_are_loaded(tmp_path):
    folder = LabelMatch().write_random("default", tmp_path)
    assert weight_files.is_random(folder)
    assert predict(loaded(folder), clip(2)).values[COMPOUND7].shape == (1, 7)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_cpu_and_gpu_agree(tiny):
    """In single precision within 1e-4, in half precision within 0.05, at the scale of CLIP, which multiplies what they differ by."""
    here, there = loaded(tiny), LabelMatch(LabelMatch.Options(str(tiny)))
    there.load(torch.device("cuda"), torch.float32)
    frames = here.preprocess(clip(4))["frames"][None]
    mask = torch.ones(1, 4, dtype=torch.bool)
    expected = here.predict({"frames": frames, "frames_mask": mask}).values[BASIC8]
    moved = {"frames": frames.cuda(), "frames_mask": mask.cuda()}
    torch.testing.assert_close(there.predict(moved).values[BASIC8].cpu(), expected, atol=1e-4, rtol=0)
    with torch.autocast("cuda", torch.bfloat16):
        torch.testing.assert_close(there.predict(moved).values[BASIC8].cpu(), expected, atol=0.05, rtol=0)
