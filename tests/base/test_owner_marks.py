"""Owner marks: what is proven by one, and what is not."""

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from raycp.base import owner_marks
from raycp.base.owner_marks import ClaimProof, MarkKeys, OwnerClaim, next_keys

PARTS = st.text(max_size=12)
CLAIMS = st.builds(OwnerClaim, PARTS, PARTS, PARTS, PARTS, PARTS)
SECRETS = st.binary(min_size=16, max_size=40)
KEYS = st.builds(lambda name, secret: MarkKeys({name: secret}, name), st.from_regex(r"[a-z]{1,5}-\d{1,3}", fullmatch=True), SECRETS)
CREATED = "2030-01-01T00:00:00Z"


@given(KEYS, CLAIMS, CLAIMS)
def test_a_mark_proves_one_claim_and_no_other(keys: MarkKeys, claim: OwnerClaim, other: OwnerClaim) -> None:
    mark = keys.sign(claim)
    assert keys.proof(claim, mark, CREATED) is ClaimProof.MARKED
    assume(claim != other)
    assert keys.proof(other, mark, CREATED) is ClaimProof.NONE


@given(KEYS, st.lists(st.text(alphabet="a1:\n/", max_size=4), min_size=5, max_size=5), st.permutations(range(5)))
def test_no_text_in_one_part_can_pass_for_another_part(keys: MarkKeys, parts: list[str], order: list[int]) -> None:
    """A member's API server may name its objects as it likes."""
    shuffled = [parts[index] for index in order]
    moved = ["".join(parts), "", "", "", ""]
    for other in (shuffled, moved):
        if other != parts:
            assert keys.sign(OwnerClaim(*parts)) != keys.sign(OwnerClaim(*other))


@given(KEYS, SECRETS, CLAIMS, st.text(max_size=40))
def test_nobody_without_the_key_makes_a_mark(keys: MarkKeys, guessed: bytes, claim: OwnerClaim, text: str) -> None:
    assume(guessed != keys.keys[keys.signing])
    forged = MarkKeys({keys.signing: guessed}, keys.signing).sign(claim)
    for mark in (forged, text, f"{keys.signing}/{text}", f"{keys.signing}/", "", "/", keys.sign(claim)[:-1]):
        assert keys.proof(claim, mark, CREATED) is ClaimProof.NONE


def test_a_child_without_mark_is_told_by_the_time_that_the_server_gave_it() -> None:
    keys = MarkKeys({"key-1": bytes(32)}, "key-1", "2026-03-01T10:00:00Z")
    claim = OwnerClaim("u", "east", "Pod.", "default", "p-0-0")
    assert keys.proof(claim, "", "2026-03-01T09:59:59Z") is ClaimProof.OLD
    assert keys.proof(claim, "lost-key/abc", "2025-12-31T23:59:59Z") is ClaimProof.OLD
    for created in ("2026-03-01T10:00:00Z", "2026-03-02T00:00:00Z", None, "", "yesterday", "0", "2026-02-01T00:00:00Z\n"):
        assert keys.proof(claim, "", created) is ClaimProof.NONE, created
    assert msgspec.structs.replace(keys, unmarked_before="").proof(claim, "", "1970-01-01T00:00:00Z") is ClaimProof.NONE


def test_the_time_of_a_server_whose_clock_is_off_is_read_as_ours() -> None:
    keys = MarkKeys({"key-1": bytes(32)}, "key-1", "2026-03-01T10:00:00Z")
    claim = OwnerClaim("u", "east", "Pod.", "default", "p-0-0")
    assert keys.proof(claim, "", "2026-03-01T10:09:59Z", 600.4) is ClaimProof.OLD, "created before, by a clock that is ahead"
    assert keys.proof(claim, "", "2026-03-01T10:10:00Z", 600.4) is ClaimProof.NONE
    assert keys.proof(claim, "", "2026-03-01T09:49:59Z", -600.0) is ClaimProof.OLD
    assert keys.proof(claim, "", "2026-03-01T10:00:00Z", 2.6e11) is ClaimProof.NONE, "no clock is beyond all years"
    assert keys.proof(claim, "", "2026-03-01T09:55:00Z", -600.0) is ClaimProof.NONE, "created after, by a clock that is behind"
    assert msgspec.structs.replace(keys, unmarked_before="").proof(claim, "", "2026-03-01T09:00:00Z", 600.0) is ClaimProof.NONE
    assert keys.proof(claim, "", "2026-03-01T10:10:00Z", 1e12) is ClaimProof.NONE, "no clock is so far ahead"


