"""`python -m interp.replicate`, its jobs forked from it and not begun as interpreters: started by tests/commands.py."""

import contextlib
import os
import signal
import sys
import types

import torch  # noqa: F401 - so that every job finds it loaded

from interp.replicate import workers
from interp.replicate.__main__ import app
from tests.commands import execute


class ForkedJob:
    """What a worker needs of a `subprocess.Popen`: a job in a process of its own, in the group of this one."""

    def __init__(self, command, stdout, stderr, env):
        signals = {signal.SIGTERM, signal.SIGINT}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # none may find the handlers of the command
        self.pid, self.returncode = os.fork(), None
        if not self.pid:
            status = 1
            try:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                os.dup2(stdout.fileno(), 1)
                os.dup2(stderr.fileno(), 2)
                os.environ.update(env)
                execute(command[1:])
                status = 0
            except SystemExit as error:
                status = error.code or 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def wait(self):
        _, status = os.waitpid(self.pid, 0)
        self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def terminate(self):
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)


if __name__ == "__main__":
    workers.subprocess = types.SimpleNamespace(Popen=ForkedJob)
    app()
