"""``ripu-convert``: a checkpoint of the paper's public code into one of ours, or one of ours into theirs."""

from omegaconf import DictConfig

from ripu_lightning.cli.app import run


def main() -> None:
    """Console entry point."""
    run("convert", _convert)


def _convert(config: DictConfig) -> None:
    from ripu_lightning.cli.conversion import convert_checkpoint

    convert_checkpoint(config)


if __name__ == "__main__":
    main()
