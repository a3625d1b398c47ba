"""The benchmark's plain recipe computes what the library computes, and the benchmark runs."""

import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")
SIZES = {"source": (36, 64), "target": (32, 64)}


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import train_step

    yield train_step
    for name in ("train_step", "plain_recipe", "input_pipeline"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("network", ["deeplab_v2", "deeplab_v3plus"])
def test_both_sides_compute_the_same_losses_and_gradients(benchmark, network):
    module = benchmark.build_module(network, "resnet18").train().double()  # ReLU turns rounding into other gradients
    plain = benchmark.PlainStep(benchmark.plain_network(module.network))
    batch = benchmark.draw_batch(SIZES, 2)
    for part in batch.values():
        part["image"] = part["image"].double()
    assert benchmark.check_equal(module, plain.network, batch) < 1e-4

    module.training_step(batch, 0).backward()
    marks = []
    plain(batch, marks.append)
    ours = {name: weight for name, weight in module.network.named_parameters() if weight.grad is not None}
    theirs = dict(plain.network.named_parameters())
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        scale = float(weight.grad.abs().max())
        torch.testing.assert_close(weight.grad, theirs[name].grad, rtol=1e-4, atol=1e-4 * scale, msg=name)
    assert set(marks) == set(benchmark.PHASES)


def test_losses_that_differ_are_refused(benchmark):
    module = benchmark.build_module("deeplab_v2", "resnet18")
    network = benchmark.plain_network(module.network)
    with torch.no_grad():
        network.head.conv2d_list[0].bias[3] += 1
    with pytest.raises(SystemExit, match="differ"):
        benchmark.check_equal(module, network, benchmark.draw_batch(SIZES, 2))


def test_it_prints_every_phase_and_what_was_asked(benchmark, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules["input_pipeline"].STORED, "source", (53, 96))
    monkeypatch.setitem(sys.modules["input_pipeline"].STORED, "target", (51, 102))
    benchmark.main(["--backbone", "resnet18", "--height", "36", "--width", "64", "--repeats", "1", "--images", "2"])
    printed = capsys.readouterr().out
    for phase in (*benchmark.PHASES, "ours, prepared"):
        assert f"│ {phase} " in printed
    assert "target: 1.2 times" in printed
    assert "measured:" in printed
