"""The result file: what one training run or evaluation reached, and all that a comparison must know of it.

It needs neither torch nor Lightning, so that results are read quickly.
"""

import json
import math
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, TypedDict

from ripu_lightning.errors import UserError
from ripu_lightning.report.json_records import Amount, Count, Share, checked, read_record, write_record
from ripu_lightning.untrusted import SMALL, is_line
from ripu_lightning.version import __version__

NAME = "result.json"
IDLE = ("trainer.accelerator", "trainer.strategy", "trainer.log_every_n_steps", "trainer.enable_progress_bar")
"""Keys of the trainer that change no figure."""
RECIPE = ("trainer.accumulate_grad_batches", "trainer.gradient_clip_val")
"""Keys of the trainer that are part of how a network is trained: a run cannot resume with others."""
_FREE = {"trainer", "logger", "pictures", "per_class", "output", "name", "compile", "checkpoint_every", "rank_patience"}
_FREE |= {"root_variables", "extend_pool"}  # where data are, see the recorded config; which of them are new
_PLACES = {"data.num_workers", "data.eval_batch_size", "data.cache", "data.memory"}
_PLACES |= {"annotator.folder", "annotator.partial"}
_COLOURS = re.compile(r"data\..*\.classes\.colors")


class Protocol(TypedDict):
    """What figures must share to be compared, see :func:`~ripu_lightning.evaluation.protocol_of`."""

    classes: list[str]
    subsets: dict[str, list[str]]
    images: Count
    data: str | None
    input_size: list[int] | None
    inference: dict[str, Any]
    precision: str


class BudgetSpent(TypedDict):
    """A budget, its rounds that are done, and the queried ``pixels`` with their ``share`` of the pool."""

    unit: str | None
    amount: Amount | None
    per: str | None
    rounds: Count | None
    rounds_done: Count | None
    pixels: Count | None
    share: Share | None


class _Labelling(TypedDict):
    strategy: str | None
    budget: BudgetSpent


class Labelling(_Labelling, total=False):
    """The strategy's name, None where nothing is queried, what was spent, and how that departs from the budget."""

    warnings: list[str]


UNKNOWN_LABELLING: dict[str, Any] = {"strategy": None, "budget": dict.fromkeys(sorted(BudgetSpent.__annotations__))}
"""Of a network that was trained elsewhere."""


