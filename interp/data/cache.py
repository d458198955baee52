"""Where derived data that can always be made again is kept."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder for derived data: `INTERP_CACHE`, else `XDG_CACHE_HOME/interp`, else `~/.cache/interp`.

    The folder need not exist yet; whoever writes makes it.
    """
    if chosen := os.environ.get("INTERP_CACHE"):
        return Path(chosen).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).expanduser() / "interp"
    return Path.home() / ".cache" / "interp"
