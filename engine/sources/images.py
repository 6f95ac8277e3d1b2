"""`images("faces")`: a folder for each class, PNG and JPEG files in it, decoded by Pillow."""

import os
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from os.path import isdir  # unlike Path.is_dir, no error where a folder may not be looked into
from pathlib import Path
from typing import Any

import numpy as np

from fml.engine.ir.diagnostics import FmlError, error
from fml.engine.ops.record import Array
from fml.engine.sources.arrays import SPLITS
from fml.engine.sources.packages import imported
from fml.engine.sources.paths import find_file, why
from fml.engine.sources.table import Argument, Arguments, Source, Table

_ENDINGS = (".png", ".jpg", ".jpeg")
# The modes of Pillow that are read as they are, eight bits a channel, and their channels.
_CHANNELS = {"L": 1, "RGB": 3}
_LAYOUT = "a folder for each class, and PNG or JPEG files in it"


@dataclass(frozen=True, slots=True)
class _Image:
    """A file, the split that it is in, "" where there are none, and the name of its class."""

    file: Path
    split: str
    label: str


def read_images(arguments: Arguments, base: Path) -> Table:
    """Read columns image, [samples, height, width, channels] in u8, and label.

    Samples stand in the order of the names of splits, classes and files. Classes are numbered in
    the order of their names, over all splits. Each file is decoded once, into its place.

    Raises:
        FmlError: E0501 no such folder, E0510 a folder or file that is no such thing or cannot be
            read, E0511 images that differ in size or channels, E0512 Pillow is not installed.
    """
    return _table(arguments, base, is_head=False)


def read_head(arguments: Arguments, base: Path) -> Table:
    """Read the first image of each class.

    Raises:
        FmlError: as `read_images`.
    """
    return _table(arguments, base, is_head=True)


def read_new(arguments: Arguments, base: Path) -> Table:
    """Read a column image from one file, or from a folder of images with or without classes.

    Raises:
        FmlError: as `read_images`.
    """
    pillow = imported("PIL.Image", "Pillow", "images")
    path = find_file(str(arguments["path"]), base)
    if not path.is_dir():
        return Table({"image": _decoded(pillow, [path])}, str(path), files=[path.name])
    has_classes = any(isdir(entry) for entry in _entries(path))
    files = [image.file for image in _listed(path)] if has_classes else _files(path)
    names = [file.relative_to(path).as_posix() for file in files]
    return Table({"image": _decoded(pillow, files)}, str(path), files=names)


def _table(arguments: Arguments, base: Path, *, is_head: bool) -> Table:
    pillow = imported("PIL.Image", "Pillow", "images")
    folder = find_file(str(arguments["path"]), base)
    images = _listed(folder)
    classes = sorted({image.label for image in images})
    if is_head:
        firsts: dict[str, _Image] = {}
        for image in images:
            firsts.setdefault(image.label, image)
        images = [*firsts.values()]
    numbers = {label: number for number, label in enumerate(classes)}
    labels = np.array([numbers[i.label] for i in images], np.min_scalar_type(len(classes) - 1))
    splits = dict.fromkeys(image.split for image in images if image.split)
    return Table(
        {"image": _decoded(pillow, [image.file for image in images]), "label": labels},
        str(folder),
        splits={s: np.array([n for n, i in enumerate(images) if i.split == s]) for s in splits},
        classes={"label": tuple(classes)},
        files=[image.file.relative_to(folder).as_posix() for image in images],
    )


# --- folders -------------------------------------------------------------------------------------


def _listed(folder: Path) -> list[_Image]:
    """All images in order. Folders are splits where all of them are called so, else classes."""
    if not folder.is_dir():
        raise error("E0501", f"{folder} is a file", help=f"`images` reads a folder: {_LAYOUT}")
    inner = _folders(folder)
    if not all(each.name in SPLITS for each in inner):
        return _of_classes(inner, "")
    return [image for split in inner for image in _of_classes(_folders(split), split.name)]


