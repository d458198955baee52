"""The file tree of the README: a line for each file of the package, from the first sentence of its docstring.

python docs/tree.py      writes it between the two markers in README.md
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BEGIN, END = "<!-- tree -->\n", "<!-- end of tree -->\n"


def first_sentence(path: Path) -> str:
    """Return the first line of a module's docstring, or nothing."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.split("\n")[0].rstrip(".")


def tree(folder: Path, depth: int = 0) -> list[str]:
    """Return a line per folder and file, folders after the files beside them; a folder's line is that of its package."""
    lines, indent = [], "  " * depth
    files = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
    lines += [f"{indent}{path.name:<{32 - 2 * depth}} {first_sentence(path)}" for path in files]
    for inner in sorted(path for path in folder.iterdir() if (path / "__init__.py").is_file()):
        lines.append(f"{indent}{inner.name + '/':<{32 - 2 * depth}} {first_sentence(inner / '__init__.py')}".rstrip())
        lines += tree(inner, depth + 1)
    return lines


def written() -> str:
    """Return the README with the tree as it is now."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    lines = "\n".join(["interp/", *tree(ROOT / "interp", 1)])
    return f"{before}{BEGIN}\n```\n{lines}\n```\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    README.write_text(written(), encoding="utf-8")
