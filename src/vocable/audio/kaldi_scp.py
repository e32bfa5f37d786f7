"""Lines of Kaldi's `wav.scp`. The two usual pipes are read as what they mean; nothing is ever passed to a shell."""

from __future__ import annotations

import re

from vocable.audio.manifest import Utterance
from vocable.errors import InputError

_FILE = r"(?P<file>[^\s|;&<>$`\"'()\\]+)"
_TOOL_FOLDER = r"(?:[\w./-]*/)?"
_FLAC = re.compile(rf"{_TOOL_FOLDER}flac(?: +-[cds]){{3}} +{_FILE} *\|")
_SPH2PIPE = re.compile(rf"{_TOOL_FOLDER}sph2pipe(?: +-f +(?:wav|rif)| +-p| +-c +(?P<channel>[12]))* +{_FILE} *\|")
_ARCHIVE = re.compile(r".*\.ark:\d+(?:\[.*\])?")


def parse_scp_line(line: str) -> Utterance:
    """Read `utterance path`, `utterance flac -c -d -s FILE |` or `utterance sph2pipe [-f wav] [-p] [-c N] FILE |`.

    Raises:
        InputError: another pipe, an archive, or no path.
    """
    # Kaldi takes blanks and tabs, one or many; other characters that Python calls blanks may stand in a name.
    name, *rest = re.split(r"[ \t]+", line.strip(" \t\r\n"), maxsplit=1)
    if not rest:
        raise InputError(f"should be an utterance id, a blank and a path, but reads {line.strip()!r}")
    source = rest[0]
    if match := _FLAC.fullmatch(source) or _SPH2PIPE.fullmatch(source):
        channel = match.groupdict().get("channel")
        return Utterance(name, match["file"], -1, channel=int(channel) if channel else None)
    if source.startswith("|") or source.endswith("|"):
        raise InputError(
            f"the command {source!r} is not run: only 'flac -c -d -s FILE |' and 'sph2pipe … FILE |' are understood; "
            "give the file itself"
        )
    if _ARCHIVE.fullmatch(source):
        raise InputError(f"{source!r} is a Kaldi archive: give audio files")
    return Utterance(name, source, -1)
