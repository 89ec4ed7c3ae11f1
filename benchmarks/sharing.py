"""Sharing: one run of all modalities against one run per modality, on the same real material, wall time.

    python benchmarks/sharing.py --data FOLDER [--seconds 60] [--pairs 5]

Both sides run in one process with all components made, loaded and warmed up before the clock starts; a run is timed from
opening the files to the last part written. Each run decodes only the streams that its own modalities look at. The order
within a pair alternates. The words and descriptions that text and scene read are written beside links to the clips.

The ratio has a floor. Only modalities that look at pictures share the decoding of pictures and the detector, so with p of
them, D seconds of decoding and detection, and F seconds for everything else (sound, preprocessing, forward passes, fusion),
it cannot fall below (D + F) / (p D + F): for two of them never below one half. Both are printed as measured in this run.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from common import Measured, guarded, material, measure, parser, sessions, spread, table

from affectkit.session import Session

GOAL = 0.5


@dataclass
class Sides:
    """What was measured, pair by pair."""

    together: list[Measured] = field(default_factory=list)
    alone: list[dict[str, Measured]] = field(default_factory=list)

    def ratio(self) -> float:
        """Median over pairs of the time of one run over the sum of the runs per modality."""
        pairs = zip(self.together, self.alone, strict=True)
        return median(whole.seconds / sum(m.seconds for m in parts.values()) for whole, parts in pairs)


def compare(whole: Session, alone: Mapping[str, Session], paths: Sequence[Path], pairs: int, workers: int | None) -> Sides:
    """Measures both sides in turn, after one round that counts for nothing."""
    sides = Sides()
    for turn in range(pairs + 1):
        steps = {"": whole, **alone}
        order = list(steps) if turn % 2 else list(reversed(steps))
        taken = {name: measure(steps[name], paths, workers) for name in order}
        if turn:
            sides.together.append(taken.pop(""))
            sides.alone.append(taken)
    return sides


def stages(session: Session, runs: Sequence[Measured]) -> dict[str, float]:
    """Median seconds of a run in four groups of stages, added up over threads."""
    providers = {p.id for kind in session.assembly.plan.frame_kinds for p in session.assembly.plan.providers[kind]}
    groups: dict[str, list[float]] = {"decode": [], "faces": [], "modalities": [], "rest": []}
    for run in runs:
        sums = Counter[str]()
        for stage, seconds in run.stages.items():
            modality = stage == "preprocess" or stage.startswith("forward ")
            group = (
                "decode"
                if stage == "decode"
                else "faces"
                if stage in providers or stage == "track"
                else "modalities"
                if modality
                else "rest"
            )
            sums[group] += seconds
        for group, values in groups.items():
            values.append(sums[group])
    return {group: median(values) for group, values in groups.items()}


def report(title: str, whole: Session, alone: Mapping[str, Session], sides: Sides) -> None:
    """Prints one comparison."""
    names = list(alone)
    runs = {"all in one run": (whole, sides.together)} | {name: (alone[name], [parts[name] for parts in sides.alone]) for name in names}
    rows: list[Sequence[object]] = [("", "wall s", "decode s", "faces s", "modalities s", "rest s", "video", "audio")]
    split = {name: stages(session, measured) for name, (session, measured) in runs.items()}
    for name, (_, measured) in runs.items():
        decodes = measured[0].decodes
        seconds = median(m.seconds for m in measured)
        rows.append((name, seconds, *split[name].values(), decodes["video"], decodes["audio"]))
    sums = [sum(float(row[i]) for row in rows[2:]) for i in range(1, 6)]  # type: ignore[arg-type]
    streams = [sum(parts[name].decodes[kind] for name in names for parts in sides.alone[:1]) for kind in ("video", "audio")]
    rows.append(("one run per modality, sum", *sums, *streams))
    print(f"\n{title}: {', '.join(names)}")
    print(table(rows))
    looking = [name for name in names if alone[name].assembly.plan.wants_pictures]
    shared = median([split[name]["decode"] + split[name]["faces"] for name in looking]) if looking else 0.0
    rest = sum(split[name]["modalities"] + split[name]["rest"] for name in names)
    rest += sum(split[name]["decode"] for name in names if name not in looking)
    floor = (shared + rest) / (len(looking) * shared + rest) if looking else 1.0
    walls = [run.seconds for run in sides.together]
    print(f"one run {spread(walls)}; runs per modality {spread([sum(m.seconds for m in parts.values()) for parts in sides.alone])}")
    print(
        f"shared: D = {shared:.2f} s (decoding and faces) by {len(looking)} of {len(names)}; not shared: F = {rest:.2f} s; added over threads"
    )
    print(f"floor (D + F) / ({len(looking)} D + F) = {floor:.2f}")
    print(f"ratio {sides.ratio():.2f} (goal: at most {GOAL})")


def main() -> None:
    """Measures and prints."""
    given = parser(__doc__).parse_args()
    whole, alone = sessions(given, each=True)
    looking = [name for name, one in alone.items() if one.assembly.plan.wants_pictures]
    with tempfile.TemporaryDirectory() as folder:
        paths = material(given.data, given.seconds, Path(folder))
        sides = compare(whole, alone, paths, given.pairs, given.workers)
        print(
            f"{sides.together[0].media} media; video and audio: how often such a stream was decoded; seconds but wall are added over threads"
        )
        report("all modalities", whole, alone, sides)
        if 1 < len(looking) < len(alone):
            given.plugins = ",".join(looking)
            whole, alone = sessions(given, each=True)
            report("modalities that look at pictures", whole, alone, compare(whole, alone, paths, given.pairs, given.workers))


if __name__ == "__main__":
    guarded(main)
