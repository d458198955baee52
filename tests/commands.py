"""Commands of a test, forked from a parent that has imported torch and the other large libraries already.

    done = run([sys.executable, "-m", "interp.train", "--steps", "2"], env={...})        # subprocess.run
    command = start([sys.executable, "-m", "interp.train", "--steps", "9000"])           # subprocess.Popen
    command.send_signal(signal.SIGTERM)
    command.wait()

They take the words that `subprocess` takes, so that one and the same command can be started in either way. The process is
a real one: with its own argv, environment, folder, output, process group and limits, it can be killed, and it ends as an
interpreter ends, with threads joined, exit functions called and a status. Who waits for it waits no longer than a limit.

What differs from a fresh interpreter, and therefore wants a true `subprocess.run`, of which every command has one:
    - `HEAVY` is in `sys.modules` (nothing of `interp` is): what loads when, and what an import costs, cannot be tested here;
    - variables that those libraries read as they are imported (HF_HUB_*, OMP_NUM_THREADS, TORCHINDUCTOR_*) come too late;
    - all commands of a test process share the seed of hashes, so that the order of a set is the same in them;
    - modules are not taken apart at the end, so that what an object does as the interpreter ends is not seen;
    - options of the interpreter, like -W, are not understood.
The parent has never computed anything with torch: a fork after its threads were at work would hang.
"""

import atexit
import contextlib
import gc
import importlib
import os
import pickle
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import pytest

HEAVY = (
    "torch", "torch.distributed.fsdp", "torch.nn.parallel", "torch._dynamo", "transformers", "transformer_lens",
    "transformer_lens.model_bridge", "spacy", "pandas", "scipy.stats", "plotly.graph_objects", "plotly.io",
    "pyarrow.parquet", "safetensors.torch", "datasets", "tokenizers", "typer", "rich.console", "jinja2", "nbformat",
)  # fmt: skip
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
    # torch.compile starts no interpreters: neither to compile in, nor to try which vector instructions work
    "TORCHINDUCTOR_COMPILE_THREADS": "1", "TORCHINDUCTOR_VEC_ISA_OK": "0",
}  # fmt: skip
LIMIT = 180  # seconds after which a command is killed and its test fails


def run(words, *, check=False, limit=LIMIT, text=True, **options):
    """Run a command to its end and return a `subprocess.CompletedProcess` with its output.

    Raises:
        CalledProcessError: `check` was asked for, and the status is not 0.
    """
    command = start(words, text=text, **options)
    stdout, stderr = command.communicate(limit)
    done = subprocess.CompletedProcess(words, command.returncode, stdout, stderr)
    if check and done.returncode:
        print(stderr, file=sys.stderr)
        done.check_returncode()
    return done


def start(words, *, env=None, cwd=None, limits=None, start_new_session=False, text=True):
    """Start a command and return it. `limits`: {resource.RLIMIT_...: (soft, hard)}."""
    python, option, *_ = words
    assert python == sys.executable and option in ("-m", "-c"), words
    settings = {"words": words[1:], "env": dict(os.environ if env is None else env), "cwd": str(cwd or Path.cwd())}
    return Command({**settings, "limits": limits or {}, "new_session": start_new_session}, text)


class Command:
    """A command under way; a test uses it as it would a `subprocess.Popen`."""

    def __init__(self, settings, text):
        self.args, self.text = settings["words"], text
        self.returncode = self.stdout = self.stderr = None  # until it has ended
        self._files = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115 - closed where they are read
        self._told, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(_parent(), [b"."], [theirs.fileno(), *(file.fileno() for file in self._files)])
        self._told.sendall(pickle.dumps(settings))
        self._told.shutdown(socket.SHUT_WR)
        self._answers = self._told.makefile()
        self.pid = int(self._answers.readline())

    def poll(self):
        """Return its status if it has ended, else None."""
        if self.returncode is None and select.select([self._told], [], [], 0)[0]:
            self.returncode = int(self._answers.readline())
            self._answers.close()
            self._told.close()
            self.stdout, self.stderr = map(self._written, self._files)
        return self.returncode

    def wait(self, limit=LIMIT):
        """Return its status at its end; what takes longer than `limit` seconds is killed and fails the test."""
        if self.returncode is None and not select.select([self._told], [], [], limit)[0]:
            self.kill()
            pytest.fail(f"{self.args} had not ended after {limit} s:\n" + "\n".join(map(str, self.communicate())))
        return self.poll()

    def communicate(self, limit=LIMIT):
        """Return what it wrote to stdout and to stderr, at its end."""
        self.wait(limit)
        return self.stdout, self.stderr

    def _written(self, file):
        with file:
            file.seek(0)
            return file.read().decode() if self.text else file.read()

    def send_signal(self, number):
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self):
        """Kill it as the kernel does when memory runs out."""
        self.send_signal(signal.SIGKILL)


