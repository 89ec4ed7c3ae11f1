"""From a recipe to components: everything is made, checked and loaded before the first frame, and all problems are told at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from affectkit import checkpoints, terms
from affectkit.builtin.blend import Blend
from affectkit.builtin.fitted import check_sources
from affectkit.components import Component, Fusion, Head, Modality, Provider
from affectkit.config import Recipe, component_options
from affectkit.errors import AffectKitError, CheckpointError, ConfigError, LabelError, PluginError, Problems, raise_all
from affectkit.labels import LabelSet, Outside, projection
from affectkit.missing import LeftOut
from affectkit.needs import Checkpoint, Needs
from affectkit.planner import Plan
from affectkit.results import spoken
from affectkit.store import OTHER_TABLES

if TYPE_CHECKING:
    import torch

    from affectkit.plugins import Registry


@dataclass(frozen=True)
class Assembly:
    """The components of a recipe, ready to be loaded.

    Attributes:
        recipe: the recipe with every plugin name expanded to modality ids.
        plan: modalities and providers, and what they need.
        fusion: the fusion, or ``None``.
        head: the head, or ``None``.
        record: what ``run.json`` says of each component: plugin, version and weights with digest and licence.
    """

    recipe: Recipe
    plan: Plan
    fusion: Fusion | None
    head: Head | None
    record: Mapping[str, Mapping[str, Any]]

    @property
    def components(self) -> tuple[Component, ...]:
        """All components, providers first."""
        providers = [provider for kind in self.plan.providers.values() for provider in kind]
        last = [component for component in (self.fusion, self.head) if component is not None]
        return (*providers, *self.plan.modalities.values(), *last)

    @property
    def fused(self) -> tuple[str, ...]:
        """Ids of the modalities that the fusion reads."""
        if self.fusion is None:
            return ()
        return tuple(name for name, m in self.plan.modalities.items() if spoken(m.label_sets, self.fusion.labels) is not None)

    @property
    def missing_sources(self) -> tuple[str, ...]:
        """Sources that the fusion was fitted for and that this run does not have; they count as without evidence."""
        trained = self.fusion.trained_for if self.fusion is not None else None
        return tuple(name for name in trained or () if name not in self.fused)

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Loads the weights of everything, and checks what is only known then.

        Args:
            device: where modalities and providers run, unless the recipe says another; fusion and head run on the CPU.
            dtype: precision of forward passes, unless the recipe says another.

        Raises:
            AffectKitError: the problem, or :class:`Problems` for several.
        """
        import torch

        problems: list[AffectKitError] = []
        for component in self.components:
            with collecting(problems, component.id):
                if isinstance(component, Fusion | Head):
                    component.load(torch.device("cpu"), torch.float32)
                else:
                    component.load(*self.place(component.id, device, dtype))
        raise_all(problems)
        self._check_loaded(problems)
        raise_all(problems)

    def place(self, name: str, device: torch.device, dtype: torch.dtype) -> tuple[torch.device, torch.dtype]:
        """Where a modality or provider runs and how precisely: as the recipe says, else as given.

        Raises:
            UsageError: where the recipe names a device that is not here.
        """
        from affectkit.batching import PRECISIONS, choose_device

        own = self.recipe.settings(name)
        return choose_device(own.device) if own.device else device, PRECISIONS[own.precision] if own.precision else dtype

    def _check_loaded(self, problems: list[AffectKitError]) -> None:
        if self.fusion is not None:
            with collecting(problems, self.fusion.id):
                check_sources(self.fusion.id, self.fusion.trained_for, self.fused)
        for head in _heads(self.head):
            source = (head.embedding_from or "").partition(":")[0]
            if source and source not in self.plan.modalities and (self.fusion is None or source != self.fusion.id):
                problems.append(
                    ConfigError(
                        f"{head.id} reads the embedding {head.embedding_from!r}, and {source} is not in the run "
                        f"[{', '.join(self.plan.modalities)}]; add it with --plugins, or choose another head with --head"
                    )
                )


