"""Workers that take the jobs of a replication one by one, each job in a process of its own.

Several workers of one machine are threads of one command; further machines run the same command on the same folder. A job's
lock (`interp.replicate.job`) sees to it that nobody does what another does, so there is no server and no state but files.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from filelock import Timeout

from interp.options import say
from interp.replicate.job import TAKEN, lock_of
from interp.replicate.jobs import Job

PAUSE = 2.0  # seconds between looks at what others do


class Workers:
    """`count` workers with `threads` threads of arithmetic each, over the jobs of one folder.

    Attributes:
        failed: the names of jobs that failed here; all are done that need none of them.
    """

    def __init__(self, root: Path, jobs: Sequence[Job], count: int, threads: int) -> None:
        self.root, self.jobs, self.count, self.threads = root.resolve(), list(jobs), count, threads
        self.lock, self.here, self.failed = threading.Lock(), set[str](), list[str]()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.stopping = threading.Event()

    def run(self, on_done: Callable[[Job], None]) -> None:
        """Work until every job that can be is done, here or elsewhere; `on_done` is told of each that was done here."""
        with ThreadPoolExecutor(self.count, thread_name_prefix="worker") as pool:
            futures = [pool.submit(self._work, on_done) for _ in range(self.count)]
            try:
                while not all(future.done() for future in futures):
                    time.sleep(0.05)  # in the main thread, which signals interrupt
            finally:
                self.stop()
        for future in futures:
            future.result()

    def stop(self) -> None:
        """Ask all processes to save what they have and end."""
        self.stopping.set()
        with self.lock:
            for process in self.processes.values():
                process.terminate()

    def _work(self, on_done: Callable[[Job], None]) -> None:
        try:
            while not self.stopping.is_set() and (left := self._left()):
                if (job := self._take(left)) is None:
                    self.stopping.wait(PAUSE)
                    continue
                try:
                    if self._do(job):
                        on_done(job)
                finally:
                    self.here.discard(job.name)
        except BaseException:
            self.stop()
            raise

    def _left(self) -> list[Job]:
        """Return the jobs that are not done, without those that failed and those that need one of them."""
        left, lost = list[Job](), set[Path]()
        for job in self.jobs:  # what a job needs stands before it
            if job.is_done(self.root):
                continue
            if job.name in self.failed or lost & set(job.needs):
                lost.add(job.done)
            else:
                left.append(job)
        return left

    def _take(self, left: Sequence[Job]) -> Job | None:
        """Return the first job that can begin and that nobody has."""
        with self.lock:
            for job in left:
                if job.name not in {*self.here, *self.failed} and job.is_ready(self.root):
                    with suppress(Timeout), lock_of(self.root, job):
                        self.here.add(job.name)
                        return job
        return None

    def _do(self, job: Job) -> bool:
        """Do a job in a process; return whether it did it, as another may have taken it first."""
        folder = self.root / "logs"
        folder.mkdir(exist_ok=True)
        path = folder / (job.name.replace("/", "-") + ".txt")
        command = [sys.executable, "-m", "interp.replicate.job", str(self.root), job.name]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(self.threads))
        with path.open("ab") as log:
            with self.lock:
                if self.stopping.is_set():
                    return False
                process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **threads})
                self.processes[job.name] = process
            status = process.wait()
            with self.lock:
                del self.processes[job.name]
        if status in (0, TAKEN) or self.stopping.is_set():
            return status == 0
        lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
        last = next(filter(None, reversed(lines)), "it said nothing.")
        self.failed.append(job.name)
        say(f"failed: {job.name} ended with status {status}: {last} The whole log is {path}.")
        return False
