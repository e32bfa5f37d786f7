"""Frames: what describes a few milliseconds of speech."""

from vocable.features.extractors import FeatureExtractor, LogMel, Mfcc
from vocable.features.store import FrameAppender, StoredFrames

__all__ = ["FeatureExtractor", "FrameAppender", "LogMel", "Mfcc", "StoredFrames"]
