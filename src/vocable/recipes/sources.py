"""Several files, folders and manifests as one source."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from vocable.artefacts.headers import canonical_json, digest_of
from vocable.artefacts.writing import write_text
from vocable.audio.decoding import LIBSNDFILE_EXTENSIONS, MEDIA_EXTENSIONS, extension_of
from vocable.audio.manifest import id_of
from vocable.audio.manifest_files import is_manifest, read_rows
from vocable.audio.scan import find_audio
from vocable.errors import InputError
from vocable.recipes.corpus import CorpusSettings, require_source
from vocable.recipes.workplace import open_workplace


def one_source(sources: Sequence[Path], out: Path, corpus: CorpusSettings) -> Path:
    """Return a source of all that is given: a folder or a manifest as it is, else a manifest of audio files, in the work folder.

    Args:
        sources: audio files, folders of them, and manifests.
        out: the output folder, whose work folder gets the manifest.
        corpus: which audio of folders is taken.

    Raises:
        InputError: one of them isn't there, is no audio, or a manifest whose rows are more than a path; or all are empty.
    """
    for source in sources:
        require_source(source)
    if len(sources) == 1 and (sources[0].is_dir() or not _is_audio(sources[0])):
        return sources[0]
    paths = [os.path.abspath(path) for source in sources for path in _audio_of(source, corpus)]
    if not paths:
        raise InputError(f"{sources[0]} and the others hold no audio: give audio files, folders of them, or manifests")
    root = os.path.commonpath([os.path.dirname(path) for path in paths])
    rows = [{"id": id_of(os.path.relpath(path, root)), "path": path} for path in dict.fromkeys(paths)]
    listed = open_workplace(out) / f"sources-{digest_of(rows)[:32]}.jsonl"
    write_text(listed, "".join(canonical_json(row) + "\n" for row in rows))
    return listed


def _is_audio(path: Path) -> bool:
    return extension_of(str(path)) in (*LIBSNDFILE_EXTENSIONS, *MEDIA_EXTENSIONS)


def _audio_of(source: Path, corpus: CorpusSettings) -> Iterator[str]:
    if source.is_dir():
        found, _ = find_audio(source, corpus.ext)
        yield from (os.path.join(source, path) for path in found)
    elif is_manifest(source):
        root, rows = read_rows(source, corpus.sample_rate)
        for row in rows:
            if row.channel is not None or not os.path.exists(os.path.join(root, row.path)):
                raise InputError(f"{source} names channels, parts of archives, or files that are gone: label it by itself")
            yield os.path.join(root, row.path)
    elif _is_audio(source):
        yield str(source)
    else:
        raise InputError(f"{source} is neither audio of a known format nor a manifest: give audio files, folders or manifests")
