"""Images and labels of every kind that cameras and programs write: read right, or refused with the fix."""

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin

from ripu_lightning.data.cache import DataCache
from ripu_lightning.data.color_masks import StoredLabel
from ripu_lightning.data.folder import FolderDataset
from ripu_lightning.data.memory import Memory
from ripu_lightning.data.prepared import Resized
from ripu_lightning.data.reading import LARGEST_PIXELS, is_turned, read_image, read_label, read_size
from ripu_lightning.data.wrapped import wrap_dataset
from ripu_lightning.errors import UserError

Pixels = npt.NDArray[np.uint8]
HEIGHT, WIDTH = 7, 11
ORIENTATION = 0x0112
SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}
"""The EXIF standard: where the first row and the first column of the stored image are seen."""
XMP = '<x:xmpmeta><rdf:Description tiff:Orientation="{}"/></x:xmpmeta>'


def random_pixels(*shape: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def seen(stored: Pixels, orientation: int) -> Pixels:
    first_row, first_column = SIDES[orientation]
    rows, columns = stored.shape[:2]
    upright = np.zeros_like(stored if orientation < 5 else stored.swapaxes(0, 1))
    for row in range(rows):
        for column in range(columns):
            place = {
                first_row: row if first_row in ("top", "left") else rows - 1 - row,
                first_column: column if first_column in ("top", "left") else columns - 1 - column,
            }
            down, right = (place.get(low, place.get(high)) for low, high in (("top", "bottom"), ("left", "right")))
            upright[down, right] = stored[row, column]
    return upright


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(path: Path, pixels: npt.NDArray[np.integer], depth: int, kind: int, extra: bytes = b"") -> None:
    """A PNG of a depth and colour type that Pillow does not write; ``extra`` follows the pixels."""
    rows = pixels.astype(">u2" if depth == 16 else np.uint8).reshape(len(pixels), -1)
    header = struct.pack(">IIBBBBB", pixels.shape[1], len(pixels), depth, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", data) + extra + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


def save_turned(path: Path, pixels: Pixels, orientation: int, way: str) -> Pixels:
    """Save an image with an orientation, and return its pixels as stored."""
    picture = Image.fromarray(pixels)
    if way == "late":
        write_png(path, pixels, 8, 2, chunk(b"eXIf", exif(orientation).tobytes()[6:]))
    elif way == "late raw profile":
        text = f"\nexif\n{len(exif(orientation).tobytes()):8}\n{exif(orientation).tobytes().hex()}\n"
        data = b"Raw profile type exif\0\0" + zlib.compress(text.encode())
        write_png(path, pixels, 8, 2, chunk(b"zTXt", data))
    elif way == "xmp":
        text = XMP.format(orientation)
        info, tags = PngImagePlugin.PngInfo(), TiffImagePlugin.ImageFileDirectory_v2()
        info.add_itxt("XML:com.adobe.xmp", text)
        tags.tagtype[700], tags[700] = 1, text.encode()
        options: dict[str, dict[str, Any]] = {
            ".png": {"pnginfo": info},
            ".tif": {"tiffinfo": tags},
            ".jpg": {"xmp": text.encode()},
        }
        picture.save(path, **options[path.suffix])
    else:
        picture.save(path, exif=exif(orientation), **({"compression": way} if way.startswith("tiff") else {}))
    stored = io.BytesIO()
    if path.suffix != ".jpg":
        return pixels
    picture.save(stored, "JPEG")
    return np.array(Image.open(stored))


@pytest.mark.parametrize(
    ("suffix", "way"),
    [
        *((suffix, "exif") for suffix in (".jpg", ".png", ".webp", ".tif")),
        *((".tif", compression) for compression in ("tiff_lzw", "tiff_adobe_deflate")),
        *((suffix, "xmp") for suffix in (".jpg", ".png", ".tif")),
        (".png", "late"),
        (".png", "late raw profile"),
    ],
)
@pytest.mark.parametrize("orientation", SIDES)
def test_images_are_turned_upright(tmp_path: Path, suffix: str, way: str, orientation: int) -> None:
    path = tmp_path / f"a{suffix}"
    smooth = np.linspace(0, 255, HEIGHT * WIDTH * 3).reshape(HEIGHT, WIDTH, 3).astype(np.uint8)
    stored = save_turned(path, smooth, orientation, way)
    expected = seen(stored, orientation)
    found = read_image(path)
    assert found.flags.c_contiguous
    if suffix == ".webp":  # its default is lossy
        assert np.abs(found.astype(int) - expected).mean() < 8
    else:
        np.testing.assert_array_equal(found, expected)
    assert read_size(path) == expected.shape[:2]
    assert is_turned(path) == (orientation != 1)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientations_that_do_not_exist_turn_nothing(tmp_path: Path, orientation: int) -> None:
    Image.fromarray(random_pixels(HEIGHT, WIDTH, 3)).save(tmp_path / "a.png", exif=exif(orientation))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), random_pixels(HEIGHT, WIDTH, 3))
    assert not is_turned(tmp_path / "a.png")