def _of_classes(folders: Sequence[Path], split: str) -> list[_Image]:
    return [_Image(file, split, folder.name) for folder in folders for file in _files(folder)]


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, beside which no image stands."""
    entries = _entries(folder)
    for entry in entries:
        if _is_image(entry):
            raise _foreign(
                folder, f"{entry.name} is in no folder of a class", f"there must be {_LAYOUT}"
            )
    if found := [entry for entry in entries if isdir(entry)]:
        return found
    raise _foreign(folder, "there are no folders in it", f"there must be {_LAYOUT}")


def _files(folder: Path) -> list[Path]:
    """The images in a folder, in which nothing else is."""
    entries = _entries(folder)
    for entry in entries:
        if not _is_image(entry):
            if isdir(entry):
                way_out = f"there must be {_LAYOUT}; folders of splits are {', '.join(SPLITS)}"
                raise _foreign(folder, f"{entry.name} is a folder", way_out)
            reason = f"{entry.name} is no file {', '.join(_ENDINGS)}"
            raise _foreign(folder, reason, f"move {entry} to another place")
    if not entries:
        raise _foreign(folder, "there are no images in it", f"there must be {_LAYOUT}")
    return entries


def _entries(folder: Path) -> list[Path]:
    """What is in a folder by name; hidden entries do not count."""
    try:
        # Refused where names may be listed, and nothing behind them looked at.
        os.stat(os.path.join(folder, "."))
        found = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as reason:
        raise _foreign(folder, why(reason), "its owner may permit it: chmod u+rx") from None
    for entry in found:
        if any("\ud800" <= letter <= "\udfff" for letter in entry.name):
            raise _foreign(folder, f"the name {entry.name!a} is not UTF-8", "rename the file")
    return sorted(found, key=lambda entry: entry.name)


def _is_image(entry: Path) -> bool:
    return entry.suffix.lower() in _ENDINGS and not isdir(entry)


# --- files ---------------------------------------------------------------------------------------


def _decoded(pillow: Any, files: Sequence[Path]) -> Array:
    """The pixels of all files, [files, height, width, channels] in u8."""
    first = _pixels(pillow, files[0])
    made = np.empty((len(files), *first.shape), np.uint8)
    made[0] = first
    for place, file in enumerate(files[1:], start=1):
        pixels = _pixels(pillow, file)
        if pixels.shape != first.shape:
            raise _unequal(files[0], first, file, pixels)
        made[place] = pixels
    return made


def _pixels(pillow: Any, file: Path) -> Array:
    """The pixels of a file as they are stored, [height, width, channels] in u8."""
    with warnings.catch_warnings():
        # Pillow warns of files that unpack to hundreds of megabytes; of the rest it makes the best.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", pillow.DecompressionBombWarning)
        try:
            with file.open("rb") as stream, pillow.open(stream, formats=("PNG", "JPEG")) as image:
                if image.mode not in _CHANNELS:
                    raise _other_mode(file, str(image.mode))
                pixels = np.asarray(image, np.uint8)
        except pillow.UnidentifiedImageError:
            raise _damaged(file, "its content is neither PNG nor JPEG") from None
        except PermissionError as reason:
            raise _damaged(file, why(reason), "its owner may permit it: chmod u+r") from None
        except (OSError, SyntaxError, ValueError, struct.error, zlib.error) as reason:
            raise _damaged(file, why(reason, "it is damaged")) from None
        except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as reason:
            raise _damaged(file, str(reason)) from None
    return pixels.reshape(*pixels.shape[:2], -1)


def _unequal(one: Path, first: Array, other: Path, pixels: Array) -> FmlError:
    height, width, channels = first.shape
    mode = next(mode for mode, count in _CHANNELS.items() if count == channels)
    sizes = ["x".join(map(str, array.shape)) for array in (pixels, first)]
    return error(
        "E0511", f"{other} is {sizes[0]}, and {sizes[1]} is needed",
        notes=[f"height x width x channels, as in {one}"],
        help="make all images alike, with Pillow: "
        f'Image.open(file).convert("{mode}").resize(({width}, {height})).save(file)',
    )  # fmt: skip


def _other_mode(file: Path, mode: str) -> FmlError:
    return error(
        "E0510", f"{file} cannot be read as grey or as red, green and blue",
        notes=[f"its mode is {mode}; eight bits for each of 1 or 3 channels are read"],
        help='convert it, with Pillow: Image.open(file).convert("RGB").save(file), '
        'or "L" for grey',
    )  # fmt: skip


def _damaged(
    file: Path, reason: str, help: str = "fetch or convert it again, or take it out of the folder"
) -> FmlError:
    return error("E0510", f"{file} cannot be read as an image", notes=[reason], help=help)


def _foreign(folder: Path, reason: str, help: str) -> FmlError:
    return error("E0510", f"{folder} cannot be read as images", notes=[reason], help=help)


IMAGES = Source(
    "images",
    "A folder for each class, PNG and JPEG files in it: columns image, label.",
    (Argument("path", str),),
    read_images,
    read_head,
    read_new,
)
