"""Loading of one plugin, guarded at every step: a plugin that fails is withdrawn as a whole and recorded."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from inspect import getattr_static
from typing import TYPE_CHECKING, Any, Literal

import pluggy

import affectkit
from affectkit import contract, hookspecs
from affectkit.components import Component
from affectkit.discovery import Candidate, describe
from affectkit.errors import PluginError, did_you_mean

if TYPE_CHECKING:
    import click

Stage = Literal["name", "duplicate", "version", "import", "hooks", "components", "recipes", "commands", "observers"]
State = Literal["ok", "blocked", "broken", "skipped"]


@dataclass(frozen=True)
class PluginFailure:
    """Why a plugin is not there: the stage at which it failed, and the error.

    Attributes:
        name: name of the plugin.
        distribution: the installed distribution, or the file of a one-file plugin, that it comes from.
        stage: ``"name"``, ``"duplicate"``, ``"version"``, ``"import"``, ``"hooks"``, ``"components"``,
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
        if self.stage == "duplicate":
            return f"Correct, rename or uninstall {self.distribution}, or leave it out with -p no:{self.distribution}."
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
        training_recipes: the training recipes that it ships, sorted by name.
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
    training_recipes: tuple[contract.Recipe, ...] = ()
    commands: Mapping[str, click.Command] = field(default_factory=dict)
    failure: PluginFailure | None = None

    @property
    def origin(self) -> str:
        """Distribution and version as one reads them."""
        return f"{self.distribution} {self.version}".strip()


def unloaded(candidate: Candidate, state: State, failure: PluginFailure | None = None) -> Plugin:
    """A plugin that offers nothing, as far as its metadata describe it."""
    about = {name: getattr(candidate, name) for name in ("name", "distribution", "version", "summary", "licence", "location")}
    return Plugin(**about, state=state, failure=failure)


def admit(candidate: Candidate, manager: pluggy.PluginManager, before: Iterable[Plugin]) -> Plugin:
    """Imports a plugin, registers it with the manager and checks all that it offers, or withdraws it and says why.

    Args:
        candidate: the plugin.
        manager: holds the working plugins.
        before: the plugins that were admitted before this one, whose names are taken.
    """
    working = [plugin for plugin in before if plugin.state == "ok"]
    try:
        with redirect_stdout(sys.stderr):  # some libraries greet when they are imported, and standard output may be JSON
            return _load(candidate, manager, working)
    except _Broken as broken:
        if manager.has_plugin(candidate.name) and candidate.name not in [plugin.name for plugin in working]:
            manager.unregister(name=candidate.name)
        return unloaded(candidate, "broken", PluginFailure(candidate.name, candidate.distribution, broken.stage, broken.error))


def observe(plugin: Plugin, manager: pluggy.PluginManager, hook: str, arguments: Mapping[str, object]) -> PluginFailure | None:
    """Calls one plugin's observer of a run; what it raises becomes a failure."""
    try:
        with _stage("observers", hook):
            _call(manager, hook, manager.get_plugin(plugin.name), arguments)
    except _Broken as broken:
        return PluginFailure(plugin.name, plugin.distribution, broken.stage, broken.error)
    return None


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
        failed = PluginError(f"{action} raised {describe(raised)}")
        failed.__cause__ = raised
        raise _Broken(stage, failed) from raised


def _load(candidate: Candidate, manager: pluggy.PluginManager, working: Iterable[Plugin]) -> Plugin:
    """The plugin with all that it offers; raises :class:`_Broken` at the first stage that fails."""
    name = candidate.name
    with _stage("name", "reading the name"):
        contract.check_name(name, f"the plugin of {candidate.distribution}")
    with _stage("duplicate", "looking for others of that name"):
        for other in working:
            if other.name == name:
                raise PluginError(f"two plugins are called {name}: the one of {other.origin} is used, the one of {candidate.origin} is not")
    with _stage("version", "reading what it requires"):
        _check_pin(candidate.requires)
    with _stage("import", f"importing {candidate.target}"):
        module = candidate.load()
    with _stage("hooks", "registering it"):
        hooks = _register(manager, name, module)
        candidate = replace(
            candidate,
            version=candidate.version or _text(module, "__version__"),
            summary=candidate.summary or _text(module, "__doc__").strip().partition("\n")[0],
            location=_text(module, "__file__") or candidate.location,
        )
    entries = _entries(manager, candidate, module)
    recipes = _recipes(manager, name, module, "affectkit_recipes")
    training_recipes = _recipes(manager, name, module, "affectkit_training_recipes")
    with _stage("commands", "affectkit_commands"):
        commands = _commands(manager, module, working) if "affectkit_commands" in hooks else {}
    return replace(
        unloaded(candidate, "ok"),
        hooks=hooks,
        components=tuple(sorted(entries, key=lambda entry: entry.id)),
        recipes=recipes,
        training_recipes=training_recipes,
        commands=commands,
    )


def _text(module: object, attribute: str) -> str:
    value = getattr(module, attribute, None)
    return value if isinstance(value, str) else ""


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


def _entries(manager: pluggy.PluginManager, found: Candidate, module: object) -> list[Entry]:
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


def _recipes(manager: pluggy.PluginManager, name: str, module: object, hook: str) -> tuple[contract.Recipe, ...]:
    with _stage("recipes", hook):
        found = [recipe for answer in _call(manager, hook, module) for recipe in contract.recipes(name, answer, hook)]
        _check_unique([recipe.name for recipe in found], "recipe")
    return tuple(sorted(found, key=lambda recipe: recipe.name))


def _check_unique(ids: list[str], what: str) -> None:
    twice = sorted({id for id in ids if ids.count(id) > 1})
    if twice:
        raise PluginError(f"two of its {what}s have the id {', '.join(twice)}; ids must differ")


def _commands(manager: pluggy.PluginManager, module: object, working: Iterable[Plugin]) -> dict[str, click.Command]:
    """Lets a plugin add its commands to an empty group, so that it can neither see nor replace those of others."""
    import click

    from affectkit.cli import COMMANDS

    group = click.Group()
    _call(manager, "affectkit_commands", module, {"group": group})
    owners = dict.fromkeys(COMMANDS, "affectkit itself") | {name: plugin.name for plugin in working for name in plugin.commands}
    for name in group.commands:
        if name in owners:
            raise PluginError(f"its command {name!r} is already one of {owners[name]}; give it another name")
    return dict(group.commands)
