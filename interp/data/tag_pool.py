"""Tag texts in background processes, while the caller's process does something else."""

from concurrent.futures import Future
from types import TracebackType

from interp.data.pipelines import load_pipeline, tag
from interp.data.processes import Processes
from interp.data.tag_cache import TagCache
from interp.data.words import Words


class TagPool:
    """Hands out the words of texts as futures: from the cache, else from one of `workers` processes.

    A process starts with the first text that is not in the cache. With `workers=0` texts are tagged at once, in here.
    """

    def __init__(self, pipeline_name: str, workers: int, cache: TagCache | None) -> None:
        self.name = pipeline_name
        self.cache = cache
        self.processes = Processes("tagging", "interp.data.tag_worker", pipeline_name, workers) if workers else None
        self.pipeline = None

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
            words = self.processes.ask(text) if self.processes else self._tag_here(text)
            if self.cache:
                self.cache.write(text, words)
        return words

    def _tag_here(self, text: str) -> Words:
        self.pipeline = self.pipeline or load_pipeline(self.name)
        return tag(self.pipeline, text)

    def __enter__(self) -> "TagPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the processes, also in the middle of a text."""
        if self.processes:
            self.processes.__exit__(kind, error, trace)
