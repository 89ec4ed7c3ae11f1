"""``finecliper/face_dynamic``: how well the clip of a face matches what each emotion looks like and what it does not, by a CLIP that was tuned a little."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from affectkit.api import BASIC7, Checkpoint, CheckpointError, Clip, ConfigError, LabelSet, Modality, Needs, Output
from affectkit.clip_sampling import spread
from affectkit.errors import asked_by
from affectkit_finecliper.shape import Shape, check_streams
from affectkit_finecliper.texts import asked, described
from affectkit_finecliper.tuned import MADE, Tuned, read_tuned, settings
from affectkit_finecliper.views import DRAWN, FACES, FRAMES, drawn

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from affectkit_finecliper.model import FineCliper

ID = "finecliper/face_dynamic"
BACKBONE, TUNED = "backbone", "tuned"
UNTUNED = "clip"  # instead of a file: CLIP as it is
OPENAI = Checkpoint(
    uri="hf:timm/vit_base_patch16_clip_224.openai@977e3dd0ec55ab8da155f2fbeb6b5f54948b6e3d",
    licence="Apache-2.0",
    source="Radford et al. (ICML 2021), CLIP ViT-B/16, as open_clip stores it",
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    size=599_000_000,
    files=("open_clip_config.json", "open_clip_model.safetensors"),
)

Stream = Literal["frames", "parsing", "landmarks"]


@dataclass(frozen=True)
class FaceDynamicOptions:
    """Options of finecliper/face_dynamic.

    Attributes:
        tuned: file that ``affectkit train finecliper/face_dynamic`` wrote; or ``clip`` for CLIP as it is, which has learned nothing of faces in motion.
        backbone: folder of another CLIP of open_clip, or a file of the weights of ViT-B/16 with open_clip's or OpenAI's names.
        labels: what is asked for: the name of a label set, any texts, at least two (``affectkit run --labels``), or texts of classes by their labels: one that
            says how a face looks, or two, what it looks like and what it does not. ``None`` for the labels that ``tuned`` was tuned on, and for ``basic7``
            where it is ``clip``.
        streams: what is looked at beside the frames; what ``tuned`` does not mix cannot be.
        least: crops that a window must hold.
    """

    tuned: str | None = None
    backbone: str | None = None
    labels: tuple[str, ...] | Mapping[str, str | tuple[str, str]] | str | None = None
    streams: tuple[Stream, ...] = ("frames",)
    least: int = 2

    def __post_init__(self) -> None:
        if self.labels is not None:
            asked(self.labels)
        if self.least < 1:
            raise ConfigError(f"least must be at least 1, found {self.least}")
        check_streams(self.streams)


class FaceDynamic(Modality):
    """Emotions of a face over a window (FineCLIPER, ACM MM 2024; **a reconstruction**, its authors released no code): CLIP ViT-B/16 with adapters in space, time and text.

    A class is a text of what it looks like and one of what it does not look like; the logit is the match with the first less that with the second. Any label
    set can be asked for, also one that it was not tuned on, and any texts: **that is a similarity, not validated recognition**. Beside the frames it may look at
    maps of the regions of the face and of its landmarks; a clip without them is judged by the others. No tuned weights are published.

    Embedding ``clip``: the point of the clip in CLIP's space. Quality: ``faces``, the number of crops, ``streams``, how many streams there were, and
    ``cosine``, the largest cosine with a positive text, in [-1, 1].
    """

    name = "face_dynamic"
    labels: LabelSet = BASIC7
    needs = Needs(inputs=(FACES,))
    unit = "window"
    asked = True
    Options = FaceDynamicOptions
    checkpoints: ClassVar[Mapping[str, Checkpoint]] = {BACKBONE: OPENAI}
    requires = ("open_clip",)

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._header = self._tuned()
        known = {} if self._header is None else {"known": self._header.known()}
        if self.options.labels is not None:
            self.labels, self._sides = asked(self.options.labels, **known)
        else:
            self.labels = BASIC7 if self._header is None else self._header.labels
            self._sides = described(self.labels, **known)
        self._frames = FRAMES if self._header is None else self._header.shape.frames
        self.asked = self.options.labels is not None or self._header is None  # otherwise it says what it was tuned to say
        faces = replace(FACES, count=self._frames)
        self.needs = Needs(inputs=(faces, *(replace(faces, kind=name) for name in DRAWN if name in self.options.streams)))
        self._network: FineCliper | None = None
        self._temperature = 1.0

    def used_checkpoints(self) -> Mapping[str, Checkpoint]:
        """The CLIP, and what was tuned in it, which nobody publishes."""
        used, given = dict(super().used_checkpoints()), self.options.tuned
        if given != UNTUNED:
            made = Checkpoint(
                "finecliper_face_dynamic.safetensors",
                licence="that of the data it was made of",
                source=f"{MADE} --dataset NAME --data DIR --out .",
            )
            used[TUNED] = Checkpoint(given, licence="as given by the user") if given else made
        return used

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Loads the CLIP and what was tuned in it, and reads the texts; forward passes in lower precision run under autocast.

        Raises:
            CheckpointError: where one of them is absent, damaged, or made for another.
            ConfigError: for a text that is longer than CLIP reads.
        """
        import torch

        from affectkit import checkpoints, weight_files
        from affectkit_finecliper.clip_files import load
        from affectkit_finecliper.model import FineCliper

        used = {tag: checkpoints.resolve(found, owner=self.id, tag=tag, option=tag) for tag, found in self.used_checkpoints().items()}
        backbone = load(used[BACKBONE], self.id, openai=self.options.backbone is None)
        if TUNED not in used:
            network = FineCliper(backbone.clip, Shape(self._frames, self.options.streams), backbone.mean, backbone.std)
        else:
            header = read_tuned(used[TUNED], self.id)
            self._check(header, backbone.fingerprint, used[TUNED])
            network = FineCliper(backbone.clip, header.shape, backbone.mean, backbone.std)
            with asked_by(self.id):
                tensors = {name: tensor.float() for name, tensor in weight_files.load_tensors(used[TUNED]).items()}
                weight_files.load_strict(network, tensors, used[TUNED])
            self._temperature = header.temperature
        texts = [one.positive for one in self._sides] + [one.negative for one in self._sides]
        backbone.check_length(texts, self.id)
        self._network = network.to(device).eval().requires_grad_(False)
        with torch.inference_mode():
            self._positive, self._negative = network.texts(backbone.tokens(texts).to(device)).chunk(2)

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """A small CLIP with both its towers and the real tokens, or adapters for that CLIP that are not zero."""
        from affectkit import weight_files
        from affectkit_finecliper import clip_files
        from affectkit_finecliper.model import FineCliper, stirred

        small = clip_files.write_tiny(folder / "clip")
        if tag == BACKBONE:
            return small
        backbone = clip_files.load(small, self.id, openai=False)
        shape = Shape(FRAMES, self.options.streams)
        network = weight_files.random_network(lambda: stirred(FineCliper(backbone.clip, shape)))
        path = folder / "face_dynamic.safetensors"
        header = {"labels": self.labels.labels, **settings(self.labels, shape, self._sides, backbone.fingerprint)}
        weight_files.save_tensors(path, network.state_dict(), {"settings": json.dumps(header), "licence": weight_files.RANDOM})
        return path

    def preprocess(self, clip: Clip) -> Mapping[str, torch.Tensor] | None:
        """As in :class:`Modality`: ``frames`` (T, S, S, 3) uint8 RGB and a map of that shape per further stream, (0, S, S, 3) where it could not be made;
        ``present`` (M,) bool, which streams there are; ``count`` () float32, the crops."""
        import torch

        faces = clip.inputs.get("faces")
        if faces is None or not faces.valid or len(faces.data["crops"]) < self.options.least:
            return None
        crops = np.asarray(faces.data["crops"])
        rows = spread(len(crops), self._frames)
        found = {"frames": torch.from_numpy(crops[rows]), "count": torch.tensor(float(len(crops)))}
        present = [True]
        for name in self.options.streams[1:]:
            maps = drawn(clip.inputs.get(name), faces.times, len(crops))
            present.append(maps is not None)
            found[name] = torch.from_numpy(crops[:0] if maps is None else maps[rows])
        return {**found, "present": torch.tensor(present)}

    def predict(self, batch: Mapping[str, torch.Tensor]) -> Output:
        """As in :class:`Modality`, of what :meth:`preprocess` gives: ``frames`` and maps (B, T, S, S, 3) uint8 RGB, ``present`` (B, M) bool, ``count`` (B,) float32.

        Raises:
            CheckpointError: before :meth:`load`.
        """
        import torch

        from affectkit_finecliper.model import cosines

        if self._network is None:
            raise CheckpointError(f"{self.id} is asked before its weights are loaded")
        network = self._network
        present = {name: batch["present"][:, place] for place, name in enumerate(self.options.streams)}
        nowhere = batch["present"].new_zeros(len(batch["present"]))
        points = network(
            {name: batch[name].movedim(-1, -3).float() / 255 for name, there in present.items() if there.any()},
            torch.stack([present.get(name, nowhere) for name in network.shape.streams], 1),
        )
        logits = network.logits(points, self._positive, self._negative) / self._temperature
        return Output(
            values={self.labels: logits.softmax(1)},
            embeddings={"clip": points},
            quality={
                "faces": batch["count"],
                "streams": batch["present"].sum(1).float(),
                "cosine": cosines(points, self._positive).amax(1),
            },
        )

    def _tuned(self) -> Tuned | None:
        """The header of what was tuned, where its file is here; where it is not, loading says so."""
        from affectkit.checkpoints import local

        found = self.used_checkpoints().get(TUNED)
        path = None if found is None or self.options.tuned is None else local(found)
        return None if path is None else read_tuned(path, ID)  # while it is made, it does not know its id

    def _check(self, header: Tuned, fingerprint: str, path: Path) -> None:
        """Nothing, where what was tuned fits the CLIP and the options.

        Raises:
            CheckpointError: where it was tuned in another CLIP.
            ConfigError: where a stream is asked for that it does not mix.
        """
        if header.backbone != fingerprint:
            raise CheckpointError(
                f"{self.id}: {path} was tuned in another CLIP ({header.backbone}, found {fingerprint}); give that one as backbone"
            )
        if more := [name for name in self.options.streams if name not in header.shape.streams]:
            mixes = ", ".join(header.shape.streams)
            raise ConfigError(f"{self.id}: {path} was tuned on {mixes} and does not know {', '.join(more)}; leave that out of streams")
