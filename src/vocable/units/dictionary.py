"""`dict.km.txt`: fairseq's list of label symbols, one `symbol count` a line."""

from __future__ import annotations

from pathlib import Path

from vocable.artefacts.text import lines_of
from vocable.artefacts.writing import write_text
from vocable.errors import InputError, MismatchError


def write_dictionary(path: Path, clusters: int) -> None:
    """Write the symbols 0 … clusters - 1, whole or not at all; what stood there is replaced, never added to."""
    write_text(path, "".join(f"{unit} 1\n" for unit in range(clusters)))


def read_dictionary(path: Path) -> list[str]:
    """Return the symbols in order.

    Raises:
        InputError: the file is missing, empty or not UTF-8, a line is no symbol and count, or a symbol stands twice.
    """
    if not path.is_file():
        raise InputError(f"{path} doesn't exist: write it with 'vocable fairseq dictionary K LAB_DIR'")
    symbols: list[str] = []
    for number, line in enumerate(lines_of(path, path.read_bytes()), 1):
        symbol, _, count = line.removesuffix("#fairseq:overwrite").strip().rpartition(" ")
        if not symbol or not (count.isascii() and count.isdigit()):
            raise InputError(f"{path} line {number} should be a symbol and a count, but reads {line!r}")
        symbols.append(symbol)
    if not symbols:
        raise InputError(
            f"{path} is empty, so every label would be unknown: write it with 'vocable fairseq dictionary K LAB_DIR'"
        )
    if len(set(symbols)) != len(symbols):
        twice = next(symbol for at, symbol in enumerate(symbols) if symbol in symbols[:at])
        raise InputError(
            f"{path} names {twice!r} twice, as appending to it does: write it anew with 'vocable fairseq dictionary K LAB_DIR'"
        )
    return symbols


def require_clusters(path: Path, clusters: int | None, largest: int) -> None:
    """Check that a dictionary has the units 0 … clusters - 1, in any order.

    Args:
        path: the dictionary.
        clusters: how many units there are; None if the labels don't say: then any number above `largest` will do.
        largest: the largest unit that the labels hold.

    Raises:
        MismatchError: it has other symbols, or another number of them.
    """
    symbols = read_dictionary(path)
    # fairseq's preprocess.py pads to a multiple of 8 with symbols that no label has.
    units = {symbol for symbol in symbols if not symbol.startswith("madeupword")}
    wanted = clusters if clusters is not None else max(len(units), largest + 1)
    if units == {str(unit) for unit in range(wanted)}:
        return
    foreign = sorted(units - {str(unit) for unit in range(wanted)})
    has = f"the symbol {foreign[0]!r}, which is no unit" if foreign else f"{len(units)} units"
    remedy = f"write it anew with 'vocable fairseq dictionary {wanted} LAB_DIR'"
    raise MismatchError(f"{path} has {has}, where the labels need 0 to {wanted - 1}: {remedy}")
