"""Syllables: cut from an encoder's frames, and the sentence-level self-distillation whose frames suit that best."""
