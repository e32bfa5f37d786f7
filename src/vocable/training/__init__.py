"""The one trainer: its batches, schedules, checkpoints and records. It doesn't know what it trains."""
