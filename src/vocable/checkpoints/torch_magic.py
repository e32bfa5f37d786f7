"""How files of torch.save begin; known without torch."""

from __future__ import annotations

from pathlib import Path


def is_torch_file(path: Path) -> bool:
    """Tell by its beginning whether a file may be of torch.save, old or new; an .npz begins like a new one."""
    with path.open("rb") as file:
        return file.read(14).startswith((b"PK\x03\x04", _LEGACY))


_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # protocol 2, then torch's magic number
