"""``affectkit.run``: from paths and a recipe to a run folder, in one call. The command line is a thin layer over it."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectkit.config import Recipe
from affectkit.errors import AffectKitError, UsageError, did_you_mean, raise_all
from affectkit.media import Media, discover
from affectkit.store import Failure, Run, public_record
from affectkit.tables import read_info, read_run, read_timelines

if TYPE_CHECKING:
    import pandas as pd

    from affectkit.assembly import Assembly
    from affectkit.engine import Engine, Progress
    from affectkit.needs import Frames
    from affectkit.plugins import Registry
    from affectkit.timeline import Timeline

DEFAULT_RECIPE = "mini/mini"
PACKAGES = ("torch", "av", "opencv-python", "numpy", "pandas", "pyarrow", "pluggy")


@dataclass(frozen=True)
class RunResult:
    """What a run did.

    Attributes:
        path: the run folder.
        analysed: ids of the media that this call analysed.
        skipped: ids of the media that were finished before.
        failures: everything that went wrong, also in finished media of earlier calls.
        media: what ``run.json`` says of each medium, by id.
    """

    path: Path
    analysed: tuple[str, ...]
    skipped: tuple[str, ...]
    failures: tuple[Failure, ...]
    media: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)

    def read(self, labels: str | None = None) -> pd.DataFrame:
        """The results as a table, as :func:`affectkit.read_run` gives them."""
        return read_run(self.path, labels)

    def timelines(self, labels: str | None = None, source: str | None = None) -> list[Timeline]:
        """The results as timelines, as :func:`affectkit.read_timelines` gives them."""
        return read_timelines(self.path, labels, source)


@dataclass(frozen=True)
class Inputs:
    """How files are read; part of what a resumed run must agree on.

    Attributes:
        fps: frames per second of folders of numbered frames.
        sound: sound file for a folder of numbered frames.
        video_stream: index of the video stream in the container; ``None`` takes the first.
        audio_stream: index of the audio stream in the container; ``None`` takes the first.
    """

    fps: float | None = None
    sound: Path | None = None
    video_stream: int | None = None
    audio_stream: int | None = None


@dataclass(frozen=True)
class Execution:
    """How a run is carried out; nothing that its results depend on but ``precision``.

    Attributes:
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:0"``.
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"``.
        batch_size: clips per forward pass where the recipe does not say; ``None`` leaves it to the device.
        workers: media read at once; ``None`` takes one per core, four at the most.
        resume: go on with what the run folder holds; ``False`` throws its results away.
        strict: stop at the first failure.
        embeddings: write embeddings as well.
    """

    device: str = "auto"
    precision: str = "fp32"
    batch_size: int | None = None
    workers: int | None = None
    resume: bool = True
    strict: bool = False
    embeddings: bool = False


def load_recipe(
    recipe: str | Path | Recipe | None,
    registry: Registry,
    *,
    overrides: Iterable[str] = (),
    modalities: Sequence[str] | None = None,
    fusion: str | None = None,
    head: str | None = None,
    subjects: str | None = None,
    components: Mapping[str, Mapping[str, Any]] | None = None,
) -> Recipe:
    """The recipe that a run will follow: a file, a name, the ``run.json`` of an earlier run, or :data:`DEFAULT_RECIPE`, with changes on top.

    ``"none"`` as fusion or head leaves it out.
    """
    if recipe is None and DEFAULT_RECIPE not in registry.recipes() and modalities is not None:
        recipe = Recipe(modalities=tuple(modalities), fusion="core/mean", head="core/ppa")
    if isinstance(recipe, Recipe):
        loaded = recipe.override(overrides)
    elif recipe is not None and Path(recipe).name == "run.json":
        loaded = Recipe.from_mapping(read_info(Path(recipe).parent)["recipe"]).override(overrides)
    else:
        loaded = Recipe.load(recipe or DEFAULT_RECIPE, find=registry.recipe, overrides=overrides)
    changes: dict[str, Any] = {}
    if modalities is not None:
        changes["modalities"] = list(modalities)
    if subjects is not None:
        changes["subjects"] = subjects
    if components:
        changes["components"] = components
    for name, value in (("fusion", fusion), ("head", head)):
        if value is not None:
            changes[name] = None if value == "none" else value
    return loaded.with_(**changes) if changes else loaded


def run(
    paths: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    recipe: str | Path | Recipe | None = None,
    plugins: str | None = None,
    inputs: Inputs | None = None,
    registry: Registry | None = None,
    progress: Progress | None = None,
    commercial: bool = False,
    **execution: Any,
) -> RunResult:
    """Analyses media and writes a run folder.

    Args:
        paths: files, folders of numbered frames, or folders of media.
        out: the run folder; a run of the same recipe in it is gone on with.
        recipe: name or file of a recipe; the embedded one where it is left out.
        plugins: modalities to run instead of those of the recipe, as ``--plugins`` takes them.
        inputs: how files are read.
        registry: plugins; loaded where they are not given.
        progress: is told the medium and the seconds of it that are read.
        commercial: refuse weights whose terms do not allow commercial use, or do not say so.
        **execution: fields of :class:`Execution`, for instance ``device="cuda"``.

    Raises:
        AffectKitError: before the first frame, for anything wrong with recipe, plugins, weights, labels or folder.
        MediaError: the first failure, where ``strict`` is set.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from affectkit.testing.media import make_video, tone
    >>> folder = tempfile.TemporaryDirectory()
    >>> clip = make_video(Path(folder.name, "talk.mp4"), seconds=5, fps=5, sound=tone)
    >>> result = run(clip, Path(folder.name, "out"), plugins="mini/audio", device="cpu")
    >>> result.analysed, result.failures
    (('talk',), ())
    >>> result.read("compound7").shape
    (2, 13)
    >>> result.timelines("basic7")
    [<Timeline of mini/audio in talk, no subject: basic7, 2 windows from 0 to 5 s, 100 % valid>]
    >>> folder.cleanup()
    """
    from affectkit import plugins as plugin_module

    unknown = sorted(set(execution) - {item.name for item in fields(Execution)})
    if unknown:
        raise UsageError(
            f"affectkit.run has no argument {unknown[0]!r}. {did_you_mean(unknown[0], ['commercial', *(item.name for item in fields(Execution))])}"
        )
    if registry is None:
        registry = plugin_module.load()
    chosen = load_recipe(recipe, registry, modalities=registry.select(plugins) if plugins is not None else None)
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    return Session(chosen, registry, inputs, commercial=commercial).run(several, Path(out), Execution(**execution), progress)


class Session:
    """A recipe whose components are made and checked; :meth:`run` loads the weights and works.

    Args:
        recipe: what runs.
        registry: the plugins.
        inputs: how files are read.
        commercial: refuse weights whose terms do not allow commercial use, or do not say so.

    Raises:
        AffectKitError: for everything that is wrong with the recipe, in one report.
    """

    def __init__(self, recipe: Recipe, registry: Registry, inputs: Inputs | None = None, *, commercial: bool = False) -> None:
        from affectkit.assembly import assemble

        self.registry = registry
        self.inputs = inputs or Inputs()
        self.assembly: Assembly = assemble(recipe, registry, commercial=commercial)

    def run(
        self, paths: Sequence[str | Path], out: Path, execution: Execution | None = None, progress: Progress | None = None
    ) -> RunResult:
        """Analyses media and writes a run folder; arguments as in :func:`run`."""
        if not paths:
            raise UsageError("nothing to analyse; give at least one video, sound file, picture or folder")
        how = execution or Execution()
        target, engine = self.prepare(out, how, progress)
        media, unreadable = discover([Path(p) for p in paths], **vars(self.inputs), known_ids=target.known_ids)
        target.begin()
        target.failures += [Failure("", str(path), "open", "", error.at, type(error).__name__, str(error)) for path, error in unreadable]
        target.save(**self._describe(engine.device))
        self._observe(target, "affectkit_run_started")
        done = {m.id for m in media if target.finished(m)}
        todo = [m for m in media if m.id not in done]
        skipped = tuple(m.id for m in media if m.id in done)
        if how.strict and unreadable:
            raise unreadable[0][1]
        try:
            engine.process(todo)
        except KeyboardInterrupt:
            finished = sum(target.finished(m) for m in media)
            raise KeyboardInterrupt(
                f"Stopped by Ctrl-C: {finished} of {len(media)} media are finished and kept in {out}; the same command goes on from there."
            ) from None
        finally:
            target.save(timings=engine.timings(), finished_at=_now())
        if self._observe(target, "affectkit_run_finished"):
            target.save()
        shown = {m.id: public_record(target.records[m.id]) for m in media if m.id in target.records}
        return RunResult(out, tuple(m.id for m in todo), skipped, tuple(target.all_failures()), shown)

    def prepare(self, out: Path, how: Execution, progress: Progress | None = None) -> tuple[Run, Engine]:
        """Checks the run folder without touching it, and loads the weights onto the device: the last of what fails before the first frame.

        Raises:
            AffectKitError: the problem, or :class:`affectkit.errors.Problems` for several.
        """
        from affectkit.assembly import collecting
        from affectkit.engine import Engine

        recipe = self.assembly.recipe
        inputs = {name: str(value) for name, value in vars(self.inputs).items() if value is not None}
        weights = {name: [w["sha256"] for w in entry["weights"]] for name, entry in self.assembly.record.items() if entry["weights"]}
        digest = sha256(json.dumps([recipe.digest(), how.precision, inputs, weights], sort_keys=True).encode()).hexdigest()
        settings = {"recipe": recipe.to_mapping(), "precision": how.precision, "inputs": inputs, "weights": weights}
        target = Run(out, settings, digest, resume=how.resume, embeddings=how.embeddings, files=self.assembly.plan.files)
        engine = Engine(
            self.assembly,
            target,
            device=how.device,
            precision=how.precision,
            batch_size=how.batch_size,
            workers=how.workers,
            strict=how.strict,
            notify=self.registry.notify,
            progress=progress,
        )
        problems: list[AffectKitError] = []
        with collecting(problems, "the run folder"):
            target.check()
        with collecting(problems, "the engine"):
            engine.load()
        raise_all(problems)
        return target, engine

    def _observe(self, target: Run, hook: str) -> bool:
        """Tells the observers; whether any of them failed, which is recorded."""
        failed = self.registry.notify(hook, run=target)
        target.failures += [Failure("", str(target.path), "observer", f.name, None, type(f.error).__name__, str(f.error)) for f in failed]
        return bool(failed)

    def plan_of(self, media: Media) -> dict[str, Any]:
        """What a run would do with a medium: windows, pictures per second and streams that would be decoded."""
        plan = self.assembly.plan
        spans = plan.spans(media)
        rates = plan.sampling(media)
        streams = ["video"] * (plan.wants_pictures and media.kind != "audio") + ["audio"] * (
            bool(plan.audio_rates) and media.audio is not None
        )
        return {
            "kind": media.kind,
            "duration": media.duration,
            "windows": len(spans),
            "pictures_per_second": {k if isinstance(k, str) else f"frames {_asked(k)}": round(v, 3) for k, v in rates.items()},
            "decoded": streams,
        }

    def _describe(self, device: Any) -> dict[str, Any]:
        assembly = self.assembly
        sets = {s for m in assembly.plan.modalities.values() for s in m.label_sets}
        sets |= {c.labels for c in (assembly.fusion, assembly.head) if c is not None}
        return {
            "created_at": _now(),
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "device": str(device),
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in PACKAGES},
            "label_sets": {
                s.name: {"labels": s.labels, "kind": s.kind, "low": s.low, "high": s.high, "pairs": s.pairs}
                for s in sorted(sets, key=lambda s: s.name)
            },
            "components": assembly.record,
            "fusion_sources": {"used": assembly.fused, "absent": assembly.missing_sources},
            "unavailable": assembly.plan.unavailable,
            "broken_plugins": {f.name: f"{f.stage}: {f.error}" for f in self.registry.failures},
        }


def _asked(frames: Frames) -> str:
    return ", ".join(f"{name}={value}" for name, value in vars(frames).items() if value is not None)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
