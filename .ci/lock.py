"""Write constraints.txt from what is installed: `make lock`, after the versions in the environment have been tested."""

from importlib.metadata import distributions
from pathlib import Path

from packaging.specifiers import SpecifierSet

OURS = {"interp", "pip", "setuptools", "wheel"}
OLDEST = "3.10"

pins = {}
for distribution in distributions():
    name = distribution.metadata["Name"]
    if name.lower() in OURS:
        continue
    pin = f"{name}=={distribution.version.split('+')[0]}"  # a local version such as +cpu exists on one machine only
    if OLDEST not in SpecifierSet(distribution.metadata.get("Requires-Python") or ""):
        pin += f' ; python_version > "{OLDEST}"'  # older Pythons take the newest release that still supports them
    pins[name.lower()] = pin
Path("constraints.txt").write_text("\n".join(pins[name] for name in sorted(pins)) + "\n")
