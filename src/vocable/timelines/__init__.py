"""An utterance's intervals with labels: phones, words, syllables, timed units; one reader and one writer a format."""

from vocable.timelines.alignments import Alignments
from vocable.timelines.timeline import Timeline

__all__ = ["Alignments", "Timeline"]
