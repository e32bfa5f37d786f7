"""The layouts that encoders are written in."""

from __future__ import annotations

from typing import Literal

WrittenLayout = Literal["vocable", "transformers", "fairseq"]
