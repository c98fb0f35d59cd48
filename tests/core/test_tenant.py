"""Who a call is for; and layouts under which no two tenants can ever meet."""

from __future__ import annotations

import copy
import enum
import pickle
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cm_platform.errors import ConfigInvalidError, IntegrityError, InvalidArgumentError
from cm_platform.tenant import DEFAULT_LAYOUT, Layout, Scope, Tenant

UUID = "0b9e1d7e-1c2d-4e3f-8a9b-0c1d2e3f4a5b"

# Few letters and short ids, so that one is often the beginning of another.
SLUGS = st.from_regex(r"[ab0][ab0_-]{0,3}", fullmatch=True)
SEPARATORS = st.sampled_from(["/", ".", ":", "A", " ", "/x/", "~b"])
KEYS = st.text(st.sampled_from("ab0/_-.:A ~x"), max_size=12)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    start = draw(st.sampled_from(["", "media/", "a", "ab-", "x."]))
    names = draw(st.sampled_from([["{tenant}"], ["{tenant}", "{site}"], ["{site}", "{tenant}"]]))
    return Layout(start + "".join(name + draw(SEPARATORS) for name in names) + "{key}")


# Tenant -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a", "0", "acme", "a-b_c", "a" * 63, UUID, "a--", "0b9e1d7e"])
def test_a_slug_or_a_uuid_is_an_id(text: str) -> None:
    assert Tenant(text).id == text


def test_a_uuid_is_kept_in_lower_case() -> None:
    assert Tenant(UUID.upper()) == Tenant(UUID)
    assert Tenant("t", site_id=UUID.upper(), user_id=UUID.upper()).site_id == UUID


@pytest.mark.parametrize(
    "value",
    [
        "",
        "-a",
        "_a",
        "a" * 64,
        "Acme",
        "a b",
        "a/b",
        "a.b",
        "..",
        "é",
        "acme\n",
        "\nacme",
        UUID + "\n",
        UUID + " ",
        "{" + UUID + "}",
        UUID.replace("-", "").upper(),
        "\N{FULLWIDTH LATIN SMALL LETTER A}",
        "\N{ARABIC-INDIC DIGIT ONE}",
        "a\0",
        None,
        7,
        b"acme",
        ["acme"],
    ],
)
def test_anything_else_is_no_id(value: object) -> None:
    for arguments in ({"id": value}, {"id": "t", "site_id": value}, {"id": "t", "user_id": value}):
        if arguments == {"id": "t", "site_id": None} or arguments == {"id": "t", "user_id": None}:
            continue
        with pytest.raises(InvalidArgumentError, match="must be a UUID or a slug"):
            Tenant(**arguments)  # type: ignore[arg-type]


def test_an_id_is_plain_text_even_when_a_subclass_was_given() -> None:
    class Customer(str, enum.Enum):  # noqa: UP042 - formats as "Customer.ACME", which is the trap
        ACME = "acme"

    tenant = Tenant(Customer.ACME, site_id=Customer.ACME)
    assert (type(tenant.id), type(tenant.site_id)) == (str, str)
    assert Scope(tenant, Layout("{tenant}/{site}/{key}")).partition == "acme/acme"


def test_equal_tenants_are_one_key() -> None:
    assert len({Tenant("a"), Tenant("a"), Tenant("b")}) == 2
    assert hash(Tenant("a", site_id="s")) == hash(Tenant("a", site_id="s"))
    assert Tenant("a") != Tenant("a", site_id="s") != Tenant("a", user_id="s")
    assert Tenant("a") != "a"


def test_a_tenant_cannot_be_changed() -> None:
    tenant = Tenant("a")
    for name in ("id", "site_id", "_hash", "other"):
        with pytest.raises(AttributeError, match="immutable"):
            setattr(tenant, name, "b")
        with pytest.raises(AttributeError, match="immutable"):
            delattr(tenant, name)


def test_a_tenant_survives_pickling_and_copying() -> None:
    tenant = Tenant(UUID, site_id="s", user_id="u")
    pickled = pickle.loads(pickle.dumps(tenant))  # noqa: S301 - made on the line itself
    for again in (pickled, copy.copy(tenant), copy.deepcopy(tenant)):
        assert again == tenant
        assert hash(again) == hash(tenant)


def test_repr_shows_what_was_given() -> None:
    assert repr(Tenant("a")) == "Tenant('a')"
    assert repr(Tenant("a", site_id="s", user_id="u")) == ("Tenant('a', site_id='s', user_id='u')")


