"""Prediction files of others: what is read of them, what is refused, and that fusions and submissions work on the run folder."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from affectkit import read_run, read_timelines
from affectkit.cli import cli
from affectkit.errors import AffectKitError, UsageError
from affectkit.importing import import_predictions
from affectkit.labels import AFFECTNET7, BASIC7, COMPOUND7
from affectkit.prediction_files import Reading, order_of, read_media, softmax, window_of
from affectkit.tables import read_info
from affectkit.unpickling import read_pickle

E8 = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other")


def rows(count: int, classes: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(classes), count)


def dumped(path: Path, content: Any, protocol: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def clip_names(count: int) -> list[str]:
    return [f"clip{n // 2}___Angry_{n % 2:04d}" for n in range(count)]


class TestPickles:
    def test_every_schema_of_the_authors(self, tmp_path: Path) -> None:
        """The seven schemas that the authors' loader reads, each into its own source with its features."""
        p, names = rows(4), clip_names(4)
        audio = [
            {"metas": {"audio_name": f"{n}.wav", "has_speech": True}, "features": r.tolist() * 2, "predictions": {"emo": r.tolist()}}
            for n, r in zip(names, p, strict=True)
        ]
        clip = [
            {"video_name": n, "image_features": np.ones(5, np.float32), "basic_predictions": r, "compound_predictions": rows(1, 7)[0]}
            for n, r in zip(names, p, strict=True)
        ]
        scene = [
            {"video_name": f"{n}.avi", "features": [1.0, 2.0], "probs": r.tolist(), "logits": r} for n, r in zip(names, p, strict=True)
        ]
        text = [{"video_name": f"{n}.avi", "features": [0.0, 2.0], "predictions": r.tolist()} for n, r in zip(names, p, strict=True)]
        video = [{"video_name": f"{n}.avi", "features": np.ones(3), "dynamic_predictions": r} for n, r in zip(names, p, strict=True)]
        static = [{"video_name": f"{n}.avi", "static_features": np.ones(2), "static_predictions": r} for n, r in zip(names, p, strict=True)]
        fused = [
            {"metas": {"file_name": n}, "features": np.ones((1, 4)), "predictions": {"emo": r[None]}} for n, r in zip(names, p, strict=True)
        ]
        files = [
            dumped(tmp_path / "audio_25_predicts" / "dev_AFEW_feats.pkl", audio, 2),
            dumped(tmp_path / "clip_predicts" / "dev_AFEW_feats.pkl", clip),
            dumped(tmp_path / "new_scene_predicts" / "dev_AFEW_feats.pkl", scene),
            dumped(tmp_path / "text_predicts" / "dev_AFEW_feats.pkl", text),
            dumped(tmp_path / "video_predicts" / "dev_AFEW_feats.pkl", video, 5),
            dumped(tmp_path / "video_static_predicts" / "dev_AFEW_feats.pkl", static),
            dumped(tmp_path / "v3_AFEW_multimodal_predictions.pkl", fused),
        ]
        found = import_predictions([str(file) for file in files], tmp_path / "run")
        imported = json.loads((tmp_path / "run" / "run.json").read_text())["imported"]
        assert [entry["file"] for entry in imported] == [file.name for file in files], "files of one name are kept apart"
        assert len({entry["sha256"] for entry in imported}) == len(files)
        assert list(found.rows) == [f"given/{n}" for n in ("audio_25", "clip", "new_scene", "text", "video", "video_static", "multimodal")]
        assert set(found.rows.values()) == {4}
        assert found.label_sets["given/clip"] == ("basic8", "compound7")
        for source in found.rows:
            said = {
                (t.media_id, s): v
                for t in read_timelines(tmp_path / "run", "basic8", source)
                for s, v in zip(t.start, t.values, strict=True)
            }
            assert set(said) == {("clip0", 0.0), ("clip0", 2.0), ("clip1", 0.0), ("clip1", 2.0)}
            np.testing.assert_allclose(said["clip1", 2.0], p[3], atol=1e-6)
        import pyarrow.parquet as pq

        embeddings = pq.read_table(tmp_path / "run" / "embeddings.parquet").to_pandas()
        sizes = embeddings.groupby("source")["vector"].first().map(len).to_dict()
        assert sizes == {
            f"given/{n}": s
            for n, s in {"audio_25": 16, "clip": 5, "new_scene": 2, "text": 2, "video": 3, "video_static": 2, "multimodal": 4}.items()
        }
        assert "Angry" not in str(read_info(tmp_path / "run")["media"])

    @pytest.mark.parametrize("protocol", range(6))
    @pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool", "<U4"])
    def test_plain_data_comes_through_as_it_was(self, tmp_path: Path, protocol: int, dtype: str) -> None:
        content = [{"a": np.array([[1, 0], [0, 1]]).astype(dtype), "b": (1, "two", None, 2.5, b"x", {3}), "c": np.float32(0.5)}]
        found = read_pickle(dumped(tmp_path / "x.pkl", content, protocol))
        np.testing.assert_array_equal(found[0].pop("a"), content[0]["a"])
        assert found == [{"b": content[0]["b"], "c": content[0]["c"]}]

    def test_nothing_is_run(self, tmp_path: Path) -> None:
        mark = tmp_path / "mark"

        class Attack:
            def __reduce__(self) -> Any:
                return Path.touch, (mark,)

        class Call:
            def __reduce__(self) -> Any:
                return eval, (f"open({str(mark)!r}, 'w')",)

        for thing in (Attack(), Call()):
            path = dumped(tmp_path / "x.pkl", [{"video_name": "a", "probs": thing}])
            with pytest.raises(UsageError, match=r"is not read: it holds .*, which is no plain data. Only lists, dictionaries"):
                read_pickle(path)
        assert not mark.exists()

    def test_tensors_are_refused_with_what_to_do(self, tmp_path: Path) -> None:
        import torch

        path = dumped(tmp_path / "x.pkl", [{"video_name": "a", "probs": torch.ones(8)}])
        with pytest.raises(UsageError, match=r"where it holds tensors, write it again with .numpy\(\)"):
            read_pickle(path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"hello", "is no pickle, or a damaged one"),
            (b"", "is no pickle, or a damaged one"),
            (pickle.dumps({"a": 1}), "holds dict; the predictions of team RAS are a list of dictionaries"),
            (pickle.dumps([{"probs": [1.0] + [0.0] * 7}]), "entry 0: it has no name; expected one of media, video_name"),
            (pickle.dumps([{"video_name": "a"}]), "entry 0: it has no predictions; expected one of predictions, probs"),
            (pickle.dumps([{"video_name": "a", "probs": ["x"] * 8}]), "entry 0: probs must be a list of numbers"),
            (pickle.dumps([{"video_name": "a", "probs": [0.2] * 5}]), "probs has 5 numbers, which could be any labels; say which with --order"),
            (pickle.dumps([{"video_name": "a", "probs": [2.0] * 8}]), "these are no probabilities, their sum is from 16 to 16; give --logits"),
            (pickle.dumps([{"video_name": "a", "probs": [float("nan")] * 8}]), "numbers that are not finite"),
            (pickle.dumps([{"video_name": "a", "probs": [0.125] * 8, "compound_predictions": [0.5, 0.5]}]), "compound_predictions has 2 numbers"),
        ],
    )  # fmt: skip
    def test_what_is_refused(self, tmp_path: Path, content: bytes, message: str) -> None:
        path = tmp_path / "x.pkl"
        path.write_bytes(content)
        with pytest.raises(AffectKitError, match=message):
            import_predictions([str(path)], tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_seven_numbers_of_the_static_face_and_of_compound_files(self, tmp_path: Path) -> None:
        p = rows(1, 7)[0]
        static = dumped(tmp_path / "s.pkl", [{"video_name": "a___0000", "static_predictions": p}])
        compound = dumped(tmp_path / "v3_predictions_compound.pkl", [{"metas": {"file_name": "a___0000"}, "predictions": {"emo": p}}])
        found = import_predictions([str(static), str(compound)], tmp_path / "run")
        assert found.label_sets == {"given/s": (AFFECTNET7.name,), "given/v3_predictions_compound": (COMPOUND7.name,)}
        again = import_predictions([f"x={static}"], tmp_path / "run2", Reading(labels=order_of("basic7")))
        assert again.label_sets == {"given/x": (BASIC7.name,)}


class TestTables:
    def test_the_table_of_the_authors_with_a_prefix_per_source(self, tmp_path: Path) -> None:
        """The static face's columns hold seven numbers under the names of another order, which is put right."""
        p = {prefix: rows(3, 8, seed) for seed, prefix in enumerate(("A", "S", "NSL"))}
        static = rows(3, 7, 9)
        header = ["video_name", *(f"{k}_{e}" for k in p for e in E8), *(f"FS_{e}" for e in E8)]
        lines = [",".join(header)]
        for n in range(3):
            cells = [f"{v:.9f}" for k in p for v in (np.log(p[k][n]) + 3 if k == "NSL" else p[k][n])]
            lines.append(",".join([f"7___{n:04d}.mp4", *cells, *(f"{v:.9f}" for v in static[n]), "0.0"]))
        path = tmp_path / "segments.csv"
        path.write_text("\n".join(lines))
        found = import_predictions([str(path)], tmp_path / "run")
        assert list(found.rows) == ["given/audio", "given/scene", "given/new_scene_logits", "given/static_face"]
        for source, expected in (("audio", p["A"]), ("scene", p["S"]), ("new_scene_logits", p["NSL"])):
            (said,) = read_timelines(tmp_path / "run", "basic8", f"given/{source}")
            np.testing.assert_allclose(said.values, expected, atol=1e-6)
        (said,) = read_timelines(tmp_path / "run", "basic7", "given/static_face")
        order = [AFFECTNET7.index(label) for label in BASIC7.labels]
        np.testing.assert_allclose(said.values, static[:, order], atol=1e-6)

    def test_the_files_of_avcer(self, tmp_path: Path) -> None:
        """Static probabilities, dynamic logits and zeros before the first face; sound as logits of overlapping windows, averaged per frame, without other."""
        static, dynamic, sound = rows(4, 7), np.random.default_rng(1).normal(size=(4, 7)), np.random.default_rng(2).normal(size=(6, 8))
        static[0] = dynamic[0] = 0
        names = [label.capitalize() for label in AFFECTNET7.labels]
        for kind, values in (("static", static), ("dynamic", dynamic)):
            (tmp_path / f"{kind}__05.csv").write_text("\n".join([",".join(names), *(",".join(map(repr, map(float, v))) for v in values)]))
        frames = [0, 1, 2, 1, 2, 3]
        lines = [
            ",".join([*E8, "frames"]),
            *(",".join([*map(repr, map(float, v)), f"{f:06d}.jpg"]) for v, f in zip(sound, frames, strict=True)),
        ]
        (tmp_path / "sound").mkdir()
        (tmp_path / "sound" / "05.csv").write_text("\n".join(lines))
        files = [str(tmp_path / "static__05.csv"), str(tmp_path / "dynamic__05.csv"), f"audio={tmp_path / 'sound' / '05.csv'}"]
        import_predictions(files, tmp_path / "run", Reading(fps=25.0))
        order = [AFFECTNET7.index(label) for label in BASIC7.labels]
        got = {t.source: t for t in read_timelines(tmp_path / "run", "basic7")}
        assert got["given/static_face"].valid.tolist() == got["given/dynamic_face"].valid.tolist() == [False, True, True, True]
        np.testing.assert_allclose(got["given/static_face"].values[1:], static[1:, order], atol=1e-6)
        np.testing.assert_allclose(got["given/dynamic_face"].values[1:], softmax(dynamic[1:])[:, order], atol=1e-6)
        mean = np.stack([sound[np.array(frames) == f].mean(axis=0) for f in range(4)])
        np.testing.assert_allclose(got["given/audio"].values, softmax(mean[:, :7]), atol=1e-6)
        np.testing.assert_allclose(got["given/audio"].start, np.arange(4) / 25)
        with pytest.raises(AffectKitError, match="frame 1 of 05 is counted in frames; say how many there are in a second with --fps"):
            import_predictions(files, tmp_path / "run2")

    def test_times_frames_and_names(self, tmp_path: Path) -> None:
        labels = ",".join(E8[:7])
        one = ",".join(["1", *["0"] * 6])
        for name, text, expected in (
            ("spans", f"media,start,end,{labels}\nx.mp4,1.5,2,{one}\n", ("x", 1.5, 2.0)),
            ("frames", f"video_name,frame,{labels}\nx.mp4,11,{one}\n", ("x", 1.0, 1.1)),
            ("images", f"image_location,{labels}\nx/00011.jpg,{one}\n", ("x", 1.0, 1.1)),
            ("whole", f"video_name,{labels}\nx.mp4,{one}\n", ("x", 0.0, 4.0)),
        ):
            path = tmp_path / f"{name}.csv"
            path.write_text(text)
            import_predictions([str(path)], tmp_path / name, Reading(fps=10.0))
            table = read_run(tmp_path / name)
            assert (table["media"][0], pytest.approx(table["start"][0]), pytest.approx(table["end"][0])) == expected
        assert window_of("9-15___120_240_0002.mp4", Reading(fps=30.0)) == ("9-15", pytest.approx(119 / 30 + 4), pytest.approx(119 / 30 + 8))
        assert window_of("01___0003", Reading(length=6, step=3)) == ("01", 9.0, 15.0)
        assert window_of("000046280___Angry.avi", Reading()) == ("000046280", 0.0, 4.0)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "has no rows"),
            ("a,b\n1,2\n", "has no columns for all of neutral, anger"),
            (f"video_name,{','.join(E8)}\na,1\n", "line 2: it has more or fewer cells than the header"),
            (f"video_name,{','.join(E8)}\na,x,0,0,0,0,0,0,0\n", "line 2: .* has a cell that is no number"),
            (f"# made by hand\nvideo_name,{','.join(E8)}\na,x,0,0,0,0,0,0,0\n", "line 3: .* has a cell that is no number"),
            (f"video_name,{','.join(E8)}\na,2,0,0,0,0,0,0,0\n", "these are no probabilities, their sum is from 2 to 2"),
            (f"video_name,start,end,{','.join(E8)}\na,3,2,1,0,0,0,0,0,0,0\n", "line 2: start, end and frame must be numbers"),
            (f"video_name,start,end,{','.join(E8)}\na,0,4,1,0,0,0,0,0,0,0\na,0,4,0,1,0,0,0,0,0,0\n", None),
        ],
    )  # fmt: skip
    def test_what_is_refused(self, tmp_path: Path, text: str, message: str | None) -> None:
        path = tmp_path / "x.csv"
        path.write_text(text)
        if message is None:  # the same window twice in one table is averaged, as the sound of AVCER is
            import_predictions([str(path)], tmp_path / "run")
            assert read_run(tmp_path / "run")["p_anger"].tolist() == [0.5]
            return
        with pytest.raises(UsageError, match=message):
            import_predictions([str(path)], tmp_path / "run")

    def test_other_files_are_refused_all_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "x.npz").write_bytes(b"")
        with pytest.raises(AffectKitError) as error:
            import_predictions([str(tmp_path / "x.npz"), str(tmp_path / "no.csv"), str(tmp_path / "no.pkl")], tmp_path / "run")
        text = str(error.value)
        assert "is neither CSV (.csv) nor a pickle (.pkl, .pickle)" in text
        assert text.count("there is no file") == 2
        path = tmp_path / "a.csv"
        path.write_text(f"video_name,{','.join(E8)}\na,1,0,0,0,0,0,0,0\n")
        with pytest.raises(UsageError, match="given/x says two things of a from 0 to 4 s; are two files of the same windows given"):
            import_predictions([f"x={path}", f"x={path}"], tmp_path / "run")
        assert not (tmp_path / "run").exists(), "nothing is written where something is wrong"
        assert list(import_predictions([f"ras/audio={path}"], tmp_path / "run").rows) == ["ras/audio"]
        assert list(import_predictions([f"my voice={path}"], tmp_path / "spaced").rows) == ["given/my voice"]
        with pytest.raises(UsageError, match=r"run is not empty; give a new folder with --out"):
            import_predictions([f"other={path}"], tmp_path / "run")
        with pytest.raises(UsageError, match="there is no label set 'basic9'"):
            order_of("basic9")
        with pytest.raises(AffectKitError, match="va has no classes"):
            order_of("va")
        with pytest.raises(UsageError, match="step must be greater than 0, found 0"):
            Reading(step=0)
        (tmp_path / "m.csv").write_text("media,frames,fps\na,0,25\n")
        with pytest.raises(UsageError, match="line 2: expected the columns media, frames and fps with numbers greater than 0"):
            read_media(tmp_path / "m.csv")


