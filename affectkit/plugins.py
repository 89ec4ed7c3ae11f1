"""Discovery, blocking and guarded loading of plugins, and the registry of what they offer.

``PluginManager.load_setuptools_entrypoints`` does not guard the import of a plugin and skips a second plugin of the same
name without a word, one raising implementation loses a whole ``pm.hook.x()`` call, and ``check_pending`` stops at the first
offender. So plugins are loaded here one by one: each import guarded, each implementation called on its own, each component
checked. A plugin that fails anywhere is withdrawn as a whole, recorded as a :class:`PluginFailure`, and no other notices.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

from affectkit import discovery, hookspecs
from affectkit.discovery import CORE, GROUP
from affectkit.errors import AffectKitError, ConfigError, PluginError, UsageError, did_you_mean, raise_all
from affectkit.loading import Entry, Plugin, PluginFailure, admit, observe, unloaded

if TYPE_CHECKING:
    import click

__all__ = ["CORE", "GROUP", "Entry", "Plugin", "PluginFailure", "Registry", "load"]


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

    def recipe(self, name: str) -> Path:
        """The file of the recipe ``plugin/stem``.

        Raises:
            ConfigError: where there is none of that name.
            PluginError: where its plugin is broken or blocked; says which and what to do.
        """
        known = self.recipes()
        if name not in known:
            self._check_available(name.partition("/")[0], f"recipe {name} cannot be used")
            raise ConfigError(f"there is no recipe {name!r}. {did_you_mean(name, known)}")
        return known[name]

    def training_recipes(self) -> dict[str, Path]:
        """The training recipes of all plugins, as :meth:`recipes` gives those of runs."""
        return dict(sorted((recipe.name, recipe.path) for plugin in self.plugins for recipe in plugin.training_recipes))

    def training_recipe(self, name: str) -> Path:
        """The file of the training recipe ``plugin/stem``; raises as :meth:`recipe` does."""
        known = self.training_recipes()
        if name not in known:
            self._check_available(name.partition("/")[0], f"training recipe {name} cannot be used")
            raise ConfigError(f"there is no training recipe {name!r}. {did_you_mean(name, known)}")
        return known[name]

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
        observers = [plugin for plugin in self.plugins if plugin.state == "ok" and hook in plugin.hooks]
        failures = [observe(plugin, self.manager, hook, arguments) for plugin in observers]
        return tuple(failure for failure in failures if failure)

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
    leave_out = set(blocked)
    wanted = None if only is None else {CORE, *only}
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    plugins: list[Plugin] = []
    for candidate in discovery.candidates(plugins_dir):
        if leave_out & {candidate.name, candidate.distribution}:
            plugins.append(unloaded(candidate, "blocked"))
        elif wanted is not None and candidate.name not in wanted:
            plugins.append(unloaded(candidate, "skipped"))
        else:
            plugins.append(admit(candidate, manager, plugins))
    return Registry(plugins, manager)
