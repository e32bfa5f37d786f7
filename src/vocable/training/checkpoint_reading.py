"""torch.distributed.checkpoint's files, read without running them: it pickles its table of contents, and plain values."""

from __future__ import annotations

import io
import pickle
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import ReadItem

from vocable.errors import InputError

_CONTENTS = "torch.distributed.checkpoint.metadata"
_ALLOWED = {
    *((_CONTENTS, name) for name in ("Metadata", "MetadataIndex", "StorageMeta", "TensorProperties", "TensorStorageMetadata")),
    *((_CONTENTS, name) for name in ("BytesStorageMetadata", "ChunkStorageMetadata", "_MEM_FORMAT_ENCODING")),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
}


class _Contents(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            return super().find_class(module, name)
        raise InputError(f"it asks for {module}.{name}, which no checkpoint of a training needs, and which may run anything")


class Reader(FileSystemReader):
    """Reads tensors, and a table of contents of nothing but names, shapes and places."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Return the table of contents.

        Raises:
            InputError: it asks for anything else.
        """
        path = self._get_metadata_path(kwargs.get("rank"))
        with self.fs.create_stream(path, "rb") as stream:
            try:
                found: Metadata = _Contents(stream).load()
            except InputError as error:
                raise InputError(f"{path} isn't read: {error}") from None
        if getattr(found, "storage_meta", None) is None:
            found.storage_meta = StorageMeta()
        found.storage_meta.load_id = self.load_id  # type: ignore[union-attr]
        return found


class Planner(DefaultLoadPlanner):
    """Takes plain values as weights alone are taken."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Take a value out of a file."""
        plain = io.BytesIO()
        torch.save(torch.load(value, weights_only=True), plain)
        plain.seek(0)
        super().load_bytes(read_item, plain)
