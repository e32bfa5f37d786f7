"""Frames: what describes a few milliseconds of speech."""

from vocable.features.encoder_layer import EncoderLayer
from vocable.features.extractors import FeatureExtractor, LogMel, Mfcc
from vocable.features.store import FrameAppender, StoredFrames

__all__ = ["EncoderLayer", "FeatureExtractor", "FrameAppender", "LogMel", "Mfcc", "StoredFrames"]
