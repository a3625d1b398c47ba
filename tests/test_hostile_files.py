"""Damaged and hostile files: each reader gives the exact content, or one line that names the file; no code is run."""

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from mutations import damaged
from ripu_lightning.acquisition.label_maps import read_regions
from ripu_lightning.annotation import AnswersPending, FileAnnotator, Query
from ripu_lightning.class_map import ClassMap, load_class_map
from ripu_lightning.data.cache import DataCache
from ripu_lightning.data.reading import read_image, read_label, read_size
from ripu_lightning.data.statistics import keep_statistics, load_statistics, read_statistics
from ripu_lightning.errors import UserError
from ripu_lightning.networks.weights import read_entries
from ripu_lightning.report import results_by_protocol as results
from ripu_lightning.report.result import UNKNOWN_LABELLING, Result
from ripu_lightning.untrusted import leaves, parse_yaml, read_config
from tiny import Blocks, Stamped

fuzzed = settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])


@contextmanager
def one_line(path: Path, *words: str) -> Iterator[None]:
    """Fails with a line about ``path``."""
    with pytest.raises(UserError) as error:
        yield
    assert_line(error.value, path, *words)


def assert_line(error: UserError, path: Path, *words: str) -> None:
    line = str(error)
    assert str(path) in line
    assert len(line.splitlines()) == 1
    for word in words:
        assert word in line


# Answers

TARGET = Blocks("target", 3)
SIZE = TARGET.size(0)
REGIONS = [
    Query(i, TARGET.ids[i], np.array([[4, 5]], np.int32), np.array([[2, 3, 5, 6]], np.int32), None, np.ones(1, "f4"))
    for i in (0, 2)
]


def png(values: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", **options)
    return buffer.getvalue()


def packed(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


ANSWERS = {f"{query.image_id}.png": png(np.where(TARGET.label(query.index) > 2, 255, TARGET.label(query.index)))
           for query in REGIONS}  # fmt: skip


class Round:
    """A round that waits for its answers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.annotator = folder / "round_001", FileAnnotator(TARGET, folder)
        with pytest.raises(AnswersPending):
            self.annotate()
        self.archive, self.loose = self.folder / "answers.zip", self.folder / "answers"

    def put(self, members: dict[str, bytes]) -> None:
        for name, content in members.items():
            (self.loose / name).write_bytes(content)

    def annotate(self) -> list[list[int]]:
        return [answers.values.tolist() for answers in self.annotator.annotate(1, REGIONS)]


TRUTH = [TARGET.label(query.index)[2:7, 3:9].reshape(-1).tolist() for query in REGIONS]


@pytest.fixture
def waiting(tmp_path: Path) -> Round:
    return Round(tmp_path)


@fuzzed
@given(content=damaged(next(iter(ANSWERS.values()))))
def test_damaged_answers(waiting: Round, content: bytes) -> None:
    waiting.put(ANSWERS)
    assert waiting.annotate() == TRUTH
    path = waiting.loose / next(iter(ANSWERS))
    path.write_bytes(content)
    try:
        assert waiting.annotate() == TRUTH
    except UserError as error:
        assert_line(error, path)


@fuzzed
@given(content=damaged(packed({f"answers/{name}": content for name, content in ANSWERS.items()})))
def test_damaged_archive(waiting: Round, content: bytes) -> None:
    waiting.archive.write_bytes(content)
    try:
        assert waiting.annotate() == TRUTH
    except UserError as error:
        assert_line(error, waiting.folder)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("prefix", ["", "answers/"])
def test_an_archive_answers_what_is_not_there_as_files(waiting: Round, prefix: str, compression: int) -> None:
    (first, one), (second, other) = ANSWERS.items()
    waiting.archive.write_bytes(packed({prefix + first: one}, compression))
    with pytest.raises(AnswersPending, match=rf"of which 1 have no answers yet \(the first is {second}\)"):
        waiting.annotate()
    waiting.put({second: other})
    assert waiting.annotate() == TRUTH
    folders = {"answers/": b""} if prefix else {}
    waiting.archive.write_bytes(packed(folders | {prefix + name: content for name, content in ANSWERS.items()}))
    (waiting.loose / second).unlink()
    assert waiting.annotate() == TRUTH


def header_of(width: int, height: int) -> bytes:
    """The header of a large picture, and pixels that no decoder would take."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", b"no pixels"), (b"IEND", b"")]
    parts = [struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
             for kind, data in chunks]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


