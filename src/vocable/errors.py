"""What can go wrong for a reason the user can mend.

Every message is one sentence that names the file (and line) and says what to do next; the command line prints it as it stands.
"""

from __future__ import annotations


class VocableError(Exception):
    """A mistake that its message tells how to mend."""


class InputError(VocableError, ValueError):
    """Something given (a file, an option, an array) can't be used as it is."""


class MismatchError(VocableError):
    """Two artefacts that don't belong together: a codebook of other frames, labels of another manifest."""


class UnsafeFileError(VocableError):
    """A foreign file that asks for more than plain arrays; nothing of it was run."""


class DiskFullError(VocableError):
    """A file couldn't be written for want of space; what was finished before is kept."""


class WorkerError(VocableError):
    """A worker process failed in a way that is not the input's fault."""
