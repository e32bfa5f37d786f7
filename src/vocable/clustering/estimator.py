"""`Estimator`: what scikit-learn asks of every estimator, without importing it."""

from __future__ import annotations

import inspect
from typing import Any, Self

from vocable.errors import InputError


class Estimator:
    """Keeps the constructor's arguments as attributes of the same names, and gives them out and changes them by name."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments by name."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> Self:
        """Change constructor arguments.

        Raises:
            InputError: there is none of that name.
        """
        for name, value in params.items():
            if name not in self._names():
                raise InputError(f"Invalid parameter {name!r} for estimator {self!r}: there are {', '.join(self._names())}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        changed = [
            f"{name}={getattr(self, name)!r}" for name in self._names() if getattr(self, name) is not defaults[name].default
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    @classmethod
    def _names(cls) -> list[str]:
        return list(inspect.signature(cls).parameters)
