"""What a person sees: descriptions of files, and pictures."""
