"""Who a call is for, and how a tenant becomes a place in a shared store.

Tenancy exists once: a service turns its tenant into a `Scope`, and below the service there are
only scoped keys and opaque partitions.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final, final

from .errors import ConfigInvalidError, IntegrityError, InvalidArgumentError

_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ALPHABET: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")

DEFAULT_LAYOUT: Final = "{tenant}/{key}"


def _identifier(value: object, what: str) -> str:
    # fullmatch: `$` would let a trailing newline through.
    if isinstance(value, str):
        # The match, and not the value: a subclass of str (an Enum's member) formats as something
        # else than it compares.
        if (uuid := _UUID.fullmatch(value)) is not None:
            return uuid[0].lower()
        if (slug := _SLUG.fullmatch(value)) is not None:
            return slug[0]
    raise InvalidArgumentError(
        f"{what} must be a UUID or a slug of 1 to 63 characters [a-z0-9_-] that starts with a "
        "letter or digit"
    )


@final
class Tenant:
    """One customer of the platform; the unit of isolation.

    id: a UUID (any case, kept lower) or a slug `[a-z0-9][a-z0-9_-]{0,62}`.
    site_id, user_id: labels of the same form. A layout may place the site below the tenant;
    the user only labels telemetry. Neither isolates.

    Raises `invalid_argument` for anything else. Immutable, hashable, cheap to keep.
    """

    __slots__ = ("_hash", "id", "site_id", "user_id")

    id: str
    site_id: str | None
    user_id: str | None
    _hash: int

    def __init__(
        self,
        id: str,  # noqa: A002 - the attribute's name
        *,
        site_id: str | None = None,
        user_id: str | None = None,
    ) -> None:
        tenant_id = _identifier(id, "a tenant's id")
        site = None if site_id is None else _identifier(site_id, "site_id")
        user = None if user_id is None else _identifier(user_id, "user_id")
        set_once = object.__setattr__
        set_once(self, "id", tenant_id)
        set_once(self, "site_id", site)
        set_once(self, "user_id", user)
        # Computed once: `get_service` hashes the tenant on every call.
        set_once(self, "_hash", hash((tenant_id, site, user)))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Tenant is immutable; make a new one to change {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"Tenant is immutable; {name} cannot be removed")

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tenant):
            return NotImplemented
        return (
            self.id == other.id and self.site_id == other.site_id and self.user_id == other.user_id
        )

    def __repr__(self) -> str:
        site = f", site_id={self.site_id!r}" if self.site_id else ""
        user = f", user_id={self.user_id!r}" if self.user_id else ""
        return f"Tenant({self.id!r}{site}{user})"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.id, self.site_id, self.user_id)


def _rebuild(tenant_id: str, site_id: str | None, user_id: str | None) -> Tenant:
    return Tenant(tenant_id, site_id=site_id, user_id=user_id)


@final
class Layout:
    """The physical form of keys, such as `{tenant}/{key}` or `media/{tenant}/{site}/{key}`.

    template: literal text with `{tenant}` once, `{site}` at most once and `{key}` once, at the
    end. A placeholder is followed by a character that no id may contain, so that no tenant's
    prefix is a prefix of another's: checked here, once, and raised as `config_invalid`.
    """

    __slots__ = ("needs_site", "template")

    def __init__(self, template: str = DEFAULT_LAYOUT) -> None:
        self.template = template
        self.needs_site = "{site}" in template
        self._check()

    def _check(self) -> None:
        parts = re.findall(r"\{[^{}]*\}|[^{}]+|[{}]", self.template)
        names = [part for part in parts if part[0] in "{}"]
        allowed = {"{tenant}", "{site}", "{key}"}
        if wrong := [name for name in names if name not in allowed]:
            self._refuse(f"{wrong[0]!r} is not a placeholder")
        if names.count("{tenant}") != 1:
            self._refuse("{tenant} must stand in it exactly once")
        if names.count("{key}") != 1 or parts[-1] != "{key}":
            self._refuse("{key} must stand in it exactly once, at the end")
        if names.count("{site}") > 1:
            self._refuse("{site} may stand in it only once")
        for part, following in pairwise(parts):
            # Ids are 1-63 characters of one alphabet: a separator outside of it makes
            # `a` + `b/x` and `ab` + `x` different keys.
            if part in ("{tenant}", "{site}") and following[0] in _ALPHABET | {"{"}:
                self._refuse(
                    f"{part} must be followed by a character outside [a-z0-9_-], such as '/': "
                    "else two tenants could share a key"
                )
        for literal in (part for part in parts if part[0] not in "{}"):
            # The same bar as for keys, so that a legal key stays legal once it is scoped.
            if any(ord(c) < 32 or ord(c) > 126 for c in literal):
                self._refuse("its text must be printable ASCII")
        if self.template.startswith("/"):
            self._refuse("it must not start with '/'")
        if any(segment in ("", ".", "..") for segment in self.template.split("/")):
            self._refuse("it must not hold '.', '..' or empty segments")

    def _refuse(self, why: str) -> None:
        raise ConfigInvalidError(f"layout {self.template!r}: {why}")

    def tenant_prefix(self, tenant_id: str) -> str:
        """What all keys of a tenant start with, those of all its sites.

        Raises `config_invalid` where the site stands before the tenant: its keys are then in as
        many places as it has sites, and nobody knows all of them.
        """
        before, _, after = self.template.partition("{tenant}")
        if "{site}" in before:
            self._refuse("{site} stands before {tenant}: a tenant's keys are not in one place")
        return before + tenant_id + after.partition("{")[0]

    def prefix(self, tenant: Tenant) -> str:
        """What every key of the tenant starts with.

        Raises `invalid_argument` when the layout has a site and the tenant has none.
        """
        site = tenant.site_id
        if self.needs_site and site is None:
            raise InvalidArgumentError(
                f"the layout {self.template!r} needs a site: use Tenant({tenant.id!r}, site_id=...)"
            )
        text = self.template.removesuffix("{key}").replace("{tenant}", tenant.id)
        return text.replace("{site}", site) if site is not None else text


@final
class Scope:
    """One tenant's part of a shared store.

    `key` goes in, `unscope` comes back. What comes back without the scope is another tenant's:
    it raises `integrity` and is never passed through.
    """

    __slots__ = ("partition", "prefix", "tenant")

    def __init__(self, tenant: Tenant, layout: Layout) -> None:
        self.tenant = tenant
        self.prefix = layout.prefix(tenant)
        # For kinds that isolate by namespace, index or row-level security.
        self.partition = f"{tenant.id}/{tenant.site_id}" if layout.needs_site else tenant.id

    def key(self, key: str) -> str:
        """The key as the store knows it."""
        return self.prefix + key

    def unscope(self, physical: str) -> str:
        """The key as the tenant knows it; raises `integrity` for any other tenant's key."""
        if not physical.startswith(self.prefix):
            raise IntegrityError("the store answered with a key outside of the tenant's scope")
        return physical[len(self.prefix) :]


__all__ = ["DEFAULT_LAYOUT", "Layout", "Scope", "Tenant"]