class TestCommands:
    @pytest.fixture
    def run(self, tmp_path: Path) -> Path:
        """Two sources of three videos of 130 frames, imported by the command."""
        for seed, name in enumerate(("face", "voice")):
            lines = [",".join(["video_name", *E8])]
            for row, values in enumerate(rows(6, 8, seed)):
                lines.append(",".join([f"{row // 2 + 1:02d}___{row % 2:04d}.mp4", *(f"{v:.6f}" for v in values)]))
            (tmp_path / f"{name}.csv").write_text("\n".join(lines))
        (tmp_path / "media.csv").write_text("media,frames,fps\n" + "".join(f"{n:02d},130,25\n" for n in (1, 2, 3)))
        done = CliRunner().invoke(
            cli,
            [
                "import",
                str(tmp_path / "face.csv"),
                f"voice={tmp_path / 'voice.csv'}",
                "--media",
                str(tmp_path / "media.csv"),
                "--out",
                str(tmp_path / "run"),
            ],
        )
        assert done.exit_code == 0, done.output
        assert "given/face: 6 rows of basic8" in done.output
        return tmp_path / "run"

    def test_fused_submitted_and_corrected(self, run: Path, tmp_path: Path) -> None:
        done = CliRunner().invoke(cli, ["fuse", str(run), "--out", str(tmp_path / "fused")])
        assert done.exit_code == 0, done.output
        table = read_run(tmp_path / "fused", "basic8")
        said = {
            s: table[table["source"] == s].sort_values(["media", "start"]).filter(like="p_").to_numpy() for s in table["source"].unique()
        }
        np.testing.assert_allclose(said["core/mean"], (said["given/face"] + said["given/voice"]) / 2, atol=1e-6)
        corrected = CliRunner().invoke(cli, ["fuse", str(run), "--prior", "cexpr_db", "--soft", "--out", str(tmp_path / "prior")])
        assert corrected.exit_code == 0, corrected.output
        assert "happily_surprised          0.276" in corrected.output
        moved = read_run(tmp_path / "prior", "compound7").filter(like="p_").to_numpy()
        seconds = read_run(tmp_path / "prior", "compound7").eval("end - start").to_numpy()
        shares = np.average(moved, axis=0, weights=seconds)
        np.testing.assert_allclose(shares, read_info(tmp_path / "prior")["prior"]["shares"], atol=1e-4)
        hard = CliRunner().invoke(cli, ["fuse", str(run), "--prior", "even", "--out", str(tmp_path / "hard")])
        assert hard.exit_code == 0, hard.output
        told = read_info(tmp_path / "hard")["prior_correction"]
        assert np.abs(np.array(told["after"]) - 1 / 7).max() < np.abs(np.array(told["before"]) - 1 / 7).max()
        template, out = tmp_path / "list.txt", tmp_path / "ce.txt"
        from affectkit.builtin.abaw import CE

        template.write_text("\n".join([CE.header, *(f"{v:02d}/{f:05d}.jpg," for v in (1, 2, 3) for f in range(1, 131))]))
        submitted = CliRunner().invoke(
            cli, ["submit", str(tmp_path / "prior"), "--to", "abaw-ce", "--template", str(template), "--out", str(out)]
        )
        assert submitted.exit_code == 0, submitted.output
        assert len(out.read_text().splitlines()) == 391

    def test_sources_of_several_runs_meet(self, run: Path, tmp_path: Path) -> None:
        one = CliRunner().invoke(cli, ["import", str(tmp_path / "face.csv"), "--out", str(tmp_path / "one")])
        two = CliRunner().invoke(cli, ["import", str(tmp_path / "voice.csv"), "--out", str(tmp_path / "two")])
        both = CliRunner().invoke(cli, ["fuse", str(tmp_path / "one"), str(tmp_path / "two"), "--out", str(tmp_path / "both")])
        assert (one.exit_code, two.exit_code, both.exit_code) == (0, 0, 0), both.output
        again = CliRunner().invoke(cli, ["fuse", str(run), str(tmp_path / "one"), "--out", str(tmp_path / "doubled")])
        assert again.exit_code == 2
        assert "given/face says the window of 01 from 0 to 4 s in two runs; give one of them" in again.output

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--fusion", "none", "--head", "none"], "there is neither a fusion nor a head, so there is nothing to do"),
            (["--source", "given/fac"], "the runs have nothing of the source 'given/fac'. Did you mean given/face"),
            (["--prior", "cexpr"], "there is no prior 'cexpr'. Did you mean cexpr_db"),
            (["--prior", "cexpr_db", "--head", "none"], "the prior 'cexpr_db' is of compound7, and what is to be corrected is of basic8"),
            (["--head", "core/blend"], "core/blend"),
            (["--set", "components.core/mhpf.rows=published"], "core/mhpf is neither the fusion nor the head of this command"),
            (["--fusion", "core/convex"], "core/convex is not fitted: the recipe names no weights for it"),
            (["--prior", "even", "--strength", "2"], "2"),
        ],
    )
    def test_mistakes(self, run: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
        done = CliRunner().invoke(cli, ["fuse", str(run), "--out", str(tmp_path / "out"), *arguments])
        assert done.exit_code == 2, done.output
        assert message in " ".join(done.output.split())
        assert not (tmp_path / "out").exists()
