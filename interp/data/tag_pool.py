"""Tag texts in background processes, while the caller's process does something else."""

import os
import pickle
import queue
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from interp.data.pipelines import load_pipeline, tag
from interp.data.tag_cache import TagCache
from interp.data.words import Words
from interp.errors import InterpError


class TagPool:
    """Hands out the words of texts as futures: from the cache, else from one of `workers` processes.

    A process starts with the first text that is not in the cache. With `workers=0` texts are tagged at once, in here.
    """

    def __init__(self, pipeline_name: str, workers: int, cache: TagCache | None) -> None:
        self.name = pipeline_name
        self.cache = cache
        self.workers = workers
        self.processes: list[subprocess.Popen[bytes]] = []
        self.idle: queue.LifoQueue[subprocess.Popen[bytes] | None] = queue.LifoQueue()  # None: not started yet
        for _ in range(workers):
            self.idle.put(None)
        self.threads = ThreadPoolExecutor(max(1, workers), thread_name_prefix="tags")
        self.pipeline = None
        self.closed = False

    def submit(self, text: str) -> "Future[Words]":
        """Ask for the words of a text; an `InterpError` comes out of the future."""
        if self.workers:
            return self.threads.submit(self._words, text)
        done: Future[Words] = Future()
        done.set_result(self._words(text))
        return done

    def _words(self, text: str) -> Words:
        words = self.cache.read(text) if self.cache else None
        if words is None:
            words = self._ask_process(text) if self.workers else self._tag_here(text)
            if self.cache:
                self.cache.write(text, words)
        return words

    def _tag_here(self, text: str) -> Words:
        self.pipeline = self.pipeline or load_pipeline(self.name)
        return tag(self.pipeline, text)

    def _ask_process(self, text: str) -> Words:
        process = self.idle.get()
        try:
            process = process or self._start()
            answer = _exchange(process, text)
        finally:
            self.idle.put(process)
        if isinstance(answer, InterpError):
            raise answer
        return answer

    def _start(self) -> "subprocess.Popen[bytes]":
        if self.closed:
            raise InterpError("Tagging was stopped.")
        path = os.pathsep.join(entry for entry in sys.path if entry)  # the same `interp` as here
        process = subprocess.Popen(
            [sys.executable, "-m", "interp.data.tag_worker", self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        self.processes.append(process)
        return process

    def __enter__(self) -> "TagPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the processes, also in the middle of a text."""
        self.closed = True
        for process in self.processes:
            process.kill()
        self.threads.shutdown(wait=True, cancel_futures=True)
        for process in self.processes:
            process.kill()  # one that a thread started meanwhile
            process.communicate()


def _exchange(process: "subprocess.Popen[bytes]", text: str) -> Words | InterpError:
    if process.stdin is None or process.stdout is None:
        raise InterpError("A tagging process has no pipes.")
    try:
        pickle.dump(text, process.stdin)
        process.stdin.flush()
        return pickle.load(process.stdout)
    except (EOFError, OSError, pickle.UnpicklingError) as error:
        raise InterpError(
            f"A tagging process ended unexpectedly (exit code {process.wait()}); it may have run out of memory, "
            "so try fewer workers, or workers=0 to tag in this process."
        ) from error
