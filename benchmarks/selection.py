"""Selection against the plain greedy loop of full-map argmaxes: same picks, and how many times quicker.

python benchmarks/selection.py [--device cuda]
"""

import argparse
import math
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ripu_lightning.acquisition import functional as F
from ripu_lightning.acquisition import select

HEIGHT, WIDTH = 1024, 2048
RATIO, ROUNDS = 0.022, 5


def plain_loop(scores: Tensor, available: Tensor, count: int, exclusion: int) -> list[list[int]]:
    """One argmax over the whole map a pick."""
    masked, picks = scores.masked_fill(~available, -torch.inf), []
    for _ in range(count):
        row, column = divmod(int(masked.argmax()), scores.shape[1])
        picks.append([row, column])
        top, left = max(row - exclusion, 0), max(column - exclusion, 0)
        masked[top : row + exclusion + 1, left : column + exclusion + 1] = -torch.inf
    return picks


def best_of(call: Callable[[], object], tries: int, device: str) -> float:
    """The least of a few wall times, in seconds."""
    times = []
    for _ in range(tries):
        start = time.perf_counter()
        call()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn((1, 19, HEIGHT // 16, WIDTH // 16), generator=generator)
    logits = torch.nn.functional.interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear", align_corners=True).to(device)
    available = torch.ones((HEIGHT, WIDTH), dtype=torch.bool, device=device)
    region = {k: math.ceil(HEIGHT * WIDTH * RATIO / ROUNDS / (2 * k + 1) ** 2) for k in (1, 9)}
    cases = {
        "ripu, k=1": (F.ripu(logits, 1)[0], region[1], 1, 2),
        "ripu, k=9": (F.ripu(logits, 9)[0], region[9], 9, 18),
        "ripu_point, k=32": (F.ripu_point(logits, 32)[0], 21, 0, 32),
    }
    table = Table("case", "picks", "select, ms", "plain loop, ms", "ratio", title=f"{WIDTH}x{HEIGHT} on {device}")
    for name, (scores, count, radius, exclusion) in cases.items():
        ours = select(scores, available, count, radius, exclusion).centres.tolist()
        if ours != plain_loop(scores, available, count, exclusion):
            raise SystemExit(f"{name}: the picks differ")
        quick = best_of(lambda case=(scores, available, count, radius, exclusion): select(*case), 7, device)
        slow = best_of(lambda case=(scores, available, count, exclusion): plain_loop(*case), 2, device)
        table.add_row(name, str(count), f"{1000 * quick:.1f}", f"{1000 * slow:.0f}", f"{slow / quick:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
