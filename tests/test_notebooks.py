"""Every notebook runs from top to bottom: one in a kernel as Jupyter runs it, the others in IPython's shell on less text."""

import json
import sys
from pathlib import Path

import pytest

from tests import commands

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
IN_A_KERNEL = "06_transformerlens"  # the shortest; it reads no corpus
QUICKER = {
    "02_what_does_the_bias_do": ("max_tokens=6000", "max_tokens=1500"),
    "04_train_your_own": ("steps=80", "steps=8"),
}
"""What a notebook asks for, and what is enough to see that it runs."""
SHELL = """
import json
import sys
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from interp.data.corpora import corpus

whole = corpus.NAMED["wikipedia-sample"]
corpus.NAMED["wikipedia-sample"] = lambda: ((name, text[:1000]) for name, text in whole())
shell = InteractiveShell.instance()
for code in json.loads(sys.argv[1]):
    with capture_output() as shown:
        done = shell.run_cell(code)
    done.raise_error()
    assert done.result is not None or shown.stdout or shown.outputs, code
"""


def code_of(path):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path):
    assert code_of(path) and not any(cell["outputs"] or cell["execution_count"] for cell in code_of(path))


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.stem != IN_A_KERNEL], ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path):
    codes = ["".join(cell["source"]) for cell in code_of(path)]
    if path.stem in QUICKER:
        asked, enough = QUICKER[path.stem]
        assert any(asked in code for code in codes)
        codes = [code.replace(asked, enough) for code in codes]
    done = commands.run([sys.executable, "-c", SHELL, json.dumps(codes)], cwd=path.parent)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq")
def test_a_notebook_runs_in_a_kernel():
    import nbformat  # here, as every test process would pay for the grammars that it compiles
    from nbclient import NotebookClient

    (path,) = [path for path in NOTEBOOKS if path.stem == IN_A_KERNEL]
    resources = {"metadata": {"path": str(path.parent)}}
    done = NotebookClient(nbformat.read(path, as_version=4), timeout=300, resources=resources).execute()
    assert all(cell.outputs for cell in done.cells if cell.cell_type == "code")
