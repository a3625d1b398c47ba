"""Label maps: the region of each pixel of an image, computed (SLIC) or read from a file."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ripu_lightning.errors import UserError, require_integer, require_number
from ripu_lightning.torch_files import load_plain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def slic(image: "Tensor | NDArray[np.uint8]", segments: int = 400, compactness: float = 10.0) -> Tensor:
    """SLIC superpixels of an RGB image (Achanta et al., TPAMI 2012), by scikit-image.

    Ten steps of k-means from a regular grid, in Lab colour and position, each pixel compared with the centres around
    it at ``D^2 = d_lab^2 / m^2 + d_xy^2 / S^2``, with compactness ``m`` and grid step ``S``; then pieces of less than
    half the mean size are merged into a neighbour, so that every superpixel is connected through the sides of its
    pixels. The image's values are first stretched to 0..1.

    Args:
        image: ``(H, W, 3)`` uint8.
        segments: superpixels wanted, 1 or more; the result often has a fifth more or fewer.
        compactness: ``m``, above 0; higher values give squarer superpixels.

    Returns:
        ``(H, W)`` int64, ids 0..R-1, each of them present.

    Raises:
        ValueError: another image or option; UserError if scikit-image is not installed.

    >>> image = torch.zeros(20, 20, 3, dtype=torch.uint8)
    >>> image[:, 7:] = 255
    >>> slic(image, segments=4)[::10, 4:12]
    tensor([[0, 0, 0, 1, 1, 1, 1, 1],
            [0, 0, 0, 1, 1, 1, 1, 1]])
    """
    pixels = image if isinstance(image, Tensor) else torch.tensor(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != torch.uint8 or pixels.numel() == 0:
        raise ValueError(f"expected an image (H, W, 3) uint8, got {pixels.dtype} of shape {tuple(pixels.shape)}")
    require_integer("slic", "segments", segments, least=1)
    require_number("slic", "compactness", compactness, above=True)
    found = require_scikit_image().slic(pixels.cpu().numpy(), segments, compactness, start_label=0, channel_axis=-1)
    return _without_gaps(torch.from_numpy(found))


def read_regions(path: str | Path) -> Tensor:
    """A label map from a file, its ids replaced by 0..R-1 in their order.

    Args:
        path: an 8- or 16-bit grayscale PNG, or a ``.pt`` file with an integer tensor ``(H, W)`` of ids of 0 or more.

    Returns:
        ``(H, W)`` int64, each id present.

    Raises:
        UserError: no such file, or one with other content.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save(torch.tensor([[7, 7, 40], [3, 7, 40]]), f"{folder}/regions.pt")
    ...     read_regions(f"{folder}/regions.pt")
    tensor([[1, 1, 2],
            [0, 1, 2]])
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such label map")
    return _without_gaps(_read_tensor(path) if path.suffix == ".pt" else _read_png(path))


def require_scikit_image() -> Any:
    """The module with SLIC; raises :class:`UserError` if scikit-image is not installed."""
    try:
        return import_module("skimage.segmentation")
    except ModuleNotFoundError as error:
        raise UserError("superpixels need scikit-image: pip install 'ripu-lightning[superpixels]'") from error


def _read_tensor(path: Path) -> Tensor:
    try:
        regions = load_plain(path)
    except Exception as error:  # the reader can raise anything for a file that holds no tensor
        raise UserError(f"{path}: cannot be read ({type(error).__name__}); expected a tensor (H, W)") from error
    if not isinstance(regions, Tensor):
        raise UserError(f"{path}: holds a {type(regions).__name__}; expected a tensor (H, W)")
    real = regions.is_floating_point() or regions.is_complex() or regions.dtype == torch.bool
    if regions.ndim != 2 or regions.numel() == 0 or real:
        raise UserError(f"{path}: holds {regions.dtype} of shape {tuple(regions.shape)}; expected integers (H, W)")
    regions = regions.long()
    if bool((regions < 0).any()):
        raise UserError(f"{path}: holds the id {int(regions.min())}; expected ids of 0 or more")
    return regions


def _read_png(path: Path) -> Tensor:
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as picture:
            if picture.mode not in {"L", "I;16", "I"}:
                raise UserError(f"{path}: is a PNG in mode {picture.mode}; expected 8- or 16-bit grayscale: convert it")
            pixels = bytearray(picture.convert("I").tobytes())  # 32 bits, in the machine's byte order
            height, width = picture.height, picture.width
    except UserError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot be read as PNG ({error}); expected a grayscale PNG or a .pt file") from error
    return torch.frombuffer(pixels, dtype=torch.int32).view(height, width)


def _without_gaps(regions: Tensor) -> Tensor:
    ids: Tensor = torch.unique(regions, return_inverse=True)[1]
    return ids
