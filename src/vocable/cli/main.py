"""`vocable`: the commands, by name; each is imported when it is run."""

from __future__ import annotations

import io
import os
import sys
import warnings
from typing import Any, get_args

import cyclopts
from cyclopts import App, CycloptsError, Parameter

from vocable.cli.given_options import spelled_out
from vocable.errors import VocableError, sentence_of

# Before NumPy is imported: one thread for each worker beats threads that wait for each other, and spinning ones most of all.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS")


def _converted(kind: Any, tokens: Any) -> Any:
    """Read an argument as its type says; a fraction is never rounded to a whole number."""
    if int in (kind, *get_args(kind)) and (broken := [token.value for token in tokens if "." in token.value]):
        raise ValueError(f"{broken[0]!r} is no whole number")
    return cyclopts.convert(kind, tokens)


app = App(
    name="vocable",
    help="Turn speech into discrete units, and train the models that make them.",
    default_parameter=Parameter(negative="", converter=_converted),
    suppress_keyboard_interrupt=False,
    help_format="plaintext",  # in Markdown, two asterisks of a path pattern would be taken for emphasis
)
for _name in ("prepare", "demo", "manifest", "kmeans", "units", "convert", "inspect"):
    app.command(f"vocable.cli.{_name}:{_name}", name=_name)

features = App(name="features", help="Dump frames to disk, in fairseq's format.")
for _name in ("mfcc", "logmel"):
    features.command(f"vocable.cli.features:{_name}", name=_name)
app.command(features)

evaluate = App(name="evaluate", help="Score units.")
for _name in ("units", "agreement"):
    evaluate.command(f"vocable.cli.evaluate:{_name}", name=_name)
app.command(evaluate)

fairseq = App(name="fairseq", help="The commands of fairseq's simple_kmeans, argument for argument.")
for _name in (
    "wav2vec_manifest",
    "dump_mfcc_feature",
    "learn_kmeans",
    "dump_km_label",
    "merge",
    "dictionary",
    "preprocess",
):
    fairseq.command(f"vocable.cli.fairseq:{_name}", name=_name)
app.command(fairseq)


def main() -> None:
    """Run the command line, and end with a sentence instead of a traceback where the user can mend it."""
    _open_streams()
    for name in _THREADS:
        os.environ.setdefault(name, "1")
    warnings.simplefilter("once", UserWarning)
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    sys.exit(run(sys.argv[1:]))


def _open_streams() -> None:
    """Have all three standard streams, also where a scheduler closed them, and let them print any name a file may have."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115 (open to the end)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status: 0, 1 for a mistake in the input, 2 in the arguments, 130 when interrupted."""
    if len(arguments) < 2 or not {"-h", "--help"}.isdisjoint(arguments):
        for group in (app, features, evaluate, fairseq):
            group.resolved_commands()  # a list of commands shows what each says of itself, for which they must be imported
    try:
        dashed = [_dashed(item) for item in arguments]
        with spelled_out(dashed):
            result = app(dashed, exit_on_error=False, print_error=True, result_action="return_value")
        return result if isinstance(result, int) else 0
    except CycloptsError:
        return 2
    except VocableError as error:
        print(f"vocable: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, MemoryError) as error:
        print(f"vocable: {sentence_of(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vocable: stopped; run the same command again to go on", file=sys.stderr)
        return 130


def _dashed(argument: str) -> str:
    """Accept underscores in option names, as the original commands spell them."""
    if not argument.startswith("--") or argument == "--":
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def _version() -> str:
    from importlib.metadata import version

    return version("vocable")


app.version = _version
