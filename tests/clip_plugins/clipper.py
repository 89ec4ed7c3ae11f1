"""A training on clips, as small as one is: a few convolutions per frame, and a layer over all of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from affectkit.api import About, ClipOptions, ClipTraining, hookimpl


@dataclass(frozen=True)
class Options(ClipOptions):
    size: int = 24
    frames: int = 8
    width: int = 8


class Clips(ClipTraining):
    """Clips, and pictures where there are any."""

    name = "clips"
    Options = Options

    def network(self):
        from torch import nn

        class Net(nn.Module):
            def __init__(self, frames: int, width: int, classes: int, stills: int) -> None:
                super().__init__()
                sizes = [1, width, 2 * width, 4 * width, 4 * width]
                layers = [
                    layer
                    for one, other in pairwise(sizes)
                    for layer in (nn.Conv2d(one, other, 3, 2, 1, bias=False), nn.BatchNorm2d(other), nn.ReLU())
                ]
                self.look = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3))
                self.watch = nn.Sequential(nn.Linear(16 * width, 32), nn.ReLU())
                self.head = nn.Linear(32 * frames, classes)
                self.still = nn.Linear(32, max(stills, 1))

            def forward(self, frames):
                seen = self.watch(self.look((frames.mean(-3, keepdim=True).flatten(0, -4) - 0.5) / 0.25))
                return self.still(seen) if frames.ndim == 4 else self.head(seen.unflatten(0, frames.shape[:2]).flatten(1))

        options, stills = self.options, 0 if self.stills is None else len(self.stills.labels)
        return Net(options.frames, options.width, len(self.labels), stills)

    def predict(self, network, batch):
        return network(batch["picture"] if "picture" in batch else batch["frames"])

    def scales(self, network):
        return {name: 0.5 for name, _ in network.named_parameters() if name.startswith("look")}

    def about(self) -> About:
        return About("Clips", "Convolutions.", self.fold.dataset, "Apache-2.0", "It knows these clips alone.")


@hookimpl
def affectkit_trainings() -> Iterable[type[ClipTraining]]:
    return [Clips]
