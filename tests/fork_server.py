"""A process that has loaded torch and Lightning and forks the commands of tests: importing them takes 6 seconds each.

``python fork_server.py DESCRIPTOR`` serves a listening socket until its standard input ends. A request has three file
descriptors and JSON (``argv``, ``cwd``, ``env``, ``session``). It answers with the process's id and, at its end,
with its wait status. What is forked is a process like any other, with its own session, folder, environment and exit
code.

A process with ``trainer.devices=N`` starts N - 1 others. These are forked ahead, as *spares*, before there are any
threads, and become what it starts then. So is the fork server from which a rank's loaders start their workers.
"""

import atexit
import contextlib
import ctypes
import fcntl
import gc
import inspect
import json
import logging.config
import os
import random
import re
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import traceback
from importlib import import_module
from multiprocessing import util
from typing import Any, NoReturn

MODULES = (
    "torch.utils.tensorboard",
    "torch.distributed.fsdp",
    "pytorch_lightning",
    "torchmetrics.classification",
    "hydra._internal.hydra",
    "albumentations",
    "matplotlib.pyplot",
    "ripu_lightning.cli.app",
    "ripu_lightning.experiment.run",
    "ripu_lightning.data",
    "ripu_lightning.evaluation",
    "ripu_lightning.networks",
    "ripu_lightning.training",
)
SPARES = "TEST_SPARES"
"""Environment variable: how many processes a command will start, where its arguments do not say so; after commas, how
many each of these will start, and so on."""
PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
prctl = ctypes.CDLL(None).prctl
started_by_exec = subprocess.Popen._execute_child
signature = inspect.signature(started_by_exec)


