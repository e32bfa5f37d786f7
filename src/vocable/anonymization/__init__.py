"""Voice anonymization: frames looked up in codebooks of other speakers, and made audible again."""
