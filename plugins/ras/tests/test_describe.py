"""ras/describe: a small Qwen2.5-VL in its library's format describes windows; what it said is kept."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from affectkit_ras import describe, tiny_vision
from affectkit_ras.describe import CHECKPOINTS, Describe, DescribeOptions, published_prompts
from affectkit_ras.vision_language import Shown, VisionLanguage, checked

from affectkit.api import CheckpointError, Clip, ConfigError, Media, Span

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Qwen2.5-VL."""
    return tiny_vision.write_qwen(tmp_path_factory.mktemp("qwen") / "32b")


@pytest.fixture(scope="module")
def model(folder: Path) -> VisionLanguage:
    return VisionLanguage(folder, "ras/describe", checked(folder, "ras/describe"), CPU, torch.float32)


@pytest.fixture
def media(tmp_path: Path) -> Media:
    (tmp_path / "talk.mp4").write_bytes(b"a medium")
    return Media("talk", tmp_path / "talk.mp4", "video", 8.0, fps=25.0, size=(120, 160), video=0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AFFECTKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "descriptions"


def made(folder: Path, **options: object) -> Describe:
    component = Describe(DescribeOptions(checkpoint=str(folder), max_new_tokens=6, **options))
    component.id = "ras/describe"
    component.load(CPU, torch.float32)
    return component


def window(media: Media, start: float = 0.0, seed: int = 0, count: int = 4, size: tuple[int, int] = (84, 112)) -> Clip:
    frames = np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    return Clip(media, Span(start, start + 4), frames=frames, frame_times=start + np.arange(count) / 2)


def shown(clip: Clip) -> Shown:
    return Shown(clip.frames, describe.rate(clip))


def test_rows_of_a_batch_do_not_depend_on_each_other(model: VisionLanguage, media: Media):
    clips = [window(media, seed=1), window(media, seed=2, count=7, size=(56, 140)), window(media, seed=3, count=1)]
    together = model.ask([shown(clip) for clip in clips], "What do you see?", 8)
    assert together == [model.ask([shown(clip)], "What do you see?", 8)[0] for clip in clips]


def test_other_pictures_and_other_questions_give_other_texts(model: VisionLanguage, media: Media):
    first, second = model.ask([shown(window(media, seed=1)), shown(window(media, seed=2))], "What do you see?", 24)
    black = replace(window(media), frames=np.zeros((4, 84, 112, 3), np.uint8))
    texts = {
        first,
        second,
        *model.ask([shown(black)], "What do you see?", 24),
        *model.ask([shown(window(media, seed=1))], "Who is it?", 24),
    }
    assert len(texts) == 4


def test_a_text_is_one_line_without_marks(model: VisionLanguage, media: Media):
    (text,) = model.ask([shown(window(media))], published_prompts()["1"], 40)
    assert text == " ".join(text.split())
    assert "<|" not in text


def test_its_own_settings_of_repetition_do_not_count(model: VisionLanguage):
    assert model._model.generation_config.do_sample is False
    assert model._model.generation_config.repetition_penalty in (None, 1.0)


def test_a_window_is_described_once(folder: Path, media: Media, cache: Path, monkeypatch: pytest.MonkeyPatch):
    clips = [window(media, 0.0, 1), window(media, 2.0, 2), Clip(media, Span(4, 8))]
    component = made(folder)
    found = component.provide(clips)
    assert [evidence.valid for evidence in found] == [True, True, False]
    assert found[2].reason == "no picture"
    assert found[0].quality["words"] == len(found[0].data["text"].split())
    kept = sorted(cache.rglob("*.json"))
    assert len(kept) == 2
    assert {json.loads(path.read_text())["text"] for path in kept} == {found[0].data["text"], found[1].data["text"]}
    again = made(folder)
    with monkeypatch.context() as patch:
        patch.setattr("transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained", None)  # is not loaded
        assert again.provide(clips) == found
    assert again.provide([window(media, 4.0, 3)])[0].valid


@pytest.mark.parametrize("change", ["prompt", "max_new_tokens", "frames", "medium", "window", "model"])
def test_what_a_description_depends_on_is_part_of_its_name(change: str, folder: Path, media: Media, tmp_path: Path):
    component, clip = made(folder), window(media)
    place = component._place(clip)
    if change == "prompt":
        component._prompt = "Another question?"
    elif change == "max_new_tokens":
        component.options = replace(component.options, max_new_tokens=7)
    elif change == "frames":
        clip = window(media, count=3)
    elif change == "medium":
        (tmp_path / "other.mp4").write_bytes(b"another medium")
        clip = replace(clip, media=replace(media, path=tmp_path / "other.mp4"))
    elif change == "window":
        clip = replace(clip, span=Span(0.0, 3.0))
    else:
        component._digest = "0" * 64
    assert component._place(clip) != place


def test_a_copy_of_a_medium_is_known_by_its_content(folder: Path, media: Media, tmp_path: Path):
    (tmp_path / "copy.mp4").write_bytes(media.path.read_bytes())
    component = made(folder)
    assert component._place(window(replace(media, id="copy", path=tmp_path / "copy.mp4"))) == component._place(window(media))


def test_a_damaged_description_is_made_again(folder: Path, media: Media, cache: Path):
    component = made(folder)
    (first,) = component.provide([window(media)])
    (path,) = cache.rglob("*.json")
    for damaged in ("", "{", '{"text": 5}', "[]"):
        path.write_text(damaged)
        assert component.provide([window(media)]) == [first]
        assert json.loads(path.read_text())["text"] == first.data["text"]


def test_several_writers_at_once_leave_whole_files(folder: Path, media: Media, cache: Path):
    component, clip = made(folder), window(media)
    place = component._place(clip)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: component._keep(place, clip, text), ["same text"] * 40))
    assert describe.read(place) == "same text"
    assert [path.name for path in place.parent.iterdir()] == [place.name]


