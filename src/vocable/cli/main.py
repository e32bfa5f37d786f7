"""`vocable`: the commands, by name; each is imported when it is run."""

from __future__ import annotations

import os
import sys

from cyclopts import App, CycloptsError, Parameter

from vocable.errors import VocableError

# Before NumPy is imported: one thread for each worker beats threads that wait for each other, and spinning ones most of all.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS")

app = App(
    name="vocable",
    help="Turn speech into discrete units, and train the models that make them.",
    default_parameter=Parameter(negative=""),
    suppress_keyboard_interrupt=False,
    help_format="plaintext",  # in Markdown, two asterisks of a path pattern would be taken for emphasis
)
app.command("vocable.cli.prepare:prepare", name="prepare", help="Make HuBERT training labels of a folder of speech.")
app.command("vocable.cli.demo:demo", name="demo", help="Make a small corpus with known phones, prepare it, and score the units.")
app.command("vocable.cli.manifest:manifest", name="manifest", help="List the usable audio of a folder, or convert a manifest.")
app.command("vocable.cli.kmeans:kmeans", name="kmeans", help="Fit a codebook to frames, from audio or dumped.")
app.command("vocable.cli.units:units", name="units", help="Label audio, or dumped frames, with a codebook.")
app.command(
    "vocable.cli.convert:convert", name="convert", help="Convert codebooks, labels and manifests from one form to another."
)
app.command("vocable.cli.inspect:inspect", name="inspect", help="Say in words what files are, and whether they fit each other.")

features = App(name="features", help="Dump frames to disk, in fairseq's format.")
features.command("vocable.cli.features:mfcc", name="mfcc", help="Mel-frequency cepstra with deltas.")
features.command("vocable.cli.features:logmel", name="logmel", help="Log mel energies.")
app.command(features)

evaluate = App(name="evaluate", help="Score units.")
evaluate.command("vocable.cli.evaluate:units", name="units", help="Phone purity, cluster purity, PNMI, and how units are used.")
evaluate.command("vocable.cli.evaluate:agreement", name="agreement", help="How far two labellings agree.")
app.command(evaluate)

fairseq = App(name="fairseq", help="The commands of fairseq's simple_kmeans, argument for argument.")
for _name, _help in (
    ("wav2vec_manifest", "Write train.tsv and valid.tsv."),
    ("dump_mfcc_feature", "Dump MFCCs of a shard."),
    ("learn_kmeans", "Fit k-means to dumped features."),
    ("dump_km_label", "Label dumped features of a shard."),
    ("merge", "Join the labels of all shards, instead of 'cat'."),
    ("dictionary", "Write dict.km.txt, instead of a shell loop."),
    ("preprocess", "Write dict.km.txt for labels."),
):
    fairseq.command(f"vocable.cli.fairseq:{_name}", name=_name, help=_help)
app.command(fairseq)


def main() -> None:
    """Run the command line, and end with a sentence instead of a traceback where the user can mend it."""
    for name in _THREADS:
        os.environ.setdefault(name, "1")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status: 0, 1 for a mistake in the input, 2 in the arguments, 130 when interrupted."""
    try:
        result = app([_dashed(item) for item in arguments], exit_on_error=False, print_error=True, result_action="return_value")
        return result if isinstance(result, int) else 0
    except CycloptsError:
        return 2
    except VocableError as error:
        print(f"vocable: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vocable: stopped; run the same command again to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


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
