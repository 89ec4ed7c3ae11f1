"""The report on weights that are not here: one line each, in groups, and everything else as it was."""

from __future__ import annotations

from affectkit.caches import OFFLINE
from affectkit.errors import CheckpointError, ConfigError, Problems
from affectkit.missing import LeftOut, Wanted

EARS = CheckpointError("a/ears: the weights ears.pt are not here", wanted=Wanted("a/ears", "ears.pt (7 MB)", "a/ears", give="--set x=FILE"))
MEETING = ConfigError(
    "b/meeting is not fitted", wanted=Wanted("b/meeting", "m.safetensors", make="affectkit train b", instead="--fusion c")
)
WORDS = LeftOut("transcript", CheckpointError("a/words: the weights w.pt are not here", wanted=Wanted("a/words", "w.pt", "a/words:small")))
TYPO = ConfigError("there is no component 'a/eyes'")
ENDING = (
    "With --offline, 'affectkit weights fetch' says what to download by hand and where to put it; "
    "'affectkit weights list --json' says where each was looked for."
)


def test_weights_have_a_line_each_and_other_problems_stay_as_they_are(monkeypatch):
    for name in OFFLINE:
        monkeypatch.delenv(name, raising=False)
    assert str(Problems([EARS, TYPO, MEETING], [WORDS, "and a remark"])).splitlines() == [
        "1. there is no component 'a/eyes'",
        "and a remark",
        "To fetch: affectkit weights fetch a/ears",
        "  a/ears  ears.pt (7 MB); or --set x=FILE",
        "To make, since nobody publishes them:",
        "  b/meeting  m.safetensors: 'affectkit train b'; or --fusion c",
        "A run goes on without these:",
        "  a/words  alternative for transcript, w.pt: 'affectkit weights fetch a/words:small'",
        ENDING,
    ]


def test_a_machine_that_may_not_download_is_told_what_to_copy(monkeypatch, tmp_path):
    monkeypatch.setenv("AFFECTKIT_OFFLINE", "1")
    monkeypatch.setenv("AFFECTKIT_CACHE", str(tmp_path))
    ending = str(Problems([EARS, EARS])).splitlines()[-1]
    assert ending == f"Downloads are forbidden here: fetch where they are allowed and copy the folder {tmp_path}. {ENDING}"


def test_what_is_only_made_says_nothing_of_downloads():
    assert ENDING not in str(Problems([MEETING, MEETING]))


def test_one_file_is_told_in_full():
    assert str(Problems([EARS, TYPO])) == f"1. {EARS}\n2. {TYPO}"
    assert str(Problems([TYPO], [WORDS])).splitlines()[-1] == str(WORDS)
    assert str(WORDS) == (
        "Not here either, an alternative for transcript without which a run goes on: a/words: the weights w.pt are not here"
    )
