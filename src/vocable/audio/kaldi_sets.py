"""Data sets in Kaldi's form: a folder with `wav.scp`, and beside it tables of who speaks, what is said, and what is compared.

Relative paths in `wav.scp` start where its tools are run, which the file doesn't say. So they are looked for from the folder that
holds the folder of data sets (the root of the VoicePrivacy challenge, whose paths begin with `data/`), from the folder of data
sets, from the data set's own, and from the current folder, in this order. All start from one, the first where any of the files
is. The current folder comes last, since there may be another `data` in it, with other speech under the same names.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from vocable.audio.kaldi_scp import parse_scp_line
from vocable.audio.manifest import Manifest, Utterance
from vocable.audio.speakers import with_speakers
from vocable.errors import InputError, sentence_of

SCP = "wav.scp"
_TABLES = (
    "utt2spk", "spk2utt", "spk2gender", "text", "utt2dur", "reco2dur", "segments", "trials", "enrolls", "feats.scp", "cmvn.scp",
)  # fmt: skip


@dataclass(frozen=True)
class KaldiSet:
    """A data set."""

    folder: Path

    @property
    def name(self) -> str:
        """Of the folder."""
        return os.path.basename(os.path.abspath(self.folder))

    def utterances(self) -> list[Utterance]:
        """Return its utterances with whole paths, and with speakers where there is utt2spk.

        Raises:
            InputError: a line can't be read, is another pipe than the two that are understood, names an utterance again, or a
                file that isn't where it should be; utt2spk lacks an utterance; or utterances are parts of files.
        """
        if (self.folder / "segments").exists():
            raise InputError(f"{self.folder / 'segments'} cuts utterances out of longer files: cut them first, and remove it")
        numbered = self._rows()
        start = self._start(numbered)
        rows = [replace(row, path=os.path.join(start, row.path)) for row in numbered.values()]
        for (number, given), row in zip(numbered.items(), rows, strict=True):
            if not os.path.isfile(row.path):
                where = "" if os.path.isabs(given.path) else f" from {start}, where others are"
                raise InputError(f"{self.folder / SCP} line {number}: {given.path} isn't there{where}: mend the path")
        table = kaldi_table(self.folder, "utt2spk")
        return rows if table is None else list(with_speakers(Manifest.of(rows), str(table)))

    def _rows(self) -> dict[int, Utterance]:
        """Return what wav.scp says, by line."""
        scp = self.folder / SCP
        rows: dict[int, Utterance] = {}
        names = set()
        for number, line in numbered_lines(scp):
            try:
                rows[number] = row = parse_scp_line(line)
            except InputError as error:
                raise InputError(f"{scp} line {number}: {error}") from error
            if row.id in names:
                raise InputError(f"{scp} line {number} names {row.id} again: leave one of the lines")
            names.add(row.id)
        return rows

    def _start(self, rows: dict[int, Utterance]) -> str:
        """Return the folder that relative paths start from."""
        relative = {number: row.path for number, row in rows.items() if not os.path.isabs(row.path)}
        own = os.path.abspath(self.folder)
        sets = os.path.dirname(own)
        places = list(dict.fromkeys((os.path.dirname(sets), sets, own, os.getcwd())))
        # Not each path by itself: what is gone here, another data set in the current folder may still have.
        start = next(
            (place for place in places if any(os.path.isfile(os.path.join(place, path)) for path in relative.values())), None
        )
        if relative and start is None:
            number, path = next(iter(relative.items()))
            raise InputError(
                f"{self.folder / SCP} line {number}: {path} isn't there, from none of {', '.join(places)}: mend the path, or run "
                "this where it holds"
            )
        return start or own


def is_kaldi_set(folder: Path) -> bool:
    """Tell whether a folder is a data set."""
    return (folder / SCP).is_file()


def kaldi_table(folder: Path, name: str) -> Path | None:
    """Return a table of a data set; None where there is none, or the folder is no data set."""
    path = folder / name
    return path if is_kaldi_set(folder) and path.is_file() else None


def kaldi_sets_in(folder: Path, made: str) -> list[KaldiSet]:
    """Return the data sets in a folder, by name. Folders without any table are passed over.

    Args:
        folder: that they lie in.
        made: how names of those end that may be unfinished, which are passed over too.

    Raises:
        InputError: there is none, or one of them lacks its wav.scp.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: give a data set, which has {SCP}, or a folder of some")
    found = []
    for place in sorted(folder.iterdir()):
        if is_kaldi_set(place):
            found.append(KaldiSet(place))
        elif there := [name for name in _TABLES if (place / name).is_file()]:
            if made and place.name.endswith(made):
                continue
            raise InputError(f"{place} has {there[0]}, but no {SCP}: add that, or name the data sets that are meant")
    if not found:
        raise InputError(f"{folder} has no {SCP}, nor has a folder in it: give a data set, or a folder of some")
    return found


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a table that aren't blank, with their numbers.

    Raises:
        InputError: it can't be read, isn't UTF-8 text, or is empty.
    """
    try:
        # Names may hold characters that str.splitlines takes for line ends.
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    except OSError as error:
        raise InputError(sentence_of(error)) from error
    found = [(number, line.strip(" \t\r")) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise InputError(f"{path} is empty: give a data set that lists something")
    return found
