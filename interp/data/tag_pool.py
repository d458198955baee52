"""Tag texts in background processes, while the caller's process does something else."""

from concurrent.futures import Future
from types import TracebackType

from interp.data.marks import Marks
from interp.data.processes import Processes
from interp.data.tag_cache import TagCache
from interp.data.tagger import Tagger
from interp.data.words import Words


class TagPool:
    """Hands out the words of texts, with the spans of `marks`, as futures: from the cache, else from one of `workers`
    processes.

    A process starts with the first text that is not in the cache. With `workers=0` texts are tagged at once, in here,
    and so they are where functions give marks: a function does not go to another process.
    """

    def __init__(self, pipeline_name: str, workers: int, cache: TagCache | None, marks: Marks = Marks()) -> None:
        workers = 0 if marks.functions else workers
        self.tagger = Tagger(pipeline_name, marks)
        self.cache = cache
        self.processes = Processes("tagging", "interp.data.tag_worker", pipeline_name, workers) if workers else None

    def submit(self, text: str) -> "Future[Words]":
        """Ask for the words of a text; an `InterpError` comes out of the future."""
        if self.processes:
            return self.processes.threads.submit(self._words, text)
        done: Future[Words] = Future()
        done.set_result(self._words(text))
        return done

    def _words(self, text: str) -> Words:
        words = self.cache.read(text) if self.cache else None
        if words is None:
            words = self.processes.ask((text, self.tagger.marks)) if self.processes else self.tagger.words(text)
            if self.cache:
                self.cache.write(text, words)
        return words

    def __enter__(self) -> "TagPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the processes, also in the middle of a text."""
        if self.processes:
            self.processes.__exit__(kind, error, trace)
