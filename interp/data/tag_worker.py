"""A process that tags: texts come in on standard input, words go out on standard output, both pickled.

    python -m interp.data.tag_worker PIPELINE

A process of its own, and not one of `multiprocessing`: that would import the caller's main module again, torch and all,
and a script without `if __name__ == "__main__"` would start itself over.
"""

import importlib.abc
import os
import pickle
import signal
import sys
from importlib import metadata

from interp.data.pipelines import load_pipeline, tag
from interp.errors import InterpError


class _NoTorch(importlib.abc.MetaPathFinder):
    """spaCy imports torch where it is installed: a second and 200 MB for what a small pipeline never uses."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        """Refuse torch, leave everything else to the finders after this one."""
        if fullname == "torch":
            raise ModuleNotFoundError("torch is not needed for tagging", name="torch")


def main(name: str) -> None:
    """Answer each text with its `Words`, or with an `InterpError`, until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupted parent closes the input, which ends the loop
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    if not _needs_torch(name):
        sys.meta_path.insert(0, _NoTorch())
    pipeline = None
    while True:
        try:
            text = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            pipeline = pipeline or load_pipeline(name)
            answer = tag(pipeline, text)
        except InterpError as error:
            answer = error
        except Exception as error:  # the parent tells the user; this process has no one to tell
            answer = InterpError(f"The spaCy pipeline {name!r} failed on a text ({type(error).__name__}: {error}).")
        pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()


def _needs_torch(name: str) -> bool:
    try:
        requirements = metadata.requires(name) or []
    except metadata.PackageNotFoundError:  # a folder: nobody says what it needs
        return not name.startswith("blank:")
    return any("torch" in requirement or "transformers" in requirement for requirement in requirements)


if __name__ == "__main__":
    main(sys.argv[1])