def test_nothing_is_kept_without_the_cache(folder: Path, media: Media, cache: Path):
    made(folder, cache=False).provide([window(media)])
    assert not cache.exists()


def test_a_medium_that_is_gone_is_described_and_not_kept(folder: Path, media: Media, cache: Path):
    component = made(folder)
    media.path.unlink()
    assert component.provide([window(media)])[0].valid
    assert not list(cache.rglob("*.json"))


def test_a_cache_that_cannot_be_written_is_told_before_the_first_window(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AFFECTKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match=r"cannot keep descriptions.*AFFECTKIT_CACHE.*components.ras/describe.cache=false"):
        made(folder)


def test_the_published_prompts_are_those_of_the_authors(shared_data: Path):
    written = (shared_data / "scene" / "ras_descriptions" / "PROMPTS.md").read_text(encoding="utf-8")
    plain = "\n".join(line.removeprefix(">").strip() for line in written.splitlines())
    assert set(published_prompts()) == {"1", "2"}
    for prompt in published_prompts().values():
        assert prompt in plain
    assert "exactly one of" in published_prompts()["2"]
    assert "MIT License" in (describe.PROMPTS / "LICENSE.txt").read_text()


def test_a_question_of_ones_own_is_asked(folder: Path):
    assert made(folder, prompt="What is to be seen here?")._prompt == "What is to be seen here?"
    assert made(folder, prompt="2")._prompt == published_prompts()["2"]
    with pytest.raises(ConfigError, match="there is no prompt '3'"):
        DescribeOptions(prompt="3")


def test_pictures_are_those_that_the_options_ask_for(folder: Path):
    needs = made(folder, frames=6, size=224).needs
    assert (needs.frames.count, needs.frames.size) == (6, 224)
    with pytest.raises(ConfigError, match="frames must be at least 1, found 0"):
        DescribeOptions(frames=0)


def test_another_model_is_refused(folder: Path, tmp_path: Path):
    from affectkit_ras.tiny_text import write_roberta

    with pytest.raises(CheckpointError, match="a model of kind 'roberta'; expected 'qwen2_5_vl'"):
        made(write_roberta(tmp_path / "roberta"))


