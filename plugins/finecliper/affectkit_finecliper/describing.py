"""What ``affectkit finecliper describe`` does: a describer is asked about windows of clips, and what it says becomes a table."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectkit.api import BASIC7, AffectKitError, Clip, ConfigError, Evidence, Input, Modality, Needs, Output, Provider, UsageError
from affectkit.files import replacing

if TYPE_CHECKING:
    from affectkit.config import Recipe
    from affectkit.datasets.items import Fold
    from affectkit.media import Media, Span
    from affectkit.plugins import Registry

KIND = "description"
QUESTION = Path(__file__).parent / "prompts" / "facial_change.txt"
HEADER = ("media", "start", "end", "text")
PROMPT = "prompt"  # option of a describer that takes a question


@dataclass(frozen=True)
class Subject:
    """A clip to be described.

    Attributes:
        name: in the table.
        path: a video, a picture, or a folder of frames.
        fps: frames per second of a folder.
    """

    name: str
    path: Path
    fps: float | None = None


@dataclass
class Written:
    """What became of the clips.

    Attributes:
        rows: descriptions that were written.
        silent: names of clips of which nothing was said, with the reason.
        failed: names of clips that could not be read or described, with the message.
    """

    rows: int
    silent: dict[str, str]
    failed: dict[str, str]


def question() -> str:
    """What a describer is asked: how a face changes, and no emotion by name. Our own words."""
    return QUESTION.read_text(encoding="utf-8").strip()


def subjects(folds: Sequence[Fold]) -> list[Subject]:
    """The clips to learn from of some folds of a data set, each once.

    Raises:
        UsageError: where they are stretches of longer videos, which a describer would see as a whole.
    """
    items = {item.id: item for fold in folds for item in fold.train}
    if any(item.frames is not None for item in items.values()):
        raise UsageError("the clips of this data set are stretches of longer videos; cut them into files first")
    return [Subject(item.id, item.path, item.fps) for item in items.values()]


def make_describer(name: str, overrides: Sequence[str], registry: Registry, length: float) -> tuple[Recipe, Provider]:
    """A describer with its options, and the recipe that it runs in.

    Args:
        name: id of a provider of descriptions.
        overrides: ``components.ID.option=value``, as ``--set`` takes them. Where the describer takes a question and none is given, it gets
            :func:`question`.
        registry: the plugins.
        length: seconds of a window.

    Raises:
        AffectKitError: for what is not there or not as it must be.
    """
    from affectkit.config import Recipe, component_options

    windows = {"length": length, "step": length, "min_tail": 0.0}
    recipe = Recipe.from_mapping({"modalities": [name], "providers": {KIND: name}, "windows": windows}).override(overrides)
    entry = registry.get(name, "provider")
    if getattr(entry.cls, "kind", None) != KIND:
        raise ConfigError(f"{name} makes {getattr(entry.cls, 'kind', 'nothing')!r} and no descriptions")
    mapping: Mapping[str, Any] = recipe.components.get(name, {})
    if PROMPT in {field.name for field in fields(entry.cls.Options)} and PROMPT not in mapping:
        mapping = {**mapping, PROMPT: question()}
    provider: Any = entry.cls(component_options(entry.cls, mapping, name))
    provider.id = name
    return recipe, provider


def write(
    chosen: Sequence[Subject], out: Path, recipe: Recipe, provider: Provider, *, tell: Callable[[int], None] = lambda done: None
) -> Written:
    """Asks a describer, which is loaded, about clips, and writes the table in one step.

    Args:
        chosen: the clips.
        out: the table, which must not be there.
        recipe: windows and batch size.
        provider: the describer.
        tell: is told how many clips are done.

    Raises:
        UsageError: where ``out`` is there already, or nothing was said of any clip.
    """
    if out.exists():
        raise UsageError(f"{out} is there already; give another file")
    rows, written = [], Written(0, {}, {})
    for done, subject in enumerate(chosen, start=1):
        said = 0
        try:
            for span, evidence in _windows(subject, recipe, provider):
                if evidence.valid:
                    said += 1
                    rows.append((subject.name, f"{span.start:.6g}", f"{span.end:.6g}", evidence.data["text"]))
                elif not said:
                    written.silent[subject.name] = evidence.reason
        except AffectKitError as error:
            written.failed[subject.name] = str(error)
        if said or subject.name in written.failed:
            written.silent.pop(subject.name, None)
        tell(done)
    if not rows:
        first = next(iter([*written.failed.items(), *written.silent.items()]), ("no clip", "none was given"))
        raise UsageError(f"{provider.id} said nothing of {len(chosen)} clips; {first[0]}: {first[1]}")
    written.rows = len(rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(HEADER)
        table.writerows(rows)
    return written


class _Listener(Modality):
    """Asks for descriptions and says nothing itself."""

    name = "listener"
    labels = BASIC7
    needs = Needs(inputs=(Input(KIND),))

    def preprocess(self, clip: Clip) -> None:
        return None

    def predict(self, batch: Any) -> Output:
        raise NotImplementedError


def _windows(subject: Subject, recipe: Recipe, provider: Provider) -> Iterator[tuple[Span, Evidence]]:
    """What is said of each window of a clip."""
    from affectkit.clips import Clock
    from affectkit.media import open_media
    from affectkit.planner import Plan
    from affectkit.reader import Reader

    def report(stage: str, whose: str, error: Exception) -> None:
        raise AffectKitError(f"{whose or stage}: {error}") from error

    media: Media = open_media(subject.path, id=subject.name, fps=subject.fps)
    plan = Plan(recipe, {_Listener.name: _Listener()}, {KIND: [provider]})
    for window in Reader(media, plan, Clock(), report).windows():
        for request in window.requests:
            yield window.span, request.clip.inputs[KIND]
