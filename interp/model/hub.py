"""Checkpoints from the Hugging Face hub: the three files of a folder, kept in the hub's own cache."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from interp.errors import InterpError

FILES = ["config.json", "model.safetensors", "tokenizer.json"]


def is_hub_id(name: str | Path) -> bool:
    """Whether a name reads as "owner/name" and not as a place in a folder that is here."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)) is not None and not Path(name).parent.is_dir()


def download(hub_id: str, files: Sequence[str] = FILES) -> Path:
    """Return the folder with the files of a model on the hub, from the hub's cache where nothing changed.

    `files` are their names, or patterns of names.

    Raises:
        InterpError: no such model, no way to the hub, or no config.json there.
    """
    import huggingface_hub  # late: most checkpoints are folders

    try:
        folder = Path(huggingface_hub.snapshot_download(hub_id, allow_patterns=list(files)))
    except Exception as error:  # of the hub, of the network below it
        reason = str(error).strip().split("\n")[0]
        raise InterpError(
            f"{hub_id!r} is no folder here, and the Hugging Face hub gave no model of that name "
            f"({type(error).__name__}: {reason}); check the name and the connection, or give a folder."
        ) from error
    if not (folder / "config.json").is_file():
        raise InterpError(f"{hub_id!r} on the Hugging Face hub has no config.json; it is no model.")
    return folder
