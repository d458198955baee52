"""Where the curve of a run goes: `training.jsonl` always, TensorBoard and Weights & Biases on request."""

import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from interp.errors import InterpError
from interp.files import parse_json, writing
from interp.train.config import TrainConfig

CURVE = "training.jsonl"
Row = dict[str, Any]


class Lines:
    """One JSON object a line, each written at once, so that a killed run loses none."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.path = folder / CURVE
        rows = [row for row in read_rows(self.path) if row["step"] <= steps]
        with writing(self.path) as path:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self.file = self.path.open("a", encoding="utf-8")
        self.close = self.file.close

    def write(self, row: Row) -> None:
        """Append a row.

        Raises:
            InterpError: the disk is full, or the file is no longer there.
        """
        try:
            there = os.path.samestat(self.path.stat(), os.fstat(self.file.fileno()))
        except OSError:
            there = False
        if not there:
            raise InterpError(
                f"{self.path} was removed while the run wrote it; begin anew, and leave its folder there."
            )
        try:
            self.file.write(json.dumps(row) + "\n")
            self.file.flush()
        except OSError as error:
            raise InterpError(
                f"Cannot write {self.path}: {error.strerror}; make room and go on with --resume."
            ) from error


class TensorBoard:
    """Scalars for TensorBoard, in `tensorboard/` of the run's folder."""

    def __init__(self, folder: Path, steps: int) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise InterpError(
                "--tensorboard needs the package tensorboard; install interp with its extra 'logging'."
            ) from error
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=steps + 1)
        self.close = self.writer.close

    def write(self, row: Row) -> None:
        """Add the scalars of a row."""
        for name, value in _scalars(row):
            self.writer.add_scalar(name, value, row["step"])


class WeightsAndBiases:
    """Scalars for Weights & Biases; a run that goes on is the same run there. WANDB_MODE=offline keeps it on the disk."""

    def __init__(self, folder: Path, project: str, settings: Row) -> None:
        try:
            import wandb
        except ImportError as error:
            raise InterpError("--wandb needs the package wandb; install interp with its extra 'logging'.") from error
        known = folder / "wandb-run.txt"
        identity = known.read_text().strip() if known.is_file() else secrets.token_hex(4)
        known.write_text(identity + "\n")
        self.run = wandb.init(
            project=project, name=folder.name, id=identity, resume="allow", dir=str(folder), config=settings
        )
        self.close = self.run.finish  # waits until everything is sent

    def write(self, row: Row) -> None:
        """Send the scalars of a row."""
        self.run.log(dict(_scalars(row)), step=row["step"])


Record = Lines | TensorBoard | WeightsAndBiases  # keeps rows: step, tokens, loss and what else was measured


def open_records(config: TrainConfig, steps: int) -> list[Record]:
    """Open the records of a run that has taken `steps` steps; later rows of an earlier attempt are dropped.

    Raises:
        InterpError: a package is missing, or the folder cannot be written.
    """
    records: list[Record] = []
    if config.tensorboard:
        records.append(TensorBoard(config.output, steps))
    if config.wandb:
        records.append(WeightsAndBiases(config.output, config.wandb, config.to_dict()))
    return [*records, Lines(config.output, steps)]


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a curve up to the first line that is not whole, as a killed run may leave one."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        try:
            row = parse_json(line)
        except ValueError:
            break
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            break
        rows.append(row)
    return rows


def _scalars(row: Row) -> Iterable[tuple[str, float]]:
    """The numbers of a row, charges as their mean over heads."""
    for name, value in row.items():
        if name == "charges":
            for sector in ("qk", "vo"):
                heads = [number for layer in value[sector] for number in layer]
                yield f"charge_{sector}", sum(heads) / len(heads)
        elif name != "step":
            yield name, value
