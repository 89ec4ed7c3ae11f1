"""Start-up: ``affectkit plugins`` against an interpreter that imports click, pandas and pluggy, wall time.

Both are started in turn in one run, and the order within a pair alternates, so that both meet the same caches and load.

    python benchmarks/startup.py [PAIRS]
"""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

COMMANDS = {
    "affectkit plugins": [sys.executable, "-m", "affectkit", "plugins"],
    "import click, pandas, pluggy": [sys.executable, "-c", "import click, pandas, pluggy"],
    "import affectkit.api": [sys.executable, "-c", "import affectkit.api"],
}


def seconds(command: list[str]) -> float:
    """Wall time of one process, in seconds."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main(pairs: int = 15) -> None:
    """Prints the median of each command and the median of the ratios within pairs."""
    for command in COMMANDS.values():  # the first start reads files from disk and writes byte code
        seconds(command)
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(pairs):
        for name in list(COMMANDS) if turn % 2 == 0 else reversed(COMMANDS):
            taken[name].append(seconds(COMMANDS[name]))
    for name, times in taken.items():
        print(f"{name:30} {median(times) * 1000:6.0f} ms (median of {pairs}, {min(times) * 1000:.0f} to {max(times) * 1000:.0f})")
    ours, base = taken["affectkit plugins"], taken["import click, pandas, pluggy"]
    print(f"ratio {median(a / b for a, b in zip(ours, base, strict=True)):.2f} (goal: at most 2)")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
