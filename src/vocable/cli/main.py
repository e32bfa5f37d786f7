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


# What lists of commands say, as the commands themselves do: to read it there, all of them would have to be imported.
COMMANDS = {
    "prepare": "Make HuBERT training labels of a folder of speech.",
    "demo": "Make a small corpus of speech with known phones, prepare it, and score the units.",
    "manifest": "List the usable audio of a folder, or convert a manifest.",
    "kmeans": "Fit a codebook to frames, straight from audio or from a folder of dumped ones.",
    "units": "Label audio, or dumped frames, with a codebook. The codebook says which frames it is for.",
    "convert": "Convert a file to the form that the target's ending names, or an encoder to the layout that --to names.",
    "pretrain": "Train HuBERT in several iterations: labels of MFCC, a training, its best layer's labels, a training, and so on.",
    "report": "Draw the curves of a training, or of several iterations, on one page that opens anywhere.",
    "inspect": "Say in words what a file or folder is; with the options, check that labels fit what they are to be used with.",
}
GROUPS = {
    "features": (
        "Dump frames to disk, in fairseq's format; label audio with pitch, and with who speaks.",
        {
            "mfcc": "Dump mel-frequency cepstra with deltas, 39 values every 10 ms, as fairseq's dump_mfcc_feature does.",
            "logmel": "Dump log mel energies every 10 ms.",
            "encoder": "Dump frames of a layer of an encoder: vocable features CHECKPOINT AUDIO --layer L.",
            "f0": "Label audio with pitch: NAME.f0 with bins every 10 ms, -1 where nothing is voiced, and pitch in Hz as dumped "
            "frames.",
            "speakers": "Label audio with who speaks: NAME.spk with a name a row, -1 where nobody knows, and dict.spk.txt.",
        },
    ),
    "train": (
        "Train one model.",
        {
            "hubert": "Train a HuBERT on labels, or go on where an earlier run of the same command was ended.",
            "melhubert": "Train a MelHuBERT: HuBERT on log-mel frames, of 20 or 10 ms.",
            "disentangled": "Train a HuBERT whose frames tell what is said, and not who says it or how high.",
            "detokenizer": "Train a detokenizer, which makes frames of their centroids, for voice anonymization.",
            "vocoder": "Train a vocoder, HiFi-GAN's, which makes speech of frames, for voice anonymization.",
            "sdhubert": "Train an SD-HuBERT: sentences told by a student as its own slower self tells them, from which syllables "
            "emerge.",
        },
    ),
    "syllables": (
        "Cut speech into syllables, cluster them, and make references to score them by.",
        {
            "segment": "Cut audio into syllables, with what describes each.",
            "cluster": "Fit a codebook of two levels to segments: k-means, and Ward's linkage of its centroids.",
            "units": "Write the units of segments, with their times.",
            "reference": "Make syllables of aligned phones: as many consonants as a syllable can begin with go to the next one.",
            "triplets": "Make triplets of sentence ABX: clips of two speakers who say the same words, and one of another that "
            "says others.",
        },
    ),
    "evaluate": (
        "Score units, the layers they are made of, and syllables.",
        {
            "units": "Say how units are used, and with alignments what they tell of phones.",
            "layers": "Compare the layers of an encoder by what their units tell of phones.",
            "frames": "Say what frames are worth: units fitted on one corpus and scored on another, and what a linear probe "
            "reads out of them.",
            "probes": "Say what linear probes read out of each layer of an encoder, out of frames, or out of units: phones, "
            "pitch, who speaks.",
            "agreement": "Compare two labellings of the same frames, as when moving from another tool.",
            "boundaries": "Say how well the starts of segments find the boundaries of syllables: precision, recall, F1, R-value.",
            "syllables": "Say what units of segments tell of syllables: purities and mutual information, each segment taken for "
            "the best syllable.",
            "privacy": "Say how often a verifier is wrong about who speaks: equal error rates with intervals over speakers, for "
            "two attackers.",
            "intelligibility": "Say how much of what is said a recogniser gets: errors of words and characters, with "
            "intervals, and how pitch is kept.",
            "anonymization": "Compare conditions of anonymization: each is made and judged, and all come into one table, with "
            "intervals over speakers.",
            "voiceprivacy": "Score the trials of the VoicePrivacy challenge: equal error rates with intervals over speakers, for "
            "two attackers.",
            "ssabx": "Say how often an encoder describes a clip more like another speaker's of the same words than like other "
            "words.",
        },
    ),
    "anonymize": (
        "Let other voices say what is said: each frame is looked up in a codebook of other speakers, drawn with a key.",
        {
            "fit-codebooks": "Fit a codebook to each speaker, or group of speakers, and write all to one file.",
            "import-codebooks": "Put codebooks that there are (joblib's, pickles, .npy, ours) into one file; nothing in them "
            "is run.",
            "convert": "Convert audio: one codebook for each file, or one for each stretch of frames.",
            "voiceprivacy": "Convert the VoicePrivacy challenge's data sets, folders in Kaldi's form, into others with speech, "
            "wav.scp and tables.",
        },
    ),
    "fairseq": (
        "The commands of fairseq's simple_kmeans and of its training, argument for argument.",
        {
            "wav2vec_manifest": "Write train.tsv and valid.tsv: the root, then a path and a number of samples a line.",
            "dump_hubert_feature": "Write {split}_{rank}_{nshard}.npy and .len with frames of a layer of HuBERT.",
            "dump_mfcc_feature": "Write {split}_{rank}_{nshard}.npy and .len with 39 MFCCs every 10 ms.",
            "learn_kmeans": "Fit mini-batch k-means to dumped features, with scikit-learn's meaning of all options.",
            "dump_km_label": "Write {split}_{rank}_{nshard}.km with the label of each frame.",
            "merge": "Join {split}_0_{nshard}.km … into {split}.km; a missing shard is an error.",
            "dictionary": "Write dict.km.txt with the units 0 … K - 1; one that stands there is replaced, not added to.",
            "preprocess": "Write dict.km.txt for labels, with the units 0 … K - 1 in order.",
            "hydra_train": "Train a HuBERT as fairseq's YAML file and dotted options say.",
        },
    ),
    "sdhubert": (
        "The commands of SD-HuBERT's authors, argument for argument.",
        {
            "segment": "Cut the .wav, .flac and .ogg files of a folder into syllables: _segments.txt, _feature.npy, "
            "_segmentfeature.npy.",
            "train": "Train an SD-HuBERT as the authors' YAML file and dotted overrides say; killed, the same command goes on.",
            "export_model": "Write the model of a run in the authors' layout: config, and 229 tensors of a base model.",
            "extract_librispeech_segments": "Cut LibriSpeech into syllables, in folders as its own: SUBSET/SPEAKER/CHAPTER.",
            "train_km": "Fit both levels of units to segments; both are in one file, SAVE_PATH/NAME_16384to4096.safetensors.",
            "evaluate_boundary": "Score boundaries; the shift is looked for on other utterances. Results go to "
            "RESULT_PATH/NAME.json.",
            "evaluate_purity": "Score units of segments. Results go to RESULT_PATH/NAME.json.",
            "evaluate_ssabx": "Score an SD-HuBERT by sentence ABX.",
        },
    ),
    "sefmk": (
        "The commands of SEF-MK's authors, argument for argument.",
        {
            "inference_audio_multi_kmeans": "Convert the files of a list, each with one of many codebooks, as the authors' plan "
            "has it.",
            "inference_audio_random_frame": "Convert the files of a list, with a codebook drawn for every few frames.",
        },
    ),
    "melhubert": (
        "The commands of MelHuBERT's authors, argument for argument, and its preprocessing from raw audio.",
        {
            "preprocess": "Make what MelHuBERT is trained on: log-mel frames, their mean and deviation, labels, and the CSV that "
            "lists them.",
            "train": "Train a MelHuBERT as the authors' two YAML files say; killed, the same command goes on.",
            "extract_feature": "Describe audio by a layer of a MelHuBERT: files are written, or for two made sentences their "
            "shapes are said.",
        },
    ),
}