def test_damaged_exif_turns_nothing(tmp_path: Path) -> None:
    Image.fromarray(random_pixels(HEIGHT, WIDTH, 3)).save(tmp_path / "a.jpg", exif=b"Exif\0\0no tags at all")
    assert read_size(tmp_path / "a.jpg") == read_image(tmp_path / "a.jpg").shape[:2] == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("suffix", "way"), [(".png", "exif"), (".tif", "exif"), (".tif", "tiff_lzw"), (".png", "late"), (".tif", "xmp")]
)
def test_labels_with_an_orientation_are_refused(tmp_path: Path, suffix: str, way: str) -> None:
    path = tmp_path / f"a{suffix}"
    save_turned(path, random_pixels(HEIGHT, WIDTH, 3), 3, way)
    with pytest.raises(UserError, match=r"label has the EXIF orientation 3.*save it without EXIF"):
        read_label(path)
    Image.fromarray(random_pixels(HEIGHT, WIDTH).astype(np.uint16)).save(path, exif=exif(8))
    with pytest.raises(UserError, match="label has the EXIF orientation 8"):
        read_label(path, bits=16)


def turned_tree(root: Path) -> FolderDataset:
    for folder in ("images/train", "labels/train"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    label = random_pixels(HEIGHT, WIDTH) % 2
    stored = np.rot90(np.repeat(label[..., None] * 255, 3, axis=2))  # orientation 6 turns it back
    Image.fromarray(np.ascontiguousarray(stored)).save(root / "images/train/a.png", exif=exif(6))
    Image.fromarray(label).save(root / "labels/train/a.png")
    Image.fromarray(stored[..., :3].copy()).resize((WIDTH, HEIGHT)).save(root / "images/train/b.png")
    Image.fromarray(label).save(root / "labels/train/b.png")
    (root / "map.yaml").write_text("classes: [road, car]")
    return FolderDataset(str(root), "train", str(root / "map.yaml"))


def test_an_image_and_its_label_agree_wherever_it_is_read(tmp_path: Path) -> None:
    data, memory, cache = turned_tree(tmp_path), Memory(1), DataCache(None)
    view = Resized(data, None, cache, memory)
    view.load(memory, True, 0)
    for image, label in ((data.image(0), data.label(0)), (view.image(0), view.label(0))):
        np.testing.assert_array_equal(image[..., 1] == 255, label == 1)
    assert data.size(0) == (HEIGHT, WIDTH)
    data.check()
    assert [note for note in data.notes() if "EXIF" in note] == [
        f"{tmp_path}: 1 of 2 images have an EXIF orientation and are turned upright when they are read: a"
    ]


@pytest.mark.parametrize("mismatch", ["error", "resize"])
def test_a_label_of_the_stored_image_is_not_squeezed(tmp_path: Path, mismatch: Literal["error", "resize"]) -> None:
    turned_tree(tmp_path)
    Image.fromarray(np.zeros((WIDTH, HEIGHT), dtype=np.uint8)).save(tmp_path / "labels/train/a.png")
    data = FolderDataset(str(tmp_path), "train", str(tmp_path / "map.yaml"), mismatch=mismatch)
    words = r"label is 7x11, but its image a\.png is 11x7 once turned as its EXIF says"
    with pytest.raises(UserError, match=words):
        data.label(0)


def test_what_an_older_release_derived_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turned_tree(tmp_path)

    def fingerprint() -> str:
        return FolderDataset(str(tmp_path), "train", str(tmp_path / "map.yaml")).fingerprint()

    before = fingerprint()
    assert before == fingerprint()
    monkeypatch.setattr("ripu_lightning.data.folder.READING_VERSION", 0)
    assert before != fingerprint()


def test_wrapped_images_must_be_upright(tmp_path: Path) -> None:
    save_turned(tmp_path / "a.jpg", random_pixels(HEIGHT, WIDTH, 3), 6, "exif")
    for picture in (Image.open(tmp_path / "a.jpg"), Image.open(tmp_path / "a.jpg").convert("RGB")):
        with pytest.raises(UserError, match=r"image 000000: .*orientation 6.*exif_transpose"):
            wrap_dataset([picture], ["road", "car"]).image(0)
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg"))
    assert wrap_dataset([upright], ["road", "car"]).size(0) == (WIDTH, HEIGHT)
    Image.fromarray(random_pixels(HEIGHT, WIDTH) % 2).save(tmp_path / "mask.png", exif=exif(3))
    sample = (random_pixels(HEIGHT, WIDTH, 3), Image.open(tmp_path / "mask.png"))
    with pytest.raises(UserError, match="mask has the EXIF orientation 3"):
        wrap_dataset([sample], ["road", "car"]).label(0)


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (4, 2), (2, 3), (6, 4)])
def test_16_bits_are_scaled_to_8(tmp_path: Path, kind: int, channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (HEIGHT, WIDTH, channels))
    values[0, :3, 0] = (0, 128, 65535)
    write_png(tmp_path / "a.png", values, 16, kind)
    with pytest.raises(UserError, match=r"16 bits a channel; expected 8-bit RGB: set data\.target\.convert=rgb"):
        read_image(tmp_path / "a.png", key="data.target.convert")
    colors = values[..., :3] if channels > 2 else values[..., [0, 0, 0]]
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", convert=True), np.round(colors / 257))


