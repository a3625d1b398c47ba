"""Commands of tests as real processes, forked from one that has loaded torch and Lightning: see ``fork_server.py``."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import fork_server

ADDRESS = "TEST_FORK_SERVER"
"""Environment variable: the socket of the one server that all workers of pytest-xdist share."""


class Server:
    """The server, from the start of the tests to their end."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        path = str(Path(self.folder.name) / "socket")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(path)
            listener.listen(64)
            command, descriptor = [sys.executable, fork_server.__file__, str(listener.fileno())], listener.fileno()
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, pass_fds=[descriptor])
        os.environ[ADDRESS] = path

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.folder.cleanup()
        os.environ.pop(ADDRESS)


class Popen(subprocess.Popen):
    """``subprocess.Popen`` of a Python program, started in milliseconds.

    The program is ``[sys.executable, ...]`` or a script. Modules are loaded before it starts: what is about imports, or
    about the start itself, needs the real one.
    """

    def _execute_child(self, *arguments: Any) -> None:
        bound = fork_server.signature.bind(self, *arguments).arguments
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.connect(os.environ[ADDRESS])
        with open(os.devnull) as nothing:
            fork_server.send(self._socket, bound, (nothing.fileno(), 1, 2))
            self.pid = int(self._socket.recv(64))
        self._child_created = True
        self._close_pipe_fds(*(bound[name] for name in fork_server.PIPES))

    def _status(self, flags: int) -> tuple[int, int]:
        try:
            answer = self._socket.recv(64, socket.MSG_DONTWAIT if flags & os.WNOHANG else 0)
        except BlockingIOError:
            return 0, 0
        self._socket.close()
        return self.pid, int(answer or 9)

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        return self._status(wait_flags)

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        return super()._internal_poll(_waitpid=lambda _, flags: self._status(flags))


def run(command: list[str], *, timeout: float = 240, check: bool = False, **options: Any) -> Any:
    """As ``subprocess.run`` with ``capture_output`` and ``text``, of a forked process."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    with Popen(command, **streams) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(command, process.returncode, stdout, stderr)
    if check:
        done.check_returncode()
    return done
