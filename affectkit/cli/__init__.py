"""The command line. Each command is a module of this package and is imported only when it is called.

Exit status: 0 for success, 1 where a file could not be read or written, 2 for a mistake in the command line, the recipe, a
plugin, weights or labels, 70 for a defect of affectkit, 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from keyword import iskeyword
from pathlib import Path
from traceback import extract_tb, print_exception
from typing import Any

import click

import affectkit
from affectkit.caches import OFFLINE, offline
from affectkit.cli.options import PluginChoice, Settings, block_option, debug_option, folder_option, offline_option, settings
from affectkit.errors import AffectKitError, MediaError, Problems, StoreError, did_you_mean

COMMANDS = ("run", "evaluate", "compare", "submit", "train", "import", "fuse", "demo", "plugins", "recipes", "weights", "doctor")
"""The commands of affectkit itself, in the order of ``--help``: each is the function of its name in the module of its name, with an underscore where Python keeps the name for itself."""


class Program(click.Group):
    """The group of all commands: affectkit's own, imported when called, and those of plugins, loaded when needed."""

    def get_help_option(self, ctx: click.Context) -> click.Option:
        """``--help`` as a plain flag: click's own acts before the options that say which plugins have commands are read."""
        return click.Option(["-h", "--help"], is_flag=True, help="Show this message and exit.")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; keeps what the options say where commands are looked up, which is before the group's function runs."""
        rest = super().parse_args(ctx, args)
        settings(ctx).plugins = PluginChoice(ctx.params.pop("blocked"), ctx.params.pop("folder"))
        if ctx.params.pop("help"):
            click.echo(ctx.get_help())
            ctx.exit()
        return rest

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands; loads the plugins."""
        return [*COMMANDS, *sorted(settings(ctx).plugins.registry.commands())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name; loads the plugins where it is not one of affectkit's own."""
        command: click.Command | None
        if cmd_name in COMMANDS:
            own = f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name
            command = getattr(import_module(f"affectkit.cli.{own}"), own)
        else:
            command = settings(ctx).plugins.registry.commands().get(cmd_name)
        if command is not None:
            _add_shared(command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a message that offers the nearest command."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            if Path(name).exists():
                raise click.UsageError(f"there is no command {name!r}. To analyse that file: affectkit run {name}", ctx)
            raise click.UsageError(f"there is no command {name!r}. {did_you_mean(name, self.list_commands(ctx))}", ctx)
        return super().resolve_command(ctx, args)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs a command and ends the process with its exit status; every error is shown here and nowhere else."""
        own = extra.setdefault("obj", Settings())
        with _own_environment():
            if not standalone_mode:
                return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's threads sleep while they wait: the readers need the cores
            try:
                result = super().main(args, prog_name or "affectkit", complete_var, standalone_mode=False, **extra)
                status = result if isinstance(result, int) and not isinstance(result, bool) else 0
            except (click.Abort, KeyboardInterrupt) as stop:
                status = _show_stop(stop)
            except click.ClickException as error:
                error.show()
                status = error.exit_code
            except Exception as error:
                if own.debug:
                    print_exception(error)
                status = _show(error, own.debug)
        sys.exit(status)


def _show(error: Exception, debug: bool) -> int:
    """Says what went wrong on standard error, in a sentence, and gives the exit status."""
    if isinstance(error, AffectKitError):
        many = len(error.problems) if isinstance(error, Problems) else 0
        count = f"{many} problem{'s' if many > 1 else ''}:\n" if many else ""
        click.echo(f"Error: {count}{error}", err=True)
        return 1 if isinstance(error, MediaError | StoreError) else 2
    place = extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())
    click.echo(
        f"Error: {type(error).__name__}{': ' if text else ''}{text} (in {Path(place.filename).name}, line {place.lineno}). "
        f"affectkit did not expect this; {'the traceback is above' if debug else 'run again with --debug for the traceback'}.",
        err=True,
    )
    return 70


def _show_stop(stop: BaseException) -> int:
    """Says that the user stopped the program; a command may raise KeyboardInterrupt with a sentence of its own."""
    cause = stop.__cause__ if isinstance(stop, click.Abort) else stop
    if isinstance(cause, KeyboardInterrupt):
        click.echo(str(cause) or "Stopped by Ctrl-C.", err=True)
        return 130
    click.echo("Stopped.", err=True)
    return 1


@contextmanager
def _own_environment() -> Iterator[None]:
    """Nothing is downloaded by libraries either where ``AFFECTKIT_OFFLINE`` is set; what that or ``--offline`` sets holds for this call only."""
    before = {name: os.environ.get(name) for name in OFFLINE}
    if offline():
        os.environ.update(OFFLINE)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _add_shared(command: click.Command) -> None:
    """Gives a command, and those below it, the options that every command has."""
    for option in (offline_option(), debug_option()):
        if not any(option.opts[0] in parameter.opts for parameter in command.params):
            command.params.append(option)
    if isinstance(command, click.Group):
        for member in command.commands.values():
            _add_shared(member)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(affectkit.__version__, prog_name="affectkit")
@block_option
@folder_option(envvar="AFFECTKIT_PLUGINS_DIR")
def cli() -> None:
    """From a video to basic and compound expressions."""


cli.params += [offline_option(), debug_option()]


def main() -> None:
    """Entry point of the program ``affectkit``."""
    cli.main()
