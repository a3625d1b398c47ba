"""What makes a run the same run: its config, its class map and its pictures, wherever its folder and its data are."""

import json
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ripu_lightning import compose, run_experiment
from ripu_lightning.annotation import AnswersPending
from ripu_lightning.class_map import ClassMap
from ripu_lightning.data import FolderDataset, Streets
from ripu_lightning.data.cache import DataCache
from ripu_lightning.data.unlabelled import Unlabelled
from ripu_lightning.errors import UserError
from ripu_lightning.experiment.evaluate import evaluate
from ripu_lightning.experiment.recorded_config import follow_variables, recorded, with_class_names
from ripu_lightning.report.data_record import EVERYTHING, read_data_record, record_of
from ripu_lightning.report.result import digest, read_result

TINY = [
    "data=folder", "data.num_workers=0", "schedule.steps=3", "schedule.first_round=2", "schedule.interval=1",
    "schedule.horizon=8", "budget.rounds=1", "network.width=4", "pictures=0", "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false", "budget.ratio=0.1",
]  # fmt: skip
PLACES = ["data.source.root=S", "data.target.root=T", "data.source.classes=classes.yaml"]
TRAINER = {"_target_": "pytorch_lightning.Trainer", "accelerator": "cpu", "enable_progress_bar": False,
           "precision": None}  # fmt: skip
MAP = "classes:\n- {name: road, color: [9, 9, 9], ids: [0]}\n- {name: sky, color: [200, 200, 200], ids: [1]}\n"
SWAPPED = MAP.replace("[0]", "[7]").replace("[1]", "[0]").replace("[7]", "[1]")


def draw(place: Path, count: int = 2) -> None:
    """Two domains of two splits, in which road is below sky and has its colour."""
    for part in "ST":
        for split in ("train", "val"):
            for number in range(count):
                label = np.zeros((32, 48), np.uint8)
                label[: 10 + number] = 1
                for kind, pixels in (("images", np.uint8(label[..., None] * [90, 120, 150] + 60)), ("labels", label)):
                    path = place / part / kind / split / f"im{number}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels).save(path)
    (place / "classes.yaml").write_text(MAP)


