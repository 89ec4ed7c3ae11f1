"""Discovery, blocking and guarded loading of plugins, and the registry of what they offer.

``PluginManager.load_setuptools_entrypoints`` does not guard the import of a plugin and skips a second plugin of the same
name without a word, one raising implementation loses a whole ``pm.hook.x()`` call, and ``check_pending`` stops at the first
offender. So plugins are loaded here one by one: each import guarded, each implementation called on its own, each component
checked. A plugin that fails anywhere is withdrawn as a whole, recorded as a :class:`PluginFailure`, and no other notices.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module, metadata
from inspect import getattr_static
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pluggy

import affectkit
from affectkit import contract, hookspecs
from affectkit.components import Component
from affectkit.errors import AffectKitError, PluginError, UsageError, did_you_mean, raise_all

if TYPE_CHECKING:
    import click

GROUP = "affectkit"
"""The group of entry points that plugins are found by."""

CORE = "core"
"""The name of the plugin that ships with affectkit."""

Stage = Literal["metadata", "name", "duplicate", "version", "import", "hooks", "components", "recipes", "commands", "observers"]
State = Literal["ok", "blocked", "broken", "skipped"]


@dataclass(frozen=True)
class PluginFailure:
    """Why a plugin is not there: the stage at which it failed, and the error.

    Attributes:
        name: name of the plugin.
        distribution: the installed distribution, or the file of a one-file plugin, that it comes from.
        stage: ``"metadata"``, ``"name"``, ``"duplicate"``, ``"version"``, ``"import"``, ``"hooks"``, ``"components"``,
            ``"recipes"``, ``"commands"``, or ``"observers"`` (a hook that follows a run raised; the plugin stays).
        error: a sentence; its ``__cause__`` is what the plugin itself raised, where it raised.
    """

    name: str
    distribution: str
    stage: Stage
    error: Exception

    @property
    def traceback(self) -> str:
        """The traceback of what the plugin raised, or of the check that it did not pass."""
        from traceback import format_exception

        return "".join(format_exception(self.error.__cause__ or self.error))

    @property
    def remedy(self) -> str:
        """What the user can do about it, as a sentence."""
        block = f"or leave it out with -p no:{self.name}"
        if self.stage == "duplicate" and self.distribution:
            return (
                f"Uninstall one of the two, {block if ' id ' in str(self.error) else f'or leave one out with -p no:{self.distribution}'}."
            )
        if self.stage == "version":
            return f"Install versions that fit each other (pip install --upgrade affectkit {self.distribution}), {block}."
        missing = self.error.__cause__
        if self.stage == "import" and isinstance(missing, ModuleNotFoundError) and missing.name:
            return f"Install the package that provides {missing.name.partition('.')[0]}, {block}."
        return f"This is a mistake in {self.distribution}: correct or update it, {block}."


@dataclass(frozen=True)
class Entry:
    """One component that a plugin offers; ``id`` is ``plugin/name``, for instance ``mini/audio``."""

    id: str
    kind: str
    cls: type[Component]
    plugin: str
    distribution: str
    version: str


@dataclass(frozen=True)
class Plugin:
    """One plugin that was found, and what became of it.

    Attributes:
        name: its name, the first part of the ids of its components.
        distribution: the installed distribution, or the file of a one-file plugin.
        version: version of the distribution; empty where there is none.
        summary: one line that says what it is.
        licence: licence of the distribution as its metadata states it; empty where it states none.
        location: folder or file that it was loaded from.
        state: ``"ok"``, ``"blocked"`` (by ``-p no:NAME``), ``"broken"``, or ``"skipped"`` (not asked for).
        hooks: names of the hooks that it implements.
        components: what it offers, sorted by id.
        recipes: the recipes that it ships, sorted by name.
        commands: the commands that it adds to the command line, by name.
        failure: why it is broken.
    """

    name: str
    distribution: str
    version: str = ""
    summary: str = ""
    licence: str = ""
    location: str = ""
    state: State = "ok"
    hooks: tuple[str, ...] = ()
    components: tuple[Entry, ...] = ()
    recipes: tuple[contract.Recipe, ...] = ()
    commands: Mapping[str, click.Command] = field(default_factory=dict)
    failure: PluginFailure | None = None

    @property
    def origin(self) -> str:
        """Distribution and version as one reads them."""
        return f"{self.distribution} {self.version}".strip()


class Registry:
    """What the loaded plugins offer; made by :func:`load`.

    Attributes:
        plugins: every plugin that was found, sorted by name, whatever its state.
        manager: the pluggy manager that holds the plugins in state ``"ok"``, and no other.
    """

    def __init__(self, plugins: Iterable[Plugin], manager: pluggy.PluginManager) -> None:
        self.plugins = tuple(sorted(plugins, key=lambda p: (p.name, p.state != "ok", p.distribution)))
        self.manager = manager
        self._entries = {entry.id: entry for plugin in self.plugins for entry in plugin.components}

    @property
    def failures(self) -> tuple[PluginFailure, ...]:
        """One record per broken plugin."""
        return tuple(plugin.failure for plugin in self.plugins if plugin.failure)

    def plugin(self, name: str) -> Plugin:
        """The plugin of that name, whatever its state.

        Raises:
            PluginError: where none of that name was found.
        """
        for plugin in self.plugins:
            if plugin.name == name:
                return plugin
        raise PluginError(f"no plugin is called {name!r}. {did_you_mean(name, {p.name for p in self.plugins})}")

    def entries(self, kind: str | None = None) -> list[Entry]:
        """The components of one kind, or all, sorted by id."""
        return [self._entries[id] for id in sorted(self._entries) if kind in (None, self._entries[id].kind)]

    def get(self, id: str, kind: str | None = None) -> Entry:
        """The component ``plugin/name``.

        Raises:
            PluginError: where there is none, it is of another kind, or its plugin is broken or blocked; says which and what to do.
        """
        entry = self._entries.get(id)
        if entry is not None and kind in (None, entry.kind):
            return entry
        if entry is not None:
            raise PluginError(f"{id} is a {entry.kind}, not a {kind}. {did_you_mean(id, [e.id for e in self.entries(kind)])}")
        self._check_available(id.partition("/")[0], f"{id} cannot be used")
        raise PluginError(f"there is no {kind or 'component'} {id!r}. {did_you_mean(id, [e.id for e in self.entries(kind)])}")

    def recipes(self) -> dict[str, Path]:
        """The recipes of all plugins: ``plugin/stem`` to its file, sorted by name."""
        return dict(sorted((recipe.name, recipe.path) for plugin in self.plugins for recipe in plugin.recipes))

    def commands(self) -> dict[str, click.Command]:
        """The commands that plugins add to the command line, by name."""
        return {name: command for plugin in self.plugins for name, command in sorted(plugin.commands.items())}

    def select(self, text: str) -> list[str]:
        """Ids of the modalities that ``text`` names, each once, in the order of the text.

        Args:
            text: names separated by commas; ``plugin`` stands for all its modalities, ``plugin/name`` for one of them.

        Raises:
            PluginError: for names that are unknown, not modalities, or of a plugin that is broken or blocked; all of them in one report.
            UsageError: where the text names nothing.
        """
        words = [word.strip() for word in text.split(",") if word.strip()]
        if not words:
            raise UsageError("--plugins names nothing; write for instance --plugins mini, or mini/audio,mini/text")
        problems: list[AffectKitError] = []
        chosen: dict[str, None] = {}
        for word in words:
            try:
                chosen.update(dict.fromkeys([self.get(word, "modality").id] if "/" in word else self._modalities(word)))
            except PluginError as problem:
                problems.append(problem)
        raise_all(problems)
        return list(chosen)

    def notify(self, hook: str, **arguments: object) -> tuple[PluginFailure, ...]:
        """Calls the observers of ``hook``, each on its own; those that raise are returned as failures and the others run.

        Args:
            hook: ``"affectkit_run_started"``, ``"affectkit_media_finished"``, ``"affectkit_media_failed"`` or ``"affectkit_run_finished"``.
            **arguments: what the hook's specification names; an implementation may take fewer.
        """
        failures = []
        for plugin in self.plugins:
            if plugin.state == "ok" and hook in plugin.hooks:
                try:
                    with _stage("observers", hook):
                        _call(self.manager, hook, self.manager.get_plugin(plugin.name), arguments)
                except _Broken as broken:
                    failures.append(PluginFailure(plugin.name, plugin.distribution, broken.stage, broken.error))
        return tuple(failures)

    def _modalities(self, name: str) -> list[str]:
        self._check_available(name, f"plugin {name} cannot be used")
        ids = [entry.id for entry in self.entries("modality") if entry.plugin == name]
        if not ids and any(plugin.name == name for plugin in self.plugins):
            with_modalities = sorted({entry.plugin for entry in self.entries("modality")})
            raise PluginError(f"plugin {name} has no modalities; plugins that have: {', '.join(with_modalities) or 'none'}")
        if not ids:
            modalities = self.entries("modality")
            raise PluginError(f"unknown plugin {name!r}. {did_you_mean(name, {e.plugin for e in modalities} | {e.id for e in modalities})}")
        return ids

    def _check_available(self, name: str, what: str) -> None:
        """Raises where the plugin was found but is broken, blocked or skipped."""
        found = {plugin.state: plugin for plugin in self.plugins if plugin.name == name}
        if not found or "ok" in found:
            return
        if failure := next((plugin.failure for plugin in found.values() if plugin.failure), None):
            raise PluginError(
                f"{what}: plugin {name} ({failure.distribution}) is broken: {failure.error}. {failure.remedy} "
                f"The full story: affectkit plugins show {name}"
            ) from failure.error
        if "blocked" in found:
            raise PluginError(f"{what}: plugin {name} is blocked; leave out -p no:{name}")
        raise PluginError(f"{what}: plugin {name} was not loaded because it was not asked for")


def load(*, blocked: Iterable[str] = (), plugins_dir: str | os.PathLike[str] | None = None, only: Iterable[str] | None = None) -> Registry:
    """Finds and loads plugins: those that ship with affectkit, those installed, and those in a folder of files.

    Args:
        blocked: names of plugins, or of distributions, that must not be imported.
        plugins_dir: a folder; each ``*.py`` in it that does not begin with ``_`` is a plugin named by its stem.
        only: names of the plugins to load beside ``core``; ``None`` loads all. The others are listed and not imported.

    Returns:
        The registry. A plugin that cannot be loaded is in ``failures`` and stops nothing.

    Raises:
        UsageError: where ``plugins_dir`` is not a folder.
    """
    candidates = [_core(), *sorted(_installed(), key=lambda c: (c.plugin.name, c.plugin.distribution)), *_files(plugins_dir)]
    leave_out = set(blocked)
    wanted = None if only is None else {CORE, *only}
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    plugins: list[Plugin] = []
    for candidate in candidates:
        found = candidate.plugin
        if leave_out & {found.name, found.distribution}:
            plugins.append(replace(found, state="blocked"))
        elif wanted is not None and found.name not in wanted:
            plugins.append(replace(found, state="skipped"))
        else:
            plugins.append(_admit(candidate, manager, plugins))
    return Registry(plugins, manager)


@dataclass(frozen=True)
class _Candidate:
    """A plugin before it is imported: what its metadata say, what it requires, and how to import it."""

    plugin: Plugin
    target: str
    load: Callable[[], object]
    requires: tuple[str, ...] = ()


class _Broken(Exception):
    def __init__(self, stage: Stage, error: Exception) -> None:
        self.stage = stage
        self.error = error


@contextmanager
def _stage(stage: Stage, action: str) -> Iterator[None]:
    """Turns whatever the plugin raises into :class:`_Broken`.

    Not only Exception: a plugin may call ``sys.exit`` where a dependency is missing, and extension modules raise
    BaseException of their own. Ctrl-C is the user's.
    """
    try:
        yield
    except (KeyboardInterrupt, _Broken):
        raise
    except PluginError as problem:
        raise _Broken(stage, problem) from None
    except BaseException as raised:
        failed = PluginError(f"{action} raised {_describe(raised)}")
        failed.__cause__ = raised
        raise _Broken(stage, failed) from raised


def _describe(raised: BaseException) -> str:
    try:
        text = " ".join(str(raised).split())
    except Exception:  # a plugin's own exception class may fail to print
        text = ""
    return f"{type(raised).__name__}: {text}" if text else type(raised).__name__


def _core() -> _Candidate:
    plugin = Plugin(
        CORE,
        "affectkit",
        affectkit.__version__,
        "What ships with affectkit: faces, words, fusions and heads",
        "Apache-2.0",
        str(Path(affectkit.__file__).parent / "builtin"),
    )
    return _Candidate(plugin, "affectkit.builtin", lambda: import_module("affectkit.builtin"))


def _installed() -> Iterator[_Candidate]:
    """One candidate per entry point of our group; the first of two distributions of the same name on the path counts."""
    seen = set()
    for distribution in metadata.distributions():
        try:
            text = distribution.read_text("entry_points.txt") or ""
        except (OSError, UnicodeError):
            continue  # of somebody else, as far as can be known: nothing of it can be read
        if not re.search(rf"^\s*\[\s*{GROUP}\s*\]", text, re.MULTILINE):
            continue
        plugin, requires = _metadata(distribution)
        key = re.sub(r"[-_.]+", "-", plugin.distribution).lower()
        if key in seen:
            continue
        seen.add(key)
        try:
            points = [point for point in distribution.entry_points if point.group == GROUP]
        except Exception as raised:  # importlib.metadata raises TypeError, ValueError or AttributeError by version
            raise_it = _raiser(PluginError(f"its entry_points.txt cannot be read: {_describe(raised)}"))
            yield _Candidate(replace(plugin, name=plugin.distribution), "entry_points.txt", raise_it)
            continue
        for point in points:
            yield _Candidate(replace(plugin, name=point.name), point.value, point.load, requires)


def _metadata(distribution: metadata.Distribution) -> tuple[Plugin, tuple[str, ...]]:
    """The plugin as the metadata of its distribution describe it, still without a name, and what it requires."""
    try:
        fields = distribution.metadata
        name = fields["Name"] or _folder(distribution)
        licence = fields["License-Expression"] or fields["License"] or ""
        plugin = Plugin("", name, fields["Version"] or "", fields["Summary"] or "", licence, str(distribution.locate_file("")))
        return plugin, tuple(distribution.requires or ())
    except Exception:  # metadata that cannot be parsed say nothing; the plugin itself may still work
        return Plugin("", _folder(distribution), location=str(distribution.locate_file(""))), ()


def _folder(distribution: metadata.Distribution) -> str:
    return Path(str(getattr(distribution, "_path", "unknown"))).name.partition("-")[0]


def _raiser(error: Exception) -> Callable[[], object]:
    def fail() -> object:
        raise error

    return fail


def _files(folder: str | os.PathLike[str] | None) -> Iterator[_Candidate]:
    if folder is None:
        return
    path = Path(folder)
    if not path.is_dir():
        raise UsageError(f"--plugins-dir {path}: there is no such folder")
    for file in sorted(path.glob("*.py")):
        if not file.name.startswith("_"):
            yield _Candidate(Plugin(file.stem, file.name, location=str(file)), file.name, _file_loader(file.resolve()))


def _file_loader(file: Path) -> Callable[[], object]:
    def load_file() -> object:
        from importlib.util import module_from_spec, spec_from_file_location

        name = f"affectkit_file_{file.stem}"
        spec = spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise PluginError(f"{file} is not a Python file")
        module = module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up there while they are made
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module

    return load_file


def _admit(candidate: _Candidate, manager: pluggy.PluginManager, before: list[Plugin]) -> Plugin:
    """Loads and registers one plugin, or withdraws it and says why."""
    found = candidate.plugin
    try:
        return _load(candidate, manager, before)
    except _Broken as broken:
        working = any(plugin.name == found.name and plugin.state == "ok" for plugin in before)
        if not working and manager.has_plugin(found.name):
            manager.unregister(name=found.name)
        failure = PluginFailure(found.name, found.distribution, broken.stage, broken.error)
        return replace(found, state="broken", failure=failure)


def _load(candidate: _Candidate, manager: pluggy.PluginManager, before: list[Plugin]) -> Plugin:
    found = candidate.plugin
    name = found.name
    with _stage("name", "reading the name"):
        contract.check_name(name, f"the plugin of {found.distribution}")
    with _stage("duplicate", "looking for others of that name"):
        for other in before:
            if other.name == name and other.state == "ok":
                raise PluginError(f"two plugins are called {name}: the one of {other.origin} is used, the one of {found.origin} is not")
    with _stage("version", "reading what it requires"):
        _check_pin(candidate.requires)
    with _stage("import", f"importing {candidate.target}"):
        module = candidate.load()
    with _stage("hooks", "registering it"):
        hooks = _register(manager, name, module)
    entries = _entries(manager, found, module)
    with _stage("recipes", "affectkit_recipes"):
        recipes = [recipe for returned in _call(manager, "affectkit_recipes", module) for recipe in contract.recipes(name, returned)]
        _check_unique([recipe.name for recipe in recipes], "recipe")
    with _stage("commands", "affectkit_commands"):
        commands = _commands(manager, module, before) if "affectkit_commands" in hooks else {}
    if not found.version and isinstance(getattr(module, "__version__", None), str):
        found = replace(found, version=module.__version__)  # type: ignore[attr-defined]
    return replace(
        found,
        summary=found.summary or (getattr(module, "__doc__", None) or "").strip().partition("\n")[0],
        location=getattr(module, "__file__", None) or found.location,
        hooks=hooks,
        components=tuple(replace(entry, version=found.version) for entry in sorted(entries, key=lambda entry: entry.id)),
        recipes=tuple(sorted(recipes, key=lambda recipe: recipe.name)),
        commands=commands,
    )


def _check_pin(requires: Iterable[str]) -> None:
    """Checks the version of affectkit that a distribution requires; pip does, but an upgrade of affectkit alone may break it."""
    for text in requires:
        if not re.match(r"\s*affectkit\s*(?![\w.-])", text, re.IGNORECASE):
            continue
        from packaging.requirements import Requirement

        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        if not requirement.specifier.contains(affectkit.__version__, prereleases=True):
            raise PluginError(f"needs affectkit{requirement.specifier}, this is {affectkit.__version__}")


def _register(manager: pluggy.PluginManager, name: str, module: object) -> tuple[str, ...]:
    """Registers a plugin and returns the names of the hooks that it implements; raises PluginError where they are not ours."""
    if module is None:
        raise PluginError("its entry point names None; it must name a module or an object with hooks")
    if twin := manager.get_name(module):
        raise PluginError(f"its entry point names the same object as that of plugin {twin}")
    specs = [hook for hook in vars(hookspecs) if hook.startswith("affectkit_")]
    try:
        manager.register(module, name=name)
    except pluggy.PluginValidationError as error:
        raise PluginError("; ".join(line.strip() for line in str(error).splitlines())) from error
    callers = manager.get_hookcallers(module) or []
    problems = []
    for caller in callers:
        for implementation in _implementations(manager, caller.name, module):
            if not caller.has_spec() and not implementation.optionalhook:
                problems.append(f"there is no hook {caller.name}. {did_you_mean(caller.name, specs)}")
            elif implementation.wrapper or implementation.hookwrapper:
                problems.append(f"{caller.name} is a hook wrapper; each implementation is called on its own, so write a plain function")
    for hook in specs:
        if getattr_static(module, hook, None) is not None and manager.parse_hookimpl_opts(module, hook) is None:
            problems.append(f"{hook} is not marked as a hook; put @hookimpl (from affectkit.api) before it")
    if not problems and not callers:
        problems.append("it implements no hook of affectkit; see affectkit.hookspecs")
    if problems:
        raise PluginError("; ".join(problems))
    return tuple(sorted(caller.name for caller in callers if caller.has_spec()))


def _implementations(manager: pluggy.PluginManager, hook: str, module: object) -> list[pluggy.HookImpl]:
    caller = getattr(manager.hook, hook)
    return [implementation for implementation in caller.get_hookimpls() if implementation.plugin is module]


def _call(manager: pluggy.PluginManager, hook: str, module: object, arguments: Mapping[str, Any] | None = None) -> list[object]:
    """Calls one plugin's implementations of a hook, with the arguments that each takes."""
    given = arguments or {}
    return [impl.function(*(given[name] for name in impl.argnames)) for impl in _implementations(manager, hook, module)]