# Layout -----------------------------------------------------------------------------------


@given(layouts(), SLUGS, SLUGS, SLUGS, SLUGS, KEYS, KEYS)
def test_two_tenants_never_share_a_physical_key(
    layout: Layout, one: str, other: str, site: str, other_site: str, key: str, other_key: str
) -> None:
    first, second = Tenant(one, site_id=site), Tenant(other, site_id=other_site)
    same = one == other and (not layout.needs_site or site == other_site)
    if same:
        return
    a, b = Scope(first, layout), Scope(second, layout)
    assert a.key(key) != b.key(other_key)
    assert not a.key(key).startswith(b.prefix)
    assert a.partition != b.partition
    with pytest.raises(IntegrityError):
        b.unscope(a.key(key))


@given(layouts(), SLUGS, SLUGS, KEYS)
def test_a_key_comes_back_as_it_went_in(layout: Layout, one: str, site: str, key: str) -> None:
    scope = Scope(Tenant(one, site_id=site), layout)
    assert scope.unscope(scope.key(key)) == key


@given(st.sampled_from(string.ascii_lowercase + string.digits + "_-{"))
def test_a_separator_that_an_id_may_contain_is_refused(character: str) -> None:
    for template in ("{tenant}%s/{key}", "{tenant}/{site}%s{key}"):
        with pytest.raises(ConfigInvalidError):
            Layout(template % character)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("", "{tenant} must stand in it exactly once"),
        ("{key}", "{tenant} must stand in it exactly once"),
        ("{tenant}/{tenant}/{key}", "{tenant} must stand in it exactly once"),
        ("{tenant}/", "{key} must stand in it exactly once, at the end"),
        ("{tenant}/{key}/x", "{key} must stand in it exactly once, at the end"),
        ("{key}/{tenant}", "{key} must stand in it exactly once, at the end"),
        ("{tenant}/{key}{key}", "{key} must stand in it exactly once, at the end"),
        ("{tenant}/{site}/{site}/{key}", "{site} may stand in it only once"),
        ("{tenant}{key}", "{tenant} must be followed by a character outside"),
        ("{tenant}-{key}", "{tenant} must be followed by a character outside"),
        ("{tenant}{site}/{key}", "{tenant} must be followed by a character outside"),
        ("{tenant}/{site}x/{key}", "{site} must be followed by a character outside"),
        ("{user}/{tenant}/{key}", "'{user}' is not a placeholder"),
        ("{}/{tenant}/{key}", "'{}' is not a placeholder"),
        ("{{tenant}}/{key}", "'{' is not a placeholder"),
        ("{tenant}/{key", "'{' is not a placeholder"),
        ("{tenant!r}/{key}", "'{tenant!r}' is not a placeholder"),
        ("/{tenant}/{key}", "must not start with '/'"),
        ("a//{tenant}/{key}", "empty segments"),
        ("../{tenant}/{key}", "must not hold '.', '..'"),
        ("./{tenant}/{key}", "must not hold '.', '..'"),
        ("é/{tenant}/{key}", "printable ASCII"),
        ("a\n/{tenant}/{key}", "printable ASCII"),
        ("a\0/{tenant}/{key}", "printable ASCII"),
    ],
)
def test_a_bad_template_is_refused_with_the_reason(template: str, reason: str) -> None:
    with pytest.raises(ConfigInvalidError) as caught:
        Layout(template)
    assert reason in caught.value.message
    assert repr(template) in caught.value.message


def test_a_layout_with_a_site_needs_one() -> None:
    layout = Layout("{tenant}/{site}/{key}")
    with pytest.raises(InvalidArgumentError, match="needs a site: use Tenant"):
        Scope(Tenant("a"), layout)
    assert Scope(Tenant("a", site_id="s"), layout).key("k") == "a/s/k"


def test_the_default_layout_ignores_site_and_user() -> None:
    scope = Scope(Tenant("a", site_id="s", user_id="u"), Layout(DEFAULT_LAYOUT))
    assert (scope.key("k"), scope.partition) == ("a/k", "a")


@pytest.mark.parametrize("physical", ["", "a", "ab/k", "b/k", "A/k", "/a/k", "xa/k"])
def test_a_key_without_the_scope_raises_integrity_and_is_not_quoted(physical: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        Scope(Tenant("a"), Layout()).unscope(physical + "CANARY" if physical == "b/k" else physical)
    assert "CANARY" not in str(caught.value)
