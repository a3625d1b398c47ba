"""The data side of ``train_step.py``: how many images a second a core decodes, resizes and normalises.

Drawn streets are written as PNG files of the published sizes (1914x1052 source, 2048x1024 target; about 2.5 MB each)
and read by the plain recipe, and by our data module: resized when they are read, from what ``ripu-data prepare``
writes, from memory, and cropped at the stored size, without and with memory.
"""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, RandomSampler
from tqdm import tqdm

from plain_recipe import PlainImages
from ripu_lightning.data import ActiveDataModule, FolderDataset
from ripu_lightning.data.cache import DataCache
from ripu_lightning.data.memory import Kind
from ripu_lightning.data.prepared import PreparedFolder
from ripu_lightning.data.streets import Streets
from ripu_lightning.labels import QueriedLabels, Stage

STORED = {"source": (1052, 1914), "target": (1024, 2048)}
MEMORY = 10**4  # megabytes, enough for all images
STEPS, REPEATS = 8, 3  # steps a worker, times that each pipeline is timed
Sizes = dict[str, tuple[int, int]]
Loader = Callable[[int, int], Iterable[object]]
"""(workers of each domain's loader, steps) -> the batches of both domains."""


def write_images(folder: Path, count: int) -> None:
    """``FOLDER/DOMAIN/images/train/*.png`` and the labels next to them."""
    for domain, size in STORED.items():
        streets = Streets(domain, "benchmark", count, *size)
        for index in tqdm(range(count), desc=f"writing {domain} images", unit="image", leave=False):
            for kind, array in (("images", streets.image(index)), ("labels", streets.label(index))):
                path = folder / domain / kind / "train" / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)


def prepare(folder: Path, cache: Path, sizes: Sizes) -> None:
    """The same images at the network's size, where our data module finds them."""
    for domain, size in sizes.items():
        dataset = _open(folder, domain)
        kinds: tuple[Kind, ...] = ("images", "labels") if domain == "source" else ("images",)
        for kind in kinds:
            place = DataCache(cache).place(dataset)
            assert place is not None
            PreparedFolder(dataset, kind, size, place).prepare(os.cpu_count() or 1, f"preparing {domain} {kind}")


def _open(folder: Path, domain: str) -> FolderDataset:
    return FolderDataset(str(folder / domain), "train", "streets")


def plain_loader(folder: Path, sizes: Sizes, batch: int) -> Loader:
    """The plain recipe's: one loader a domain."""
    ids = list(range(len(Streets("source", "benchmark", 1).classes)))

    def load(workers: int, steps: int) -> Iterable[object]:
        pools = [PlainImages(folder / domain, size, ids) for domain, size in sizes.items()]
        samplers = [RandomSampler(pool, replacement=True, num_samples=steps * batch) for pool in pools]
        loaders = [
            DataLoader(pool, batch, sampler=sampler, num_workers=workers, pin_memory=torch.cuda.is_available())
            for pool, sampler in zip(pools, samplers, strict=True)
        ]
        return zip(*loaders, strict=True)

    return load


def our_loader(folder: Path, sizes: Sizes, batch: int, cache: Path | None = None, **options: Any) -> Loader:
    """Our data module's, at the network's size unless the options crop."""
    inputs = {} if "source_crop" in options else {f"{domain}_size": size for domain, size in sizes.items()}
    source, target = (_open(folder, domain) for domain in sizes)

    def load(workers: int, steps: int) -> Iterable[object]:
        data = ActiveDataModule(
            *(source, target, target),
            batch_size=batch,
            num_workers=workers,
            target_labels="all",
            cache=cache,
            **inputs,
            **options,
        )
        data.begin_stage(Stage(0, 0, steps, QueriedLabels(None, 0)))
        return data.train_dataloader()

    return load


def images_a_second(load: Loader, batch: int, workers: int) -> float:
    """Images of both domains; the first batch of every worker is not counted."""
    first = max(workers, 1)
    steps = STEPS * first
    for step, _ in enumerate(load(workers, steps)):
        if step == first - 1:
            start = time.perf_counter()
    return 2 * batch * (steps - first) / (time.perf_counter() - start)


def best_rates(loaders: dict[str, Loader], batch: int, workers: int) -> dict[str, float]:
    """The best of a few tries each, taken in turns."""
    best = dict.fromkeys(loaders, 0.0)
    for _ in range(REPEATS):
        for name, load in loaders.items():
            best[name] = max(best[name], images_a_second(load, batch, workers))
    return best


def compare_pipelines(sizes: Sizes, batch: int, images: int, step_rate: float, console: Console) -> None:
    """Print what one core and all cores read, and how many cores keep up with a step of so many images a second."""
    with TemporaryDirectory() as name:
        folder, cache = Path(name, "stored"), Path(name, "cache")
        write_images(folder, images)
        prepare(folder, cache, sizes)
        crops = {f"{domain}_crop": size for domain, size in sizes.items()}
        loaders = {
            "plain": plain_loader(folder, sizes, batch),
            "ours": our_loader(folder, sizes, batch, None),
            "ours, prepared": our_loader(folder, sizes, batch, cache),
            "ours, in memory": our_loader(folder, sizes, batch, memory=MEMORY),
            "ours, cropped": our_loader(folder, sizes, batch, **crops),
            "ours, cropped, in memory": our_loader(folder, sizes, batch, memory=MEMORY, **crops),
        }
        cores, threads = os.cpu_count() or 2, torch.get_num_threads()
        torch.set_num_threads(1)
        alone = best_rates(loaders, batch, workers=0)
        torch.set_num_threads(threads)
        together = best_rates(loaders, batch, workers=max(1, cores // 2))
    columns = ("images/s, one core", "times ours", f"images/s, {cores} cores", "times ours", "cores that keep up")
    table = Table("pipeline", *columns, title="input")
    for pipeline, rate in alone.items():
        ratios = (f"{rates[pipeline] / rates['ours']:.2f}" for rates in (alone, together))
        one, many = (f"{rates[pipeline]:.1f}" for rates in (alone, together))
        table.add_row(pipeline, one, next(ratios), many, next(ratios), f"{step_rate / rate:.2f}")
    console.print(table)
    wanted = "more" if together["ours"] >= step_rate else "LESS"
    console.print(f"ours on {cores} cores reads {wanted} than the {step_rate:.2f} images/s that our step takes")
