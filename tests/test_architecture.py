"""The house: floors, rooms of a size, no circles, and what importing costs."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import interp

PACKAGE = Path(interp.__file__).parent
FLOORS = {"page": 0, "model": 1, "data": 1, "analysis": 2, "evals": 3, "train": 4, "report": 4, "replicate": 5}
GROUND = {"errors", "files", "options", "provenance", "spelling", "vocabulary"}  # what every floor may use
COMMANDS = {"api", "amplify", "convert", "__main__", "__init__"}
SMALL = {  # files of less than 40 lines, beside __init__.py: a package's docstring, or the names it offers
    "__main__.py",  # all commands under one name
    "report/figures.py",  # what opens figures by name
    "report/panels/writes.py",  # ends of lists that the analysis made
}
WIDE = {  # functions of more than 12 parameters
    "model/generation.py: generate": "public; its parameters are TransformerLens'",
}
CIRCLES = {  # files that import each other, one of them late
    frozenset({"interp.model.checkpoint", "interp.model.transformer"}),  # from_pretrained is load_model as a method
    frozenset({"interp.report.explorer.explorer", "interp.report.explorer.widget"}),
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("interp."):
            yield node.module.split(".")[1]


def test_imports_point_to_lower_floors_only():
    for path in FILES:
        parts = path.relative_to(PACKAGE).parts
        folder = parts[0] if len(parts) > 1 else None
        for target in imports(path):
            if path.name == "__main__.py":  # `python -m interp.FOLDER` is a command, and stands above all floors
                continue
            if folder is None or target == folder or target in GROUND:
                continue
            if FLOORS[folder] == 5 and target in COMMANDS:  # a command too large for one file
                continue
            assert target in FLOORS and FLOORS[target] < FLOORS[folder], f"{path} imports interp.{target}"


def test_every_module_of_the_ground_floor_imports_no_other_floor():
    for name in GROUND:
        assert set(imports(PACKAGE / f"{name}.py")) <= GROUND
    assert {p.stem for p in PACKAGE.glob("*.py")} == GROUND | COMMANDS


def named(path):
    return path.relative_to(PACKAGE).as_posix()


def test_a_file_has_40_to_450_lines_a_folder_16_files_and_the_house_190_and_20_more():
    lines = {named(path): len(path.read_text().splitlines()) for path in FILES}
    assert {name for name, count in lines.items() if count > 450} == set()
    assert {name for name, count in lines.items() if count < 40 and Path(name).name != "__init__.py"} == SMALL
    assert {str(folder) for folder, count in Counter(path.parent for path in FILES).items() if count > 16} == set()
    assert len(FILES) <= 190 + 20  # concepts that came later: experts, examples, arithmetic, weights to begin with


def test_a_function_has_at_most_12_parameters():
    wide = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                own = node.args
                listed = [*own.posonlyargs, *own.args, *own.kwonlyargs, *filter(None, (own.vararg, own.kwarg))]
                if len(listed) > 12:
                    wide.add(f"{named(path)}: {getattr(node, 'name', 'lambda')}")
    assert wide == set(WIDE)


def graph(late):
    """Which module imports which, with or without what is imported inside of functions; for types only counts too."""
    modules = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in FILES}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    found = {}
    for name, path in modules.items():
        waiting, targets = [ast.parse(path.read_text())], set()
        while waiting:
            node = waiting.pop()
            if isinstance(node, ast.ImportFrom) and node.module:
                inside = {f"{node.module}.{alias.name}" for alias in node.names}
                targets |= inside if inside <= modules.keys() else inside | {node.module}
            if late or not isinstance(node, ast.FunctionDef):
                waiting += ast.iter_child_nodes(node)
        found[name] = (targets & modules.keys()) - {name}
    return found


def circles(imported):
    """The sets of modules each of which leads to every other."""
    reached = {}
    for name in imported:
        waiting, seen = [name], set()
        while waiting:
            new = imported[waiting.pop()] - seen
            seen |= new
            waiting += new
        reached[name] = seen
    return {frozenset(b for b in seen if a in reached[b]) for a, seen in reached.items() if a in seen}


def test_files_do_not_import_each_other_in_a_circle():
    assert circles(graph(late=False)) == set()
    assert circles(graph(late=True)) == CIRCLES
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == {frozenset("abc")}


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
