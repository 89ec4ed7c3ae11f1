"""A one-file plugin for tests: observers that say what they see, and raise where they are told to."""

from __future__ import annotations

import os
from pathlib import Path

from affectkit.api import hookimpl


def see(hook: str, what: str) -> None:
    """Adds a line to the file that WATCHER_LOG names, and raises where WATCHER_RAISES names the hook."""
    if log := os.environ.get("WATCHER_LOG"):
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(f"{hook} {what}\n")
    if hook in os.environ.get("WATCHER_RAISES", "").split(","):
        raise RuntimeError(f"cannot watch {what}")


@hookimpl
def affectkit_run_started(run):
    see("run_started", run.path.name)


@hookimpl
def affectkit_media_finished(run, media, timelines):
    written = any((run.path / "media").glob(f"*{media.id}*.json"))
    see("media_finished", f"{media.id} {len(timelines)} timelines, {'written' if written else 'not written'}")


@hookimpl
def affectkit_media_failed(media, error):
    see("media_failed", f"{media.id} {error}")


@hookimpl
def affectkit_run_finished(run):
    see("run_finished", run.path.name)