def _entries(manager: pluggy.PluginManager, found: Plugin, module: object) -> list[Entry]:
    entries: list[Entry] = []
    for hook, kind in contract.HOOKS.items():
        with _stage("hooks", hook):
            answers = [list(answer) if isinstance(answer, Iterator) else answer for answer in _call(manager, hook, module)]
        with _stage("components", f"checking what {hook} returned"):
            classes = [cls for answer in answers for cls in contract.components(hook, answer)]
        entries += [Entry(f"{found.name}/{cls.name}", kind, cls, found.name, found.distribution, found.version) for cls in classes]
    with _stage("duplicate", "comparing ids"):
        _check_unique([entry.id for entry in entries], "component")
    return entries


def _check_unique(ids: list[str], what: str) -> None:
    twice = sorted({id for id in ids if ids.count(id) > 1})
    if twice:
        raise PluginError(f"two of its {what}s have the id {', '.join(twice)}; ids must differ")


def _commands(manager: pluggy.PluginManager, module: object, before: list[Plugin]) -> dict[str, click.Command]:
    """Lets a plugin add its commands to an empty group, so that it can neither see nor replace those of others."""
    import click

    from affectkit.cli import COMMANDS

    group = click.Group()
    _call(manager, "affectkit_commands", module, {"group": group})
    owners = dict.fromkeys(COMMANDS, "affectkit itself") | {name: plugin.name for plugin in before for name in plugin.commands}
    for name in group.commands:
        if name in owners:
            raise PluginError(f"its command {name!r} is already one of {owners[name]}; give it another name")
    return dict(group.commands)
