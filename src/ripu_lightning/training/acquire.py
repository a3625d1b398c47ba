"""One acquisition: every rank scores its share of the pool, the queries are selected, and rank 0 receives them."""

import zlib
from dataclasses import replace
from inspect import signature
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from pytorch_lightning import LightningModule
from torch import Tensor

from ripu_lightning.acquisition import (
    Answered,
    Budget,
    Picks,
    RoundSelection,
    ScoreInputs,
    Strategy,
    round_selection,
)
from ripu_lightning.annotation import Query
from ripu_lightning.errors import UserError
from ripu_lightning.labels import NOT_QUERIED, VOID, LabelStore
from ripu_lightning.labels.answers import box_sizes
from ripu_lightning.seeding import derive_seed
from ripu_lightning.training.active_pool import ActivePool, require_each_once
from ripu_lightning.training.eval_mode import evaluating
from ripu_lightning.training.pool_inference import PoolInference
from ripu_lightning.training.ranks import Ranks


def select_queries(
    inference: PoolInference, pool: ActivePool, store: LabelStore, budget: Budget, ranks: Ranks
) -> list[Query]:
    """The queries of a round for this rank's images; neither the batches nor the number of ranks change them.

    Raises:
        UserError: logits that are not finite, a network that lacks what the strategy requires, or a loader that does
            not give each image of the pool once.
    """
    strategy, sizes = inference.strategy, list(pool.image_sizes.values())
    selection = round_selection(strategy, budget, inference.round, sum(height * width for height, width in sizes))
    maker = _QueryMaker(strategy, list(pool.image_sizes), sizes)
    _share_buffers(inference.module)
    with evaluating(inference.module):
        _fit(inference, pool, store, ranks)
        queries = _score(inference, pool, store, selection, maker)
    scored = ranks.share(ranks.gather([*maker.scored], "images of a round"), "images of a round")
    require_each_once(scored, pool.image_sizes)
    parts = ranks.gather(selection.candidates(), "candidates of a round")
    selected = selection.decide([part for each in parts for part in each]) if ranks.rank == 0 else {}
    for index, picks in ranks.share(selected, "selection of a round").items():
        if index in maker.scored:
            queries.append(maker.query(index, picks))
    return queries


def gather_queries(queries: list[Query], ranks: Ranks) -> list[Query]:
    """All ranks' queries on rank 0, in the order of the pool; [] on other ranks."""
    gathered = ranks.gather(queries, "queries of a round")
    return sorted((query for part in gathered for query in part), key=lambda query: query.index)


def _score(
    inference: PoolInference, pool: ActivePool, store: LabelStore, selection: RoundSelection, maker: "_QueryMaker"
) -> list[Query]:
    """Score this rank's images; the queries that are final already."""
    device, requires_queried = inference.module.device, "features" in inference.strategy.selection_rule.requires
    queries = []
    for image in inference.run(make_loader(pool, inference.strategy), pool.image_sizes, inference.strategy.name):
        if image.index <= max(maker.scored, default=-1):
            fault = "twice" if image.index in maker.scored else "out of the order of image_sizes"
            raise UserError(f"pool_dataloader: gave image {image.image_id!r} {fault}; give each once, not shuffled")
        regions = None if image.inputs.regions is None else image.inputs.regions[0].cpu()
        available = torch.from_numpy(store.available(image.image_id)).to(device)
        queried = _queried(store, image.image_id, available.shape[1]).to(device) if requires_queried else None
        final = selection.add(image.index, image.inputs, available, queried)
        maker.scored[image.index] = _pack(regions) if regions is not None and selection.keeps_regions else None
        queries += [maker.query(index, picks, regions) for index, picks in final.items()]
    return queries