@given(st.none() | KEYS, st.dictionaries(st.from_regex(r"key-\d{1,3}", fullmatch=True), st.binary(max_size=40), max_size=5))
def test_a_key_signs_only_when_the_members_know_it(before: MarkKeys | None, found: dict[str, bytes]) -> None:
    """Rotation: what was signed with an old key stays valid until that key is removed, and no member meets a mark of a key that it
    has not been sent."""
    keys = next_keys(before, found, "")
    usable = {name: key for name, key in found.items() if len(key) >= 16}
    assert (keys is None) == (not usable)
    if keys is None:
        return
    assert keys.keys == usable
    known = [name for name, key in usable.items() if before is not None and before.keys.get(name) == key]
    if known:
        assert keys.signing in known
    again = next_keys(keys, found, "")
    assert again is not None
    assert again.signing == max(usable, key=lambda name: (int(name[4:]), name)), "one round later the newest signs"
    assert next_keys(again, found, "") == again


def test_a_mark_of_an_old_key_stays_valid_until_the_key_is_removed() -> None:
    claim = OwnerClaim("u", "east", "Pod.", "default", "p-0-0")
    first = next_keys(None, {"key-9": b"a" * 32}, "")
    assert first is not None
    mark = first.sign(claim)
    both = next_keys(next_keys(first, {"key-9": b"a" * 32, "key-10": b"b" * 32}, ""), {"key-9": b"a" * 32, "key-10": b"b" * 32}, "")
    assert both is not None
    assert both.signing == "key-10"
    assert both.proof(claim, mark, CREATED) is ClaimProof.MARKED
    only = next_keys(both, {"key-10": b"b" * 32}, "")
    assert only is not None
    assert only.proof(claim, mark, CREATED) is ClaimProof.NONE


@given(SECRETS)
def test_the_text_of_keys_shows_none(secret: bytes) -> None:
    keys = MarkKeys({"key-1": secret}, "key-1", CREATED)
    assert repr(keys) == str(keys) == "MarkKeys(key-1; key-1 signs)"


def test_a_server_whose_clock_is_of_no_year_proves_nothing_and_breaks_nothing() -> None:
    keys = MarkKeys({"key-1": bytes(32)}, "key-1", "2026-03-01T10:00:00Z")
    claim = OwnerClaim("u", "east", "Pod.", "default", "p-0-0")
    for ahead in (3e11, -3e11, 1e18, -1e18):
        assert keys.proof(claim, "", "2026-03-01T11:00:00Z", ahead) is ClaimProof.NONE
        assert keys.proof(claim, keys.sign(claim), "2026-03-01T11:00:00Z", ahead) is ClaimProof.MARKED


def test_marks_of_any_length_and_names_that_no_object_has_are_not_remembered() -> None:
    """A tenant writes an annotation of 256 KiB again and again; an API server has names of megabytes."""
    keys = MarkKeys({"key-1": bytes(32)}, "key-1")
    before = owner_marks._fits.cache_info().misses
    for number in range(20):
        claim = OwnerClaim("u", "east", "Pod.", "default", f"p-{number}")
        assert keys.proof(claim, f"key-1/{'A' * 100_000}{number}", CREATED) is ClaimProof.NONE
        long = OwnerClaim("u" * 100_000, "east", "Pod.", "default", f"p-{number}")
        assert keys.proof(long, keys.sign(long), CREATED) is ClaimProof.NONE
    assert owner_marks._fits.cache_info().misses == before
    longest = OwnerClaim("u" * 63, "c" * 63, "K" * 63 + "." + "g" * 253, "n" * 63, "x" * 253)
    assert keys.proof(longest, keys.sign(longest), CREATED) is ClaimProof.MARKED
