"""Every notebook runs from top to bottom: one in a kernel as Jupyter runs it, all in IPython's shell."""

import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests import commands

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
SHELL = """
import sys
import nbformat
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

shell = InteractiveShell.instance()
for cell in nbformat.read(sys.argv[1], as_version=4).cells:
    if cell.cell_type == "code":
        with capture_output() as shown:
            done = shell.run_cell(cell.source)
        done.raise_error()
        assert done.result is not None or shown.stdout or shown.outputs, cell.source
"""


def code_of(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom_and_is_stored_without_outputs(path):
    assert code_of(path) and not any(cell.outputs or cell.execution_count for cell in code_of(path))
    done = commands.run([sys.executable, "-c", SHELL, str(path)], cwd=path.parent)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq")
def test_a_notebook_runs_in_a_kernel():
    notebook = nbformat.read(NOTEBOOKS[-1], as_version=4)
    resources = {"metadata": {"path": str(NOTEBOOKS[-1].parent)}}
    done = NotebookClient(notebook, timeout=300, resources=resources).execute()
    assert all(cell.outputs for cell in done.cells if cell.cell_type == "code")
