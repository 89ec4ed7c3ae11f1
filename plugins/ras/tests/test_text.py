"""ras/text: encoders in the formats of their libraries, heads over them, transcripts without loops."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from affectkit_ras import tiny_text
from affectkit_ras.language import TextEmotion
from affectkit_ras.text_models import CHECKPOINTS, TextOptions
from affectkit_ras.text_network import ENCODERS
from affectkit_ras.transcripts import cleaned, count_words, without_stutter

from affectkit import pretrained
from affectkit.api import BASIC7, BASIC8, CheckpointError, ConfigError, Evidence, Word
from affectkit.batching import collate
from affectkit.fingerprints import fingerprint

from .conftest import predict, words_clip

SENTENCES = (
    "I am so happy, this is wonderful news!",
    "No.",
    "Yesterday we drove to the office and then, after a very long meeting, we drove home. " * 3,
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small encoder of each kind."""
    root = tmp_path_factory.mktemp("encoders")
    return {tag: write(root / tag) for tag, write in tiny_text.WRITERS.items()}


@pytest.fixture(scope="module")
def loaded(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TextEmotion]:
    """ras/text with each encoder, and a random head where it needs one."""
    kept: dict[str, TextEmotion] = {}

    def load(encoder: str) -> TextEmotion:
        if encoder not in kept:
            options = TextOptions(encoder=encoder, **{encoder: str(folders[encoder])})
            if encoder != "distilroberta":
                path = tmp_path_factory.mktemp("heads") / "text.safetensors"
                options = TextOptions(
                    encoder=encoder, head=str(tiny_text.write_head(path, options, "ras/text")), **{encoder: str(folders[encoder])}
                )
            kept[encoder] = made(options)
        return kept[encoder]

    return load


def made(options: TextOptions) -> TextEmotion:
    component = TextEmotion(options)
    component.id = "ras/text"
    component.load(torch.device("cpu"), torch.float32)
    return component


every = pytest.mark.parametrize("encoder", list(ENCODERS))


@every
def test_rows_are_distributions_that_do_not_depend_on_their_neighbours(encoder: str, loaded):
    component = loaded(encoder)
    clips = [words_clip(text) for text in SENTENCES]
    together = predict(component, *clips)
    torch.testing.assert_close(together.values[BASIC7].sum(1), torch.ones(3))
    assert (together.values[BASIC7][0] - together.values[BASIC7][1]).abs().max() > 1e-4
    for row, clip in enumerate(clips):
        alone = predict(component, clip)
        torch.testing.assert_close(together.values[BASIC7][row], alone.values[BASIC7][0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.embeddings["text"][row], alone.embeddings["text"][0], atol=1e-5, rtol=1e-5)
    assert together.quality["words"].tolist() == [8.0, 1.0, 48.0]
    assert [note["transcript"] for note in together.notes] == [" ".join(text.split()) for text in SENTENCES]


def test_the_classifier_says_what_its_library_says_by_the_names_of_its_labels(folders, loaded):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folders["distilroberta"]).eval()
    tokens = AutoTokenizer.from_pretrained(folders["distilroberta"])
    with torch.inference_mode():
        expected = model(**tokens(SENTENCES[0], return_tensors="pt"), output_hidden_states=True)
    output = predict(loaded("distilroberta"), words_clip(SENTENCES[0]))
    for column, probability in enumerate(expected.logits.softmax(1)[0]):
        label = model.config.id2label[column]
        assert float(output.values[BASIC7][0, BASIC7.index(label)]) == pytest.approx(float(probability), abs=1e-6)
    torch.testing.assert_close(output.embeddings["text"], expected.hidden_states[-1][:, 0], atol=1e-5, rtol=1e-5)