def repaint(path: Path) -> None:
    """Another picture of the same size."""
    with Image.open(path) as picture:
        pixels = np.array(picture)
    Image.fromarray(pixels.max() - pixels if pixels.ndim == 3 else 1 - pixels).save(path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RIPU_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    draw(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("drawn")
    draw(place)
    return place


STATES = {"finished": [], "waiting": ["annotator=files"], "interrupted": []}


def begin(state: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run in ``run`` that is in this state; the overrides that resume it."""
    overrides = [*TINY, *PLACES, *STATES[state]]
    if state == "interrupted":
        with monkeypatch.context() as patch:
            patch.setattr("ripu_lightning.training.loop.ActiveLearningLoop.acquire", _fails)
            with pytest.raises(RuntimeError, match="planted"):
                run_experiment(overrides, "run")
        assert Path("run/checkpoints/last.ckpt").is_file()
    else:
        result = run_experiment(overrides, "run")
        assert (result.pending is not None) == (state == "waiting")
    return overrides


def _fails(*arguments: object) -> None:
    raise RuntimeError("planted")


@pytest.mark.parametrize("state", STATES)
def test_what_was_exchanged_is_named_wherever_the_run_is(
    here: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    overrides = begin(state, monkeypatch)

    def refused(line: str) -> None:
        with pytest.raises(UserError, match=line) as error:
            run_experiment(overrides, "run")
        assert not isinstance(error.value, AnswersPending)

    keep = Path("T").resolve()
    for file, line in {
        "images/train/im1.png": r"^data\.target: .*T/images/train/im1\.png was exchanged since the run in .*run began",
        "images/val/im0.png": r"^data\.target_eval: .*T/images/val/im0\.png was exchanged",
        "labels/val/im0.png": r"^data\.target_eval: .*T/labels/val/im0\.png was exchanged",
    }.items():
        before = (keep / file).read_bytes()
        repaint(keep / file)
        refused(line)
        (keep / file).write_bytes(before)
    label = keep / "labels/train/im0.png"
    before = label.read_bytes()
    repaint(label)
    if state == "waiting":  # the run must not look at the labels of the pool
        with pytest.raises(AnswersPending):
            run_experiment(overrides, "run")
    else:
        refused(r"^data\.target: .*T/labels/train/im0\.png was exchanged")
    label.write_bytes(before)
    Path("classes.yaml").write_text(SWAPPED)
    refused(r"class 'road' has the file ids \[0\] there, \[1\] here")
    Path("classes.yaml").write_text(MAP.replace("[9, 9, 9]", "[1, 2, 3]"))  # a colour means nothing
    if state == "waiting":
        with pytest.raises(AnswersPending):
            run_experiment(overrides, "run")
    else:
        assert run_experiment(overrides, "run").history[-1].round == 1


def test_a_run_is_the_same_elsewhere(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folder and data were moved, times of files are others, and paths are written in other ways."""
    done = run_experiment([*TINY, *PLACES], "run")
    monkeypatch.chdir(here / "S")
    elsewhere = ["data.source.root=../S", f"data.target.root={here}/T", "data.source.classes=../classes.yaml"]
    assert run_experiment([*TINY, *elsewhere], "../run").history == done.history
    (here / "new").mkdir()
    for name in ("S", "T", "classes.yaml", "run"):
        shutil.move(here / name, here / "new" / name)
    shutil.rmtree(here / "cache")
    for path in (here / "new/T").rglob("*.png"):
        os.utime(path, (1, 1))
    monkeypatch.chdir(here / "new")
    assert run_experiment([*TINY, *PLACES], "run").history == done.history
    repaint(here / "new/S/labels/train/im0.png")
    with pytest.raises(UserError, match=r"^data\.source: .*new/S/labels/train/im0\.png was exchanged"):
        run_experiment([*TINY, *PLACES], "run")


def test_images_that_went_or_came_are_named(here: Path) -> None:
    run_experiment([*TINY, *PLACES], "run")
    for kind in ("images", "labels"):
        shutil.copy(f"S/{kind}/train/im0.png", f"S/{kind}/train/new.png")
    with pytest.raises(UserError, match=r"^data\.source: .*S/images/train/new\.png is new since"):
        run_experiment([*TINY, *PLACES], "run")
    for kind in ("images", "labels"):
        Path(f"S/{kind}/train/new.png").unlink()
        Path(f"S/{kind}/train/im1.png").unlink()
    with pytest.raises(UserError, match=r"^data\.source: .*S/images/train/im1\.png is missing since"):
        run_experiment([*TINY, *PLACES], "run")


def test_a_checkpoint_has_its_class_map_in_any_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run_experiment([*TINY, *PLACES], "run")

    def miou(folder: str, **data: object) -> float:
        return evaluate(result.checkpoint, folder, data=data, predictions=None, trainer=TRAINER)["miou"]

    expected = miou("at_home")
    assert expected == read_result(Path("run/result.json")).miou
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert miou("no_map_here") == expected
    Path("classes.yaml").write_text(SWAPPED)  # of another project
    assert miou("another_map_here") == expected
    (here / "classes.yaml").write_text(SWAPPED)
    assert miou("exchanged") == expected
    capsys.readouterr()
    told = miou("told", target_eval={"classes": "classes.yaml"})
    assert told < expected
    printed = capsys.readouterr().out
    assert (
        "data.target_eval: the class map has the checkpoint's classes, but class 'road' has the file ids [0]" in printed
    )
    Path("other.yaml").write_text(MAP.replace("road", "street"))
    with pytest.raises(UserError, match=r"^data\.target_eval: .*class 0 is 'road' there, 'street' here"):
        miou("other", target_eval={"classes": "other.yaml"})
    assert not Path("other").exists()


def test_a_data_set_whose_own_map_changed_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_experiment([*TINY, *PLACES], "run")
    original = FolderDataset.__init__

    def changed(self: FolderDataset, *arguments: object, **options: object) -> None:
        original(self, *arguments, **options)
        self.classes = ClassMap(("road", "sky"), ids=((1,), (0,)))

    monkeypatch.setattr(FolderDataset, "__init__", changed)
    with pytest.raises(UserError, match=r"^data\.target_eval: .*class 'road' has the file ids \[0\] there, \[1\] here"):
        evaluate(result.checkpoint, "out", predictions=None, trainer=TRAINER)


def test_a_root_from_the_environment_follows_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On another machine; without the variable, data are where they were."""
    monkeypatch.setenv("MY_DATA", str(here))
    root = "${oc.env:MY_DATA}"
    overrides = [*TINY, f"data.source.root={root}/S", f"data.target.root='{root}/T'", PLACES[2]]
    result = run_experiment(overrides, "run")
    for name in ("S", "T"):
        (here / "moved").mkdir(exist_ok=True)
        shutil.move(here / name, here / "moved" / name)
    monkeypatch.setenv("MY_DATA", str(here / "moved"))
    assert run_experiment(overrides, "run").history == result.history
    found = evaluate(result.checkpoint, "out", predictions=None, trainer=TRAINER)
    assert found["miou"] == result.figures["miou"]
    monkeypatch.delenv("MY_DATA")
    with pytest.raises(UserError, match=f"{here}/T/images/val"):
        evaluate(result.checkpoint, "other", predictions=None, trainer=TRAINER)


def config_of(*overrides: str) -> dict:
    return recorded(compose([*TINY, *overrides]))


def test_a_recorded_config_depends_on_no_folder(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(drawn)
    first = config_of(*PLACES, "initial=a.ckpt")
    assert (
        first["data"]["target_eval"]["classes"]
        == ClassMap(("road", "sky"), ((9, 9, 9), (200, 200, 200)), ((0,), (1,))).as_dict()
    )
    assert first["data"]["target_eval"]["root"] == str(drawn / "T")
    assert first["initial"] == str(drawn / "a.ckpt")
    monkeypatch.chdir(drawn / "S")
    paths = ["data.source.root=.", "data.target.root=../T", "data.source.classes=../classes.yaml", "initial=../a.ckpt"]
    second = config_of(*paths)
    assert digest(first) == digest(second)
    assert {**first, "output": 0, "logger": 0} == {**second, "output": 0, "logger": 0}
    assert with_class_names(first)["data"]["source"]["classes"] == ["road", "sky"]
    assert first["data"]["source"]["classes"] == second["data"]["source"]["classes"]  # a copy was changed
    assert yaml.safe_load(yaml.safe_dump(first)) == first


def test_other_ids_are_another_config_and_other_colours_are_not(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = {}
    monkeypatch.chdir(tmp_path)
    for name, text in {"first": MAP, "colour": MAP.replace("[9,", "[8,"), "ids": SWAPPED}.items():
        Path("classes.yaml").write_text(text)
        digests[name] = digest(config_of(*PLACES))
    assert digests["first"] == digests["colour"] != digests["ids"]


@pytest.mark.parametrize(
    ("root", "template"),
    [
        ("${oc.env:MY_DATA}", "$MY_DATA"),
        ("${oc.env:MY_DATA}/a/b", "$MY_DATA/a/b"),
        ("${oc.env:MY_DATA,../x}/a", "$MY_DATA/a"),
        ("${oc.env:MY_DATA}/${oc.env:MORE}", "$MY_DATA/$MORE"),
        ("/data/$MY_DATA", None),
        ("${name}/${oc.env:MY_DATA}", None),
        ("/data", None),
    ],
)
def test_only_variables_are_kept_by_name(monkeypatch: pytest.MonkeyPatch, root: str, template: str | None) -> None:
    monkeypatch.setenv("MY_DATA", "/one")
    monkeypatch.setenv("MORE", "more")
    config = compose([*TINY, "data.source.root=/s", "data.target.root=/t", "data.source.classes=roads"])
    config.data.target.root = root
    found = recorded(config)
    roots = {} if template is None else {"data.target.root": template, "data.target_eval.root": template}
    assert found.get("root_variables", {}) == roots
    monkeypatch.setenv("MY_DATA", "/two")
    expected = found["data"]["target"]["root"] if template is None else template.replace("$MY_DATA", "/two")
    assert follow_variables(found)["data"]["target_eval"]["root"] == expected.replace("$MORE", "more")


@pytest.mark.parametrize("content", [{"trainer.x": "$HOME"}, {"data.target.classes": "$HOME"}, {"data.x.root": "$HOME"},
                                     {"data.target.root": 3}, {"data.target.root": "a"}, {3: "$HOME"}])  # fmt: skip
def test_a_strangers_checkpoint_moves_nothing_but_roots(content: dict) -> None:
    config = {"data": {"target": {"root": "/a"}}, "root_variables": content}
    assert follow_variables(config)["data"] == config["data"]


class Counted(FolderDataset):
    """Notes which digests were computed."""

    computed: list[str]

    def digests(self, kind: str) -> dict[str, str] | None:
        self.computed.append(kind)
        return super().digests(kind)


def test_files_are_read_once_and_hidden_labels_never(here: Path) -> None:
    def opened(record_without_labels: bool) -> list[str]:
        dataset = Counted("T", "train", "classes.yaml")
        dataset.computed = []
        found = record_of({"target": dataset}, DataCache("cache").digests, record_without_labels)["target"]
        assert [*found.images] == ["images/train/im0.png", "images/train/im1.png"]
        assert [*found.labels] == ([] if record_without_labels else ["labels/train/im0.png", "labels/train/im1.png"])
        return dataset.computed

    assert opened(True) == ["images"]
    assert opened(False) == ["labels"]
    assert opened(False) == []
    repaint(Path("T/images/train/im0.png"))
    assert opened(True) == ["images"]
    hidden = Unlabelled(FolderDataset("T", "train", "classes.yaml"))
    assert record_of({"target": hidden}, DataCache(None).digests, True)["target"].labels == {}


def test_a_digest_of_everything_that_needs_hidden_labels_is_not_asked_for() -> None:
    streets = Streets("target", "train", 2, 32, 48)
    assert record_of({"target": streets}, lambda *_: None, True)["target"].images == {EVERYTHING: streets.content()}

    class Own(Streets):
        def content(self) -> str:
            return "read"

    for name, hidden, images in (("target", True, {}), ("target", False, {EVERYTHING: "read"}),
                                 ("source", True, {EVERYTHING: "read"})):  # fmt: skip
        own = Own("target", "train", 2, 32, 48)
        assert record_of({name: own}, lambda *_: None, hidden)[name].images == images


def test_data_without_files_are_compared_as_a_whole(tmp_path: Path) -> None:
    streets = ["debug=quick", "budget.rounds=1", "data.source.length=2", "data.target.length=2", "schedule.steps=4",
               "data.target_eval.length=1", "data.target.height=32", "data.target.width=48", "network.width=4",
               "pictures=0", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false"]  # fmt: skip
    run_experiment(streets, tmp_path)
    content = json.loads((tmp_path / "data.json").read_text())
    assert [*content["target"]["images"]] == [EVERYTHING]
    assert content["target"]["classes"]["names"][0] == "road"
    run_experiment(streets, tmp_path)
    content["target"]["images"][EVERYTHING] = "0"
    (tmp_path / "data.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"^data\.target: an image or a label was exchanged since the run in"):
        run_experiment(streets, tmp_path)
    for damaged in ("{", "[]", '{"target": {"images": {}}}', '{"target": 3}'):
        (tmp_path / "data.json").write_text(damaged)
        with pytest.raises(UserError, match=r"data\.json: not the record of a run's data"):
            read_data_record(tmp_path / "data.json")


def test_evaluation_data_may_come_later(here: Path) -> None:
    """A run without any leaves its result all the same, and its checkpoint takes them by keys."""
    full = run_experiment([*TINY, *PLACES], "full")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*val/miou")  # nobody wants one
        result = run_experiment([*TINY, *PLACES, "data.target_eval=null"], "run")
    left = read_result(Path("run/result.json"))
    assert (left.protocol, left.miou, left.iou, left.budget["rounds_done"]) == (None, None, {}, 1)
    for data in (None, {"target_eval": None}):
        with pytest.raises(
            UserError, match=r"^data\.target_eval: null, .*give the data, such as \+data\.target_eval\.split"
        ):
            evaluate(result.checkpoint, "out", data=data, trainer=TRAINER)
    found = evaluate(result.checkpoint, "out", data={"target_eval": {"split": "val"}}, trainer=TRAINER)
    assert found["miou"] == full.figures["miou"]
    assert read_result(Path("out/result.json")).protocol == read_result(Path("full/result.json")).protocol


def test_results_are_not_mixed_in_one_folder(here: Path) -> None:
    result = run_experiment([*TINY, *PLACES], "run")
    evaluate(result.checkpoint, "out", trainer=TRAINER)
    before = {path: path.read_bytes() for place in ("out", "run") for path in Path(place).rglob("*.png")}
    for folder, name in (("out", "result.json"), ("run", "result.json")):
        with pytest.raises(UserError, match=rf"^output: {folder} holds other results already \({name}\)"):
            evaluate(result.checkpoint, folder, predictions=None, trainer=TRAINER)
    with pytest.raises(UserError, match=r"^output: .*out holds an evaluation \(result\.json\) and no run"):
        run_experiment([*TINY, *PLACES], "out")
    assert before == {path: path.read_bytes() for path in before}
    Path("out/job.json").write_text("{}")  # of a sweep, which owns its jobs' folders
    evaluate(result.checkpoint, "out", predictions=None, trainer=TRAINER)
    assert sorted(path.name for path in Path("out").iterdir()) == ["job.json", "result.json"]


def test_names_that_a_config_cannot_hold(here: Path) -> None:
    Path("classes.yaml").write_text(MAP.replace("road", "'${road}'"))
    with pytest.raises(UserError, match=r"classes\.yaml: the name '\$\{road\}' holds '\$\{', which a config cannot"):
        run_experiment([*TINY, *PLACES], "run")
