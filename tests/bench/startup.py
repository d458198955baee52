"""What importing the package and asking a command for help cost, in fresh processes."""

import subprocess
import sys

from tests.bench.timing import Row, medians, seconds

COMMANDS = {
    "torch": [sys.executable, "-c", "import torch"],
    "torch and interp": [sys.executable, "-c", "import torch, interp"],
    "--help": [sys.executable, "-m", "interp.amplify", "--help"],
}


def rows():
    """Seconds of `import interp` beyond torch, and of a command's --help."""
    taken = medians(
        seconds(
            {n: lambda c=command: subprocess.run(c, check=True, capture_output=True) for n, command in COMMANDS.items()}
        )
    )
    return [
        Row("import interp beyond torch", taken["torch and interp"] - taken["torch"], "s", "<= 0.3"),
        Row("amplify --help", taken["--help"], "s", "<= 1"),
    ]
