"""Several files, folders and manifests as one source."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vocable.audio.decoding import LIBSNDFILE_EXTENSIONS, MEDIA_EXTENSIONS, extension_of
from vocable.audio.manifest import id_of
from vocable.audio.manifest_files import is_manifest, read_rows
from vocable.audio.scan import find_audio
from vocable.errors import InputError
from vocable.recipes.corpus import CorpusSettings, require_source
from vocable.recipes.row_files import unlistable, write_rows
from vocable.recipes.workplace import NAME


@contextmanager
def opened_sources(sources: Sequence[Path], out: Path, corpus: CorpusSettings, kept: bool) -> Iterator[Path]:
    """Give the one source that several are; a list of them lies in the work folder, or goes again if it isn't to be kept."""
    if kept:
        yield one_source(sources, out / NAME, corpus)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield one_source(sources, Path(folder), corpus)


def one_source(sources: Sequence[Path], place: Path, corpus: CorpusSettings) -> Path:
    """Return a source of all that is given: a folder or a manifest as it is, else a manifest of audio files, which is written.

    Args:
        sources: audio files, folders of them, and manifests.
        place: the folder for that manifest.
        corpus: which audio of folders is taken.

    Raises:
        InputError: one of them isn't there, is no audio, or a manifest of more than whole files; or two have one id; or all are
            empty.
    """
    for source in sources:
        require_source(source)
    if len(sources) == 1 and (sources[0].is_dir() or not _is_audio(sources[0])):
        return sources[0]
    rows = [row for source in sources for row in _rows_of(source, corpus)]
    if not rows:
        raise InputError(f"{sources[0]} and the others hold no audio: give audio files, folders of them, or manifests")
    root = os.path.commonpath([os.path.dirname(row["path"]) for row in rows])
    listed: dict[str, dict[str, str]] = {}
    for row in rows:
        named = {"id": id_of(os.path.relpath(row["path"], root)), **row}
        _check_name(named["path"])
        if (same := listed.setdefault(named["id"], named))["path"] != named["path"]:
            raise InputError(f"{same['path']} and {named['path']} would both have the id {named['id']!r}: label them one by one")
    return write_rows(place, "sources", listed.values())


def _check_name(path: str) -> None:
    if (why := unlistable(path)) is not None:
        raise InputError(f"{path!r} is {why}: rename it, or give its folder alone, of which it is left out")


def _is_audio(path: Path) -> bool:
    return extension_of(str(path)) in (*LIBSNDFILE_EXTENSIONS, *MEDIA_EXTENSIONS)


def _rows_of(source: Path, corpus: CorpusSettings) -> Iterator[dict[str, str]]:
    """Yield the rows of a source: a path, and of a manifest's the id and the speaker."""
    if source.is_dir():
        found, unlisted = find_audio(source, corpus.ext)
        if unlisted:
            raise InputError(
                f"{os.path.join(source, unlisted[0].path)} can't be listed ({unlisted[0].detail}): change its permissions"
            )
        for path in found:
            yield {"path": os.path.abspath(os.path.join(source, path))}
    elif is_manifest(source):
        root, rows = read_rows(source, corpus.sample_rate)
        for row in rows:
            path = os.path.abspath(os.path.join(root, row.path))
            if row.channel is not None or not os.path.exists(path):
                raise InputError(f"{source} names channels, parts of archives, or files that are gone: label it by itself")
            named = {} if row.id == id_of(row.path) else {"id": row.id}  # those that are paths are so below another root here
            yield {"path": path, **named, **({"speaker": row.speaker} if row.speaker is not None else {})}
    elif _is_audio(source):
        yield {"path": os.path.abspath(source)}
    else:
        raise InputError(f"{source} is neither audio of a known format nor a manifest: give audio files, folders or manifests")
