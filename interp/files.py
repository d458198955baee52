"""Files: written beside, synced, renamed, so that a reader never sees half of one; read with errors that name the remedy."""

import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from interp.errors import InterpError

FILE_ENDINGS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".json")
"""Of files that hold models or tokenizers: no name on the hub ends so."""


@contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit it takes the place of `path`, on an error it is removed.

    Works for a file or for a folder made at the temporary path. Into an existing folder the new files move one by one,
    each as a whole, and what else lies there stays: a process killed between two moves leaves files of both.

    Raises:
        InterpError: the place cannot be written (read-only, disk full, a file where a folder must be).
    """
    path = Path(path)
    beside = _room_beside(path)
    try:
        yield beside / path.name
        _replace(beside / path.name, path)
    except OSError as error:
        raise InterpError(f"Cannot write {path}: {error.strerror}; nothing was left half-written.") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def check_writable(path: str | Path, folder: bool = False) -> None:
    """See that a file or a folder can be written, before the work that it is for.

    Raises:
        InterpError: it cannot (read-only, disk full, a file where a folder must be or the other way round).
    """
    path = Path(path)
    if path.is_file() if folder else path.is_dir():
        expected = "a folder" if folder else "a file"
        raise InterpError(f"Cannot write {path}: it is not {expected}; give the name of {expected}.")
    _room_beside(path).rmdir()


def sweep(path: Path) -> None:
    """Remove what writers of `path` left beside it when they were killed."""
    for left in path.parent.glob(f".{path.name}.????????"):
        shutil.rmtree(left, ignore_errors=True)


LOCK, OWNER = ".lock", ".owner"


def contents(folder: Path) -> list[str]:
    """Return the names of what a folder holds, in order, without the files by which it is owned; none if it is not there."""
    return sorted({path.name for path in folder.iterdir()} - {LOCK, OWNER}) if folder.is_dir() else []


@contextmanager
def owning(folder: str | Path, wait: float = 0) -> Iterator[None]:
    """Hold a folder that only one process may write to; make it if it is not there.

    A process that ends gives it back, also when it is killed. Who holds it stands in the file `.owner`, for whoever comes
    second and does not get it within `wait` seconds.

    Raises:
        InterpError: another process holds it, or it cannot be written (a file stands there, no permission, a full disk).
    """
    folder = Path(folder)
    owner = folder / OWNER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=wait).acquire()
    except Timeout as error:
        told = owner.read_text(encoding="utf-8", errors="replace").strip() if owner.is_file() else "another process"
        raise InterpError(
            f"{folder} is being written by {told}; wait for it, stop it, or choose another folder."
        ) from error
    except OSError as error:
        raise InterpError(f"Cannot write {folder}: {error.strerror}; choose a folder that can be written.") from error
    with lock:
        with suppress(OSError):  # it is only told
            since = datetime.now().astimezone().isoformat(" ", "seconds")
            owner.write_text(f"process {os.getpid()} on {platform.node()} since {since}\n", encoding="utf-8")
        try:
            yield
        finally:
            owner.unlink(missing_ok=True)
            if folder.is_dir() and not contents(folder):  # where nothing was written, nothing is left
                (folder / LOCK).unlink(missing_ok=True)
                folder.rmdir()


def is_owned(folder: str | Path) -> bool:
    """Whether a process holds a folder, as `owning` lets it; one that was killed holds it no more."""
    folder = Path(folder)
    if not (folder / OWNER).is_file():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except (Timeout, OSError):  # the latter where the folder is another user's, who then is the one that `.owner` names
        return True


def is_hub_id(name: str | Path, bare: bool = False) -> bool:
    """Whether a name of nothing on this disk reads as one on the Hugging Face hub: "owner/name", with `bare` "name" too.

    What begins as a path does, has two separators, ends as a file does, or lies in a folder that is here is none: it is a
    place on the disk, mistyped.
    """
    owner, separator, last = str(name).rpartition("/")
    if not re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", str(name)) or Path(last).suffix in FILE_ENDINGS:
        return False
    return not Path(owner).is_dir() if separator else bare


def cache_folder() -> Path:
    """Return the folder for derived data: `INTERP_CACHE`, else `XDG_CACHE_HOME/interp`, else `~/.cache/interp`.

    The folder need not exist yet; whoever writes makes it.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("INTERP_CACHE") or f"{base}/interp").expanduser()


def read_json(path: Path, expected: str = "a mapping", remedy: str = "") -> dict[str, Any]:
    """Return the mapping that a JSON file holds.

    Raises:
        InterpError: it cannot be read, or holds something else than what is `expected`; the `remedy` ends the sentence.
    """
    end = f"; {remedy}." if remedy else "."
    try:
        values = parse_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InterpError(f"There is no {path}{end}") from error
    except (OSError, ValueError) as error:
        raise InterpError(f"{path} cannot be read as JSON ({error}){end}") from error
    if not isinstance(values, dict):
        raise InterpError(f"{path} holds a JSON {type(values).__name__}; expected {expected}{end}")
    return values


def _room_beside(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise InterpError(f"Cannot write {path}: {error.strerror}; choose a folder that can be written.") from error


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is none, or more than can be taken: nested too deeply, a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _replace(new: Path, path: Path) -> None:
    files = [new] if new.is_file() else sorted(file for file in new.rglob("*") if file.is_file())
    usual = new.parent / ".mode"
    usual.touch()
    for file in files:
        file.chmod(usual.stat().st_mode)  # as the umask says: safetensors makes files that only their owner can read
        _sync(file)
    if new.is_dir() and path.is_dir():
        for file in files:
            target = path / file.relative_to(new)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
        _sync(path)
    else:
        new.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