class _QueryMaker:
    """Turns picks into queries.

    Attributes:
        scored: position of each image that this rank scored -> its regions, packed, where they are needed later.
    """

    def __init__(self, strategy: Strategy, ids: list[str], sizes: list[tuple[int, int]]) -> None:
        self.strategy, self.ids, self.sizes = strategy, ids, sizes
        self.scored: dict[int, bytes | None] = {}

    def query(self, index: int, picks: Picks, regions: Tensor | None = None) -> Query:
        """The query of the image at position ``index``."""
        size, packed = self.sizes[index], self.scored.get(index)
        if regions is None and packed is not None:
            regions = _unpack(packed, size)
        outline = self.strategy.region_type.outline(picks.positions, size, regions)
        centres = torch.stack((picks.positions // size[1], picks.positions % size[1]), dim=1)
        return Query(
            index=index,
            image_id=self.ids[index],
            centres=_int32(centres),
            boxes=_int32(outline.boxes),
            inside=None if outline.inside is None else outline.inside.numpy(),
            scores=picks.scores.float().numpy(),
        )


def make_loader(pool: ActivePool, strategy: Strategy, domain: str = "pool") -> Any:
    """The pool's loader, or the source's, with the regions that the strategy requires of it.

    Raises:
        UserError: the datamodule has no such loader, or cannot give regions.
    """
    make = getattr(pool, f"{domain}_dataloader", None)
    if make is None:
        raise UserError(
            f"strategy {strategy.name} learns from the source, but {type(pool).__name__} has no {domain}_dataloader"
        )
    wants = strategy.region_type.segments and (domain == "pool" or "regions" in strategy.requires)
    if not wants:
        return make()
    if "segment" not in signature(make).parameters:
        raise UserError(
            f"strategy {strategy.name} queries superpixels: give {type(pool).__name__}.{domain}_dataloader an argument "
            "segment (see ActivePool), or choose another region_type"
        )
    return make(segment=strategy.region_type.segment)


def _share_buffers(module: LightningModule) -> None:
    """Give every rank the first one's buffers (BatchNorm's statistics): DDP does so only in its own forward passes."""
    if dist.is_available() and dist.is_initialized():
        for buffer in module.buffers():
            shared = buffer.contiguous()  # a broadcast ignores strides
            dist.broadcast(shared, src=0)
            if shared is not buffer:
                buffer.copy_(shared)


def _fit(inference: PoolInference, pool: ActivePool, store: LabelStore, ranks: Ranks) -> None:
    """Summarise source and pool where the strategy learns from them; rank 0 fits, as summaries may be gigabytes."""
    strategy = inference.strategy
    domains = [domain for domain in ("source", "pool") if f"{domain}_statistics" in strategy.requires]
    if not domains:
        return
    summaries: dict[str, list[Tensor]] = {"source": [], "pool": []}
    for domain in domains:
        sizes = pool.image_sizes if domain == "pool" else None
        loader = make_loader(pool, strategy, domain)
        images = inference.run(loader, sizes, f"{strategy.name}, statistics of the {domain}")
        if domain == "pool" and "answers" in strategy.requires:
            images = (replace(image, inputs=_with_answers(image.inputs, store)) for image in images)
        summarized = [(image.index, strategy.summarize(image.inputs).cpu()) for image in images]
        gathered = ranks.gather(summarized, f"statistics of the {domain}")
        # In the order of the data, so that sums do not depend on who computed what.
        rows = sorted((row for part in gathered for row in part), key=lambda row: row[0])
        summaries[domain] = [summary for _, summary in rows]
    if ranks.rank == 0:
        strategy.fit(summaries["source"], summaries["pool"], derive_seed(inference.seed, "fit", inference.round))
    if ranks.size > 1:
        strategy.load_state_dict(ranks.share(strategy.state_dict(), "fitting the strategy"))


def _queried(store: LabelStore, image_id: str, width: int) -> Tensor:
    """Flat positions of the centres of all earlier queries of an image."""
    found = [store.answers(image_id, entry.number) for entry in store.rounds]
    centres = [answers.centres.astype(np.int64) for answers in found if answers is not None]
    flat = np.concatenate([np.empty(0, dtype=np.int64), *(each[:, 0] * width + each[:, 1] for each in centres)])
    return torch.from_numpy(flat)


def _with_answers(inputs: ScoreInputs, store: LabelStore) -> ScoreInputs:
    """The inputs of one image with the answers to its earlier queries."""
    image_id, shares = inputs.image_ids[0], [np.empty(0)]
    for answers in (store.answers(image_id, entry.number) for entry in store.rounds):
        if answers is not None and len(answers):
            starts = np.cumsum([0, *box_sizes(answers.boxes)[:-1]])
            void, queried = (
                np.add.reduceat(of, starts, dtype=np.int64)
                for of in (answers.values == VOID, answers.values != NOT_QUERIED)
            )
            shares.append(void / queried)
    positions = _queried(store, image_id, inputs.shape[1])
    return replace(inputs, answers=Answered(positions, torch.from_numpy(np.concatenate(shares))))


def _pack(regions: Tensor) -> bytes:
    """A map of regions in 2 to 3% of its size: those of all scored images are kept until the selection is made."""
    return zlib.compress(regions.numpy().astype(np.int32).tobytes(), level=1)


def _unpack(packed: bytes, size: tuple[int, int]) -> Tensor:
    flat = np.frombuffer(zlib.decompress(packed), dtype=np.int32)
    return torch.from_numpy(flat.astype(np.int64)).reshape(size)


def _int32(values: Tensor) -> npt.NDArray[np.int32]:
    return values.numpy().astype(np.int32)