def assemble(recipe: Recipe, registry: Registry, *, commercial: bool = False) -> Assembly:
    """Makes the components that a recipe names, with the providers that they need.

    Args:
        recipe: what runs.
        registry: the plugins.
        commercial: whether weights are refused whose terms do not allow commercial use, or do not say so.

    Raises:
        AffectKitError: the one problem, or :class:`Problems` with all of them: unknown ids and options, missing packages and
            weights, inputs that nothing provides, label sets that do not fit together, terms of weights.
    """
    problems: list[AffectKitError] = list(recipe.unknown_components(entry.id for entry in registry.entries()))
    ids: list[str] = []
    for name in recipe.modalities:
        with collecting(problems, name):
            ids += registry.select(name)
    recipe = recipe.with_(modalities=list(dict.fromkeys(ids))) if ids else recipe
    make = _Maker(recipe, registry, problems if commercial else None)
    modalities: dict[str, Modality] = {}
    for name in dict.fromkeys(ids):
        with collecting(problems, name):
            modalities[name] = cast(Modality, make(name, "modality"))
    needs = [
        made.needs for made in make.made.values() if isinstance(made, Modality)
    ]  # also of those without weights: all that is missing is told
    providers, unavailable, left_out = _providers(make, needs, problems)
    fusion = head = None
    if recipe.fusion is not None:
        with collecting(problems, recipe.fusion):
            fusion = cast(Fusion, make(recipe.fusion, "fusion"))
    if recipe.head is not None:
        with collecting(problems, recipe.head):
            head = cast(Head, make(recipe.head, "head"))
            if isinstance(head, Blend):
                head.set_heads({name: cast(Head, make(name, "head")) for name in head.blends()})
    if not problems:
        problems += label_problems(modalities, fusion, head, recipe.outside)
    plan = None
    with collecting(problems, recipe.name):
        plan = Plan(recipe, modalities, providers, unavailable)
    gets = any(isinstance(problem, CheckpointError) for problem in problems)
    raise_all(problems, left_out if gets else ())  # whoever has to get weights is told of those as well that a run goes on without
    if plan is None:
        raise ConfigError(f"the recipe {recipe.name!r} cannot be planned")
    return Assembly(recipe, plan, fusion, head, make.record)


def plan_for(recipe: Recipe, registry: Registry, modalities: Mapping[str, Modality]) -> Plan:
    """What modalities that are made already need of a recipe, with the providers that it chooses for them; weights are found and not loaded.

    Args:
        recipe: how windows are cut and which providers run; its own modalities are not looked at.
        registry: the plugins.
        modalities: by id.

    Raises:
        AffectKitError: the problem, or :class:`Problems` for several.
    """
    problems: list[AffectKitError] = []
    providers, unavailable, _ = _providers(_Maker(recipe, registry, None), [made.needs for made in modalities.values()], problems)
    raise_all(problems)
    return Plan(recipe, modalities, providers, unavailable)


def make_modality(name: str, options: Mapping[str, Any], registry: Registry) -> tuple[Modality, Mapping[str, Any]]:
    """A modality on its own, with its options, and what ``run.json`` would say of it; its weights are found and not loaded.

    Args:
        name: its id.
        options: its own, as under ``components`` of a recipe.
        registry: the plugins.

    Raises:
        AffectKitError: for an id, options, packages or weights that are not as they must be.
    """
    make = _Maker(Recipe(modalities=(name,), components={name: options}), registry, None)
    return cast(Modality, make(name, "modality")), make.record[name]


