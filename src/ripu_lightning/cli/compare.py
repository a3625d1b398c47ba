"""``ripu-compare``: what several strategies would buy with one checkpoint, without training."""

from omegaconf import DictConfig

from ripu_lightning.cli.app import run


def main() -> None:
    """Console entry point."""
    run("compare", _compare)


def _compare(config: DictConfig) -> None:
    from ripu_lightning.cli.replaying import compare_strategies

    compare_strategies(config)


if __name__ == "__main__":
    main()
