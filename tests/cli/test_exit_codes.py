"""An evaluation that is asked to stop ends with the signal's exit code, whatever Lightning makes of it."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytorch_lightning import Callback

import tiny
from ripu_lightning.cli.app import _exit_code


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell in the background leaves ignored
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_evaluation_that_is_asked_to_stop(tmp_path: Path, signum: signal.Signals, code: int) -> None:
    class Ask(Callback):
        def on_test_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            signal.raise_signal(signum)

    data = tiny.datamodule(eval_batch_size=1)
    trainer = tiny.trainer(tmp_path, tiny.loop(tmp_path / "labels", data), Ask())
    with pytest.raises(SystemExit) as caught:
        trainer.test(tiny.module(), datamodule=data, verbose=False)
    assert _exit_code(caught.value) == code