_started = {}  # the parent of this process, and the socket by which it is told


def _parent():
    """Return the socket of this test process's parent of commands, started by the first that asks."""
    if os.getpid() not in _started:
        ours, theirs = socket.socketpair()
        with theirs:
            words = [sys.executable, "-m", "tests.commands", str(theirs.fileno())]
            environment = {**os.environ, **ENVIRONMENT}
            _started[os.getpid()] = ours, subprocess.Popen(words, pass_fds=[theirs.fileno()], env=environment)
    return _started[os.getpid()][0]


def end():
    """End the parent and what it has running; the next command starts another."""
    if started := _started.pop(os.getpid(), None):
        started[0].close()
        started[1].wait(60)


def _serve(control):
    """Fork for every request; return in the child, with the request. The parent returns None when nobody asks any more."""
    running = {}
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the tests, and they end this
    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            os.read(woken, 1024)
            _report(running)
        if control not in ready:
            continue
        asked, files, _, _ = socket.recv_fds(control, 1, 3)
        if not asked:
            break
        client = socket.socket(fileno=files[0])
        with client.makefile("rb") as request:
            settings = pickle.load(request)
        pid = os.fork()
        if not pid:
            _prepare(settings, *files[1:])
            client.sendall(f"{os.getpid()}\n".encode())  # now signals do what they do to a fresh process
            for one in (control, client, *running.values()):
                one.close()
            os.close(woken)
            os.close(wake)
            return settings["words"]
        running[pid] = client
        for file in files[1:]:
            os.close(file)
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    return None


def _report(running):
    """Tell the statuses of those that have ended."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            with running.pop(ended[0]) as client, contextlib.suppress(BrokenPipeError):
                client.sendall(f"{os.waitstatus_to_exitcode(ended[1])}\n".encode())


def _prepare(settings, stdout, stderr):
    """Make this process what was asked for."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if settings["new_session"]:
        os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for file, number in ((nothing, 0), (stdout, 1), (stderr, 2)):
        os.dup2(file, number)
        os.close(file)
    os.chdir(settings["cwd"])
    os.environ.clear()
    os.environ.update(settings["env"])
    for name, limit in settings["limits"].items():
        resource.setrlimit(name, limit)


def execute(words):
    """Do what `python WORDS` does: -m MODULE or -c CODE, and arguments."""
    option, what, *arguments = words
    if option == "-m":
        sys.argv = [what, *arguments]
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv = ["-c", *arguments]
        sys.modules["__main__"] = module = types.ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), module.__dict__)


def main():
    leaving = {"status": 0}
    atexit.register(_leave, leaving)  # the first is called last
    for name in HEAVY:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    assert not [name for name in sys.modules if name.split(".")[0] == "interp"]
    sys.path.insert(0, "")
    gc.collect()
    gc.freeze()  # what is shared stays shared
    with socket.socket(fileno=int(sys.argv[1])) as control:
        words = _serve(control)
    if words is None:
        return
    try:
        execute(words)
    except SystemExit as error:
        leaving["status"] = error.code if isinstance(error.code, int) else int(error.code is not None)
        raise
    except BaseException as error:
        leaving["status"] = None if isinstance(error, KeyboardInterrupt) else 1
        raise


def _leave(leaving):
    """End here rather than take all modules apart, which takes longer than many a command."""
    sys.stdout.flush()
    sys.stderr.flush()
    if leaving["status"] is not None:  # Ctrl-C: the interpreter ends itself by that signal
        os._exit(leaving["status"])


if __name__ == "__main__":
    main()
