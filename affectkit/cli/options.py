"""Options that several commands share, and the settings that they are kept in.

A command that uses plugins is written so::

    @click.command()
    @click.argument("videos", nargs=-1)
    @plugin_options(select=True)
    def run(plugins: PluginChoice, videos: tuple[str, ...]) -> int | None:
        registry = plugins.registry  # plugins are imported here, once
        ids = plugins.modalities()  # of --plugins or AFFECTKIT_PLUGINS, None where neither says anything

``-p no:NAME`` and ``--plugins-dir`` may stand before the command or after it, and ``--debug`` and ``--offline`` as well. A command returns its
exit status, or nothing for 0; errors are raised and shown in one place, :mod:`affectkit.cli`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from affectkit.plugins import Registry


@dataclass
class PluginChoice:
    """What the command line says about plugins.

    Attributes:
        blocked: names of plugins (or distributions) that are not imported.
        folder: folder of one-file plugins.
        selection: the text of ``--plugins``, ``None`` where there is none.
    """

    blocked: tuple[str, ...] = ()
    folder: Path | None = None
    selection: str | None = None

    @cached_property
    def registry(self) -> Registry:
        """The plugins, loaded when first asked for."""
        from affectkit import plugins
        from affectkit.errors import did_you_mean

        registry = plugins.load(blocked=self.blocked, plugins_dir=self.folder)
        found = {plugin.name for plugin in registry.plugins} | {plugin.distribution for plugin in registry.plugins}
        for name in self.blocked:
            if name not in found:
                click.echo(f"Note: -p no:{name} blocks nothing. {did_you_mean(name, {p.name for p in registry.plugins})}", err=True)
        return registry

    def modalities(self) -> list[str] | None:
        """Ids of the modalities that ``--plugins`` names, ``None`` where it is not given.

        Raises:
            PluginError: for names that are unknown, not modalities, or of a plugin that is broken or blocked.
            UsageError: where the text names nothing.
        """
        return None if self.selection is None else self.registry.select(self.selection)


@dataclass
class Settings:
    """What the options before the command say; the object of click's context."""

    debug: bool = False
    plugins: PluginChoice = field(default_factory=PluginChoice)


def settings(context: click.Context) -> Settings:
    """The settings of this invocation; fresh ones where a command is called without its group."""
    return context.find_root().ensure_object(Settings)


def _blocked(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not value.startswith("no:") or value == "no:":
            raise click.BadParameter(
                f"takes no:NAME and blocks the plugin NAME, found {value!r}; --plugins of run selects plugins", context
            )
    return tuple(value.removeprefix("no:") for value in values)


def _forbid_downloads(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        from affectkit.caches import OFFLINE

        os.environ.update(OFFLINE)  # until the program ends: affectkit.cli puts back what was there


def _keep_debug(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        settings(context).debug = True


block_option = click.option(
    "-p", "blocked", multiple=True, metavar="no:NAME", callback=_blocked, help="Do not load the plugin NAME; may be repeated."
)


def folder_option(**attributes: Any) -> Callable[[Any], Any]:
    """The option ``--plugins-dir``."""
    words = "Load every *.py of this folder as a plugin."
    return click.option("--plugins-dir", "folder", metavar="DIR", type=click.Path(path_type=Path), help=words, **attributes)


def debug_option() -> click.Option:
    """The option ``--debug``; every command has it."""
    words = "Show the traceback of an error."
    return click.Option(["--debug"], is_flag=True, is_eager=True, expose_value=False, callback=_keep_debug, help=words)


def offline_option() -> click.Option:
    """The option ``--offline``; every command has it. It acts as it is read, before anything is imported that may download."""
    words = "Download nothing, as with AFFECTKIT_OFFLINE=1."
    return click.Option(["--offline"], is_flag=True, is_eager=True, expose_value=False, callback=_forbid_downloads, help=words)


def plugin_options(*, select: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a command the options about plugins and calls it with ``plugins``, a :class:`PluginChoice`.

    Args:
        select: whether the command also has ``--plugins``, which reads ``AFFECTKIT_PLUGINS`` where it is not given.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        @click.pass_context
        def command(
            context: click.Context, /, blocked: tuple[str, ...], folder: Path | None, selection: str | None = None, **given: Any
        ) -> Any:
            before = settings(context).plugins
            choice = PluginChoice((*before.blocked, *blocked), folder or before.folder, selection)
            return context.invoke(function, plugins=choice, **given)

        if hasattr(function, "__click_params__"):
            command.__click_params__ = function.__click_params__  # type: ignore[attr-defined]
        decorated = block_option(folder_option()(command))
        if select:
            words = "Modalities to run, for instance mini or mini/audio,mini/text.  [default: AFFECTKIT_PLUGINS, or what the recipe says]"
            option = click.option("--plugins", "selection", metavar="NAMES", envvar="AFFECTKIT_PLUGINS", help=words)
            decorated = option(decorated)
        return decorated

    return decorate
