"""k-means, and the codebooks it makes."""

from vocable.clustering.codebook import Codebook, read_codebook
from vocable.clustering.kmeans import KMeans

__all__ = ["Codebook", "KMeans", "read_codebook"]
