"""A process that tags: texts and patterns come in on standard input, words go out on standard output, both pickled.

python -m interp.data.tagging.worker PIPELINE
"""

import importlib.abc
import sys
from importlib import metadata

from interp.data.classes.scheme import SpanPatterns, Words
from interp.data.spacy_pipelines import Tagger
from interp.data.workers import serve


class _NoTorch(importlib.abc.MetaPathFinder):
    """spaCy imports torch where it is installed: a second and 200 MB for what a small pipeline never uses."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        """Refuse torch, leave everything else to the finders after this one."""
        if fullname == "torch":
            raise ModuleNotFoundError("torch is not needed for tagging", name="torch")


def main(name: str) -> None:
    """Answer each text with its `Words`, or with an `InterpError`, until the input ends."""
    if not _needs_torch(name):
        sys.meta_path.insert(0, _NoTorch())
    tagger = None

    def words(question: tuple[str, SpanPatterns]) -> Words:
        nonlocal tagger
        text, patterns = question
        tagger = tagger or Tagger(name, patterns)  # those of the first text are those of all: one pool asks
        return tagger.words(text)

    serve(words)


def _needs_torch(name: str) -> bool:
    try:
        requirements = metadata.requires(name) or []
    except metadata.PackageNotFoundError:  # a folder: nobody says what it needs
        return not name.startswith("blank:")
    return any("torch" in requirement or "transformers" in requirement for requirement in requirements)


if __name__ == "__main__":
    main(sys.argv[1])
