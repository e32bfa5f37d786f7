"""Networks: the encoders that describe frames of speech."""
