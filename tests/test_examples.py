"""The example package installs, passes its tests and runs by command; faulty packages are named."""

import doctest
import importlib
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from in_process import call_inside
from test_train_command import SMALL, assert_one_line

from ripu_lightning.acquisition import get_strategy, list_strategies
from ripu_lightning.errors import UserError
from ripu_lightning.labels import LabelStore

PLUGIN = Path(__file__).parents[1] / "examples" / "03_own_strategy"
BY_NAME = ["strategy=registered", "strategy.name=boundary"]
ONE_ROUND = [*SMALL, "budget.rounds=1", "pictures=0"]
BY_TARGET = ["~strategy", "+strategy._target_=ripu_edges.boundary"]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, so that no build files are left in the repository."""
    return Path(shutil.copytree(PLUGIN, tmp_path_factory.mktemp("plugin") / "edges"))


@pytest.fixture(scope="module")
def site(copy: Path) -> Path:
    """The folder in which the package is installed, once for all tests."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    target = copy.parent / "site"
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-build-isolation", "--no-index", "--target", target, copy], check=True
    )
    return target


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package as this process would see it after ``pip install``."""
    monkeypatch.delitem(sys.modules, "ripu_edges", raising=False)
    monkeypatch.syspath_prepend(site)


def package(folder: Path, name: str, entry_point: str) -> None:
    """The metadata of an installed package, which is all that the registry reads."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[ripu_lightning.acquisition]\n{entry_point}\n")


def assert_one_round(folder: Path, name: str) -> None:
    store = LabelStore.open(folder / "labels")
    assert [entry.number for entry in store.rounds] == [1]
    assert store.rounds[0].strategy == name


def test_is_listed_only_if_it_is_installed(request: pytest.FixtureRequest) -> None:
    assert "boundary" not in list_strategies()
    request.getfixturevalue("installed")
    assert "boundary" in list_strategies()


@pytest.mark.usefixtures("installed")
def test_its_own_tests_pass(copy: Path) -> None:
    names = runpy.run_path(str(copy / "tests" / "test_edges.py"))
    tests = [test for name, test in names.items() if name.startswith("test_")]
    assert len(tests) == 3
    for test in tests:
        test()
    assert doctest.testmod(importlib.import_module("ripu_edges")) == (0, 1)


@pytest.mark.usefixtures("installed")
def test_runs_by_name(tmp_path: Path) -> None:
    done = call_inside("ripu-train", *ONE_ROUND, *BY_NAME, "+strategy.radius=2", "output=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_one_round(tmp_path / "run", "boundary")


def test_runs_by_target_without_being_installed(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ripu_edges", raising=False)
    monkeypatch.syspath_prepend(copy / "src")
    done = call_inside("ripu-train", *ONE_ROUND, *BY_TARGET, "output=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_one_round(tmp_path / "run", "boundary")


def test_the_readme_has_both_commands() -> None:
    text = (PLUGIN / "README.md").read_text().replace("'", "")
    assert " ".join(BY_NAME) in text
    assert " ".join(BY_TARGET) in text


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (BY_NAME[:1], ["strategy.name"]),
        (["strategy=registered", "strategy.name=boundry"], ["boundry", "did you mean 'boundary'"]),
        (
            ["~strategy", "+strategy._target_=ripu_edges.bounds"],
            ["strategy", "ripu_edges", "bounds", "did you mean 'boundary'"],
        ),
    ],
)
@pytest.mark.usefixtures("installed")
def test_mistakes_on_the_command_line(tmp_path: Path, overrides: list[str], words: list[str]) -> None:
    done = call_inside("ripu-train", *ONE_ROUND, *overrides, "output=run", cwd=tmp_path)
    assert_one_line(done, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("entry_point", "reason"),
    [
        ("mine = no_such_module_anywhere:make", "no_such_module_anywhere"),
        ("mine = broken_on_import:make", "out of order"),
        ("mine = json:no_such_factory", "no_such_factory"),
    ],
)
def test_a_package_that_does_not_load_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry_point: str, reason: str
) -> None:
    (tmp_path / "broken_on_import.py").write_text("raise RuntimeError('out of order')\n")
    package(tmp_path, "their-strategies", entry_point)
    monkeypatch.syspath_prepend(tmp_path)
    assert "mine" in list_strategies()
    with pytest.raises(UserError, match=rf"'mine' of package their-strategies cannot be loaded: .*{reason}"):
        get_strategy("mine")
    assert get_strategy("ripu").name == "ripu"  # the other strategies still work


def test_two_packages_with_one_name_are_both_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "theirs", "mine = ripu_lightning.acquisition:MADA")
    monkeypatch.syspath_prepend(tmp_path)
    assert get_strategy("mine").name == "mada"
    package(tmp_path, "others", "mine = ripu_lightning.acquisition:CoreSet")
    with pytest.raises(UserError, match=r"'mine': added by package (theirs and package others|others and package th)"):
        get_strategy("mine")


def test_an_unknown_name_suggests_a_package_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "theirs", "density = ripu_lightning.acquisition:MADA")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="name 'densty' is unknown; did you mean 'density'"):
        get_strategy("densty")
