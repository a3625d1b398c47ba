"""``ripu-convert``: a checkpoint from or to the public code."""

from pathlib import Path

from omegaconf import DictConfig

from ripu_lightning.cli.app import run


def main() -> None:
    """Console entry point."""
    run("convert", _convert)


def _convert(config: DictConfig, folder: Path) -> None:
    from ripu_lightning.experiment.convert import convert

    print(f"written to {config.to}, in the format of {convert(config)}")


if __name__ == "__main__":
    main()
