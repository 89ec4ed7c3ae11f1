"""affectkit weights convert: TorchScript in, safetensors out."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from affectkit import checkpoints, torchscript, weight_files
from affectkit.cli import cli
from affectkit.errors import CheckpointError


class Net(torch.nn.Module):
    """Parameters, a buffer that counts, tied weights and a transposed one."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        self.tied = self.body[0].weight
        self.turned = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3).T)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + self.tied.sum() + self.turned.sum()


class Talking(torch.nn.Module):
    """Prints when it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight

    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, bool]:
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        print("hello")  # noqa: T201
        self.weight = state[0]
        self.training = state[1]


def script(module: torch.nn.Module, path: Path) -> Path:
    torch.jit.save(torch.jit.script(module.eval()), path)
    return path


def convert(*args: object) -> Any:
    return CliRunner().invoke(cli, ["weights", "convert", *map(str, args)])


def test_what_comes_out_is_what_was_in(tmp_path):
    net = Net()
    source, out = script(net, tmp_path / "net.pth"), tmp_path / "new" / "net.safetensors"
    done = convert(source, "--to", out)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{out}: 9 tensors ({checkpoints.readable(out.stat().st_size)}), sha256 {checkpoints.sha256(out)}\n"
    found, wanted = weight_files.load_tensors(out), net.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) and found[name].dtype == wanted[name].dtype for name in wanted)
    assert weight_files.metadata(out) == {"converted_from": "net.pth", "converted_sha256": checkpoints.sha256(source)}
    assert os.listdir(out.parent) == ["net.safetensors"]
    again = tmp_path / "again.safetensors"
    assert convert(source, "--to", again, "--kind", "torchscript").exit_code == 0
    assert again.read_bytes() == out.read_bytes()


def test_what_a_program_prints_is_not_taken_for_tensors(tmp_path):
    done = convert(script(Talking(), tmp_path / "a.pt"), "--to", tmp_path / "a.safetensors")
    assert done.exit_code == 0, done.output
    assert weight_files.load_tensors(tmp_path / "a.safetensors")["weight"].tolist() == [1, 1]


def refused(path: Path, out: Path) -> str:
    done = convert(path, "--to", out)
    assert done.exit_code == 2
    assert not out.exists()
    return str(done.stderr)


def test_what_is_not_torchscript(tmp_path):
    out = tmp_path / "a.safetensors"
    assert "there is no file at" in refused(tmp_path / "gone.pt", out)
    (tmp_path / "page.pt").write_text("<html>")
    assert "page.pt is damaged or not TorchScript (File is not a zip file); fetch it again" in refused(tmp_path / "page.pt", out)
    torch.save({"a": torch.ones(1)}, tmp_path / "plain.pt")
    assert "is not TorchScript: torch.save wrote it. If it holds tensors, it can be used as it is" in refused(tmp_path / "plain.pt", out)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("b/readme", "")
    assert "b.zip is an archive without TorchScript in it; give the file that torch.jit.save wrote" in refused(tmp_path / "b.zip", out)
    empty = script(torch.nn.ReLU(), tmp_path / "empty.pt")
    assert "empty.pt is TorchScript without parameters or buffers" in refused(empty, out)


def test_a_file_with_a_piece_missing(tmp_path):
    whole, broken = script(Net(), tmp_path / "net.pt"), tmp_path / "broken.pt"
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(broken, "w") as new:
        for item in old.infolist():
            if not item.filename.endswith("/data/0"):
                new.writestr(item, old.read(item))
    message = refused(broken, tmp_path / "a.safetensors")
    assert "broken.pt cannot be opened as TorchScript: " in message
    assert "Traceback" not in message


def test_other_names_for_the_result(tmp_path):
    assert f"{tmp_path / 'a.pt'} must end in .safetensors" in refused(script(Net(), tmp_path / "net.pt"), tmp_path / "a.pt")


@pytest.mark.parametrize(("status", "message"), [(0, "gave something else than tensors"), (7, "ended with status 7 (last words)")])
def test_a_process_that_fails(tmp_path, monkeypatch, status, message):
    path = script(Net(), tmp_path / "net.pt")
    answer = subprocess.CompletedProcess([], status, b"no tensors", b"first\nlast words\n")
    monkeypatch.setattr(torchscript.subprocess, "run", lambda *args, **kwargs: answer)
    with pytest.raises(CheckpointError) as error:
        torchscript.convert(path, tmp_path / "a.safetensors")
    assert message in str(error.value)


@pytest.mark.parametrize(
    "act",
    [
        "open('made', 'w')",
        "__import__('socket').create_connection(('127.0.0.1', 9))",
        "__import__('subprocess').run(['true'])",
        "__import__('os').remove('kept')",
        "__import__('os').fork()",
        "__import__('os').write(ctypes.CDLL(None).creat(b'made', 0o600), b'x')",
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="limits of a process are those of POSIX")
def test_the_process_that_opens_it_is_confined(tmp_path, act):
    (tmp_path / "kept").write_text("")
    code = f"import ctypes, socket, subprocess; from affectkit.torchscript import _confine; _confine(); {act}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "may not do this" in done.stderr or "File too large" in done.stderr
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 0
    assert (tmp_path / "kept").exists()


def test_no_component_opens_torchscript(tmp_path):
    path = script(Net(), tmp_path / "net.pt")
    with pytest.raises(
        CheckpointError, match=r"net\.pt is TorchScript, a program, .* 'affectkit weights convert .*net\.pt --to net\.safetensors'"
    ):
        weight_files.load_tensors(path)
