"""Components that break one promise each: the common ones, and those of modalities."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from affectkit.api import (
    AU12,
    BASIC7,
    Checkpoint,
    Clip,
    Component,
    Frames,
    Needs,
    Output,
)
from tests.good_components import Loud

Case = tuple[str, str, type[Component]]
CASES: list[Case] = []


def breaks(check: str, *told: str) -> Callable[[type[Component]], type[Component]]:
    """Adds a broken component to the cases: the check that it fails, and words of what is said."""

    def add(cls: type[Component]) -> type[Component]:
        CASES.extend((check, words, cls) for words in told)
        return cls

    return add


@breaks("declaration", "checkpoint 'main' says no licence; write Checkpoint(..., licence='Apache-2.0')")
class Unlicensed(Loud):
    checkpoints: ClassVar = {"main": Checkpoint("https://example.invalid/x.safetensors", source="x.py")}


@breaks("declaration", "checkpoint 'main' says no source; write Checkpoint(..., source='...')")
class Unsourced(Loud):
    checkpoints: ClassVar = {"main": Checkpoint("https://example.invalid/x.safetensors", licence="MIT")}


@breaks("declaration", "Options must be a frozen dataclass")
class Thawed(Loud):
    class Options:
        pass


@breaks("loads", "load raised RuntimeError: no luck")
class Stubborn(Loud):
    def load(self, device, dtype) -> None:
        raise RuntimeError("no luck")


@breaks("answers", "predict raised ZeroDivisionError: division by zero")
class Raising(Loud):
    def predict(self, batch: Mapping) -> Output:
        return 1 / 0


@breaks("answers", "preprocess raised SystemExit: 3")
class Leaving(Loud):
    def preprocess(self, clip: Clip) -> Mapping | None:
        sys.exit(3)


@breaks("answers", "predict returned a dict; return Output({LABELS: values})")
class Plain(Loud):
    def predict(self, batch: Mapping) -> Any:
        return super().predict(batch).values


@breaks("answers", "preprocess must return a mapping of tensors, found ndarray for 'x'")
class Numpy(Loud):
    def preprocess(self, clip: Clip) -> Mapping | None:
        made = super().preprocess(clip)
        return None if made is None else {"x": made["x"].numpy()}


@breaks("answers", "the same shape but for its first dimension")
class Uneven(Loud):
    needs = Needs(frames=Frames(count=2, size=12))

    def preprocess(self, clip: Clip) -> Mapping | None:
        import torch

        return None if clip.frames is None else {"x": torch.from_numpy(clip.frames.astype(np.float32)), "seconds": torch.tensor(1.0)}


@breaks("same answer twice", "the same input gives another answer the second time: basic7 differs by up to")
class Drawing(Loud):
    def predict(self, batch: Mapping) -> Output:
        import torch

        batch = {**batch, "x": batch["x"] + torch.rand(1)}
        return super().predict(batch)


@breaks("same answer twice", "another instance gives another answer to the same input")
class Unloaded(Loud):
    def load(self, device, dtype) -> None:
        import torch

        self.weight = torch.rand(7).to(device)


@breaks("inputs unchanged", "it changes what it is given: [0] audio differs by up to")
class Scaling(Loud):
    def preprocess(self, clip: Clip) -> Mapping | None:
        if clip.audio is not None:
            clip.audio[:] = clip.audio / (np.abs(clip.audio).max() + 1e-9)
        return super().preprocess(clip)


class Downloading(Loud):
    """Swallows that there is no network."""

    def fetch(self) -> None:
        from urllib.request import urlopen

        try:
            urlopen("http://example.invalid:8080/weights", timeout=1)
        except OSError:
            return


@breaks("no network", "it reaches for the network (example.invalid:8080); declare what it needs as a Checkpoint")
class FetchingWeights(Downloading):
    def load(self, device, dtype) -> None:
        super().load(device, dtype)
        self.fetch()


@breaks("no network", "it reaches for the network (example.invalid:8080)")
class AskingAServer(Downloading):
    def predict(self, batch: Mapping) -> Output:
        self.fetch()
        return super().predict(batch)


@breaks("no network", "it reaches for the network (127.0.0.1:9)")
class Connecting(Loud):
    def predict(self, batch: Mapping) -> Output:
        with socket.socket() as wire:
            wire.connect_ex(("127.0.0.1", 9))
        return super().predict(batch)


@breaks("device moved", "self.weight elsewhere): predict raised RuntimeError")
class Staying(Loud):
    def load(self, device, dtype) -> None:
        import torch

        super().load(torch.device("cpu"), dtype)


@breaks("device moved", "self.net.weight is elsewhere, and 1 more tensors with it; move modules and tensors with .to(device) in load")
class StayingNetwork(Loud):
    def load(self, device, dtype) -> None:
        import torch

        super().load(device, dtype)
        self.net = torch.nn.Linear(2, 2)


@breaks("labels match columns", "it declares the label sets [basic7, au12] and returned [basic7]; return exactly what is declared")
class Forgetful(Loud):
    def predict(self, batch: Mapping) -> Output:
        output = super().predict(batch)
        return replace(output, values={BASIC7: output.values[BASIC7]})


@breaks("labels match columns", "for 4 clips the values of 'basic7' must be (4, 7), found (4, 5); one column per label")
class Narrow(Loud):
    def predict(self, batch: Mapping) -> Output:
        output = super().predict(batch)
        rows = output.values[BASIC7][:, :5]
        return replace(output, values={BASIC7: rows / rows.sum(1, keepdim=True), AU12: output.values[AU12]})


@breaks("labels match columns", "the values of 'basic7' must be float32, found torch.float64; end predict with .float()")
class Double(Loud):
    def predict(self, batch: Mapping) -> Output:
        output = super().predict(batch)
        return replace(output, values={labels: values.double() for labels, values in output.values.items()})


@breaks("rows sum to one", "rows of 'basic7' must sum to 1, found one that sums to 0.5; use softmax")
class Half(Loud):
    def predict(self, batch: Mapping) -> Output:
        output = super().predict(batch)
        return replace(output, values={BASIC7: output.values[BASIC7] / 2, AU12: output.values[AU12]})


@breaks("values in range", "values of 'au12' must lie in [0, 1], found -")
class Logits(Loud):
    def predict(self, batch: Mapping) -> Output:
        output = super().predict(batch)
        return replace(output, values={BASIC7: output.values[BASIC7], AU12: output.values[AU12] - 5})


@breaks("rows independent", "in place 1 of a batch of 4: basic7 differs by up to")
class BatchNormed(Loud):
    def mean(self, batch: Mapping) -> Any:
        mean = super().mean(batch)
        return mean - mean.mean()


@breaks("padding ignored", "other numbers in the padding of 'x', where the mask is false, change the result: basic7 differs by up to")
class Trusting(Loud):
    """Believes that what is padded is zero."""

    def mean(self, batch: Mapping) -> Any:
        return (batch["x"] ** 2).sum(1).div(batch["x_mask"].sum(1)).sqrt()


@breaks("none without evidence", "preprocess of a clip without sound returned ['seconds', 'x']; return None, so that the window counts")
class Zeros(Loud):
    def preprocess(self, clip: Clip) -> Mapping | None:
        return super().preprocess(replace(clip, audio=np.zeros(1000, np.float32)) if clip.audio is None else clip)


@breaks("none without evidence", "preprocess of a clip without sound raised TypeError")
class Presuming(Loud):
    def preprocess(self, clip: Clip) -> Mapping | None:
        return super().preprocess(clip) if len(clip.audio) else None


@breaks(
    "scant evidence", "preprocess of a clip with sound that is nothing but zeros raised ValueError: silence; return None from preprocess"
)
class Strict(Loud):
    def preprocess(self, clip: Clip) -> Mapping | None:
        if clip.audio is not None and not clip.audio.any():
            raise ValueError("silence")
        return super().preprocess(clip)


@breaks("scant evidence", "values of 'basic7' for a clip with sound that is nothing but zeros are not finite")
class Dividing(Loud):
    def mean(self, batch: Mapping) -> Any:
        mean = super().mean(batch)
        return mean / mean


class Extras(Loud):
    """Changes what comes beside the values."""

    def predict(self, batch: Mapping) -> Output:
        return replace(super().predict(batch), **self.extras(len(batch["x"])))


@breaks("extras fit", "for 4 clips the quality 'q' must be (4,), found (4, 1); one row per clip")
class WideQuality(Extras):
    def extras(self, size: int) -> dict:
        import torch

        return {"quality": {"q": torch.ones(size, 1)}}


@breaks("extras fit", "for 4 clips the embedding 'e' must be (4, D), found (4,)")
class FlatEmbedding(Extras):
    def extras(self, size: int) -> dict:
        import torch

        return {"embeddings": {"e": torch.ones(size)}}


@breaks("extras fit", "for 4 clips notes must be 4 mappings or None, found 4 entries")
class TextNotes(Extras):
    def extras(self, size: int) -> dict:
        return {"notes": ["loud"] * size}


@breaks("extras fit", "quality must be the same in every batch, found ['alone'] for one clip and ['many'] for 4")
class Fickle(Extras):
    def extras(self, size: int) -> dict:
        import torch

        return {"quality": {"alone" if size == 1 else "many": torch.ones(size)}}


@breaks("batch unchanged", "predict changes its batch: x differs by up to")
class InPlace(Loud):
    def predict(self, batch: Mapping) -> Output:
        output = super().predict(batch)
        batch["x"].mul_(2)
        return output


@breaks("threads apart", "preprocess gives another result in a thread beside others: seconds differs by up to")
class Threaded(Loud):
    def preprocess(self, clip: Clip) -> Mapping | None:
        made = super().preprocess(clip)
        apart = threading.current_thread() is not threading.main_thread()
        return None if made is None else {**made, "seconds": made["seconds"] + apart}