FIRST = next(iter(ANSWERS))
ARCHIVES = {
    "stranger": (packed({**ANSWERS, "other.png": b""}), "'other.png' is the answer to no queried image"),
    "parent": (packed({f"../{FIRST}": ANSWERS[FIRST]}), f"'../{FIRST}' is the answer to no queried image"),
    "absolute": (packed({f"/{FIRST}": ANSWERS[FIRST]}), f"'/{FIRST}' is the answer to no queried image"),
    "unasked": (packed({"target_1.png": ANSWERS[FIRST]}), "'target_1.png' is the answer to no queried image"),
    "folder": (packed({"../": b""}), "'../' is the answer to no queried image"),
    "twice": (packed({FIRST: b"", f"answers/{FIRST}": b""}), "is there twice"),
    "large": (packed({FIRST: bytes(2 * 2**20)}), "2,097,152 bytes, more than"),
    "no zip": (b"PK", "cannot be unpacked"),
    "other size": (
        packed({**ANSWERS, FIRST: header_of(9_000, 9_000)}),
        f"answers.zip: {FIRST}: is 9000x9000",
    ),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_hostile_archives(waiting: Round, kind: str) -> None:
    content, words = ARCHIVES[kind]
    waiting.archive.write_bytes(content)
    with one_line(waiting.archive, words):
        waiting.annotate()
    assert {path.parts[-2] for path in waiting.folder.parent.rglob("*.png")} == {"answers", "asked"}


PICTURES = {
    "large": (header_of(9_000, 9_000), "is 9000x9000, but its image is 32x24"),
    "long": (ANSWERS[FIRST] + bytes(2**21), "which a file of its kind never has"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 24\n%%EndComments\n", "it is no"),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_hostile_pictures(waiting: Round, kind: str) -> None:
    content, words = PICTURES[kind]
    waiting.put({**ANSWERS, FIRST: content})
    with one_line(waiting.loose / FIRST, words):
        waiting.annotate()


def test_links_lead_nowhere_else(waiting: Round, tmp_path: Path) -> None:
    waiting.put(ANSWERS)
    (tmp_path / "elsewhere.png").write_bytes(ANSWERS[FIRST])
    (waiting.loose / FIRST).unlink()
    (waiting.loose / FIRST).symlink_to(tmp_path / "elsewhere.png")
    with one_line(waiting.loose / FIRST, "is a link that leads out of"):
        waiting.annotate()
    (waiting.loose / FIRST).unlink()
    (waiting.loose / "inside").write_bytes(ANSWERS[FIRST])
    (waiting.loose / FIRST).symlink_to("inside")
    assert waiting.annotate() == TRUTH
    waiting.loose.rename(tmp_path / "shared")
    waiting.loose.symlink_to(tmp_path / "shared")  # its owner's decision
    assert waiting.annotate() == TRUTH


# Data sets

KINDS = {
    "png": (png(TARGET.image(0)), read_image),
    "jpg": (b"", read_image),
    "label.png": (png(TARGET.label(0)), lambda path: read_label(path).values),
    "wide.png": (png(TARGET.label(0).astype(np.uint16) * 300), lambda path: read_label(path, bits=16).values),
    "tif": (b"", read_image),
}
for suffix, name in (("jpg", "JPEG"), ("tif", "TIFF")):
    buffer = io.BytesIO()
    Image.fromarray(TARGET.image(0)).save(buffer, name)
    KINDS[suffix] = (buffer.getvalue(), read_image)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")  # Pillow's own, of odd metadata
def test_damaged_files_of_a_data_set(tmp_path: Path, kind: str) -> None:
    content, read = KINDS[kind]
    path = tmp_path / f"a.{kind}"
    path.write_bytes(content)
    expected = read(path)

    @settings(max_examples=120)
    @given(damaged(content))
    def check(changed: bytes) -> None:
        path.write_bytes(changed)
        for reader in (read, read_size):
            try:
                found = reader(path)
            except UserError as error:
                assert_line(error, path)
            else:  # the other formats have no check sums
                assert reader is read_size or not kind.endswith("png") or np.array_equal(found, expected)

    check()


@pytest.mark.parametrize("read", [read_image, read_label, read_size])
def test_no_other_program_is_started_for_a_picture(
    tmp_path: Path, read: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("PostScript was run"))
    path = tmp_path / "a.png"
    path.write_bytes(PICTURES["postscript"][0])
    with one_line(path, "be read as an image (it is no"):
        read(path)


# The cache

STATISTICS = read_statistics(Blocks("stamped"))


def statistics_file() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, sizes=STATISTICS.sizes, pixels=STATISTICS.pixels, ignored=STATISTICS.ignored)
    return buffer.getvalue()


def assert_statistics(cache: DataCache, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    found = load_statistics(Stamped(), cache)
    for part in ("sizes", "pixels", "ignored"):
        assert np.array_equal(getattr(found, part), getattr(STATISTICS, part))


@fuzzed
@given(content=damaged(statistics_file()))
@pytest.mark.filterwarnings("ignore")
def test_damaged_statistics_are_counted_anew(tmp_path: Path, content: bytes) -> None:
    cache = DataCache(tmp_path)
    keep_statistics(Stamped(), cache, STATISTICS)
    assert_statistics(cache, tmp_path / "abc" / "statistics.npz", content)


def test_statistics_of_another_kind_are_counted_anew(tmp_path: Path) -> None:
    cache, path, real = DataCache(tmp_path), tmp_path / "abc" / "statistics.npz", io.BytesIO()
    keep_statistics(Stamped(), cache, STATISTICS)
    np.savez(real, **{name: getattr(STATISTICS, name) * 1.0 for name in ("sizes", "pixels", "ignored")})
    for content in (real.getvalue(), b"PK"):
        with pytest.warns(UserWarning, match=r"statistics\.npz: cannot be read or is damaged; it is computed again"):
            assert_statistics(cache, path, content)
    assert_statistics(cache, path, path.read_bytes())  # it was


# Class maps and configs

CLASS_MAP = yaml.safe_dump(
    {
        "classes": [{"name": name, "color": [i, 2, 3], "ids": [i, 20 + i]} for i, name in enumerate("abc")],
        "ignore": [255],
        "subsets": {"two": {"without": ["c"]}},
    }
).encode()


@fuzzed
@given(content=damaged(CLASS_MAP))
def test_damaged_class_maps(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    try:
        found = load_class_map(str(path))
    except UserError as error:
        assert_line(error, path)
    else:
        assert isinstance(found, ClassMap)
        assert set(found.lookup().tolist()) <= {-1, 255, *range(len(found))}
        assert found.palette().shape == (256, 3)


YAML = {
    "tag": ("classes: !!python/object/apply:os.system ['touch marker']", "could not determine a constructor"),
    "name": ("classes: !!python/name:os.system", "could not determine a constructor"),
    "twice": ("classes: []\nignore: []\nclasses: []", "the key classes is given twice"),
    "bytes": ("classes: \xff\0", "unacceptable character"),
    "long": ("#" * 2**19, "which a file of its kind never has"),
}


@pytest.mark.parametrize("kind", YAML)
def test_hostile_yaml(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content, words = YAML[kind]
    path = tmp_path / "a.yaml"
    path.write_text(content)
    for read in (lambda: load_class_map(str(path)), lambda: read_config(path)):
        with one_line(path, words):
            read()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.yaml"]


CONFIG = {"seed": 3, "network": {"_target_": "a.B", "weights": None, "width": 8}, "lr": 2.5e-4, "split": "1e-3",
          "data": {"size": [64, 96], "root": "/a b/'c'", "labels": True}, "name": "${oc.env:HOME}"}  # fmt: skip


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=5), part, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200)
@given(st.dictionaries(st.text(max_size=5), plain, min_size=1, max_size=4))
def test_a_config_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, config: dict) -> None:
    path = tmp_path_factory.getbasetemp() / "written.yaml"
    path.write_bytes(yaml.safe_dump(config, sort_keys=False).encode())
    assert read_config(path) == config  # interpolations and all


@given(plain)
@settings(max_examples=100)
def test_leaves_are_all_that_is_no_container(content: object) -> None:
    def walk(part: object) -> list[object]:
        if isinstance(part, dict):
            return [*part, *(leaf for value in part.values() for leaf in walk(value))]
        return [leaf for value in part for leaf in walk(value)] if isinstance(part, list) else [part]

    assert sorted(map(repr, leaves(content))) == sorted(map(repr, walk(content)))


def test_leaves_of_a_circle() -> None:
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="levels deep"):
        list(leaves(circle))


# Results

PROTOCOL = {"classes": ["a", "b"], "subsets": {"one": ["a"]}, "images": 3, "data": "ab12", "input_size": [64, 96],
            "inference": {"title": "plain", "scales": [1.0]}, "precision": "32-true"}  # fmt: skip
RESULT = {"name": "run", "code": {"version": "1", "commit": None}, "config": "cd", "protocol": PROTOCOL,
          "budget": {**UNKNOWN_LABELLING["budget"], "unit": "ratio", "amount": 0.05, "rounds": 5, "share": 0.02},
          "strategy": "ripu", "seed": 3, "miou": 0.5, "subsets": {"one": 0.25}, "pixel_accuracy": 0.75,
          "class_accuracy": 0.5, "iou": {"a": 0.25, "b": None}}  # fmt: skip


def compare(path: Path) -> str:
    """As ``ripu-report`` does, on a terminal of UTF-8."""
    entries = results.read_results([path])
    assert isinstance(entries[0].result, Result)
    results.write_results(entries, path.with_suffix(".csv"))
    shown = io.StringIO()
    results.print_results(entries, Console(file=shown))
    assert shown.getvalue().encode()
    return shown.getvalue()


@fuzzed
@given(content=damaged(json.dumps(RESULT).encode()))
def test_damaged_results(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    try:
        compare(path)
    except UserError as error:
        assert_line(error, path)


def changed(**parts: object) -> str:
    return json.dumps({**RESULT, **parts})


RESULTS = {
    "long": changed() + " " * 2**24,
    "nan": changed(protocol={**PROTOCOL, "inference": {"title": "x", "scales": float("nan")}}),
    "infinite": changed().replace('"amount": 0.05', '"amount": 1e999'),
    "surrogate": changed(name="\ud800"),
    "lines": changed(name="a\nerror: b"),
    "terminal": changed(code={"version": "\x1b[2J", "commit": None}),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_hostile_results(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(RESULTS[kind])
    with one_line(path):
        compare(path)


def test_markup_in_results_is_text(tmp_path: Path) -> None:
    names = {"classes": ["[/a]", "b"], "subsets": {"[/one]": ["b"]}}
    budget = {**RESULT["budget"], "per": "[/x]"}
    other = changed(name="[/run]", protocol={**PROTOCOL, **names}, subsets={"[/one]": 0.5},
                    iou={"[/a]": 0.5, "b": None}, strategy="[/s]", budget=budget)  # fmt: skip
    (tmp_path / "a.json").write_text(other)
    shown = compare(tmp_path / "a.json")
    assert "[/run]" in shown
    assert "[/s]" in shown


# Checkpoints

WEIGHTS = {"a": torch.arange(24.0).reshape(4, 6), "b": {"list": [1, 2.5, "x", None]}}


def saved(content: object, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.filterwarnings("ignore")  # torch's own, of odd storages
def test_damaged_checkpoints(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "a.ckpt"

    @settings(max_examples=200)
    @given(damaged(saved(WEIGHTS, legacy)))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            found = read_entries(path, "checkpoint")
        except UserError as error:
            assert_line(error, path)
        else:  # the old format has no check sums
            assert legacy or (torch.equal(found["a"], WEIGHTS["a"]) and found["b"] == WEIGHTS["b"])

    check()


class Call:
    """What a hostile pickle has called."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def larger(name: str, content: bytes) -> bytes:
    # 2**20 x 256 floats of a storage of 24.
    wanted, stride = b"J\x00\x00\x10\x00M\x00\x01\x86", b"M\x00\x01K\x01\x86"
    changes = {b"K\x04K\x06\x86": wanted, b"K\x06K\x01\x86": stride}
    for old, new in changes.items() if name.endswith("data.pkl") else ():
        assert content.count(old) == 1
        content = content.replace(old, new)
    return content


def rewritten(change: Callable[[str, bytes], bytes]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(saved(WEIGHTS))) as archive:
        return packed({name: change(name, archive.read(name)) for name in archive.namelist()}, zipfile.ZIP_STORED)


CHECKPOINTS = {
    "call": saved({"a": Call(os.mkdir, "marker")}),
    "old call": saved({"a": Call(os.mkdir, "marker")}, legacy=True),
    "larger": rewritten(larger),
    "cut": saved(WEIGHTS)[:-100],
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_hostile_checkpoints(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.ckpt"
    path.write_bytes(CHECKPOINTS[kind])
    with one_line(path, "it is damaged, or holds more than tensors"):
        read_entries(path, "checkpoint")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.ckpt"]


@pytest.mark.parametrize("content", [CHECKPOINTS["call"], header_of(30_000, 30_000)])
def test_hostile_label_maps(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ("a.png" if content.startswith(b"\x89PNG") else "a.pt")
    path.write_bytes(content)
    with one_line(path, "be read"):
        read_regions(path)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_yaml_of_our_own_is_plain() -> None:
    assert parse_yaml(yaml.safe_dump(CONFIG).encode()) == CONFIG
    assert SIZE == (24, 32)
