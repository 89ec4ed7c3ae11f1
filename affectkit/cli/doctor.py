"""``affectkit doctor``: whether everything that a run needs is well, a line each, and what to do where it is not."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from affectkit.cli.options import PluginChoice, plugin_options

MARK, SUBJECT = 8, 22  # widths of the first two columns


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@plugin_options()
def doctor(plugins: PluginChoice, as_json: bool) -> int:
    """Check Python, torch, the GPU, decoding, disk, plugins and weights.

    One line each: ok, a note (something that is not needed is not here), or a problem with what to do about it. The exit status is 1
    where there is a problem.
    """
    from affectkit.doctor import examine

    found = []
    for finding in examine(lambda: plugins.registry):
        found.append(finding)
        if as_json:
            continue
        click.echo(f"{finding.mark:{MARK}} {finding.subject:{SUBJECT}} {finding.text}")
        if finding.remedy:
            click.echo(f"{'':{MARK}} {'':{SUBJECT}} -> {finding.remedy}")
    problems = sum(finding.mark == "problem" for finding in found)
    if as_json:
        click.echo(json.dumps({"well": not problems, "findings": [asdict(finding) for finding in found]}, indent=2, ensure_ascii=False))
    elif problems:
        click.echo(f"{problems} {'problem' if problems == 1 else 'problems'}.")
    else:
        click.echo("No problems.")
    return 1 if problems else 0
