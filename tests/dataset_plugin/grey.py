"""Modalities that read a class from how bright a face is, 30 grey levels apart, and a training that learns it."""

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from affectkit.api import AU12, BASIC7, About, Audio, Checkpoint, Clip, Evidence, Input, Modality, Needs, Output, Provider, hookimpl
from affectkit.clip_training import ClipOptions, ClipTraining
from affectkit.labels import DFEW7, of_texts

SIDE = 8


@dataclass(frozen=True)
class Options:
    checkpoint: str | None = None
    least: int = 1


class Window(Modality):
    """Four crops of a clip; the number in the file of the checkpoint is added to the class."""

    name = "window"
    labels = BASIC7
    needs = Needs(inputs=(Input("faces", count=4, size=SIDE),))
    Options = Options

    def load(self, device, dtype):
        given = getattr(self.options, "checkpoint", None)
        self.shift = 0 if given is None else int(self.weights().read_text())

    def preprocess(self, clip: Clip):
        import torch

        crops = clip.inputs["faces"].data["crops"]
        return {"crops": torch.from_numpy(crops.copy())} if len(crops) >= getattr(self.options, "least", 1) else None

    def predict(self, batch: Mapping) -> Output:
        from torch.nn import functional

        crops, count = batch["crops"].double(), batch["crops_mask"].sum(1)
        level = crops.sum((1, 2, 3, 4)) / (count * SIDE * SIDE * 3)
        column = ((level / 30).round().long() + self.shift) % 7
        return Output({BASIC7: functional.one_hot(column, 7).float() * 0.93 + 0.01})


class Frame(Window):
    """Every crop by itself."""

    name = "frame"
    unit = "frame"
    needs = Needs(inputs=(Input("faces", fps=25.0, size=SIDE), Input("landmarks")))


class Marks(Provider):
    """How bright each crop is, as what somebody might call landmarks."""

    name = "marks"
    kind = "landmarks"
    scope = "face"
    needs = Needs(inputs=(Input("faces", count=1, size=2),))

    def provide(self, clips: Sequence[Clip]) -> list[Evidence]:
        faces = [clip.inputs["faces"] for clip in clips]
        return [Evidence("landmarks", {"level": face.data["crops"].mean((1, 2, 3))}, times=face.times) for face in faces]


class Marked(Window):
    """Reads the landmarks of three crops of six pixels, not the crops."""

    name = "marked"
    needs = Needs(inputs=(Input("faces", count=3, size=6), Input("landmarks", count=3, size=6)))

    def preprocess(self, clip: Clip):
        import torch

        marks = clip.inputs["landmarks"]
        if not marks.valid or len(marks.data["level"]) < self.options.least:
            return None
        level = torch.from_numpy(marks.data["level"])
        return {"crops": level[:, None, None, None].expand(-1, SIDE, SIDE, 3)}


@dataclass(frozen=True)
class NoFile:
    size: int = 8


class Fixed(Window):
    """Takes no file of weights."""

    name = "fixed"
    Options = NoFile


@dataclass(frozen=True)
class Texts:
    labels: tuple[str, ...] | Mapping[str, str] = ("grey 0", "grey 255")


class Asked(Window):
    """Says which of some texts fits best; a text is a grey level."""

    name = "asked"
    asked = True
    Options = Texts

    def __init__(self, options=None):
        super().__init__(options)
        self.labels = of_texts(self.options.labels)

    def predict(self, batch: Mapping) -> Output:
        import torch

        texts = self.options.labels
        levels = torch.tensor([float(text.split()[-1]) for text in (texts.values() if isinstance(texts, Mapping) else texts)])
        seen = batch["crops"].float().sum((1, 2, 3, 4)) / (batch["crops_mask"].sum(1) * SIDE * SIDE * 3)
        return Output({self.labels: (-(seen[:, None] - levels).abs()).softmax(1)})


class Units(Window):
    """Speaks another kind of labels."""

    name = "units"
    labels = AU12

    def predict(self, batch: Mapping) -> Output:
        import torch

        return Output({AU12: torch.full((len(batch["crops"]), 12), 0.5)})


class Ear(Window):
    """Looks at nothing."""

    name = "ear"
    needs = Needs(audio=Audio())


class Broken(Window):
    """Raises while it prepares a clip."""

    name = "broken"

    def preprocess(self, clip: Clip):
        raise ValueError("no such thing")


class Stuck(Window):
    """Raises in its forward pass."""

    name = "stuck"

    def predict(self, batch: Mapping) -> Output:
        raise ValueError("no such thing either")


@dataclass(frozen=True)
class Diary(Options):
    diary: str = ""


class Counted(Window):
    """Writes down how many clips each forward pass has; in the pass that a file beside it names, the program gets a signal."""

    name = "counted"
    Options = Diary

    def predict(self, batch: Mapping) -> Output:
        diary = Path(self.options.diary)
        with diary.open("a") as file:
            file.write(f"{len(batch['crops'])}\n")
        stop = diary.with_suffix(".stop")
        if stop.exists():
            number, kind = stop.read_text().split()
            if len(diary.read_text().split()) == int(number):
                signal.raise_signal(signal.Signals[kind])
        return super().predict(batch)


@dataclass(frozen=True)
class Given:
    head: str | None = None
    backbone: str = "absent_backbone.bin"


class Unmade(Marked):
    """Wants two files; the one is made by a training."""

    name = "unmade"
    Options = Given

    def used_checkpoints(self):
        head = self.options.head or "absent_head.txt"
        return {"head": Checkpoint(head, source="affectkit train grey/unmade"), "backbone": Checkpoint(self.options.backbone)}


@dataclass(frozen=True)
class OneFile:
    checkpoint: str = "absent_marks.bin"


class Lost(Marks):
    """Wants a file."""

    name = "lost"
    Options = OneFile

    def used_checkpoints(self):
        return {"given": Checkpoint(self.options.checkpoint)}


class Learn(ClipTraining):
    """A line through the brightness of a clip."""

    name = "learn"
    labels = DFEW7  # until the data set is read
    Options = ClipOptions

    def network(self):
        import torch

        return torch.nn.Linear(1, len(self.labels))

    def predict(self, network, batch):
        return network(batch["frames"].mean((1, 2, 3, 4))[:, None] * 10)

    def about(self) -> About:
        return About("A line", "a line", "made clips", "MIT", "everything")


@hookimpl
def affectkit_modalities():
    return [Window, Frame, Marked, Fixed, Asked, Units, Ear, Broken, Stuck, Counted, Unmade]


@hookimpl
def affectkit_providers():
    return [Marks, Lost]


@hookimpl
def affectkit_trainings():
    return [Learn]
