"""What every model of settings has in common, ours and a third party's."""

from __future__ import annotations

from typing import NoReturn, SupportsIndex

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A frozen model that names unknown keys, hides values in its errors, and is not pickled.

    The model of a backend's settings derives from it; secrets are SecretStr fields.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, arbitrary_types_allowed=True
    )

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse: a pickled SecretStr is plain text."""
        raise TypeError(
            f"{type(self).__name__} may hold secrets and is not pickled; load the configuration "
            "again where it is needed"
        )


__all__ = ["Settings"]