def _commands(listed: bool = False) -> App:
    """Return the command line. Where commands are only listed, none is imported, and each has no help but a sentence."""
    app = App(
        name="vocable",
        help="Turn speech into discrete units, and train the models that make them.",
        version=_version,
        default_parameter=Parameter(negative="", converter=_converted),
        suppress_keyboard_interrupt=False,
        help_format="plaintext",  # in Markdown, two asterisks of a path pattern would be taken for emphasis
    )
    for name, says in COMMANDS.items():
        app.command(f"vocable.cli.{name}:{name}", name=name, help=says if listed else None)
    for name, (title, commands) in GROUPS.items():
        group = App(name=name, help=title)
        for inner, says in commands.items():
            group.command(f"vocable.cli.{name}:{inner.replace('-', '_')}", name=inner, help=says if listed else None)
        app.command(group)
    return app


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
    words = [item for item in arguments if not item.startswith("-")]
    app = _commands(listed=not words or (len(words) == 1 and words[0] in GROUPS))
    try:
        dashed = _named([_dashed(item) for item in arguments])
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


def _named(arguments: list[str]) -> list[str]:
    """Put in the command that is left out in `vocable features CHECKPOINT`, which is `features encoder CHECKPOINT`."""
    if (
        arguments[:1] == ["features"]
        and len(arguments) > 1
        and arguments[1] not in (*GROUPS["features"][1], "-h", "--help", "--version")
    ):
        return ["features", "encoder", *arguments[1:]]
    return arguments


def _dashed(argument: str) -> str:
    """Accept underscores in option names, as the original commands spell them."""
    if not argument.startswith("--") or argument == "--":
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def _version() -> str:
    from importlib.metadata import version

    return version("vocable")
