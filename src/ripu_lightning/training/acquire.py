"""One acquisition: every rank scores its share of the pool, what is bought is decided, rank 0 receives the queries."""

import zlib

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from pytorch_lightning import LightningModule
from torch import Tensor

from ripu_lightning.acquisition import Budget, Picks, Shortlist, Strategy
from ripu_lightning.annotation import Query
from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.data.pools import Segmenter
from ripu_lightning.labels import LabelStore
from ripu_lightning.seeding import derive_seed
from ripu_lightning.training.modes import evaluating
from ripu_lightning.training.passes import Passes
from ripu_lightning.training.ranks import Ranks


def pick_queries(
    passes: Passes, datamodule: ActiveDataModule, store: LabelStore, budget: Budget, ranks: Ranks
) -> list[Query]:
    """The queries of a round about this rank's images; neither batches nor the number of ranks change them.

    Raises:
        UserError: the network's logits are not finite, or it lacks what the strategy needs.
    """
    module, strategy = passes.module, passes.strategy
    _share_buffers(module)
    segment = strategy.geometry.segment if strategy.geometry.segments else None
    sizes = [datamodule.target.size(index) for index in range(len(datamodule.target))]
    shortlist = Shortlist(strategy, budget, passes.round, sum(height * width for height, width in sizes))
    queries: list[Query] = []
    waiting: dict[int, bytes] = {}
    with evaluating(module):
        _fit(passes, datamodule, segment, ranks)
        for image in passes.run(datamodule.pool_dataloader(segment), strategy.name):
            index, regions = image.index, None if image.inputs.regions is None else image.inputs.regions[0].cpu()
            available = torch.from_numpy(store.available(image.image_id)).to(module.device)
            known = _taken(store, image.image_id, sizes[index][1]) if "features" in strategy.mode.needs else None
            shortlist.offer(index, image.inputs, available, None if known is None else known.to(module.device))
            if budget.per == "image":
                for picks in shortlist.decide([shortlist.parts.pop()]).values():
                    queries.append(_query(strategy, index, image.image_id, picks, sizes[index], regions))
            elif regions is not None:
                waiting[index] = _pack(regions)
    for index, picks in _decide(ranks, shortlist).items():
        if index in shortlist.offered:
            regions = _unpack(waiting[index], sizes[index]) if index in waiting else None
            queries.append(_query(strategy, index, datamodule.target.ids[index], picks, sizes[index], regions))
    return queries


def gather_queries(queries: list[Query], ranks: Ranks) -> list[Query]:
    """All ranks' queries on rank 0, in the order of the pool whatever the world size; elsewhere nothing."""
    gathered = ranks.gather(queries, "queries of a round")
    return sorted((query for part in gathered for query in part), key=lambda query: query.index)


def _share_buffers(module: LightningModule) -> None:
    """Give every rank the first one's buffers (BatchNorm's statistics): DDP does so only in its own forward passes."""
    if dist.is_available() and dist.is_initialized():
        for buffer in module.buffers():
            shared = buffer.contiguous()  # a broadcast ignores strides
            dist.broadcast(shared, src=0)
            if shared is not buffer:
                buffer.copy_(shared)


def _fit(passes: Passes, datamodule: ActiveDataModule, segment: Segmenter | None, ranks: Ranks) -> None:
    """The passes over source and pool whose summaries the strategy learns from; none where it needs none.

    Rank 0 learns for all: summaries of a large source are gigabytes.
    """
    strategy = passes.strategy
    loaders = {"source": datamodule.source_dataloader, "pool": datamodule.pool_dataloader}
    needed = [name for name in loaders if f"{name}_statistics" in strategy.needs]
    if not needed:
        return
    summaries: dict[str, list[Tensor]] = {"source": [], "pool": []}
    for name in needed:
        loader = loaders[name](segment if "regions" in strategy.needs else None)
        images = passes.run(loader, f"{strategy.name}, statistics of the {name}")
        summarized = [(image.index, strategy.summarize(image.inputs).cpu()) for image in images]
        gathered = ranks.gather(summarized, f"statistics of the {name}")
        # In the order of the data: sums then do not depend on who computed what.
        rows = sorted((row for part in gathered for row in part), key=lambda row: row[0])
        summaries[name] = [summary for _, summary in rows]
    if ranks.rank == 0:
        strategy.fit(summaries["source"], summaries["pool"], derive_seed(passes.seed, "fit", passes.round))
    if ranks.size > 1:
        strategy.load_state_dict(ranks.share(strategy.state_dict(), "fitting the strategy"))


def _decide(ranks: Ranks, shortlist: Shortlist) -> dict[int, Picks]:
    """What the images of all ranks are asked, for a budget of the pool: rank 0 decides for all."""
    if shortlist.budget.per == "image":
        return {}
    gathered = ranks.gather(shortlist.parts, "candidates of a round")
    return ranks.share(shortlist.decide([part for parts in gathered for part in parts]), "picks of a round")


def _query(
    strategy: Strategy, index: int, image_id: str, picks: Picks, size: tuple[int, int], regions: Tensor | None
) -> Query:
    outline = strategy.geometry.outline(picks.positions, size, regions)
    centres = torch.stack((picks.positions // size[1], picks.positions % size[1]), dim=1)
    return Query(
        index=index,
        image_id=image_id,
        centres=_int32(centres),
        boxes=_int32(outline.boxes),
        inside=None if outline.inside is None else outline.inside.numpy(),
        scores=picks.scores.float().numpy(),
    )


def _taken(store: LabelStore, image_id: str, width: int) -> Tensor:
    """Flat positions of all centres bought of an image so far."""
    found = [store.answers(image_id, entry.number) for entry in store.rounds]
    centres = [answers.centres.astype(np.int64) for answers in found if answers is not None]
    flat = np.concatenate([np.empty(0, dtype=np.int64), *(each[:, 0] * width + each[:, 1] for each in centres)])
    return torch.from_numpy(flat)


def _pack(regions: Tensor) -> bytes:
    """A map of regions in 2 to 3% of its size: those of a whole pool must wait until it is decided what is bought."""
    return zlib.compress(regions.cpu().numpy().astype(np.int32).tobytes(), level=1)


def _unpack(packed: bytes, size: tuple[int, int]) -> Tensor:
    flat = np.frombuffer(zlib.decompress(packed), dtype=np.int32)
    return torch.from_numpy(flat.astype(np.int64)).reshape(size)


def _int32(values: Tensor) -> npt.NDArray[np.int32]:
    return values.numpy().astype(np.int32)
