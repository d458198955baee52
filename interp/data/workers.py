"""Background processes that answer questions, pickled, over pipes; both ends of the pipe.

Processes of their own, and not of `multiprocessing`: that would import the caller's main module again, torch and all, and
a script without `if __name__ == "__main__"` would start itself over.
"""

import os
import pickle
import queue
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from interp.errors import InterpError

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class WorkerPool(AbstractContextManager["WorkerPool"]):
    """Up to `workers` processes of a module that calls `serve`; each starts with the first question that needs it."""

    def __init__(self, work: str, module: str, argument: str, workers: int) -> None:
        if workers < 1:
            raise InterpError(f"There cannot be {workers} {work} processes; give 1 or more.")
        self.work = work  # what they do, for messages ("tagging")
        self.command = [sys.executable, "-m", module, argument]
        self.started: list[subprocess.Popen[bytes]] = []  # the processes so far
        self.idle: queue.LifoQueue[subprocess.Popen[bytes] | None] = queue.LifoQueue()  # None: not started yet
        for _ in range(workers):
            self.idle.put(None)
        # One waits for each process; a caller may give them more to do than `ask`.
        self.threads = ThreadPoolExecutor(workers, thread_name_prefix=work)
        self.closed = False

    def submit(self, question: object) -> Future[Any]:
        """Ask in a thread; an `InterpError` comes out of the future."""
        return self.threads.submit(self.ask, question)

    def ask(self, question: object) -> Any:
        """Return the answer of an idle process, waiting for one if need be.

        Raises:
            InterpError: the process answered with one, or died.
        """
        process = self.idle.get()
        try:
            process = process or self._start()
            answer = self._exchange(process, question)
        finally:
            self.idle.put(process)
        if isinstance(answer, InterpError):
            raise answer
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        if self.closed:
            raise InterpError(f"The {self.work} was stopped.")
        path = os.pathsep.join(entry for entry in sys.path if entry)  # the same `interp` as here
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self.started.append(process)
        return process

    def _exchange(self, process: subprocess.Popen[bytes], question: object) -> Any:
        if process.stdin is None or process.stdout is None:
            raise InterpError(f"A {self.work} process has no pipes.")
        try:
            pickle.dump(question, process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            return pickle.load(process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise InterpError(
                f"A {self.work} process ended unexpectedly (exit code {process.wait()}); it may have run out of memory, "
                "so try fewer workers, or workers=0 to do it in this process."
            ) from error

    def __exit__(self, *error: object) -> None:
        """Stop the processes, also in the middle of an answer."""
        self.closed = True
        for process in self.started:
            process.kill()
        self.threads.shutdown(wait=True, cancel_futures=True)
        for process in self.started:
            process.kill()  # one that a thread started meanwhile
            process.communicate()


def serve(answer: Callable[[Any], object]) -> None:
    """Answer questions from standard input on standard output until the input ends; an `InterpError` is an answer too."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # a parent that one of them ends closes the input, which ends the loop
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    while True:
        try:
            question = pickle.load(sys.stdin.buffer)
        except (EOFError, pickle.UnpicklingError):  # the parent is gone, perhaps in the middle of a question
            return
        try:
            reply = answer(question)
        except InterpError as error:
            reply = error
        try:
            pickle.dump(reply, answers, protocol=pickle.HIGHEST_PROTOCOL)
            answers.flush()
        except BrokenPipeError:  # nobody waits for it any more
            os._exit(0)  # not by return, which would flush what cannot be flushed


def in_order(
    items: Iterable[Item], submit: Callable[[Item], Future[Answer]], distance: int
) -> Iterator[tuple[Item, Answer]]:
    """Yield every item with its answer, in order, `distance` items submitted before the first is waited for."""
    waiting: deque[tuple[Item, Future[Answer]]] = deque()
    for item in items:
        waiting.append((item, submit(item)))
        if len(waiting) >= distance:
            first, future = waiting.popleft()
            yield first, future.result()
    for first, future in waiting:
        yield first, future.result()
