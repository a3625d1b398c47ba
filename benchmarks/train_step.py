"""Our training step against the published recipe: the same network, weights and batch, in one run.

Lightning's own fit runs our steps, and a plain step (``plain_recipe.py``) follows each, so that both meet the machine
in the same state; times are the least of all repetitions. ``input_pipeline.py`` does the same for the data.

python benchmarks/train_step.py [--full] [--network deeplab_v3plus] [--device cuda]
"""

import argparse
import logging
import platform
import time
import warnings
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from pytorch_lightning import Callback, Trainer
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from input_pipeline import compare_pipelines
from plain_recipe import IGNORE, PlainStep, full_logits, plain_network, source_losses, target_losses
from ripu_lightning.cli.compose import conf_dir
from ripu_lightning.data.pools import TrainBatch
from ripu_lightning.data.streets import Streets
from ripu_lightning.data.transforms import Transform
from ripu_lightning.losses import StepOutputs
from ripu_lightning.networks import DeepLabV2, DeepLabV3Plus
from ripu_lightning.networks.resize import resize_logits
from ripu_lightning.training import SegmentationModule

CLASSES, LABELLED = 19, 0.022
PHASES = ("data", "forward", "losses", "losses, backward", "backward", "optimizer")
Batch = dict[str, TrainBatch]
Sizes = dict[str, tuple[int, int]]


class Clock:
    """Seconds of a step by phase. On a GPU its own events are read, which do not make the host wait."""

    def __init__(self, device: torch.device) -> None:
        self.cuda, self.steps = device.type == "cuda", []
        self.start()

    def start(self) -> None:
        """Begin a step."""
        if self.cuda:
            torch.cuda.synchronize()
        self._marks = [("", self._now())]

    def mark(self, phase: str) -> None:
        """What happened since the last mark was ``phase``."""
        self._marks.append((phase, self._now()))

    def stop(self) -> None:
        """End a step."""
        if self.cuda:
            torch.cuda.synchronize()
        step: dict[str, float] = defaultdict(float)
        for (_, before), (phase, after) in zip(self._marks, self._marks[1:], strict=False):
            step[phase] += before.elapsed_time(after) / 1000 if self.cuda else after - before
        self.steps.append(dict(step))

    def _now(self) -> Any:
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def best(self) -> dict[str, float]:
        """The least time of every phase; the first step warms up."""
        return {phase: min(step[phase] for step in self.steps[1:]) for phase in PHASES}


class Alternate(Callback):
    """Times each of Lightning's steps by phase, and a plain step after it."""

    def __init__(self, plain: PlainStep, batch: Batch, device: torch.device) -> None:
        self.plain, self.batch = plain, batch
        self.ours_clock, self.plain_clock = Clock(device), Clock(device)

    def on_train_start(self, trainer: Trainer, pl_module: SegmentationModule) -> None:
        """Learn when the network is done and the losses begin."""
        pl_module.losses.register_forward_pre_hook(self._forward_done)
        self.ours_clock.start()

    def on_train_batch_start(self, trainer: Trainer, pl_module: SegmentationModule, batch: Batch, *_: Any) -> None:
        """The batch is on the device; its labelled part is the target, as ActiveDataModule makes it."""
        batch["labelled"] = batch["target"]
        self.ours_clock.mark("data")

    def _forward_done(self, losses: nn.Module, arguments: tuple[StepOutputs]) -> None:
        self.ours_clock.mark("forward")
        # The target came last, so autograd enters its part of the network first, once all losses are behind it.
        arguments[0].target_logits.register_hook(lambda _: self.ours_clock.mark("losses, backward"))

    def on_before_zero_grad(self, *_: Any) -> None:
        """The losses are computed."""
        self.ours_clock.mark("losses")

    def on_before_backward(self, *_: Any) -> None:
        """The old gradients are gone."""
        self.ours_clock.mark("optimizer")

    def on_after_backward(self, *_: Any) -> None:
        """The gradients are there."""
        self.ours_clock.mark("backward")

    def on_train_batch_end(self, *_: Any) -> None:
        """Our step is over; run a plain one."""
        self.ours_clock.mark("optimizer")
        self.ours_clock.stop()
        self.plain_clock.start()
        self.plain(self.batch, self.plain_clock.mark)
        self.plain_clock.stop()
        self.ours_clock.start()


