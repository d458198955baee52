"""The house: floors, and what importing costs."""

import ast
import subprocess
import sys
from pathlib import Path

import interp

PACKAGE = Path(interp.__file__).parent
FLOORS = {"page": 0, "model": 1, "data": 1, "analysis": 2, "evals": 3, "train": 4, "report": 4, "replicate": 5}
GROUND = {"errors", "files", "vocabulary"}  # what every floor may use
COMMANDS = {
    "options", "provenance", "api", "evaluating", "amplify", "convert", "__main__", "__init__",
}  # fmt: skip
SHARED = {("train", "options"), ("data", "options")}  # a command's console and options


def imports(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("interp."):
            yield node.module.split(".")[1]


def test_imports_point_to_lower_floors_only():
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).parts
        folder = parts[0] if len(parts) > 1 else None
        for target in imports(path):
            if path.name == "__main__.py" and target in COMMANDS:  # `python -m interp.FOLDER` is a command
                continue
            if folder is None or target == folder or target in GROUND or (folder, target) in SHARED:
                continue
            if FLOORS[folder] == 5 and target in COMMANDS:  # a command too large for one file
                continue
            assert target in FLOORS and FLOORS[target] < FLOORS[folder], f"{path} imports interp.{target}"


def test_every_module_of_the_ground_floor_imports_no_other_floor():
    for name in GROUND:
        assert set(imports(PACKAGE / f"{name}.py")) <= GROUND
    assert {p.stem for p in PACKAGE.glob("*.py")} == GROUND | COMMANDS


def test_importing_interp_and_asking_for_help_load_neither_torch_nor_transformer_lens():
    folders = [f"interp.{folder}.__main__" for folder in ("train", "data", "evals", "replicate")]
    commands = ("interp.amplify", "interp.convert", "interp.__main__", *folders)
    for code in ("import interp", *(f"import {command}" for command in commands)):
        heavy = ("torch", "transformer_lens", "spacy", "pandas")
        check = f"{code}; import sys; print([m for m in {heavy} if m in sys.modules])"
        assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True).stdout.strip() == "[]"


def test_public_names_resolve():
    for name in interp.__all__:
        assert getattr(interp, name).__name__ == name