@pytest.mark.parametrize(("suffix", "orientation"), [(".png", 6), (".tif", 6), (".tif", 3), (".tif", 1)])
def test_16_bit_images_are_turned_too(tmp_path: Path, suffix: str, orientation: int) -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (HEIGHT, WIDTH), dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a{suffix}", exif=exif(orientation))
    scaled = np.round(values / 257).astype(np.uint8)
    found = read_image(tmp_path / f"a{suffix}", convert=True)
    np.testing.assert_array_equal(found, seen(np.repeat(scaled[..., None], 3, axis=2), orientation))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("orientation", [3, 5, 6, 8])
def test_converted_images_are_turned_too(tmp_path: Path, mode: str, orientation: int) -> None:
    picture = Image.fromarray(random_pixels(HEIGHT, WIDTH, 3)).convert(mode)
    expected = seen(np.array(picture.convert("RGB")), orientation)
    for compression in ("raw", "tiff_lzw"):
        picture.save(tmp_path / "a.tif", compression=compression, exif=exif(orientation))
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif", convert=True), expected)
        assert read_size(tmp_path / "a.tif") == expected.shape[:2]


def test_16_bit_colours_with_exif_after_the_pixels(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (HEIGHT, WIDTH, 3))
    write_png(tmp_path / "a.png", values, 16, 2, chunk(b"eXIf", exif(8).tobytes()[6:]))
    expected = seen(np.round(values / 257).astype(np.uint8), 8)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", convert=True), expected)


