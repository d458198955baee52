"""Partial sums on disk: a run that is killed goes on from the last block that was saved."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from interp.analysis.accumulators import Sums
from interp.data.contexts import Block, Done
from interp.errors import InterpError
from interp.files import parse_json, sweep, writing
from interp.model.checkpoint import tensors_sha256
from interp.model.distributed import World

Kind = TypeVar("Kind", bound=Sums)
EVERY_SECONDS = 30.0
SHARE = 0.05  # of the time, at most, that goes into saving


class ResumeFile:
    """The file `rank-R.safetensors` of one process: its sums, and as JSON the settings and the last block in them.

    Attributes:
        done: the last block that an earlier run saved, None to begin at the beginning.

    Args:
        folder: where the file is.
        settings: all that the sums depend on, plain data; a file of other settings is refused.
        rank: which process this is.
        every_seconds: how often sums are saved, at the end of blocks; less often where saving takes long.

    Raises:
        InterpError: the file is of other settings, or damaged.
    """

    def __init__(
        self, folder: str | Path, settings: dict[str, Any], rank: int = 0, every_seconds: float = EVERY_SECONDS
    ) -> None:
        self.path = Path(folder) / f"rank-{rank}.safetensors"
        self.settings, self.every_seconds = json.loads(json.dumps(settings)), every_seconds
        self.saved_at = time.monotonic()
        self.done = self._read_done() if self.path.exists() else None

    def save(self, block: Block, sums: Sums) -> None:
        """Write the sums up to the end of a block, if the last time was long ago."""
        started = time.monotonic()
        if started - self.saved_at < self.every_seconds:
            return
        tensors = {name: tensor.contiguous() for name, tensor in sums.state().items()}
        words = {"settings": self.settings, "block": block.number, "digest": block.digest}
        words["sha256"] = tensors_sha256(tensors)
        with writing(self.path) as path:
            try:
                save_file(tensors, path, metadata={"interp": json.dumps(words)})
            except SafetensorError as error:  # its word for a full disk
                raise InterpError(
                    f"Cannot write {self.path} ({error}); make room and give the command again."
                ) from error
        self.saved_at = time.monotonic()
        self.every_seconds = max(self.every_seconds, (self.saved_at - started) / SHARE)

    def restore(self, sums: Sums) -> None:
        """Put what was saved into fresh sums.

        Raises:
            InterpError: the file is damaged: its tensors are not those that were saved.
        """
        if self.done:
            with self._opened() as file:
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            if tensors_sha256(state) != self.sha256:
                raise InterpError(f"{self.path} is damaged (its checksum does not fit); remove it to start over.")
            try:
                sums.restore(state)
            except KeyError as error:
                raise InterpError(f"{self.path} is not of this version's amplify; remove it to start over.") from error

    def _read_done(self) -> Done:
        with self._opened() as file:
            text = (file.metadata() or {}).get("interp", "{}")
        try:
            words = parse_json(text)
            found = {name: type(words[name]) for name in ("settings", "block", "digest", "sha256")}
        except (ValueError, TypeError, KeyError):
            found = {}
        if list(found.values()) != [dict, int, str, str]:
            raise InterpError(f"{self.path} is not of this version's amplify; remove it to start over.")
        theirs, self.sha256 = words["settings"], words["sha256"]
        names = sorted(self.settings.keys() | theirs.keys())
        other = [name for name in names if self.settings.get(name) != theirs.get(name)]
        if other:
            raise InterpError(
                f"{self.path.parent} holds partial results of another run: its {other[0]} is {theirs.get(other[0])!r}, "
                f"here it is {self.settings.get(other[0])!r}{f' (and {len(other) - 1} more)' if other[1:] else ''}; "
                "give the same settings to go on with it, or remove the folder to start over."
            )
        return Done(words["block"], words["digest"])

    def _opened(self) -> Any:
        try:
            return safe_open(self.path, framework="pt")
        except (OSError, SafetensorError) as error:
            raise InterpError(f"{self.path} cannot be read ({error}); remove it to start over.") from error


def remove_partial(folder: Path) -> None:
    """Remove the files of all processes, and the folder; the result is written."""
    for path in folder.glob("rank-*.safetensors"):
        path.unlink(missing_ok=True)
        sweep(path)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def all_reduce_sums(own: Kind, fresh: Callable[[], Kind], world: World) -> Kind:
    """Return the merged sums in every process; all must call it.

    They are sent round one after another and the first process adds them in the order of ranks, so memory holds two of them
    at most; then all get the merged sums. Against one process only the order of float64 additions differs.

    Args:
        own: this process' sums.
        fresh: gives empty sums of the same settings.
        world: this process among the others.
    """
    if world.size == 1:
        return own
    for rank in range(1, world.size):
        theirs = _broadcast(own.state() if world.rank == rank else {}, rank)
        if world.first:
            other = fresh()
            other.restore(theirs)
            own.merge(other)
    merged = _broadcast(own.state() if world.first else {}, 0)
    if not world.first:
        own = fresh()
        own.restore(merged)
    return own


def _broadcast(state: dict[str, Tensor], source: int) -> dict[str, Tensor]:
    """The state of the process `source`, in every process; the others give an empty one."""
    layout = [[(name, tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()]]
    dist.broadcast_object_list(layout, source)
    received = {name: torch.empty(shape, dtype=dtype) for name, shape, dtype in layout[0] if name not in state}
    state = {name: tensor.contiguous() for name, tensor in state.items()} | received
    for tensor in state.values():
        if tensor.numel():
            dist.broadcast(tensor, source)
    return state
