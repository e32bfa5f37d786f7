"""Manifests and sound: which utterances there are, and their samples."""

from vocable.audio.blocks import Block, blocks_of
from vocable.audio.decoding import read_waveform
from vocable.audio.manifest import Manifest, Utterance
from vocable.audio.manifest_files import read_manifest, write_manifest

__all__ = ["Block", "Manifest", "Utterance", "blocks_of", "read_manifest", "read_waveform", "write_manifest"]