@dataclass(frozen=True)
class Result:
    """What ``result.json`` holds.

    Attributes:
        name: of the run.
        code: ``version`` of the package, and ``commit`` of its git checkout (ending in ``-dirty`` where files were
            changed since), null where it is in none.
        config: :func:`digest` of the run's config.
        protocol: see :class:`Protocol`; null where nothing was evaluated: all figures are null then.
        budget: see :class:`BudgetSpent`.
        strategy: its name; null where nothing is queried.
        seed: of the run.
        miou: mean IoU over all classes, 0..1, as all figures; null where nothing was counted.
        subsets: mean IoU over each of the protocol's subsets.
        pixel_accuracy: share of pixels that are right.
        class_accuracy: mean over the classes of the share of their pixels that are found.
        iou: by class; null for a class without truth in the evaluation data, which no mean counts.
        warnings: how the labelled amount departs from the budget, one line each.
    """

    name: str
    code: dict[str, str | None]
    config: str
    protocol: Protocol | None
    budget: BudgetSpent
    strategy: str | None
    seed: int
    miou: Share | None
    subsets: dict[str, Share | None]
    pixel_accuracy: Share | None
    class_accuracy: Share | None
    iou: dict[str, Share | None]
    warnings: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write ``result.json`` into a folder in one step. Raises UserError where it cannot be written."""
        write_record(self, folder / NAME)


def read_result(path: Path) -> Result:
    """The result in a file.

    Raises:
        UserError: it cannot be read, or is no result file.
    """
    result = read_record(path, Result, SMALL)
    budget = result.budget
    consistent = (
        _has_figures_of(result, result.protocol)
        and set(result.code) == {"version", "commit"}
        and (not budget["rounds"] or None not in (budget["unit"], budget["amount"]))
    )
    if not consistent:
        raise UserError(f"{path}: not a complete result file; write it again with ripu-train or ripu-evaluate")
    return result


def _has_figures_of(result: Result, protocol: Protocol | None) -> bool:
    if protocol is None:
        figures = (result.miou, result.pixel_accuracy, result.class_accuracy)
        return not result.iou and not result.subsets and figures == (None, None, None)
    title = protocol["inference"].get("title")
    return (
        list(result.iou) == protocol["classes"]
        and list(result.subsets) == list(protocol["subsets"])
        and all(set(members) <= set(result.iou) for members in protocol["subsets"].values())
        and len(protocol["input_size"] or [0, 0]) == 2
        and isinstance(title, str)
        and is_line(title)
    )


def is_labelling(content: object) -> bool:
    """Whether a value is a :class:`Labelling`, as checkpoints hold it."""
    try:
        checked(Labelling, content)
    except (ValueError, TypeError):
        return False
    return True


def make_result(
    config: Mapping[str, Any], labelling: Mapping[str, Any], protocol: Any, figures: Mapping[str, float]
) -> Result:
    """The result of one evaluation.

    Args:
        config: of the run that trained the network, resolved, as plain containers.
        labelling: see :class:`Labelling`.
        protocol: see :class:`Protocol`; None where nothing was counted.
        figures: what the evaluation counted: ``miou``, ``miou_SUBSET``, accuracies, ``iou/CLASS``.
    """
    values = {name: None if math.isnan(value) else float(value) for name, value in figures.items()}
    subsets, classes = (protocol["subsets"], protocol["classes"]) if protocol else ((), ())
    return Result(
        name=str(config["name"]),
        code=code_version(),
        config=digest(config),
        protocol=protocol,
        budget=labelling["budget"],
        strategy=labelling["strategy"],
        seed=int(config["seed"]),
        miou=values.get("miou"),
        subsets={name: values[f"miou_{name}"] for name in subsets},
        pixel_accuracy=values.get("pixel_accuracy"),
        class_accuracy=values.get("class_accuracy"),
        iou={name: values[f"iou/{name}"] for name in classes},
        warnings=list(labelling.get("warnings", [])),
    )


def decisive(config: Mapping[Any, Any]) -> dict[str, object]:
    """A config as ``{"group.key": value}``, without the keys that do not change what a run reaches."""
    flat = _flat(config)
    return {
        key: value
        for key, value in flat.items()
        if key in RECIPE or (key.split(".")[0] not in _FREE and key not in _PLACES and not _COLOURS.fullmatch(key))
    }


def reached_with(config: Mapping[Any, Any]) -> dict[str, object]:
    """:func:`decisive`, and the trainer's keys that count although a run may resume with others, as precision."""
    trainer = {key: value for key, value in _flat(config).items() if key.split(".")[0] == "trainer"}
    return {**decisive(config), **{key: value for key, value in trainer.items() if not key.startswith(IDLE)}}


def digest(config: Mapping[str, Any]) -> str:
    """SHA-256 of :func:`reached_with` without ``data.*.root``: the same data are elsewhere on another machine."""
    ours = {key: value for key, value in reached_with(config).items() if not re.fullmatch(r"data\..*\.root", key)}
    return sha256(json.dumps(ours, sort_keys=True, default=str).encode()).hexdigest()


def _flat(config: Mapping[Any, Any]) -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, child in config.items():
        if isinstance(child, Mapping):
            flat |= {f"{key}.{name}": value for name, value in _flat(child).items()}
        else:
            flat[str(key)] = child
    return flat


@cache
def code_version() -> dict[str, str | None]:
    """Version of the package, and commit of the checkout that holds it, as they are at the first call."""
    return {"version": __version__, "commit": _commit()}


def _commit() -> str | None:
    git = ["git", "-C", str(Path(__file__).parent)]
    # An installed package may be inside somebody else's checkout: only a file that git tracks belongs to ours.
    tracked = [*git, "ls-files", "--error-unmatch", Path(__file__).name]
    describe = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        subprocess.run(tracked, check=True, capture_output=True)
        return subprocess.run(describe, check=True, capture_output=True, text=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None
