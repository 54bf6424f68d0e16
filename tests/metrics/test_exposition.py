"""The page: what ``prometheus_client`` makes of merged snapshots, in each format that a scraper may ask for."""

import gzip

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from promtool import promtool

from raycp.metrics import Label, Merger, Metrics
from raycp.metrics.catalog import GROUPS, catalogue
from raycp.metrics.cells import Counter, Gauge, Histogram
from raycp.metrics.exposition import FleetCollector, metrics_page

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
NASTY = 'a "quoted" \\ back\nslash, ümlaut {}='


def merger_of(metrics: Metrics) -> Merger:
    merger = Merger()
    assert merger.feed("a", metrics.snapshot())
    return merger


def all_families() -> Merger:
    """Every family of the catalogue with one series, whose label values are nasty where they are not fixed."""
    metrics = Metrics()
    for group in GROUPS:
        for family in vars(group(metrics)).values():
            if not hasattr(family, "spec"):
                continue
            cell: Counter | Gauge | Histogram = family.labels(*(NASTY for _ in family.spec.labels))
            if isinstance(cell, Histogram):
                cell.observe(0.02)
                cell.trace(0.02, 1700000000.0, (("change", "east@7"), ("object", NASTY)))
            else:
                cell.inc()
    return merger_of(metrics)


def test_names_do_not_clash_in_either_format() -> None:
    registry = CollectorRegistry()
    registry.register(FleetCollector(all_families().merged()))
    reserved = ("_total", "_sum", "_count", "_bucket", "_created", "_info", "_gsum", "_gcount")
    for spec in catalogue().values():
        assert spec.name.endswith("_total") == (spec.type == "counter"), spec.name
        assert spec.type == "counter" or not spec.name.endswith(reserved), spec.name
        assert not {"le", "quantile", "job", "instance"} & set(spec.labels), spec.name
        assert spec.help.endswith("."), spec.name


def test_promtool_accepts_every_family() -> None:
    page = metrics_page(all_families().merged())
    assert promtool("check", "metrics", page=page.body) == ""


def test_the_two_formats_have_the_same_samples() -> None:
    merged = all_families().merged()
    text = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_text(metrics_page(merged).body.decode())
        for sample in family.samples
    }
    page = metrics_page(merged, OPENMETRICS)
    assert page.content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = list(parse_openmetrics(page.body.decode()))
    strict = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value for family in families for sample in family.samples
    }
    assert text == strict
    assert {family.name for family in families} == {spec.name.removesuffix("_total") for spec in catalogue().values()}
    assert ("workqueue_depth", (("cluster", NASTY), ("controller", NASTY), ("tier", NASTY))) in text


def test_openmetrics_names_the_change_of_a_bucket() -> None:
    metrics = Metrics()
    cell = metrics.histogram("h_seconds", "H.", (Label("x"),), (0.1, 1.0)).labels("v")
    for value in (0.05, 0.5, 0.6):
        cell.observe(value)
    cell.trace(0.6, 1700000000.25, (("change", "east@7"), ("object", "default/a")))
    merged = merger_of(metrics).merged()
    (family,) = parse_openmetrics(metrics_page(merged, OPENMETRICS).body.decode())
    traced = {sample.labels["le"]: sample.exemplar for sample in family.samples if sample.exemplar is not None}
    assert list(traced) == ["1.0"]
    assert traced["1.0"].labels == {"change": "east@7", "object": "default/a"}
    assert (traced["1.0"].value, float(traced["1.0"].timestamp)) == (0.6, 1700000000.25)
    buckets = {sample.labels["le"]: sample.value for sample in family.samples if sample.name == "h_seconds_bucket"}
    assert buckets == {"0.1": 1, "1.0": 3, "+Inf": 3}
    assert b"east@7" not in metrics_page(merged).body, "the text format has no exemplars"


def test_some_families_alone() -> None:
    page = metrics_page(all_families().merged(), OPENMETRICS, "", {"workqueue_depth", "workqueue_adds_total", "no_such"})
    assert {family.name for family in parse_openmetrics(page.body.decode())} == {"workqueue_depth", "workqueue_adds"}


def test_gzip_where_it_is_accepted() -> None:
    merged = all_families().merged()
    plain, packed = metrics_page(merged), metrics_page(merged, "", "deflate, GZIP;q=0.8")
    assert (plain.encoding, packed.encoding) == ("", "gzip")
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body) / 3


@pytest.mark.parametrize(
    "accept",
    [
        "", "*/*", "text/plain;version=0.0.4", "application/openmetrics-text;version=nonsense", ";;;,=,=;",
        "text/plain;version=x.y", "application/openmetrics-text;version=0.0.1", "application/vnd.google.protobuf;proto=x",
    ],
)  # fmt: skip
def test_every_accept_header_is_answered(accept: str) -> None:
    page = metrics_page(all_families().merged(), accept)
    assert page.content_type.startswith("text/plain; version=")
    assert b"raycp_leader_epoch 1.0\n" in page.body
