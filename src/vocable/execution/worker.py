"""What a worker process runs: open the job, then answer shard after shard until the input ends."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from typing import IO, Any

from vocable.execution.crew import answer, packed
from vocable.execution.memory import keep_freed_memory
from vocable.execution.messages import Opening, read_message, unpack, write_message


def main() -> None:
    """Serve the process that started us, through the standard streams."""
    # Ctrl-C reaches the whole group; the parent decides, and we end when our input does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore", UserWarning)  # who started us makes the same things, and has said so
    keep_freed_memory()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not mix with our answers
    messages: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read_all, args=(sys.stdin.buffer, messages), daemon=True).start()
    function: Callable[[Any], Any] | None = None

    def take(content: bytes) -> Any:
        nonlocal function
        message = unpack(content)
        if isinstance(message, Opening):
            function = message.job.open(message.device)
            return None
        assert function is not None
        return function(message)

    while True:
        write_message(answers, packed(answer(take, messages.get())))


def _read_all(stream: IO[bytes], messages: queue.SimpleQueue[bytes]) -> None:
    """Queue every message; end the process at the end of the stream, even in the midst of a shard: nobody waits for it."""
    while (content := read_message(stream)) is not None:
        messages.put(content)
    os._exit(0)


if __name__ == "__main__":
    main()
