"""What ras/scene and ras/text share: the encoders that they may read with, the head over one of them, and where both come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from affectkit import headers
from affectkit.api import BASIC7, BASIC8, Checkpoint, CheckpointError, Clip, ConfigError, LabelSet, Modality, Output
from affectkit.errors import asked_by
from affectkit.labels import canonical
from affectkit_ras.headed import HEAD, HeadHeader, resolved
from affectkit_ras.transcripts import count_words

if TYPE_CHECKING:
    import torch

    from affectkit_ras.text_network import Encoder

ROBERTA_FILES = ("config.json", "pytorch_model.bin", "tokenizer.json", "tokenizer_config.json")
SENTENCE_FILES = (
    "config.json",
    "config_sentence_transformers.json",
    "model.safetensors",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "1_Pooling/config.json",
)

CHECKPOINTS: Mapping[str, Checkpoint] = {
    "distilroberta": Checkpoint(
        uri="hf:j-hartmann/emotion-english-distilroberta-base@0e1cd914e3d46199ed785853e12b57304e04178b",
        licence="not stated",
        source="Hartmann (2022), Emotion English DistilRoBERTa-base; seven classes from six data sets of English text",
        labels=LabelSet("emotion_english7", ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")),
        size=331_000_000,
        files=ROBERTA_FILES,
    ),
    "clip": Checkpoint(
        uri="hf:openai/clip-vit-base-patch32@3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
        licence="MIT",
        source="Radford et al. (2021), CLIP ViT-B/32; https://github.com/openai/CLIP",
        size=609_000_000,
        files=ROBERTA_FILES,
    ),
    "sentence": Checkpoint(
        uri="hf:sentence-transformers/all-MiniLM-L6-v2@c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        licence="Apache-2.0",
        source="https://www.sbert.net; MiniLM (Wang et al. 2020) trained on sentence pairs",
        size=92_000_000,
        files=SENTENCE_FILES,
    ),
}
"""The encoders by tag. The first comes with a head of seven classes; for the others there is none that is published."""

READY = "distilroberta"  # the tag of the encoder that has a head of its own
KNOWN = (BASIC7, BASIC8)


@dataclass(frozen=True)
class HeadFile:
    """What the header of a head's file says.

    Attributes:
        labels: what its columns mean.
        encoder: tag of the encoder that it was made over.
        fingerprint: which parameters that encoder had.
        width: size of the feature that it reads.
        hidden: width between its layers, 0 for one layer.
        temperature: what its logits are divided by.
        max_length: tokens that a text was cut at.
    """

    labels: LabelSet
    encoder: str
    fingerprint: str
    width: int
    hidden: int
    temperature: float
    max_length: int

    @classmethod
    def read(cls, path: Path, owner: str) -> HeadFile:
        """The header of a file that the training of a head wrote.

        Raises:
            CheckpointError: where it is of another make or damaged, or its labels are others.
        """
        found = headers.settings(path, HeadHeader, owner)
        wanted = ("labels", "encoder", "fingerprint", "width", "hidden", "max_length")
        if absent := [name for name in wanted if name not in found]:
            raise CheckpointError(
                f"{owner}: {path} is not a head over a text encoder (its header does not say {', '.join(absent)}); "
                f"give one that 'affectkit train {owner}' wrote"
            )
        labels = next((one for one in KNOWN if list(one.labels) == found["labels"]), None)
        if labels is None:
            raise CheckpointError(
                f"{owner}: {path} gives the labels {found['labels']}; expected {list(BASIC7.labels)}, or with 'other' after them"
            )
        return cls(
            labels,
            encoder=str(found["encoder"]),
            fingerprint=str(found["fingerprint"]),
            width=found["width"],
            hidden=found["hidden"],
            temperature=float(found.get("temperature", 1.0)),
            max_length=found["max_length"],
        )


def label_set(names: Sequence[str], path: Path, owner: str) -> LabelSet:
    """The basic emotions that a classifier's labels are, in whatever order and spelling.

    Raises:
        CheckpointError: where they are something else; the message shows them.
    """
    found = {canonical(name) for name in names}
    for labels in KNOWN:
        if found == set(labels.labels) and len(names) == len(labels):
            return labels
    raise CheckpointError(
        f"{owner}: {path} gives the labels {list(names)}; expected the {len(BASIC7)} basic emotions ({', '.join(BASIC7.labels)}) or the same "
        "with 'other', by name and in any order, in id2label of its config.json"
    )


@dataclass(frozen=True)
class TextOptions:
    """What options of ras/scene and ras/text have in common.

    Attributes:
        encoder: what reads the text: ``distilroberta`` (ready, seven classes), ``clip``, or ``sentence``, the light choice; the latter two need a head.
        head: file of a head over the encoder, as ``affectkit train ras/scene`` writes it (``ras/text`` for words); goes before the encoder's own.
        distilroberta: folder of another sequence classifier of transformers, for instance a fine-tuned one of eight classes.
        sentence: folder of another model of sentence-transformers.
        clip: folder of another CLIP of transformers.
        max_length: tokens of a text at most; with a head, as it was trained.
    """

    encoder: str = READY
    head: str | None = None
    distilroberta: str | None = None
    sentence: str | None = None
    clip: str | None = None
    max_length: int = 192

    def __post_init__(self) -> None:
        if self.encoder not in CHECKPOINTS:
            raise ConfigError(f"encoder must be one of {', '.join(CHECKPOINTS)}, found {self.encoder!r}")
        if self.max_length < 4:
            raise ConfigError(f"max_length must be at least 4 tokens, found {self.max_length}")


class TextModality(Modality):
    """A text encoder with a head: of its own, or from a file.

    Attributes:
        kind: the kind of input whose text it reads.
    """

    kind: ClassVar[str]
    Options = TextOptions
    checkpoints: ClassVar[Mapping[str, Checkpoint]] = CHECKPOINTS
    requires = ("transformers",)

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._encoder: Encoder | None = None
        self._labels: LabelSet | None = None

    @property
    def labels(self) -> LabelSet:  # type: ignore[override]
        """Seven or eight basic emotions, as the checkpoint says; seven where it is not here."""
        if self._labels is None:
            self._labels = self._spoken()
        return self._labels

    def used_checkpoints(self) -> Mapping[str, Checkpoint]:
        """The encoder that the options choose, and the head over it where it needs one or the options name one."""
        chosen = self.options.encoder
        used = {chosen: super().used_checkpoints()[chosen]}
        if self.options.head:
            used[HEAD] = Checkpoint(self.options.head, licence="as given by the user")
        elif chosen != READY:
            name = f"ras_{self.name}_{chosen}"
            source = f"affectkit train ras/{self.name} --data FILE --set options.encoder={chosen} --set name={name} --out ."
            used[HEAD] = Checkpoint(f"{name}.safetensors", licence="that of the data it was made of", source=source)
        return used

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Loads the encoder and the head; forward passes in lower precision run under autocast.

        Raises:
            CheckpointError: where one of them is absent, damaged, of another kind or with other labels.
        """
        from affectkit import weight_files
        from affectkit.fingerprints import fingerprint
        from affectkit_ras.text_network import ENCODERS, Head

        folder = resolved(self, self.options.encoder)
        path = resolved(self, HEAD) if HEAD in self.used_checkpoints() else None
        head = None if path is None else HeadFile.read(path, self.id)
        if head is not None and head.encoder != self.options.encoder:
            raise CheckpointError(
                f"{self.id}: {path} was made over the encoder {head.encoder}; set components.{self.id}.encoder={head.encoder}"
            )
        encoder = ENCODERS[self.options.encoder](folder, head.max_length if head else self.options.max_length, self.id)
        self._head, self._temperature = None, 1.0
        if head is None or path is None:
            labels = label_set(encoder.labels, folder, self.id)
            self._columns = [[canonical(name) for name in encoder.labels].index(label) for label in labels.labels]
        else:
            if head.fingerprint != (found := fingerprint(encoder)) or head.width != encoder.width:
                raise CheckpointError(
                    f"{self.id}: {path} was made over another {head.encoder} than {folder} ({head.fingerprint}, found {found})"
                )
            labels, self._columns, self._temperature = head.labels, list(range(len(head.labels))), head.temperature
            network = Head(head.width, head.hidden, len(labels))
            with asked_by(self.id):
                tensors = weight_files.load_tensors(path)
                weight_files.load_strict(network, {n.removeprefix("head."): t for n, t in tensors.items() if n.startswith("head.")}, path)
            self._head = network.float().to(device).eval().requires_grad_(False)
            load_tuned(encoder, tensors, path, self.id)
        self._labels = labels
        self._encoder = encoder.to(device)

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """An encoder in the format of its library with few narrow layers, or a head over the encoder that was written before it."""
        from affectkit_ras import tiny_text

        if tag == HEAD:
            encoder = replace(self.options, **{self.options.encoder: str(folder / self.options.encoder)})
            return tiny_text.write_head(folder / f"{self.name}_{encoder.encoder}.safetensors", encoder, self.id)
        return tiny_text.WRITERS[tag](folder / tag)

    def preprocess(self, clip: Clip) -> Mapping[str, torch.Tensor] | None:
        import torch

        evidence = clip.inputs.get(self.kind)
        if evidence is None or not evidence.valid or self._encoder is None:
            return None
        text = self.clean(str(evidence.data.get("text") or ""))
        words = count_words(text)
        if not words:
            return None
        return {
            "ids": torch.tensor(self._encoder.tokens.encode(text).ids),
            "words": torch.tensor(float(words)),
            "text": torch.tensor(list(text.encode()), dtype=torch.uint8),  # for the note
        }

    def predict(self, batch: Mapping[str, torch.Tensor]) -> Output:
        if self._encoder is None:
            raise CheckpointError(f"{self.id} is asked before its weights are loaded")
        read = self._encoder(batch["ids"], batch["ids_mask"])
        logits = self._head(read.feature) if self._head is not None else read.logits
        values = (logits.float()[:, self._columns] / self._temperature).softmax(1)
        texts = [bytes(row[real].tolist()).decode() for row, real in zip(batch["text"].cpu(), batch["text_mask"].cpu(), strict=True)]
        notes = [{self.kind: text} for text in texts]
        return Output({self.labels: values}, {self.name: read.embedding.float()}, {"words": batch["words"]}, notes)

    def clean(self, text: str) -> str:
        """The text as it is read."""
        return " ".join(text.split())

    def _spoken(self) -> LabelSet:
        """What the checkpoint says of its labels, without loading it."""
        from affectkit import checkpoints, pretrained

        used = self.used_checkpoints()
        tag = HEAD if HEAD in used else self.options.encoder
        path = checkpoints.local(used[tag])
        if path is None:  # told when it is asked for
            return BASIC7
        if tag == HEAD:
            return HeadFile.read(path, self.id).labels
        names = pretrained.config(path, self.id).get("id2label") or {}
        return label_set([str(names[key]) for key in sorted(names, key=int)], path, self.id)


def load_tuned(encoder: Encoder, tensors: Mapping[str, torch.Tensor], path: Path, owner: str) -> None:
    """Puts the parameters of an encoder that were trained along with a head in place of its own.

    Raises:
        CheckpointError: where the encoder has no such parameters.
    """
    import torch

    own = dict(encoder.named_parameters())
    tuned = {name.removeprefix("encoder."): value for name, value in tensors.items() if name.startswith("encoder.")}
    if wrong := [name for name, value in tuned.items() if name not in own or own[name].shape != value.shape]:
        raise CheckpointError(f"{owner}: {path} holds {len(wrong)} tensors that its encoder does not have, for instance {sorted(wrong)[0]}")
    if strange := [name for name in tensors if not name.startswith(("encoder.", "head."))]:
        raise CheckpointError(f"{owner}: {path} holds tensors that belong to neither encoder nor head, for instance {sorted(strange)[0]}")
    with torch.no_grad():
        for name, value in tuned.items():
            own[name].copy_(value)
