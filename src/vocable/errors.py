"""What can go wrong for a reason the user can mend.

Every message is one sentence that names the file (and line) and says what to do next; the command line prints it as it stands.
"""

from __future__ import annotations

import errno
import os


class VocableError(Exception):
    """A mistake that its message tells how to mend."""


class InputError(VocableError, ValueError):
    """Something given (a file, an option, an array) can't be used as it is."""


class TooFewFramesError(InputError):
    """Fewer frames than clusters."""

    def __init__(self, count: int, clusters: int) -> None:
        super().__init__(count, clusters)
        self.count, self.clusters = count, clusters

    def __str__(self) -> str:
        return f"n_samples={self.count} should be >= n_clusters={self.clusters}."


class NotInMemoryError(InputError):
    """A stream too large for what needs its frames at hand."""


class MismatchError(VocableError):
    """Two artefacts that don't belong together: a codebook of other frames, labels of another manifest."""


class UnknownNormalizationError(InputError):
    """A checkpoint that doesn't say whether its waveforms are normalised."""

    def __init__(self, path: object, why: str = "") -> None:
        super().__init__(
            f"{path} doesn't say whether its waveforms are normalised{f' ({why})' if why else ''}: "
            "give --waveform-normalization none (as for base models) or utterance (as for large ones)"
        )


class UnsafeFileError(VocableError):
    """A foreign file that asks for more than plain arrays; nothing of it was run."""


class DiskFullError(VocableError):
    """A file couldn't be written for want of space; what was finished before is kept."""


class WorkerError(VocableError):
    """A worker process failed in a way that is not the input's fault."""


_REMEDIES = {
    errno.EACCES: "change its permissions, or give another path",
    errno.EPERM: "change its permissions, or give another path",
    errno.EROFS: "give a path that can be written to",
    errno.EISDIR: "it is a folder; give the path of a file",
    errno.ENOTDIR: "a file stands where a folder should be; give another path",
    errno.EEXIST: "a file stands where a folder should be; give another path",
    errno.ENOENT: "it isn't there; give the path of one that is",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: "raise the limit on open files (ulimit -n), or use fewer --workers",
    errno.ENOSPC: "free some and run the same command again; what was finished is kept",
}


def sentence_of(error: OSError | MemoryError) -> str:
    """Return what the operating system refused as one sentence with a remedy."""
    if isinstance(error, MemoryError):
        return "there is not enough memory: use fewer --workers, or a smaller --fraction"
    what = error.filename if error.filename2 is None else error.filename2
    name = os.fsdecode(what) if isinstance(what, (str, bytes)) else "a file or device"
    reason = (error.strerror or str(error)).lower()
    return f"{name}: {reason}: {_REMEDIES.get(error.errno or 0, 'look at it, and run the same command again')}"
