"""Small text encoders with random numbers, each written by its own library: the formats are the real ones, what they say means nothing."""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectkit import pretrained, weight_files
from affectkit.api import BASIC7
from affectkit.fingerprints import fingerprint

if TYPE_CHECKING:
    from affectkit_ras.text_models import TextOptions

WIDTH, LAYERS, HEADS = 32, 2, 4
SHARPNESS = 1.0  # standard deviation of the parameters: large enough that different texts give different answers
NOTE = "README.md"


def alphabet(suffixes: tuple[str, ...] = ("",)) -> list[str]:
    """The 256 characters that byte-level tokenizers write bytes as, with each of some suffixes."""
    from tokenizers.pre_tokenizers import ByteLevel

    return [letter + suffix for suffix in suffixes for letter in sorted(ByteLevel.alphabet())]


def stirred(network: Any) -> Any:
    """A network with larger random numbers than it begins with, so that what it says differs from text to text."""
    for name, value in network.named_parameters():
        if "norm" not in name.lower():
            value.data.normal_(std=SHARPNESS / value.shape[-1] ** 0.5 if value.ndim > 1 else 0.02)
    return network


def save(network: Any, folder: Path) -> None:
    """Writes a model as its library does."""
    with pretrained.quiet():
        network.save_pretrained(folder)


def marked(folder: Path) -> Path:
    """The folder, with a file that says that its numbers are random."""
    (folder / NOTE).write_text(f"{weight_files.RANDOM}\n", encoding="utf-8")
    return folder


def write_roberta(folder: Path) -> Path:
    """A RoBERTa sequence classifier of seven classes in the order of the public DistilRoBERTa."""
    from transformers import RobertaConfig, RobertaForSequenceClassification, RobertaTokenizer

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = {token: place for place, token in enumerate([*special, *alphabet()])}
    labels = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")
    given = RobertaConfig(
        vocab_size=len(vocabulary),
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=2 * WIDTH,
        max_position_embeddings=514,
        type_vocab_size=1,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        id2label=dict(enumerate(labels)),
        label2id={label: place for place, label in enumerate(labels)},
    )
    network = weight_files.random_network(lambda: stirred(RobertaForSequenceClassification(given)))
    save(network, folder)
    RobertaTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    return marked(folder)


def write_clip(folder: Path) -> Path:
    """A CLIP with both towers, as the public one comes."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    special = ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: place for place, token in enumerate([*alphabet(("", "</w>")), *special])}
    sizes = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    tokens = {"bos_token_id": vocabulary[special[0]], "eos_token_id": vocabulary[special[1]], "pad_token_id": vocabulary[special[1]]}
    text = {**sizes, **tokens, "vocab_size": len(vocabulary), "max_position_embeddings": 77, "projection_dim": WIDTH}
    vision = {**sizes, "image_size": 32, "patch_size": 16, "projection_dim": WIDTH}
    given = CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)
    network = weight_files.random_network(lambda: stirred(CLIPModel(given)))
    save(network, folder)
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    return marked(folder)


def write_sentence(folder: Path) -> Path:
    """A model of sentence-transformers: BERT with the mean over tokens."""
    from sentence_transformers import SentenceTransformer
    from transformers import BertConfig, BertModel, BertTokenizer

    letters = string.ascii_lowercase + string.digits + string.punctuation
    vocabulary = {
        token: place for place, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)])
    }
    given = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=2 * WIDTH,
        max_position_embeddings=512,
    )
    network = weight_files.random_network(lambda: stirred(BertModel(given)))
    inner = folder.with_name(f".{folder.name}.bert")
    save(network, inner)
    BertTokenizer(vocab=vocabulary).save_pretrained(inner)
    try:
        with pretrained.quiet():
            SentenceTransformer(str(inner), device="cpu", local_files_only=True).save(str(folder), create_model_card=False)
    finally:
        for file in inner.iterdir():
            file.unlink()
        inner.rmdir()
    return marked(folder)


WRITERS: Mapping[str, Callable[[Path], Path]] = {"distilroberta": write_roberta, "clip": write_clip, "sentence": write_sentence}
"""Who writes a random checkpoint for each tag."""


def write_head(path: Path, options: TextOptions, owner: str) -> Path:
    """A head of random numbers over the encoder that the options name, with the header of a trained one."""
    from affectkit_ras.text_network import ENCODERS, Head

    encoder = ENCODERS[options.encoder](Path(getattr(options, options.encoder)), options.max_length, owner)
    head = weight_files.random_network(lambda: Head(encoder.width, 0, len(BASIC7)))
    settings = {
        "labels": BASIC7.labels,
        "encoder": options.encoder,
        "fingerprint": fingerprint(encoder),
        "width": encoder.width,
        "hidden": 0,
        "max_length": encoder.limit,
    }
    header = {"settings": json.dumps(settings), "licence": weight_files.RANDOM}
    weight_files.save_tensors(path, {f"head.{name}": value for name, value in head.state_dict().items()}, header)
    return path