class Spare:
    """A child that waits to become what this process starts."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        self.pid = os.fork()
        if not self.pid:
            self.socket.close()
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            if os.getppid() != parent:
                os._exit(1)
            request, descriptors = receive(theirs)
            prctl(PR_SET_PDEATHSIG, 0)
            become(request, descriptors)
        theirs.close()


def spare_for_loaders() -> None:
    """Have a spare become the fork server of this process's loaders, where ``data/workers.py`` needs one."""
    spare, by_exec = Spare(), util.spawnv_passfds

    def start(path: bytes, arguments: list[str], kept: list[int]) -> int:
        if "multiprocessing.forkserver" not in arguments[-1]:
            return by_exec(path, arguments, kept)
        util.spawnv_passfds = by_exec
        request = {
            "argv": [sys.executable, *arguments[-2:]],
            "cwd": os.getcwd(),
            "env": dict(os.environ),
            "session": False,
            "kept": list(kept),
            "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        }
        socket.send_fds(spare.socket, [json.dumps(request).encode()], [0, 1, 2, *kept])
        spare.socket.close()
        return spare.pid

    util.spawnv_passfds = start


def send(connection: socket.socket, arguments: dict[str, Any], own: tuple[int, int, int] = (0, 1, 2)) -> None:
    """Ask for a process: the arguments of ``Popen._execute_child`` by name."""
    unset = -1
    ends = (arguments["p2cread"], arguments["c2pwrite"], arguments["errwrite"])
    descriptors = [mine if end == unset else end for end, mine in zip(ends, own, strict=True)]
    request = {
        "argv": [os.fsdecode(each) for each in arguments["args"]],
        "cwd": os.fsdecode(arguments["cwd"] or os.getcwd()),
        "env": {os.fsdecode(name): os.fsdecode(value) for name, value in (arguments["env"] or os.environ).items()},
        "session": arguments["start_new_session"],
        "kept": [],
        "blocked": [],
    }
    socket.send_fds(connection, [json.dumps(request).encode()], descriptors)


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    message, descriptors, _, _ = socket.recv_fds(connection, 2**18, 8)
    if not message:
        os._exit(0)
    return json.loads(message), list(descriptors)


def become(request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Be the process that is asked for, to its end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["session"]:
        os.setsid()
    aside = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 100) for descriptor in descriptors]
    os.closerange(3, 100)
    for descriptor, number in zip(aside, (0, 1, 2, *request["kept"]), strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    signal.pthread_sigmask(signal.SIG_BLOCK, request["blocked"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    random.seed()
    sys.modules["numpy"].random.seed()
    # What Lightning finds out when it is imported.
    rank_zero = sys.modules["lightning_fabric.utilities.rank_zero"]
    rank_zero.rank_zero_only.rank = rank_zero._get_rank() or 0
    spares = [Spare() for _ in range(count(request["argv"]))]
    if any(re.fullmatch(r"data\.num_workers=[1-9]", each) for each in request["argv"]) and devices(request["argv"]) > 1:
        spare_for_loaders()

    def execute(self: subprocess.Popen, *arguments: Any) -> None:
        bound = signature.bind(self, *arguments).arguments
        python = isinstance(bound["args"], (list, tuple)) and bound["args"][0] == sys.executable
        if not (python and spares):
            return started_by_exec(self, *arguments)
        spare = spares.pop(0)
        send(spare.socket, bound)
        spare.socket.close()
        self.pid, self._child_created = spare.pid, True
        self._close_pipe_fds(*(bound[name] for name in PIPES))

    subprocess.Popen._execute_child = execute
    end(request["argv"])


def count(argv: list[str]) -> int:
    """How many processes a command will start."""
    if given := os.environ.pop(SPARES, ""):
        own, _, of_those = given.partition(",")
        if of_those:
            os.environ[SPARES] = of_those
        return int(own)
    if "LOCAL_RANK" in os.environ:
        return 0
    return devices(argv) - 1


def devices(argv: list[str]) -> int:
    found = [int(match[1]) for each in argv if (match := re.fullmatch(r"trainer\.devices=(\d+)", each))]
    return (found or [1])[-1]


def end(argv: list[str]) -> NoReturn:
    """Run a script, a module or code as Python would, and exit as Python does, without tearing modules down."""
    code: Any = 0
    try:
        run(argv)
    except SystemExit as stopped:
        code = stopped.code
        if not isinstance(code, int) and code is not None:
            print(code, file=sys.stderr)
            code = 1
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit((code or 0) & 255)


def run(argv: list[str]) -> None:
    if argv[0] == sys.executable:
        argv = argv[1:]
        while argv[0] == "-u":
            sys.stdout.reconfigure(line_buffering=True)
            argv = argv[1:]
    added = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each and each not in sys.path[1:]]
    if argv[0] in ("-m", "-c"):
        sys.path[:1] = ["" if argv[0] == "-c" else os.getcwd(), *added]
        kind, what, *rest = argv
        sys.argv = [kind, *rest]
        if kind == "-c":
            names = {"__name__": "__main__", "__builtins__": __builtins__}
            main = type(sys)("__main__")
            main.__dict__.update(names)
            sys.modules["__main__"] = main
            exec(compile(what, "<string>", "exec"), main.__dict__)
        else:
            sys.modules.pop(what, None)  # or runpy would warn
            runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.path[:1] = [os.path.dirname(os.path.abspath(argv[0])), *added]
        sys.argv = argv
        runpy.run_path(argv[0], run_name="__main__")


def load() -> None:
    """Import the modules, and leave their loggers as they are where Hydra configures logging before it imports them."""
    for name in MODULES:
        import_module(name)
    configurator = logging.config.DictConfigurator
    configure = configurator.configure

    def keeping(self: logging.config.DictConfigurator) -> None:
        self.config["disable_existing_loggers"] = False
        configure(self)

    configurator.configure = keeping
    gc.collect()
    gc.freeze()


def serve(listener: socket.socket) -> None:
    """Fork what is asked for; modules are loaded at the first request."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # clears orphans away, which a container's init may not do
    connections: dict[int, socket.socket] = {}
    loaded = False
    with selectors.DefaultSelector() as waiting:
        waiting.register(listener, selectors.EVENT_READ)
        waiting.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select(0.02 if connections else 0.2):
                if key.fileobj is sys.stdin:
                    return
                connection, _ = listener.accept()
                request, descriptors = receive(connection)
                if not loaded:
                    load()
                    loaded = True
                pid = os.fork()
                if not pid:
                    become(request, descriptors)
                for descriptor in descriptors:
                    os.close(descriptor)
                connection.send(str(pid).encode())
                connections[pid] = connection
            with contextlib.suppress(ChildProcessError):
                while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                    if connection := connections.pop(ended[0], None):
                        with contextlib.suppress(OSError):
                            connection.send(str(ended[1]).encode())
                        connection.close()


if __name__ == "__main__":
    import fork_server  # so that what is forked finds it by this name whatever is its main module

    fork_server.serve(socket.socket(fileno=int(sys.argv[1])))
    os._exit(0)
