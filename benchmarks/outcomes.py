"""What becomes of unusual files: the main job on every file of video/, video_edge/, audio_edge/ and images/, as a markdown table.

    python benchmarks/outcomes.py --data ../shared/data

Each file is a run of its own, as ``affectkit run FILE`` makes it; start-up is excluded. ``docs/media.md`` holds what it
printed, and ``tests/end_to_end/test_outcomes.py`` runs the same files and compares. Whisper is left out, so that
the table is the same whether its weights are here or not.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from affectkit import plugins
from affectkit.errors import MediaError
from affectkit.media import Media, discover
from affectkit.session import Execution, Session, load_recipe

FOLDERS = ("video", "video_edge", "audio_edge", "images")
WITHOUT_WHISPER = "providers.transcript=core/subtitles"
USUAL = ("no descriptions given", "no subtitles beside the file")  # of nearly every file; docs/media.md says them once


def main() -> None:
    """Prints one table per folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds video/, video_edge/, audio_edge/ and images/")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="change one key of the recipe")
    parser.add_argument("--fusion", help="fusion instead of the recipe's")
    given = parser.parse_args()
    registry = plugins.load()
    recipe = load_recipe(None, registry, overrides=[WITHOUT_WHISPER, *given.overrides], fusion=given.fusion)
    session = Session(recipe, registry)
    names = list(session.assembly.plan.modalities)
    for folder in FOLDERS:
        print(f"\n### {folder}/\n")
        print(f"| file | what it is | seconds | windows | {' | '.join(name.partition('/')[2] for name in names)} | message |")
        print(f"|{'---|' * (len(names) + 5)}")
        for path in sorted((given.data / folder).iterdir()):
            with tempfile.TemporaryDirectory() as out:
                print(row(path, session, names, Path(out) / "run"), flush=True)


def row(path: Path, session: Session, names: Sequence[str], out: Path) -> str:
    """One line of the table, from a run of its own."""
    media, _ = discover([path])
    began = time.perf_counter()
    result = session.run([path], out, Execution())
    seconds = time.perf_counter() - began
    what = describe(media[0]) if media else "cannot be opened"
    record = next(iter(result.media.values()), None)
    messages = [failure.message for failure in result.failures]
    windows, *evidence, message = outcome(path, names, record, messages)
    return f"| {' | '.join([path.name, what, f'{seconds:.1f}', windows, *evidence, message])} |"


def outcome(path: Path, names: Sequence[str], record: Mapping[str, Any] | None, messages: Sequence[str]) -> list[str]:
    """What became of a file, as cells: windows, evidence per modality, message.

    Args:
        path: the file; its name is left out of the messages.
        names: ids of the modalities.
        record: what ``run.json`` says of it, ``None`` where it could not be opened.
        messages: those of its failures.
    """
    told = [message.replace(f"{path}: ", "").replace(f"{path} ", "") for message in messages]
    if record is None:
        return ["0", *("-" for _ in names), "; ".join(told)]
    return [str(record["windows"]), *(share(record["evidence"][name]) for name in names), "; ".join([*told, *reasons(record["evidence"])])]


def describe(media: Media) -> str:
    """A medium in a few words: kind, size, frames per second, length, and whether there is sound."""
    size = f"{media.size[1]}x{media.size[0]}" if media.size else ""
    if media.kind == "image":
        return f"picture {size}"
    if media.kind == "audio":
        return f"sound, {media.duration:.2f} s"
    start = f" from {media.start:.2f} s" if abs(media.start) > 0.005 else ""
    return f"{media.kind} {size}, {media.fps:.4g} fps, {media.duration:.2f} s{start}, {'sound' if media.audio is not None else 'no sound'}"


def share(had: Mapping[str, Any]) -> str:
    """In how many windows a modality had evidence.

    >>> share({"windows": 3, "with_evidence": 2})
    '2 of 3'
    """
    if had["with_evidence"] == had["windows"]:
        return "all"
    return f"{had['with_evidence']} of {had['windows']}" if had["with_evidence"] else "none"


def reasons(evidence: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Why modalities had no evidence, each reason once, without what is usual."""
    told: dict[str, list[str]] = {}
    for name, had in evidence.items():
        for reason in had["reasons"]:
            if not reason.startswith(USUAL):
                told.setdefault(reason, []).append(name.partition("/")[2])
    for reason, names in told.items():
        yield f"{', '.join(names)}: {reason}"


if __name__ == "__main__":
    try:
        main()
    except MediaError as error:
        raise SystemExit(str(error)) from error