def test_clip_reads_its_projected_embedding_and_gives_the_mean_of_its_states(folders, loaded):
    from transformers import CLIPModel, CLIPTokenizer

    model, tokens = CLIPModel.from_pretrained(folders["clip"]).eval(), CLIPTokenizer.from_pretrained(folders["clip"])
    given = tokens(SENTENCES[0], return_tensors="pt")
    with torch.inference_mode():
        states = model.text_model(**given)
        feature = model.text_projection(states.pooler_output)
    component = loaded("clip")
    output = predict(component, words_clip(SENTENCES[0]))
    torch.testing.assert_close(output.embeddings["text"], states.last_hidden_state.mean(1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.values[BASIC7], component._head(feature).softmax(1), atol=1e-5, rtol=1e-5)


def test_a_sentence_model_says_what_its_library_says(folders, loaded):
    from sentence_transformers import SentenceTransformer

    expected = SentenceTransformer(str(folders["sentence"]), device="cpu").encode([SENTENCES[0]])
    output = predict(loaded("sentence"), words_clip(SENTENCES[0]))
    np.testing.assert_allclose(output.embeddings["text"].numpy(), expected, atol=1e-5)


def test_clip_reads_77_tokens_and_no_more(loaded):
    component, text = loaded("clip"), " ".join(f"word{number}" for number in range(200))
    assert len(component.preprocess(words_clip(text))["ids"]) == 77
    assert component.preprocess(words_clip(text))["ids"][-1] == component._encoder.tokens.token_to_id("<|endoftext|>")


@pytest.mark.parametrize("text", ["", "  ", "...", "1234 !?", "♪ ♪"])
def test_no_words_are_no_evidence(text: str, loaded):
    assert loaded("distilroberta").preprocess(words_clip(text)) is None
    assert loaded("distilroberta").preprocess(words_clip(text, valid=False)) is None


def test_what_a_recogniser_repeats_is_read_once(loaded):
    component = loaded("distilroberta")
    looped = predict(component, words_clip("Thank you. " * 9))
    once = predict(component, words_clip("Thank you."))
    assert torch.equal(looped.values[BASIC7], once.values[BASIC7])
    assert looped.quality["words"].tolist() == [2.0]


LOOPS = {
    "so what? so what? so what? so what? Then he left.": "so what? Then he left.",
    "no, no, no!": "no, no, no!",
    "one two three one two three one two three one two three one two three": "one two three",
    "hahahahahahaha": "hahaha",
    "2000000 people": "2000000 people",
    "": "",
    "Go go GO go, now": "Go now",
}


@pytest.mark.parametrize(("said", "kept"), LOOPS.items())
def test_loops_are_cut(said: str, kept: str):
    assert cleaned(said) == kept
    assert cleaned(kept) == kept


def test_words_of_a_transcript_lose_the_loops_inside_of_them():
    words = (Word("Hahahahahaha", 0.0, 1.0), Word("stop", 1.0, 2.0))
    evidence = Evidence("transcript", {"text": "Hahahahahaha stop", "words": words, "language": "en"}, quality={"words": 2.0})
    found = without_stutter(evidence)
    assert [word.text for word in found.data["words"]] == ["Hahahaha", "stop"]
    assert found.data["text"] == "Hahahaha stop"
    assert found.data["language"] == "en"
    assert without_stutter(Evidence.none("transcript", "silence")) == Evidence.none("transcript", "silence")


def test_words_have_letters():
    assert count_words("It's 5 o'clock, 10 %") == 4


def test_an_encoder_without_a_head_is_refused_with_the_command_that_makes_one(folders):
    with pytest.raises(
        CheckpointError,
        match=r"Nobody publishes them\. Make them with 'affectkit train ras/text --data FILE --set options\.encoder=clip --set name=ras_text_clip "
        r"--out \.', and give the file with --set components\.ras/text\.head=/path/to/ras_text_clip\.safetensors",
    ):
        made(TextOptions(encoder="clip", clip=str(folders["clip"])))


def test_an_unknown_encoder_is_refused():
    with pytest.raises(ConfigError, match="encoder must be one of distilroberta, clip, sentence, found 'bert'"):
        TextOptions(encoder="bert")


def test_a_head_over_another_encoder_is_refused(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    path = tiny_text.write_head(tmp_path / "clip.safetensors", TextOptions(encoder="clip", clip=str(folders["clip"])), "ras/text")
    with pytest.raises(CheckpointError, match=r"made over the encoder clip; set components.ras/text.encoder=clip"):
        made(TextOptions(encoder="sentence", head=str(path), sentence=str(folders["sentence"])))
    other = tmp_path / "other"
    other.mkdir()
    for file in folders["clip"].iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    tensors = load_file(other / "model.safetensors")
    save_file(
        {name: value + 1 if "token_embedding" in name else value for name, value in tensors.items()},
        other / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(CheckpointError, match="was made over another clip than"):
        made(TextOptions(encoder="clip", head=str(path), clip=str(other)))


def test_a_file_of_another_make_is_no_head(folders, tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"not a head over a text encoder.*affectkit train ras/text"):
        made(TextOptions(encoder="clip", head=str(tmp_path / "other.safetensors"), clip=str(folders["clip"])))


def copied(folder: Path, to: Path) -> Path:
    to.mkdir()
    for file in folder.rglob("*"):
        if file.is_file():
            (to / file.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            (to / file.relative_to(folder)).write_bytes(file.read_bytes())
    return to


@every
def test_a_truncated_file_of_weights_is_refused(encoder: str, folders, tmp_path):
    folder = copied(folders[encoder], tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"ras/text.*damaged"):
        ENCODERS[encoder](folder, 64, "ras/text")


@every
def test_a_file_without_a_tensor_of_the_model_is_refused(encoder: str, folders, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = copied(folders[encoder], tmp_path / "short")
    tensors = load_file(folder / "model.safetensors")
    name = next(
        name for name in tensors if name.endswith(("text_model.encoder.layers.0.mlp.fc1.weight", "layer.0.intermediate.dense.weight"))
    )
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="1 tensors missing"):
        ENCODERS[encoder](folder, 64, "ras/text")


@every
def test_a_folder_without_a_vocabulary_is_refused(encoder: str, folders, tmp_path):
    folder = copied(folders[encoder], tmp_path / "mute")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        ENCODERS[encoder](folder, 64, "ras/text")


@pytest.mark.parametrize("encoder", ["distilroberta", "clip"])
def test_the_published_form_is_read(encoder: str, folders, tmp_path):
    """A ``.bin`` of tensors, with the positions that older versions kept; in that of RoBERTa there may be a pooler."""
    from safetensors.torch import load_file

    folder = copied(folders[encoder], tmp_path / "published")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    prefix = "roberta" if encoder == "distilroberta" else "text_model"
    kept = {f"{prefix}.embeddings.position_ids": torch.arange(77)[None]}
    kept |= {"roberta.pooler.dense.bias": torch.zeros(tiny_text.WIDTH)} if encoder == "distilroberta" else {}
    torch.save(tensors | kept, folder / "pytorch_model.bin")
    made, expected = (ENCODERS[encoder](each, 64, "ras/text") for each in (folder, folders[encoder]))
    assert fingerprint(made) == fingerprint(expected)


def test_objects_in_a_file_of_weights_are_never_made(folders, tmp_path):
    folder = copied(folders["distilroberta"], tmp_path / "objects")
    (folder / "model.safetensors").unlink()
    torch.save({"a": Path("made")}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"ras/text.*objects is damaged or of another kind"):
        ENCODERS["distilroberta"](folder, 64, "ras/text")


def test_another_architecture_is_refused(folders):
    with pytest.raises(CheckpointError, match="ras/text"):
        ENCODERS["distilroberta"](folders["clip"], 64, "ras/text")
    with pytest.raises(CheckpointError, match=r"no modules.json"):
        ENCODERS["sentence"](folders["clip"], 64, "ras/text")
    with pytest.raises(CheckpointError, match="ras/text"):
        ENCODERS["clip"](folders["sentence"], 64, "ras/text")


@pytest.mark.parametrize("labels", [["LABEL_0", "LABEL_1"], ["anger", "joy", "sadness", "fear", "disgust", "surprise", "love"]])
def test_other_labels_are_refused_before_and_when_loading(labels: list[str], folders, tmp_path):
    folder = copied(folders["distilroberta"], tmp_path / "labels")
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(place): label for place, label in enumerate(labels)}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"expected the 7 basic emotions \(neutral, anger"):
        _ = TextEmotion(TextOptions(distilroberta=str(folder))).labels


def test_eight_classes_of_a_fine_tuned_folder_are_basic8(tmp_path):
    from transformers import RobertaConfig, RobertaForSequenceClassification

    folder = tiny_text.write_roberta(tmp_path / "eight")
    labels = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other")
    config = RobertaConfig.from_pretrained(
        folder, id2label=dict(enumerate(labels)), label2id={name: place for place, name in enumerate(labels)}
    )
    RobertaForSequenceClassification(config).save_pretrained(folder)
    component = made(TextOptions(distilroberta=str(folder)))
    assert component.labels == BASIC8
    assert predict(component, words_clip("Hello there")).values[BASIC8].shape == (1, 8)


def test_published_encoders_say_where_they_come_from():
    for checkpoint in CHECKPOINTS.values():
        assert checkpoint.uri.startswith("hf:")
        assert len(checkpoint.uri.partition("@")[2]) == 40
        assert checkpoint.licence
        assert checkpoint.files


def test_quiet_leaves_the_settings_of_transformers_as_they_were():
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with pretrained.quiet():
        assert not logging.is_progress_bar_enabled()
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_bfloat16_says_about_the_same(loaded):
    single = predict(loaded("distilroberta"), words_clip(SENTENCES[0])).values[BASIC7]
    with torch.autocast("cpu", torch.bfloat16):
        half = predict(loaded("distilroberta"), words_clip(SENTENCES[0])).values[BASIC7]
    assert half.dtype == torch.float32
    assert (single - half).abs().max() < 0.05


@pytest.mark.slow
@every
def test_the_published_size_is_loaded_strictly_and_read(encoder: str, folders, tmp_path):
    from transformers import BertConfig, BertModel, CLIPConfig, CLIPModel, RobertaConfig, RobertaForSequenceClassification

    folder = copied(folders[encoder], tmp_path / "large")
    if encoder == "distilroberta":
        given = RobertaConfig.from_pretrained(folder)
        given.update(
            {"vocab_size": 50265, "hidden_size": 768, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 3072}
        )
        network, width, million = RobertaForSequenceClassification(given), 768, 82
    elif encoder == "clip":
        network, width, million = CLIPModel(CLIPConfig()), 512, 63
    else:
        given = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
        network, width, million = BertModel(given), 384, 22
    tiny_text.save(network, folder)
    if encoder == "sentence":
        pooling = folder / "1_Pooling" / "config.json"
        told = json.loads(pooling.read_text())
        pooling.write_text(json.dumps({key: width if "dimension" in key else value for key, value in told.items()}))
    made = ENCODERS[encoder](folder, 192, "ras/text")
    assert made.width == width
    assert sum(value.numel() for value in made.parameters()) // 1_000_000 == million
    ids = torch.tensor([made.tokens.encode(SENTENCES[0]).ids])
    with torch.inference_mode():
        read = made(ids, torch.ones_like(ids, dtype=torch.bool))
    assert read.feature.shape == read.embedding.shape == (1, width)
    assert read.feature.isfinite().all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@every
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05)])
def test_a_gpu_says_what_the_processor_says(encoder: str, dtype: torch.dtype, most: float, loaded):
    component = loaded(encoder)
    clips = [words_clip(text) for text in SENTENCES]
    expected = predict(component, *clips).values[BASIC7]
    gpu = TextEmotion(component.options)
    gpu.id = "ras/text"
    gpu.load(torch.device("cuda"), dtype)
    batch = {key: value.cuda() for key, value in collate([gpu.preprocess(clip) for clip in clips]).items()}
    with torch.inference_mode(), torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        found = gpu.predict(batch).values[BASIC7].cpu()
    torch.testing.assert_close(found, expected, atol=most, rtol=0)
