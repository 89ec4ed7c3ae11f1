"""``affectkit recipes``: the recipes that plugins ship, and what one of them says once its bases are resolved."""

from __future__ import annotations

import json
from pathlib import Path

import click

from affectkit.cli.options import PluginChoice, plugin_options, settings


@click.group(invoke_without_command=True)
@click.option("--training", is_flag=True, help="The recipes of affectkit train instead of those of affectkit run.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@plugin_options()
@click.pass_context
def recipes(context: click.Context, plugins: PluginChoice, training: bool, as_json: bool) -> None:
    """List the recipes, or show one of them."""
    settings(context).plugins = plugins  # for show
    if context.invoked_subcommand is not None:
        return
    found = plugins.registry.training_recipes() if training else plugins.registry.recipes()
    if as_json:
        click.echo(json.dumps({name: str(path) for name, path in found.items()}, indent=2, ensure_ascii=False))
    elif not found:
        click.echo(f"No plugin that is installed ships a {'training ' * training}recipe.", err=True)
    width = max(map(len, found), default=0)
    for name, path in found.items() if not as_json else ():
        click.echo(f"{name:{width}}  {path}")


@recipes.command()
@click.argument("name")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one key, for instance windows.step=1.")
@click.option("--training", is_flag=True, help="A recipe of affectkit train.")
@plugin_options()
def show(plugins: PluginChoice, name: str, overrides: tuple[str, ...], training: bool) -> None:
    """Show a recipe, by name or file, with its bases resolved and its defaults filled in; run (or train) takes it as it is printed."""
    import yaml

    from affectkit.config import Recipe
    from affectkit.training_recipes import Plan

    def find(wanted: str) -> Path:
        return plugins.registry.training_recipe(wanted) if training else plugins.registry.recipe(wanted)

    recipe = (Plan if training else Recipe).load(name, find=find, overrides=overrides)
    click.echo(yaml.safe_dump(recipe.to_mapping(), sort_keys=False, allow_unicode=True), nl=False)
