"""Scores: how well units tell phones apart, and how two labellings agree."""