@pytest.mark.parametrize("damage", ["truncated", "no weights", "short", "a part", "no tokenizer", "no template", "no config"])
def test_a_damaged_folder_is_refused(damage: str, folder: Path, media: Media, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    weights = copy / "model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:2000])
    elif damage == "no weights":
        weights.unlink()
    elif damage in ("short", "a part"):
        tensors = load_file(weights)
        index = {"weight_map": dict.fromkeys(tensors, "model-00001-of-00001.safetensors")}
        tensors.pop(next(name for name in tensors if name.endswith("q_proj.weight")))
        save_file(tensors, weights, {"format": "pt"})
        if damage == "a part":
            weights.rename(copy / "model-00001-of-00001.safetensors")
            (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    elif damage == "no tokenizer":
        (copy / "tokenizer.json").unlink()
        (copy / "tokenizer_config.json").unlink()
    elif damage == "no template":
        (copy / "chat_template.jinja").unlink()
    else:
        (copy / "config.json").unlink()
    said = {
        "no weights": r"has no model\.safetensors",
        "short": "1 tensors missing",
        "a part": "1 tensors missing",
        "no tokenizer": "has no tokenizer",
        "no template": "no chat template",
        "no config": "no config.json",
    }.get(damage, "ras/describe: .*copy")
    if damage == "short":  # what a single file lacks is known when the model is made
        component = made(copy)
        with pytest.raises(CheckpointError, match=said):
            component.provide([window(media)])
        return
    with pytest.raises(CheckpointError, match=said):
        made(copy)


def test_published_models_say_their_revision_and_terms():
    assert list(CHECKPOINTS) == ["3b", "7b", "32b"]
    for checkpoint in CHECKPOINTS.values():
        assert len(checkpoint.uri.partition("@")[2]) == 40
    assert [checkpoint.commercial for checkpoint in CHECKPOINTS.values()] == [False, True, True]


def test_a_batch_that_does_not_fit_is_halved(folder: Path, media: Media, monkeypatch: pytest.MonkeyPatch):
    component = made(folder)
    real, sizes = VisionLanguage.ask, []

    def ask(model, some, prompt, most):
        sizes.append(len(some))
        if len(some) > 1:
            raise torch.OutOfMemoryError("full")
        return real(model, some, prompt, most)

    monkeypatch.setattr(VisionLanguage, "ask", ask)
    assert all(evidence.valid for evidence in component.provide([window(media, start, seed) for seed, start in enumerate((0.0, 2.0, 4.0))]))
    assert sizes == [3, 2, 1, 1, 1]


@pytest.mark.slow
def test_the_width_of_the_3b_model_is_loaded_strictly_and_answers(folder: Path, media: Media, tmp_path: Path):
    """All widths of Qwen2.5-VL 3B, two layers of each of its stacks."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    for file in folder.iterdir():
        (tmp_path / "3b").mkdir(exist_ok=True)
        (tmp_path / "3b" / file.name).write_bytes(file.read_bytes())
    given = Qwen2_5_VLConfig.from_pretrained(folder)
    sizes = {"vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 11008, "num_attention_heads": 16, "num_key_value_heads": 2}
    given.text_config.update(sizes | {"rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6}})
    given.vision_config.update({"hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 2048})
    given.tie_word_embeddings = True
    network = Qwen2_5_VLForConditionalGeneration(given).to(torch.bfloat16)
    tiny_vision.save(network, tmp_path / "3b")
    del network
    model = VisionLanguage(tmp_path / "3b", "ras/describe", checked(tmp_path / "3b", "ras/describe"), CPU, torch.bfloat16)
    assert sum(value.numel() for value in model._model.parameters()) > 500_000_000
    answers = model.ask([shown(window(media, seed=1)), shown(window(media, seed=2))], "What do you see?", 3)
    assert len(answers) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_gpu_says_what_the_processor_says(folder: Path, model: VisionLanguage, media: Media):
    clips = [shown(window(media, seed=seed)) for seed in (1, 2)]
    gpu = VisionLanguage(folder, "ras/describe", checked(folder, "ras/describe"), torch.device("cuda"), torch.float32)
    assert gpu.ask(clips, "What do you see?", 8) == model.ask(clips, "What do you see?", 8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_bf16_on_a_gpu_says_about_the_same(folder: Path, model: VisionLanguage, media: Media):
    """What comes next after the question, as shares of the vocabulary (the largest is about 0.05) within 0.005 of those of the processor in single precision."""
    component = Describe(DescribeOptions(checkpoint=str(folder), max_new_tokens=6))
    component.load(torch.device("cuda"), torch.float32)
    assert component.provide([window(media, seed=1)])[0].valid
    assert component._model._model.dtype == torch.bfloat16
    clips = [shown(window(media, seed=seed)) for seed in (1, 2)]
    with torch.inference_mode():
        wanted, found = (
            one._model(**one.batch(clips, "What do you see?")).logits[:, -1].float().softmax(1).cpu() for one in (model, component._model)
        )
    torch.testing.assert_close(found, wanted, atol=0.005, rtol=0)
