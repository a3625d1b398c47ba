"""Signals are noted, and acted on where nothing is lost."""

import os
import signal
import subprocess
import sys

import pytest

from ripu_lightning.training.interruption import Interrupted, Interruption


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_a_signal_is_noted_until_the_run_can_end(signum: signal.Signals, code: int) -> None:
    before = signal.getsignal(signum)
    with Interruption() as interruption:
        interruption.check()
        for _ in range(3):  # as from a cluster and from a parent process
            os.kill(os.getpid(), signum)
        with pytest.raises(Interrupted, match=signum.name) as caught:
            interruption.check()
    assert caught.value.exit_code == code
    assert signal.getsignal(signum) is before


TWICE = """
import os, signal, time
from ripu_lightning.training.interruption import AGAIN, Interruption
with Interruption():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(AGAIN + 0.1)
    os.kill(os.getpid(), signal.SIGINT)
    print("lives on")
"""


def test_a_second_ctrl_c_ends_it_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 130
    assert done.stdout.strip() == "interrupted by SIGINT at once, after its last checkpoint: the same command goes on"


def test_the_first_signal_decides() -> None:
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
    assert interruption.signum == signal.SIGUSR1
