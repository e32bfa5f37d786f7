"""vocable turns speech into discrete units, and trains the models that make them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vocable.anonymization.anonymizer import Anonymizer as Anonymizer
    from vocable.artefacts.feature_spec import FeatureSpec as FeatureSpec
    from vocable.audio import Manifest as Manifest
    from vocable.audio import read_manifest as read_manifest
    from vocable.audio import read_waveform as read_waveform
    from vocable.audio import write_manifest as write_manifest
    from vocable.clustering import Codebook as Codebook
    from vocable.clustering import KMeans as KMeans
    from vocable.clustering import read_codebook as read_codebook
    from vocable.errors import DiskFullError as DiskFullError
    from vocable.errors import InputError as InputError
    from vocable.errors import MismatchError as MismatchError
    from vocable.errors import UnsafeFileError as UnsafeFileError
    from vocable.errors import VocableError as VocableError
    from vocable.errors import WorkerError as WorkerError
    from vocable.features import EncoderLayer as EncoderLayer
    from vocable.features import FrameAppender as FrameAppender
    from vocable.features import LogMel as LogMel
    from vocable.features import Mfcc as Mfcc
    from vocable.features import StoredFrames as StoredFrames
    from vocable.syllables.segmenter import Segmenter as Segmenter
    from vocable.timelines import Alignments as Alignments
    from vocable.timelines import Timeline as Timeline
    from vocable.units import Units as Units
    from vocable.units import read_units as read_units
    from vocable.units import write_units as write_units

# Where each public name lives; nothing is imported before it is used, so that `import vocable` costs nothing.
_HOMES = {
    "Alignments": "vocable.timelines",
    "Anonymizer": "vocable.anonymization.anonymizer",
    "Codebook": "vocable.clustering",
    "DiskFullError": "vocable.errors",
    "EncoderLayer": "vocable.features",
    "FeatureSpec": "vocable.artefacts.feature_spec",
    "FrameAppender": "vocable.features",
    "InputError": "vocable.errors",
    "KMeans": "vocable.clustering",
    "LogMel": "vocable.features",
    "Manifest": "vocable.audio",
    "Mfcc": "vocable.features",
    "MismatchError": "vocable.errors",
    "Segmenter": "vocable.syllables.segmenter",
    "StoredFrames": "vocable.features",
    "Timeline": "vocable.timelines",
    "Units": "vocable.units",
    "UnsafeFileError": "vocable.errors",
    "VocableError": "vocable.errors",
    "WorkerError": "vocable.errors",
    "read_codebook": "vocable.clustering",
    "read_manifest": "vocable.audio",
    "read_units": "vocable.units",
    "read_waveform": "vocable.audio",
    "write_manifest": "vocable.audio",
    "write_units": "vocable.units",
}

__version__ = "0.1.0"
__all__ = ["__version__", *_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vocable' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
