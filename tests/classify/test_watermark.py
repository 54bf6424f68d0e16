"""The watermark against a model: the stored form never covers more than was reconciled."""

import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.base import deflated
from raycp.base.keys import RequestKey
from raycp.classify import Watermark


def key(name: str, namespace: str = "n", controller: str = "k") -> RequestKey:
    return RequestKey(controller, "c", namespace, name)


steps = st.lists(st.tuples(st.sampled_from(("change", "reconcile", "stale")), st.sampled_from("abcd")), min_size=1, max_size=60)


@given(steps, st.sampled_from((0, 1, 5_000)))
def test_a_watermark_covers_exactly_the_reconciled_versions(history, most):
    mark, rv = Watermark(), 10
    last: dict[str, int] = {}
    seen: dict[str, int] = {}
    for step, name in history:
        if step == "change":
            rv += 3
            last[name] = rv
            mark.pending(key(name), rv)
            mark.observe(rv)
        elif step == "reconcile":
            seen[name] = last.get(name, 0)
            assert mark.reconciled(key(name), upto=rv)
        else:
            mark.reconciled(key(name), upto=last.get(name, rv) - 1)
    stored = Watermark.decode(mark.encode(most))
    for name in "abcd":
        due = last.get(name, 0) > seen.get(name, 0)
        assert mark.covers(rv, key(name)) == (not due and mark.rv >= rv)
        if stored.covers(last.get(name, 0), key(name)):
            assert not due
    assert stored.rv <= mark.rv
    waiting = [last[name] for name in last if last[name] > seen.get(name, 0)]
    assert mark.pending_count == len(waiting)
    least = mark.least_pending()
    assert (least is None) == (not waiting)
    assert least is None or least <= min(waiting)


def test_exceptions_survive_and_end_with_the_first_reconcile_of_the_successor():
    mark = Watermark()
    mark.pending(key("failing"), 5)
    mark.observe(90)
    after = Watermark.decode(mark.encode())
    assert after.rv == 90
    assert list(after.exceptions()) == [key("failing")]
    assert not after.covers(5, key("failing"))
    assert after.covers(90, key("other"))
    assert after.unlisted({key("other")}) == [key("failing")], "deleted meanwhile, and that is still to be reconciled"
    assert after.reconciled(key("failing"), upto=5)
    assert after.covers(5, key("failing"))
    again = Watermark.decode(mark.encode())
    again.pending(key("failing"), 95)
    assert not again.reconciled(key("failing"), upto=5), "it changed again since"
    assert again.reconciled(key("failing"), upto=95)


def test_beyond_the_limit_it_falls_back_to_the_least_pending_version():
    mark = Watermark()
    for index in range(5_001):
        mark.pending(key(f"pod-{index}"), 1_000 + index)
    mark.observe(9_000)
    after = Watermark.decode(mark.encode())
    assert (after.rv, after.pending_count) == (999, 0)
    mark.reconciled(key("pod-0"))
    text = mark.encode()
    assert Watermark.decode(text).pending_count == 5_000
    assert len(text) < 60_000, "it is written once a second"


def test_a_watermark_never_goes_back():
    mark = Watermark(7)
    mark.observe(3)
    assert mark.rv == 7


BOMB = "z:" + base64.b85encode(zlib.compress(bytes(deflated.MOST + 1))).decode()
DEEP = '{"rv":1,"other":' + 10_000 * "[" + 10_000 * "]" + "}"


@pytest.mark.parametrize(
    "text", ["", "{}", "z:!!", "z:abc", '{"rv":"x"}', "[1]", '{"rv":-1}', f'{{"rv":{1 << 63}}}', BOMB, DEEP, "\ud800", "z:\u20ac"]
)
def test_invalid_watermarks_are_refused(text):
    with pytest.raises(ValueError, match="not a watermark"):
        Watermark.decode(text)
