"""``ripu-compare``: which labels several strategies would query with one checkpoint, without training."""

from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from ripu_lightning.cli.app import run
from ripu_lightning.cli.compose import searching


def main() -> None:
    """Console entry point."""
    run("compare", _compare)


def _compare(config: DictConfig, folder: Path) -> None:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from ripu_lightning.experiment.compare import compare
    from ripu_lightning.report.replay.comparison_files import print_comparison

    # Knows the user's own configs too, of --config-dir and of hydra.searchpath.
    loader = searching(GlobalHydra.instance().config_loader(), list(HydraConfig.get().overrides.hydra))
    options = {
        name: loader.load_configuration(f"strategy/{name}", [], RunMode.RUN, from_shell=False).strategy
        for name in loader.get_group_options("strategy")
    }
    found = compare(config, folder, options)
    if found is not None:
        print_comparison(found)
        print(f"written to {folder}")


if __name__ == "__main__":
    main()
