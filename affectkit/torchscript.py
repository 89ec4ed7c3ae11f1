"""TorchScript files as safetensors. TorchScript is a program, so it is opened by explicit request only, and in a process of its own.

That process reads the file and gives back tensors: it has no network, starts no program and writes no file. What it gives is read as
safetensors, which holds nothing but numbers.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectkit import checkpoints, weight_files
from affectkit.caches import OFFLINE
from affectkit.errors import CheckpointError

if TYPE_CHECKING:
    import torch

FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.remove", "os.rename", "os.rmdir", "shutil.")
"""What the process may not do, as the names of Python's audit events begin."""

REFUSED = 3  # exit status with a sentence on standard error


def convert(path: Path, out: Path) -> int:
    """Writes the parameters and buffers of a TorchScript file as safetensors.

    Args:
        path: the TorchScript file.
        out: the safetensors file; it is there in full, or as it was before.

    Returns:
        How many tensors it holds.

    Raises:
        CheckpointError: where the file is absent or no TorchScript, or ``out`` cannot be written.
    """
    if out.suffix != ".safetensors":
        raise CheckpointError(f"{out} must end in .safetensors, which is what it will be")
    _check(path)
    tensors = _opened(path)
    if not tensors:
        raise CheckpointError(f"{path} is TorchScript without parameters or buffers; there is nothing to convert")
    weight_files.save_tensors(out, tensors, {"converted_from": path.name, "converted_sha256": checkpoints.sha256(path)})
    return len(tensors)


def _check(path: Path) -> None:
    """Refuses what is no TorchScript, without opening it as such.

    Raises:
        CheckpointError: saying what it is instead.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no file at {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            if weight_files.holds_program(archive):
                return
            inside = [name.partition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError) as error:
        raise CheckpointError(f"{path} is damaged or not TorchScript ({error}); fetch it again") from None
    if "data.pkl" in inside:
        raise CheckpointError(f"{path} is not TorchScript: torch.save wrote it. If it holds tensors, it can be used as it is")
    raise CheckpointError(f"{path} is an archive without TorchScript in it; give the file that torch.jit.save wrote")


def _opened(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a TorchScript file, as another process reads them."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    root = str(Path(__file__).resolve().parent.parent)
    searched = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, **OFFLINE, "PYTHONPATH": searched, "PYTORCH_JIT": "1"}
    command = [sys.executable, "-P", "-m", "affectkit.torchscript", str(path.resolve())]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, check=False)
    said = done.stderr.decode(errors="replace").strip().splitlines()
    last = said[-1][:300] if said else "it said nothing"
    if done.returncode == REFUSED:
        raise CheckpointError(f"{path} cannot be opened as TorchScript: {last}")
    if done.returncode:
        raise CheckpointError(f"{path} was not converted: the process that opened it ended with status {done.returncode} ({last})")
    try:
        return load(done.stdout)
    except SafetensorError as error:
        raise CheckpointError(f"{path} was not converted: the process that opened it gave something else than tensors ({error})") from None


def _serve(path: str) -> int:
    """The work of the other process: the tensors of a file to standard output, as safetensors."""
    import torch
    from safetensors.torch import save

    torch.set_num_threads(1)
    out = os.dup(1)
    os.dup2(2, 1)  # what a program prints goes to standard error
    _confine()
    try:
        module = torch.jit.load(path, map_location="cpu")
        content = save({name: tensor.detach().contiguous().clone() for name, tensor in module.state_dict().items()})
    except (RuntimeError, ValueError, OSError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        sys.stderr.write(f"\n{lines[0] if lines else type(error).__name__}\n")
        return REFUSED
    with os.fdopen(out, "wb") as file:
        file.write(content)
    return 0


def _confine() -> None:
    """Takes from this process, for good, what it does not need: files to write, the network, other programs."""
    if os.name == "posix":
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # no byte into any file; pipes are not files
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def refuse(event: str, args: tuple[Any, ...]) -> None:
        named = event == "open" and not isinstance(args[0], int)  # a number is a pipe that is open already
        if (named and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) or event.startswith(FORBIDDEN):
            raise PermissionError(f"a file that is converted may not do this: {event}")

    sys.addaudithook(refuse)


if __name__ == "__main__":
    sys.exit(_serve(sys.argv[1]))
