"""The acquisition compared with a plain transcription of its formulas: equal picks, the speed-up and the memory.

The transcription sums squares by depthwise convolutions with a kernel of ones and takes one argmax over the full map
for each pick. It is timed with its one-hot map in both memory layouts, which matter most for the convolutions' speed.

python benchmarks/acquisition.py [--device cuda] [--images 2975] [--quick]
"""

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as NF
from tqdm import tqdm

from ripu_lightning.acquisition import Budget, Scored, ScoreInputs, Square, get_strategy, round_selection, select
from ripu_lightning.acquisition import functional as F
from ripu_lightning.acquisition.clustering import k_centre
from ripu_lightning.networks import DeepLabV2
from ripu_lightning.testing import Pool

CLASSES, HEIGHT, WIDTH = 19, 1024, 2048
RATIO, ROUNDS, POINTS = 0.022, 5, 21
CASES = {"RA, k = 1": ("region", 1), "RA, k = 9": ("region", 9), "PA, k = 32": ("point", 32)}
Picker = Callable[[Tensor], list[list[int]]]


def draw_logits(device: str) -> Tensor:
    """Logits as smooth as a network's of stride 16, resized."""
    generator = torch.Generator().manual_seed(0)
    coarse = 2 * torch.randn((1, CLASSES, HEIGHT // 16, WIDTH // 16), generator=generator)
    return NF.interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear", align_corners=True).to(device)


def plan(kind: str, radius: int) -> tuple[int, int, int]:
    """Picks of a round, radius that a pick labels, radius that it excludes."""
    if kind == "point":
        return POINTS, 0, radius
    return math.ceil(HEIGHT * WIDTH * RATIO / ROUNDS / (2 * radius + 1) ** 2), radius, 2 * radius


def ours(logits: Tensor, kind: str, radius: int) -> list[list[int]]:
    """The library's picks."""
    count, labels, blocks = plan(kind, radius)
    scores = F.ripu(logits, radius)[0] if kind == "region" else F.ripu_point(logits, radius)[0]
    available = torch.ones(scores.shape, dtype=torch.bool, device=scores.device)
    return select(scores, available, count, labels, blocks).centres.tolist()


def plain(logits: Tensor, kind: str, radius: int, channels_last: bool) -> list[list[int]]:
    """The formulas written down."""
    p = logits.softmax(dim=1)
    entropy = -(p * p.clamp_min(1e-30).log()).sum(dim=1, keepdim=True)
    one_hot = NF.one_hot(logits.argmax(dim=1), CLASSES).permute(0, 3, 1, 2).float()
    if not channels_last:
        one_hot = one_hot.contiguous()
    counts = box_sum(one_hot, radius)
    pixels = counts.sum(dim=1, keepdim=True)
    share = counts / pixels
    impurity = -(share * share.clamp_min(1e-30).log()).sum(dim=1)
    if kind == "region":
        scores = impurity * (box_sum(entropy, radius) / pixels)[:, 0] / math.log(CLASSES) ** 2
    else:
        scores = impurity * entropy[:, 0]
    count, _, blocks = plan(kind, radius)
    return argmax_loop(scores[0], count, blocks)


def box_sum(maps: Tensor, radius: int) -> Tensor:
    """Sums over squares, by a depthwise convolution."""
    channels, side = maps.shape[1], 2 * radius + 1
    kernel = torch.ones((channels, 1, side, side), device=maps.device)
    return NF.conv2d(maps, kernel, padding=radius, groups=channels)


def argmax_loop(scores: Tensor, count: int, blocks: int) -> list[list[int]]:
    """One argmax over the full map a pick."""
    scores, picks = scores.clone(), []
    for _ in range(count):
        row, column = divmod(int(scores.argmax()), scores.shape[1])
        picks.append([row, column])
        top, left = max(row - blocks, 0), max(column - blocks, 0)
        scores[top : row + blocks + 1, left : column + blocks + 1] = -math.inf
    return picks


def seconds(call: Callable[[], object], tries: int, device: str) -> float:
    """The least of a few wall times."""
    times = []
    for _ in range(tries):
        start = time.perf_counter()
        call()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)


class Peak:
    """Bytes at the highest point above the start."""

    above = 0


@contextmanager
def measured(device: str) -> Iterator[Peak]:
    """Peak memory inside the block: of the process (Linux), or of the CUDA device."""
    peak = Peak()
    if device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
        start = status("VmRSS")
        yield peak
        peak.above = status("VmHWM") - start
    else:
        torch.cuda.reset_peak_memory_stats()
        start = torch.cuda.memory_allocated()
        yield peak
        peak.above = torch.cuda.max_memory_allocated() - start


def status(name: str) -> int:
    """A line of the kernel's account of this process, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def compare(device: str, quick: bool) -> Table:
    """Score and select: picks, times, ratios, memory."""
    logits = draw_logits(device)
    size = logits.numel() * logits.element_size()
    table = Table(
        *("case", "picks", "ours, ms", "plain, ms", "ratio", "plain, channels last, ms", "ratio"),
        "peak above the logits",
        title=f"score + select, {CLASSES}x{HEIGHT}x{WIDTH} on {device}, {torch.get_num_threads()} threads",
    )
    for name, case in CASES.items():
        picks = ours(logits, *case)
        with measured(device) as peak:
            ours(logits, *case)
        row = [name, str(len(picks)), "", "", "", "", "", f"{peak.above / size:.2f} x the logits"]
        quickest = seconds(lambda case=case: ours(logits, *case), 7, device)
        row[2] = f"{1000 * quickest:.0f}"
        for column, channels_last in ((3, False), (5, True)):
            if quick and not channels_last and case[1] > 1:
                continue
            found: list[list[list[int]]] = []
            tries = 1 if case[1] > 1 else 3
            slow = seconds(
                lambda case=case, last=channels_last, found=found: found.append(plain(logits, *case, last)),
                tries,
                device,
            )
            if found[0] != picks:
                raise SystemExit(f"{name}: the picks differ")
            row[column], row[column + 1] = f"{1000 * slow:,.0f}", f"{slow / quickest:,.0f}"
        table.add_row(*row)
    return table


def pool_wide(images: int) -> tuple[float, int, int]:
    """Seconds, bytes held and peak bytes of one greedy selection over so many images' scores, 2.2% in five rounds."""
    scores = torch.rand((HEIGHT, WIDTH), generator=torch.Generator().manual_seed(0))
    strategy = Scored("given", lambda inputs: scores.roll(7919 * int(inputs.image_ids[0]))[None], Square(1))
    budget = Budget(ratio=RATIO, per="pool", rounds=ROUNDS)
    available, logits = torch.ones(scores.shape, dtype=torch.bool), scores.expand(1, 2, HEIGHT, WIDTH)
    pixels = images * HEIGHT * WIDTH
    one = round_selection(strategy, budget, 1, HEIGHT * WIDTH)
    one.add(0, ScoreInputs(logits, ["0"], 1, 0), available)  # allocates the memory that a single image needs
    with measured("cpu") as peak:
        start = time.perf_counter()
        selection = round_selection(strategy, budget, 1, pixels)
        for index in tqdm(range(images), desc="pool-wide", unit="image"):
            selection.add(index, ScoreInputs(logits, [str(index)], 1, 0), available)
        columns = [column for part in selection.candidates() for column in vars(part).values() if column is not None]
        held = sum(column.numel() * column.element_size() for column in columns)
        decided = selection.decide(selection.candidates())
        taken = time.perf_counter() - start
    if sum(len(picks.positions) for picks in decided.values()) != math.ceil(pixels * RATIO / ROUNDS / 9):
        raise SystemExit("pool-wide: the budget was not spent")
    return taken, held, peak.above


def pools(images: int) -> Table:
    """Pool-wide selection at growing sizes."""
    table = Table(
        "images", "picks", "s", "ms an image", "held, MB", "peak, MB", title="one greedy selection over the pool"
    )
    for count in sorted({images // 4, images // 2, images}):
        taken, held, peak = pool_wide(count)
        picks = math.ceil(count * HEIGHT * WIDTH * RATIO / ROUNDS / 9)
        table.add_row(
            f"{count:,}",
            f"{picks:,}",
            f"{taken:.1f}",
            f"{1000 * taken / count:.1f}",
            f"{held / 1e6:.0f}",
            f"{peak / 1e6:.0f}",
        )
    return table


def spread(quick: bool) -> Table:
    """RIPU's squares by k-centre in the last round of an image, and with a bounded budget of the pool."""
    table = Table(
        *("features", "candidates", "queried before", "picks", "k-centre, s", "plain loop, s", "ratio"),
        *("one image, s", "peak, MB", "pool, most=2: s an image"),
        title=f"ripu_diverse, {HEIGHT}x{WIDTH}, {RATIO:.1%} in {ROUNDS} rounds, {torch.get_num_threads()} threads",
    )
    logits, available = draw_logits("cpu"), torch.ones((HEIGHT, WIDTH), dtype=torch.bool)
    strategy, picks = get_strategy("ripu_diverse"), plan("region", 1)[0]
    for depth, stride in ((64, 4), (512, 8)):
        generator = torch.Generator().manual_seed(depth)
        features = torch.randn((1, depth, HEIGHT // stride, WIDTH // stride), generator=generator)
        inputs = ScoreInputs(logits, ["0"], ROUNDS, 0, features=features)
        positions = torch.randperm(HEIGHT * WIDTH, generator=generator)
        queried, others = positions[: 4 * picks], positions[4 * picks : 14 * picks]
        known, points = (
            strategy.describe(inputs, strategy.region_type.members(each, inputs.shape), len(each))
            for each in (queried, others)
        )
        found: list[list[int]] = []
        ours_s = seconds(lambda p=points, k=known, found=found: found.append(k_centre(p, picks, k)), 3, "cpu")
        row = [f"{depth} at stride {stride}", f"{len(points):,}", f"{len(known):,}", f"{picks:,}", f"{ours_s:.2f}"]
        if quick and depth > 64:
            row += ["", ""]
        else:
            plain_s = seconds(
                lambda p=points, k=known, found=found: found.append(plain_k_centre(p, picks, k)), 1, "cpu"
            )
            if found[0] != found[-1]:
                raise SystemExit(f"k-centre of {depth} features: the picks differ")
            row += [f"{plain_s:.1f}", f"{plain_s / ours_s:.1f}"]
        for budget, pixels in (
            (Budget(ratio=RATIO, rounds=ROUNDS), HEIGHT * WIDTH),
            (Budget(ratio=RATIO, rounds=ROUNDS, per="pool", most=2), 2975 * HEIGHT * WIDTH),
        ):
            selection = round_selection(strategy, budget, ROUNDS, pixels)
            with measured("cpu") as peak:
                add = partial(selection.add, 0, inputs, available, queried)
                row.append(f"{seconds(add, 1, 'cpu'):.2f}")
            row += [f"{peak.above / 1e6:.0f}"] if budget.per == "image" else []
        table.add_row(*row)
    return table


def plain_k_centre(points: Tensor, count: int, known: Tensor) -> list[int]:
    """The formula written down: a pass over all points for each centre, in float64."""
    points, known = points.double(), known.double()
    nearest = torch.full((len(points),), math.inf, dtype=torch.float64)
    for centre in known:
        nearest = torch.minimum(nearest, (points - centre).square_().sum(dim=1))
    picks: list[int] = []
    for _ in range(count):
        picks.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (points - points[picks[-1]]).square_().sum(dim=1))
        nearest[picks[-1]] = -1
    return picks


def strategies() -> Table:
    """The time of scoring without the network's passes."""
    table = Table("strategy", "requires", "score, ms an image", title=f"scores alone, {CLASSES}x{HEIGHT}x{WIDTH}")
    for name in (
        *("random", "entropy", "least_confidence", "margin", "impurity", "uncertainty", "ripu", "ripu_point"),
        *("pixelpick", "bald", "halo", "core_set", "mada", "mulactseg", "d2ada"),
    ):
        strategy, pool = get_strategy(name), Pool(images=3, classes=CLASSES, shape=(HEIGHT, WIDTH))
        pool.fit(strategy)
        inputs = pool.inputs(strategy, 0)
        requires = ", ".join(sorted(strategy.requires - {"logits"})) or "–"
        taken = seconds(lambda strategy=strategy, inputs=inputs: strategy.score(inputs), 3, "cpu")
        table.add_row(name, requires.replace("_", " "), f"{1000 * taken:.0f}")
    return table


def imports() -> str:
    """How much longer the acquisition takes to import than torch alone."""
    best = {}
    for module in ("torch", "ripu_lightning.acquisition"):
        command = [sys.executable, "-W", "ignore", "-c", f"import {module}"]
        best[module] = seconds(lambda command=command: subprocess.run(command, check=True), 5, "cpu")
    alone, whole = best.values()
    return f"import: torch {alone:.2f} s, ripu_lightning.acquisition {whole:.2f} s, {whole / alone:.2f} times"


def share_of_forward(device: str) -> str:
    """The acquisition as a share of DeepLab-v2's forward pass."""
    network = DeepLabV2(CLASSES).eval().to(device)
    image = torch.randn(1, 3, 640, 1280, device=device)
    with torch.no_grad():
        network(image)
        forward = seconds(lambda: network(image), 5, device)
    logits = draw_logits(device)
    parts = [
        f"{name} {seconds(lambda c=case: ours(logits, *c), 5, device) / forward:.0%}" for name, case in CASES.items()
    ]
    return f"share of DeepLab-v2's forward pass at 1280x640 ({1000 * forward:.0f} ms): {', '.join(parts)}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Acquisition against a plain transcription")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=200, help="largest pool of the pool-wide selection")
    parser.add_argument("--quick", action="store_true", help="leave out the plain cases that take minutes")
    arguments = parser.parse_args()
    console = Console(width=140)
    console.print(compare(arguments.device, arguments.quick))
    console.print(pools(arguments.images))
    console.print(spread(arguments.quick))
    console.print(strategies())
    console.print(imports())
    if arguments.device != "cpu":
        console.print(share_of_forward(arguments.device))


if __name__ == "__main__":
    main()