def draw_batch(sizes: Sizes, count: int) -> Batch:
    """Drawn streets ``(count, 3, H, W)`` with source labels in full and a few target labels."""
    torch.manual_seed(0)
    batch = {}
    for domain, (height, width) in sizes.items():
        streets = Streets(domain, "benchmark", count, height, width)
        samples = [Transform()(streets.image(index), streets.label(index), 0) for index in range(count)]
        images, labels = map(torch.stack, zip(*samples, strict=True))
        if domain == "target":
            labels[torch.rand(labels.shape) > LABELLED] = IGNORE
        batch[domain] = TrainBatch(image=images, label=labels)
    if "target" in batch:
        batch["labelled"] = batch["target"]  # the same object: one forward pass serves both
    return batch


def build_module(network: str, backbone: str) -> SegmentationModule:
    """The published recipe's module; random weights whose activations keep their scale."""
    torch.manual_seed(0)
    built = {
        "deeplab_v2": lambda: DeepLabV2(CLASSES, backbone),
        "deeplab_v3plus": lambda: DeepLabV3Plus(CLASSES, backbone, dropout=0.0),
    }[network]()
    for child in built.modules():
        if isinstance(child, _BatchNorm):
            child.momentum = None  # the statistics of a single batch, kept from then on
    with torch.no_grad():
        built.train()(draw_batch({"source": (96, 160)}, 8)["source"]["image"])
    config = OmegaConf.create({"class_weights": None, "parity": {"boundary": "official"}})  # as published
    config.loss = OmegaConf.load(conf_dir() / "loss" / "ripu.yaml")
    classes = [f"class {index}" for index in range(CLASSES)]
    return SegmentationModule(built, instantiate(config.loss), classes, batchnorm="frozen")


def check_equal(module: SegmentationModule, network: nn.Module, batch: Batch) -> float:
    """The largest relative difference between the losses of both sides on the same weights, in single precision.

    Raises:
        SystemExit: where it is above 1e-4.
    """
    (images, labels), (target_images, target_labels) = (
        (part["image"].to(module.device), part["label"].to(module.device))
        for part in (batch["source"], batch["target"])
    )
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
        source, target = (resize_logits(module(inputs).logits, inputs.shape[-2:]) for inputs in (images, target_images))
        ours = module.losses(StepOutputs(source, labels, *(target, target_labels) * 2))[1]
        plain = (
            *source_losses(full_logits(network, images), labels.long()),
            *target_losses(full_logits(network, target_images), target_labels.long()),
        )
    names = ("source_ce", "local_consistency", "target_ce", "negative_learning")
    worst = max(abs(float(ours[name]) / float(value) - 1) for name, value in zip(names, plain, strict=True))
    if not worst < 1e-4:
        raise SystemExit(f"the losses differ by {worst:.1e}: {ours} and {plain}")
    return worst


def run_steps(module: SegmentationModule, plain: PlainStep, batch: Batch, arguments: argparse.Namespace) -> Alternate:
    """Warm up with one step each, then time as many as wanted."""
    cuda = arguments.device == "cuda"
    alternate = Alternate(plain, batch, torch.device(arguments.device))
    trainer = Trainer(
        accelerator="gpu" if cuda else "cpu",
        devices=1,
        precision=arguments.precision,
        max_steps=arguments.repeats + 1,
        callbacks=[alternate],
        **dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False),
    )
    loaded = {domain: batch[domain] for domain in ("source", "target")}  # what is loaded, each once
    batches = DataLoader([loaded] * trainer.max_steps, batch_size=None, pin_memory=cuda)
    trainer.fit(module, batches)
    return alternate


