"""The names in object code: what it defines, and what it wants from elsewhere.

LLVM can turn an instruction into a call of its run-time library, which shows in the object alone.
"""

import struct
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Symbols:
    """Names of global symbols, as a C program would write them.

    Attributes:
        defined: what other code may call.
        undefined: what other code must provide.
    """

    defined: frozenset[str]
    undefined: frozenset[str]


def symbols(image: bytes) -> Symbols:
    """Read the symbol table of an ELF, Mach-O or COFF object of a 64-bit little-endian machine.

    Raises:
        ValueError: it is none of these, or cut off.
    """
    try:
        if image[:6] == b"\x7fELF\x02\x01":
            return _elf(image)
        if image[:4] == b"\xcf\xfa\xed\xfe":
            return _mach_o(image)
        if image[:2] in _COFF_MACHINES:
            return _coff(image)
    except (struct.error, ValueError, IndexError) as error:
        raise ValueError(f"object code that cannot be read: {error}") from error
    raise ValueError(f"object code of an unknown format: {image[:6].hex()}")


_COFF_MACHINES = {b"\x64\x86", b"\x64\xaa"}  # x86-64 and arm64


def _elf(image: bytes) -> Symbols:
    """ELF-64, `Elf64_Ehdr`, `Elf64_Shdr` and `Elf64_Sym` of the System V ABI."""
    (table,) = struct.unpack_from("<Q", image, 0x28)
    size, count = struct.unpack_from("<HH", image, 0x3A)
    headers = [struct.unpack_from("<IIQQQQIIQQ", image, table + k * size) for k in range(count)]
    found: list[tuple[str, bool]] = []
    for _, kind, _, _, start, length, link, *_ in headers:
        if kind != 2:  # SHT_SYMTAB
            continue
        names = headers[link][4]
        for at in range(start + 24, start + length, 24):  # the first is no symbol
            name, info, _, section = struct.unpack_from("<IBBH", image, at)
            if info >> 4:  # not STB_LOCAL
                found.append((_text(image, names + name), section != 0))
    return _sorted(found)


def _mach_o(image: bytes) -> Symbols:
    """Mach-O, `mach_header_64`, `symtab_command` and `nlist_64` of <mach-o/loader.h>."""
    (commands,) = struct.unpack_from("<I", image, 16)
    at = 32
    found: list[tuple[str, bool]] = []
    for _ in range(commands):
        kind, size = struct.unpack_from("<II", image, at)
        if kind == 2:  # LC_SYMTAB
            start, count, names = struct.unpack_from("<III", image, at + 8)
            for entry in range(start, start + 16 * count, 16):
                name, info = struct.unpack_from("<IB", image, entry)
                if info & 1:  # N_EXT; of the type, N_UNDF is 0
                    # C names have an underscore before them there.
                    found.append((_text(image, names + name).removeprefix("_"), info & 0x0E != 0))
        at += size
    return _sorted(found)


def _coff(image: bytes) -> Symbols:
    """COFF, the symbol table of Microsoft's PE format."""
    start, count = struct.unpack_from("<II", image, 8)
    names = start + 18 * count
    found: list[tuple[str, bool]] = []
    skipped = 0
    for at in range(start, names, 18):
        if skipped:
            skipped -= 1
            continue
        zero, offset, _, section, _, storage, skipped = struct.unpack_from("<IIIhHBB", image, at)
        if storage == 2:  # IMAGE_SYM_CLASS_EXTERNAL
            name = (
                image[at : at + 8].rstrip(b"\0").decode() if zero else _text(image, names + offset)
            )
            found.append((name, section != 0))
    return _sorted(found)


def _text(image: bytes, at: int) -> str:
    return image[at : image.index(b"\0", at)].decode()


def _sorted(found: list[tuple[str, bool]]) -> Symbols:
    return Symbols(
        frozenset(name for name, is_defined in found if is_defined),
        frozenset(name for name, is_defined in found if not is_defined),
    )
