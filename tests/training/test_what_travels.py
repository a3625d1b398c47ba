"""What processes tell each other in an acquisition: candidates and picks, never a map as large as an image."""

import json
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from test_any_ranks import on_ranks, rounds, start
from torch.distributed import ProcessGroup

import tiny
from ripu_lightning.acquisition import Budget, Strategy, Superpixel, get_strategy
from ripu_lightning.data import ActiveDataModule

IMAGES, PICKS = 6, 4
SIZES = ((96, 128), (192, 256))
SQUARES: dict[str, Callable[[], tuple[Strategy, Budget]]] = {
    "per image": lambda: (get_strategy("ripu"), Budget(clicks=PICKS, rounds=1)),
    "per pool": lambda: (get_strategy("ripu"), Budget(clicks=PICKS * IMAGES, per="pool", rounds=1)),
}
OTHERS: dict[str, Callable[[], tuple[Strategy, Budget]]] = {
    "statistics of the source": lambda: (get_strategy("core_set"), Budget(images=2, per="pool", rounds=1)),
    "superpixels": lambda: (
        get_strategy("mulactseg", region_type=Superpixel(40, compactness=100)),
        Budget(regions=PICKS, per="pool", rounds=1),
    ),
}
COLLECTIVES = (
    *("broadcast", "allreduce", "allreduce_coalesced", "reduce", "allgather", "allgather_coalesced", "_allgather_base"),
    *("gather", "scatter", "reduce_scatter", "_reduce_scatter_base", "alltoall", "alltoall_base", "send"),
)
"""All that torch.distributed does with tensors passes through one of these, objects as their pickles."""


def tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from tensors(each)


class Weigh(Callback):
    """Notes the bytes that each rank hands to others or takes from them in an acquisition."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bytes = folder, 0

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        for name in COLLECTIVES:
            setattr(ProcessGroup, name, self.weighed(getattr(ProcessGroup, name)))
        found = {}
        for name, make in {**SQUARES, **OTHERS}.items():
            weights = []
            for height, width in SIZES:
                target = tiny.Blocks("target!", IMAGES, height, width)
                data = ActiveDataModule(tiny.Blocks("source", 3, height, width), target, None)
                self.bytes = 0
                queried = rounds(trainer, module, data, *make(), self.folder / f"{name} {height}")
                weights.append(self.bytes)
            found[name] = {"bytes": weights, "queries": sum(len(query.centres) for query in queried[0])}
        (self.folder / f"rank_{trainer.global_rank}.json").write_text(json.dumps(found))

    def weighed(self, collective: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(collective)
        def weighing(group: ProcessGroup, *arguments: Any, **options: Any) -> Any:
            self.bytes += sum(each.nbytes for each in tensors([*arguments, *options.values()]))
            return collective(group, *arguments, **options)

        return weighing


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes noted."""
    folder = tmp_path_factory.mktemp("weighed")
    start(__file__, folder)
    return [json.loads((folder / f"rank_{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("name", [*SQUARES, *OTHERS])
def test_less_travels_than_the_smallest_map_of_one_image(ranks: list[dict[str, Any]], name: str) -> None:
    assert ranks[0][name]["queries"] > 0
    for rank in ranks:
        assert 0 < rank[name]["bytes"][1] < SIZES[1][0] * SIZES[1][1]


@pytest.mark.parametrize("name", SQUARES)
def test_what_travels_does_not_grow_with_the_size_of_an_image(ranks: list[dict[str, Any]], name: str) -> None:
    for rank in ranks:
        small, large = rank[name]["bytes"]
        assert abs(small - large) < 100, f"{small} and {large} bytes"  # integers of a pickle may need a byte more


if __name__ == "__main__":
    on_ranks(Path(sys.argv[1]), 2, Weigh(Path(sys.argv[1])))