def step_table(ours: Mapping[str, float], plain: Mapping[str, float], title: str) -> Table:
    """Milliseconds of every phase and in all."""
    table = Table("phase", "ours, ms", "plain, ms", "ratio", title=title)
    rows = [(phase, ours[phase], plain[phase]) for phase in PHASES]
    for name, quick, slow in (*rows, ("step", sum(ours.values()), sum(plain.values()))):
        table.add_row(name, f"{1000 * quick:,.1f}", f"{1000 * slow:,.1f}", f"{slow / quick:.2f}")
    return table


def report_step(arguments: argparse.Namespace, sizes: Sizes, console: Console) -> float:
    """Time the steps and print them; returns our images per second."""
    batch = draw_batch(sizes, arguments.batch)
    module = build_module(arguments.network, arguments.backbone).to(arguments.device)
    network = plain_network(module.network)
    worst = check_equal(module, network, batch)
    if arguments.compile:
        module.network.compile()
    alternate = run_steps(module, PlainStep(network), batch, arguments)
    ours, plain = alternate.ours_clock.best(), alternate.plain_clock.best()
    title = f"{arguments.network}, {arguments.backbone}, {arguments.batch}+{arguments.batch} images, " + ", ".join(
        f"{domain} {width}x{height}" for domain, (height, width) in sizes.items()
    )
    console.print(step_table(ours, plain, title))
    rates = [2 * arguments.batch / sum(side.values()) for side in (ours, plain)]
    share = (ours["losses"] + ours["losses, backward"]) / sum(ours.values())
    console.print(f"losses agree to {worst:.0e}; images/s: ours {rates[0]:.2f}, plain {rates[1]:.2f}")
    target = "2.5 times on a GPU" if arguments.device == "cuda" else "1.2 times, losses under 15%, on a CPU"
    console.print(f"target: {target}; measured: {rates[0] / rates[1]:.2f} times, losses {share:.1%} of the step")
    return rates[0]


def machine(arguments: argparse.Namespace) -> str:
    """Where and how this was measured."""
    where = torch.cuda.get_device_name() if arguments.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    how = f"ours in {arguments.precision}{', compiled' if arguments.compile else ''}"
    return f"{where}, torch {torch.__version__}, Python {platform.python_version()}; {how}, plain in 32-true"


def parse(words: list[str] | None) -> argparse.Namespace:
    """The command line, with what depends on the device filled in."""
    parser = argparse.ArgumentParser(description="Our training step and input pipeline against the published recipe")
    parser.add_argument("--network", choices=("deeplab_v2", "deeplab_v3plus"), default="deeplab_v2")
    parser.add_argument("--backbone", default="resnet101")
    parser.add_argument("--height", type=int, default=180, help="of source images; target images are 8/9 as high")
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--full", action="store_true", help="the published 1280x720 and 1280x640")
    parser.add_argument("--batch", type=int, default=2, help="images of each domain")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", help="of our step: 32-true, 16-mixed or bf16-mixed (on a GPU)")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="our network (on a GPU)")
    parser.add_argument("--images", type=int, default=8, help="PNG files of each domain to read; 0: only the step")
    arguments = parser.parse_args(words)
    if arguments.full:
        arguments.height, arguments.width = 720, 1280
    if arguments.precision is None:
        arguments.precision = "bf16-mixed" if arguments.device == "cuda" else "32-true"
    if arguments.compile is None:
        arguments.compile = arguments.device == "cuda"
    return arguments


def main(words: list[str] | None = None) -> None:
    """Print the tables."""
    arguments = parse(words)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    console = Console(width=120)
    console.print(machine(arguments))
    sizes = {
        "source": (arguments.height, arguments.width),
        "target": (arguments.height * 8 // 9, arguments.width),
    }
    rate = report_step(arguments, sizes, console)
    if arguments.images:
        compare_pipelines(sizes, arguments.batch, arguments.images, rate, console)


if __name__ == "__main__":
    main()
