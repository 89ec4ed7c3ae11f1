"""Write the model card of every file of weights from its training record.

    python write_cards.py --out DIR

``--out`` holds ``NAME.json``, as the training scripts wrote them; ``NAME.md`` is written beside each. Every figure of a card
comes from the record, and so from the command that the record names.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

CARDS = {
    "face_static": (
        "mini/face_static: the expression of one face in one picture",
        "A residual network over grey 48 x 48 crops. A crop is the square box of a face detector without margin, which is about how closely "
        "FER2013's pictures are cut. The crop and its mirror image are averaged.",
        "FER2013 holds pictures found on the web by emotion words, many of them posed; its labels are noisy (people agree with "
        "about two thirds of them). Fear is confused with sadness and surprise, and disgust is rare. Not for faces seen from the "
        "side, hidden faces, faces below about 24 pixels, or drawings. An expression is not a feeling.",
    ),
    "face_dynamic": (
        "mini/face_dynamic: the course of an expression over a window",
        "A recurrent network over the frozen embeddings of mini/face_static (whose file it shares), five crops per second. It starts from the "
        "average over the pictures and corrects it. It also gives `onset`: the probability that an expression appears minus that it goes away.",
        "It was trained on sequences made from stills: a cross-fade from one person's neutral face to another person's expression under a drifting "
        "camera. It has not seen a real face move, nor speech, and what it adds on real clips has not been measured. It needs "
        "at least two pictures.",
    ),
    "text": (
        "mini/text: emotions that words show",
        "A head (learned attention over token states, two layers) on the frozen sentence model all-MiniLM-L6-v2. A sigmoid per label, since a text "
        "may show several emotions; the label set `mentioned7` holds them. For fusion they become a distribution: "
        "`p_k = s_k^g / sum_j s_j^g` with the exponent `g` below, the likeliest on rows of dev with one label.",
        "English comments of Reddit, rated by readers: it reads what a comment shows to others. Spoken words are different; irony, quotes and "
        "negation mislead it, other languages are not understood. Neutral and joy are frequent in the data, and so in what it says.",
    ),
}


TERMS = {True: "Commercial use is allowed.", False: "No commercial use: `affectkit run --commercial` refuses them."}


def table(figures: Any, path: str = "") -> list[str]:
    """Rows of a Markdown table for nested figures; lists of two numbers are intervals."""
    rows = []
    for key, value in figures.items():
        name = f"{path} {key}".strip().replace("_", " ")
        if isinstance(value, dict):
            rows += table(value, name)
        elif isinstance(value, list):
            rows.append(f"| {name} | {', '.join(f'{item:.3f}' if isinstance(item, float) else str(item) for item in value)} |")
        elif isinstance(value, float):
            rows.append(f"| {name} | {value:.3f} |")
        elif not isinstance(value, str):
            rows.append(f"| {name} | {value} |")
    return rows


def card(name: str, record: dict[str, Any]) -> str:
    """The text of one card."""
    title, what, limits = CARDS[name]
    settings = {key: record[key] for key in ("temperature", "exponent", "thresholds", "ece_unseen_half") if key in record}
    validation = record.get("validation", {})
    terms = f"- Licence of the weights: {record['licence']}. {TERMS[record['commercial']]}"
    lines = [f"# {title}", "", what, "", f"- Data: {record['data']}.", terms]
    lines += [f"- Size: {record['parameters']:,} numbers, {record['bytes'] / 1e3:,.0f} kB."]
    lines += [f"- Made by: `training/{record['command']}` (`--data` and `--out` besides); the record is `{name}.json`."]
    if "note" in record:
        lines.append(f"- Note: {record['note']}.")
    if "validation_voices" in record:
        lines.append(f"- Voices kept for validation: {', '.join(record['validation_voices'])}.")
    if validation or settings:
        part = f" ({validation['part']})" if "part" in validation else ""
        lines += ["", f"## Measured on validation{part}", "", "| figure | value |", "|---|---|", *table(validation), *table(settings)]
        note = "`ece` is the expected calibration error over 15 bins"
        if any("interval" in row for row in lines):
            note = f"Intervals are 95 % bootstrap intervals over rows; {note}"
        if "ece_unseen_half" in settings:
            note += ", `ece unseen half` that on rows which the temperature was not fitted on"
        lines += ["", f"{note}."]
    poor = (
        [] if name in ("mhpf", "pfsa") else ["", "Accuracy on poor input, condition by condition: `docs/robustness.md` in the repository."]
    )
    return "\n".join([*lines, "", "## Limits", "", limits, *poor, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    for name in CARDS:
        path = options.out / f"{name}.json"
        if path.exists():
            text = card(name, json.loads(path.read_text(encoding="utf-8")))
            path.with_suffix(".md").write_text(text, encoding="utf-8")
            print(f"wrote {path.with_suffix('.md')}")


if __name__ == "__main__":
    main()