class _Maker:
    """Makes components of a recipe with its options; packages and weights are checked.

    Args:
        recipe: what runs.
        registry: the plugins.
        refused: gets the reasons against weights whose terms do not allow commercial use; ``None`` where that does not matter.

    Attributes:
        record: what ``run.json`` will say of each component that was made.
        made: every component by id, also where its weights are not here.
    """

    def __init__(self, recipe: Recipe, registry: Registry, refused: list[AffectKitError] | None) -> None:
        self.recipe = recipe
        self.registry = registry
        self.record: dict[str, dict[str, Any]] = {}
        self.made: dict[str, Component] = {}
        self._refused = refused

    def __call__(self, name: str, kind: str, *, optional: bool = False) -> Component:
        """An instance of a component.

        Args:
            name: its id.
            kind: ``"modality"``, ``"provider"``, ``"fusion"`` or ``"head"``.
            optional: whether the run goes on without it where its weights are not here, so that their terms do not matter then.

        Raises:
            AffectKitError: for options, packages or weights that are not as they must be.
        """
        entry = self.registry.get(name, kind)
        component: Component = entry.cls(component_options(entry.cls, self.recipe.components.get(name, {}), name))
        component.id = name
        self.made[name] = component
        absent = [package for package in component.requires if find_spec(package) is None]
        if absent:
            raise PluginError(f"{name} needs the package {', '.join(absent)}, which is not installed: pip install 'affectkit[all]'")
        missing: list[AffectKitError] = []
        with collecting(missing, name):
            component.check_given()
        used = component.used_checkpoints()
        if not optional:
            self._judge(component, kind, used)
        weights = []
        for tag, checkpoint in used.items():
            option = next((field for field in ("checkpoint", tag) if hasattr(component.options, field)), None)
            several = tag if len(component.checkpoints) > 1 else ""
            try:
                path = checkpoints.resolve(checkpoint, owner=name, tag=several, option=option)
            except CheckpointError as error:
                missing.append(error)
                continue
            may = terms.commercial_use(checkpoint, path, component.checkpoints.values())
            weights.append({**checkpoints.record(checkpoint, path), "commercial": may})
        raise_all(missing[:1] if optional else missing)  # the first is reason enough to take the next alternative
        if optional:
            self._judge(component, kind, used)
        about = {"kind": kind, "plugin": entry.plugin, "distribution": entry.distribution, "version": entry.version}
        self.record[name] = {**about, "weights": weights}
        return component

    def _judge(self, component: Component, kind: str, used: Mapping[str, Checkpoint]) -> None:
        """Notes which weights may not be used commercially, here or not."""
        if self._refused is None:
            return
        for tag, checkpoint in used.items():
            refusal = terms.refusal(component, kind, tag, checkpoint, checkpoints.local(checkpoint))
            self._refused += [] if refusal is None else [refusal]


def _providers(
    make: _Maker, needs: Sequence[Needs], problems: list[AffectKitError]
) -> tuple[dict[str, list[Provider]], dict[str, list[str]], list[LeftOut]]:
    """Providers of every kind of input that is needed, directly or by another provider; by kind what is unavailable; and alternatives that were left out."""
    recipe, registry = make.recipe, make.registry
    made: dict[str, list[Provider]] = {}
    unavailable: dict[str, list[str]] = {}
    left_out: list[LeftOut] = []
    wanted = [item.kind for each in needs for item in each.inputs]
    while wanted:
        kind = wanted.pop(0)
        if kind in made:
            continue
        made[kind] = []
        names = recipe.alternatives(kind) or _only_provider(registry, kind)
        for name in names:
            chosen = recipe.mandatory(kind) or "checkpoint" in recipe.components.get(name, {})
            try:
                provider = cast(Provider, make(name, "provider", optional=not chosen))
            except (CheckpointError, PluginError) as error:
                if chosen or not any(entry.id == name for entry in registry.entries("provider")):
                    problems.append(error)
                else:
                    left_out.append(LeftOut(kind, error))
                unavailable.setdefault(kind, []).append(f"{name} is not ready: {str(error).removeprefix(name + ': ')}")
            except AffectKitError as error:
                problems.append(error)
                unavailable.setdefault(kind, []).append(str(error))
            else:
                if provider.kind != kind:
                    problems.append(ConfigError(f"providers.{kind}: {name} makes {provider.kind!r}, not {kind!r}"))
                    unavailable.setdefault(kind, []).append(f"{name} makes something else")
                    continue
                made[kind].append(provider)
                wanted += [item.kind for item in provider.needs.inputs]
    return {kind: found for kind, found in made.items() if found}, unavailable, left_out


