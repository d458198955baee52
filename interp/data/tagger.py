"""A pipeline with what it searches for: a text goes in, its words come out."""

from __future__ import annotations

from interp.data.marks import Finder, Marks
from interp.data.pipelines import load_pipeline, tag
from interp.data.words import Words


class Tagger:
    """Loads the pipeline with the first text."""

    def __init__(self, pipeline_name: str, marks: Marks) -> None:
        self.name, self.marks = pipeline_name, marks
        self.pipeline, self.find = None, None

    def words(self, text: str) -> Words:
        """Return the words of a text, with the spans of the marks.

        Raises:
            InterpError: the pipeline does not load, or cannot find what it is asked for.
        """
        if self.pipeline is None:
            self.pipeline = load_pipeline(self.name, lemmas=self.marks.read_lemmas())
            self.find = Finder(self.pipeline, self.marks) if self.marks else None
        return tag(self.pipeline, text, find=self.find)
