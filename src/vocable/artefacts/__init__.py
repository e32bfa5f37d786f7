"""What every file of ours shares: how it is written, what its header says, and what its frames are."""
