"""Runs in memory, as they are read for a report: for tests of what is said of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from run_folders import PROTOCOL

from ripu_lightning.report.page.comparable_groups import group_runs
from ripu_lightning.report.page.group_statistics import GroupStatistics
from ripu_lightning.report.page.run_folder import CurvePoint, Run
from ripu_lightning.report.result import Result

SEEDS = (1, 2, 3)


def drawn_run(
    strategy: str,
    seed: int,
    curve: Sequence[float],
    *,
    kind: str = "queried",
    amount: float = 0.02,
    share: float | None = None,
    per: str = "image",
    stages: bool = True,
    **config: Any,
) -> Run:
    """A run of a curve of mIoU, whose rounds query alike, and ``share`` of the pool (``amount``) in the end."""
    rounds = len(curve) - 1
    share = {"all": 1.0, "none": 0.0}.get(kind, amount if share is None else share)
    budget = {"unit": "ratio", "amount": amount, "per": per, "rounds": rounds, "rounds_done": rounds, "pixels": 1}
    budget |= {"all": {"unit": "all", "amount": None}, "none": {"unit": None, "amount": None}}.get(kind, {})
    iou = dict.fromkeys(PROTOCOL["classes"], curve[-1])
    result = Result(
        name="made",
        code={"version": "1", "commit": None},
        config="cd" * 32,
        protocol=PROTOCOL,
        budget={**budget, "share": share},
        strategy=strategy if kind == "queried" else None,
        seed=seed,
        miou=curve[-1],
        subsets={},
        pixel_accuracy=0.9,
        class_accuracy=0.9,
        iou=iou,
    )
    settings = {"seed": seed, "strategy": {"_target_": strategy}, "network": {"_target_": "n.Net"}, **config}
    settings["budget"] = {"ratio": amount, "per": per, "rounds": rounds, **config.get("budget", {})}
    shares = [share * number / max(1, rounds) for number in range(rounds + 1)]
    table = [CurvePoint(number, shares[number], value, dict.fromkeys(iou, value)) for number, value in enumerate(curve)]
    return Run(Path("/runs"), result, table if stages else [], None, {}, settings, None, [])


def seeds_of(strategy: str, *finals: float, start: float = 0.2, **settings: Any) -> list[Run]:
    """A run of two rounds for each final mIoU, seeds 1, 2, ..."""
    curves = [[start, (start + final) / 2, final] for final in finals]
    return [drawn_run(strategy, seed, curve, **settings) for seed, curve in enumerate(curves, start=1)]


def references(kind: str, *finals: float) -> list[Run]:
    """Runs on all labels or on none."""
    return [drawn_run("", seed, [final], kind=kind) for seed, final in enumerate(finals, start=1)]


def statistics_of(*runs: Sequence[Run]) -> GroupStatistics:
    """Of runs that are one group."""
    (group,) = group_runs([run for part in runs for run in part])
    return GroupStatistics(group)