def _only_provider(registry: Registry, kind: str) -> tuple[str, ...]:
    """The provider of a kind that the recipe does not mention, where exactly one is installed."""
    offered = [entry.id for entry in registry.entries("provider") if cast(type[Provider], entry.cls).kind == kind]
    return tuple(offered) if len(offered) == 1 else ()


def _heads(head: Head | None) -> list[Head]:
    """The head itself and, where it blends others, those."""
    return [] if head is None else [head, *getattr(head, "heads", {}).values()]


def label_problems(modalities: Mapping[str, Modality], fusion: Fusion | None, head: Head | None, outside: Outside) -> list[AffectKitError]:
    """Label sets that cannot meet, or cannot be told apart."""
    speakers = [(name, labels) for name, modality in modalities.items() for labels in modality.label_sets]
    speakers += [(part.id, part.labels) for part in (fusion, head) if part is not None]
    problems: list[AffectKitError] = list(_name_problems(speakers))
    targets = ([fusion.labels] if fusion is not None else []) + [part.speaks for part in _heads(head) if part.speaks is not None]
    for target in dict.fromkeys(targets):
        for name, modality in modalities.items():
            if (own := spoken(modality.label_sets, target)) is not None:
                try:
                    projection(own, target, outside)
                except LabelError as error:
                    problems.append(LabelError(f"{name}: {error}"))
    said = ", ".join(f"{name} ({', '.join(s.name for s in m.label_sets)})" for name, m in modalities.items())

    def says(labels: LabelSet) -> bool:
        return any(spoken(m.label_sets, labels) is not None for m in modalities.values())

    if fusion is not None and not says(fusion.labels):
        problems.append(
            ConfigError(
                f"{fusion.id} fuses {fusion.labels.name!r} and no modality of the run says that: {said}; choose others, or --fusion none"
            )
        )
    for part in _heads(head):
        if part.speaks is not None and not says(part.speaks):
            problems.append(
                ConfigError(
                    f"{part.id} needs a modality that says {part.speaks.name!r} itself, and the run has none: {said}; "
                    "add such a modality, or choose another head with --head"
                )
            )
        if part.reads is None or isinstance(part, Blend):
            continue
        if fusion is None:
            problems.append(
                ConfigError(
                    f"{part.id} reads fused values of {part.reads.name!r} and there is no fusion; add --fusion core/mean, or --head none"
                )
            )
        elif part.reads != fusion.labels:
            problems.append(
                ConfigError(
                    f"{part.id} reads {part.reads.name!r} and {fusion.id} gives {fusion.labels.name!r}; choose a head and a fusion that fit"
                )
            )
    return problems


def _name_problems(speakers: Sequence[tuple[str, LabelSet]]) -> Iterator[AffectKitError]:
    """Label sets whose tables would overwrite each other, or another table of the run folder."""
    known: dict[str, tuple[str, LabelSet]] = {}
    for name, labels in speakers:
        first, other = known.setdefault(labels.name, (name, labels))
        if labels.name in OTHER_TABLES and first == name:
            yield ConfigError(f"{name}: {labels.name!r} is the name of another table of a run; the label set needs another name")
        if other != labels:
            lists = f"[{', '.join(other.labels)}] {other.kind} and [{', '.join(labels.labels)}] {labels.kind}"
            yield ConfigError(f"{first} and {name} both have a label set {labels.name!r}, and they differ: {lists}; leave one of them out")


@contextmanager
def collecting(problems: list[AffectKitError], name: str) -> Iterator[None]:
    """Adds errors to ``problems``; what a plugin raises by accident becomes a sentence with its name."""
    try:
        yield
    except Problems as error:
        problems += error.problems
    except AffectKitError as error:
        problems.append(error)
    except Exception as error:  # a plugin may raise anything while it is made or loaded
        problem = PluginError(f"{name} could not be set up: {type(error).__name__}: {error}")
        problem.__cause__ = error
        problems.append(problem)