def test_other_modes_are_converted_if_wanted(tmp_path: Path) -> None:
    grey = random_pixels(HEIGHT, WIDTH)
    palette = Image.fromarray(grey % 3).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    palette.putdata((grey % 3).reshape(-1).tolist())
    colors = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]], dtype=np.uint8)
    layers = random_pixels(HEIGHT, WIDTH, 4)
    multiplied = (255 - layers[..., :3].astype(float)) * (255 - layers[..., 3:].astype(float)) / 255
    cases = {
        "1": (Image.fromarray(grey > 127), np.repeat(255 * (grey > 127).astype(np.uint8)[..., None], 3, axis=2)),
        "L": (Image.fromarray(grey), np.repeat(grey[..., None], 3, axis=2)),
        "LA": (Image.fromarray(layers[..., :2].copy()), np.repeat(layers[..., :1], 3, axis=2)),
        "P": (palette, colors[grey % 3]),
        "CMYK": (Image.fromarray(layers, "CMYK"), multiplied),
    }
    for mode, (picture, expected) in cases.items():
        path = tmp_path / f"{mode}.tif"
        picture.save(path)
        assert Image.open(path).mode == mode
        with pytest.raises(UserError, match=f"in mode {mode}; expected 8-bit RGB: set convert=rgb"):
            read_image(path)
        assert np.abs(read_image(path, convert=True) - expected).max() <= (1 if mode == "CMYK" else 0), mode
    Image.fromarray(grey.astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(UserError, match="mode F, which has no fixed range"):
        read_image(tmp_path / "float.tif", convert=True)


def test_a_cmyk_jpeg_shows_its_colours(tmp_path: Path) -> None:
    red = Image.new("RGB", (16, 16), (200, 30, 60)).convert("CMYK")
    red.save(tmp_path / "a.jpg", quality=100)
    assert b"Adobe" in (tmp_path / "a.jpg").read_bytes()  # programs store such values inverted, and say so
    assert np.abs(read_image(tmp_path / "a.jpg", convert=True).astype(int) - (200, 30, 60)).max() <= 2


def test_one_bit_masks_hold_0_and_1(tmp_path: Path) -> None:
    mask = random_pixels(HEIGHT, WIDTH) > 127
    for suffix in (".png", ".tif", ".bmp"):
        Image.fromarray(mask).save(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(ids_of(read_label(tmp_path / f"a{suffix}")), mask)


def ids_of(stored: StoredLabel) -> npt.NDArray[np.integer]:
    """Ids of a mask, from the palette too: BMP keeps one bit as a palette of black and white."""
    return stored.values if stored.palette is None else stored.palette[stored.values][..., 0] // 255


@pytest.mark.parametrize("mode", ["LA", "transparent palette"])
def test_other_modes_of_ids(tmp_path: Path, mode: str) -> None:
    ids = random_pixels(HEIGHT, WIDTH) % 3
    if mode == "LA":
        Image.fromarray(np.stack([ids, np.full_like(ids, 255)], axis=2)).save(tmp_path / "a.png")
    else:
        picture = Image.fromarray(ids).convert("P")
        picture.putdata(ids.reshape(-1).tolist())
        picture.save(tmp_path / "a.png", transparency=0)
    np.testing.assert_array_equal(read_label(tmp_path / "a.png").values, ids)


@pytest.mark.parametrize("suffix", ["tif", "png", "webp", "gif"])
def test_an_image_of_several_pages_is_refused(tmp_path: Path, suffix: str) -> None:
    pages = [Image.fromarray(np.full((6, 8, 3), value, dtype=np.uint8)) for value in (10, 200)]
    path = tmp_path / f"a.{suffix}"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    with pytest.raises(UserError, match=r"a\.\w+: image has 2 pages; save the one that is meant"):
        read_image(path, convert=True)


def test_the_preview_in_a_phones_jpeg_is_no_second_page(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((16, 16, 3), value, dtype=np.uint8)) for value in (10, 200)]
    pages[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=pages[1:], quality=95)
    assert abs(int(read_image(tmp_path / "a.jpg").mean()) - 10) < 3


def test_a_label_of_several_pages_is_refused(tmp_path: Path) -> None:
    page = Image.fromarray(random_pixels(HEIGHT, WIDTH) % 2)
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page])
    with pytest.raises(UserError, match="label has 2 pages"):
        read_label(tmp_path / "a.tif")


def header_only(path: Path, width: int, height: int) -> Path:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return path


def test_one_limit_for_large_images(tmp_path: Path) -> None:
    side = int(LARGEST_PIXELS**0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_size(header_only(tmp_path / "largest.png", side, side)) == (side, side)
        for width in (side + 1, 2 * side, 3 * side):  # Pillow warns of the first two and refuses the last
            path = header_only(tmp_path / "larger.png", width, side)
            for read in (read_size, read_image, read_label):
                with pytest.raises(UserError, match=r"larger\.png: has too many pixels .*268,435,456\); cut .* tiles"):
                    read(path)
