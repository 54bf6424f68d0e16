"""Go templates and quantities as stage files use them."""

import pytest

from raycp.embedded.life.gofuncs import GENERIC
from raycp.embedded.life.gotemplate import Template, TemplateError
from raycp.embedded.life.render import render
from raycp.embedded.strategy.scalars import milli

POD = {
    "metadata": {"name": "p", "labels": {"a.b/c": "x"}, "ownerReferences": [{"kind": "Job"}, {"kind": "Thing"}]},
    "spec": {"containers": [{"name": "one", "image": "i1"}, {"name": "two", "image": "i2"}], "n": 3},
    "status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "Other", "status": "True"}]},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ .metadata.name }}", "p"),
        ("{{ .metadata.none }}", "<no value>"),
        ("{{ range $i, $c := .spec.containers }}{{ $i }}={{ $c.name }};{{ end }}", "0=one;1=two;"),
        ("{{ range .none }}x{{ else }}empty{{ end }}", "empty"),
        ("{{ if eq .spec.n 1 2 }}a{{ else if eq .spec.n 3 }}b{{ else }}c{{ end }}", "b"),
        ("{{ with .spec.n }}{{ . }}{{ end }}", "3"),
        ("{{ $x := 1 }}{{ range .spec.containers }}{{ $x = add $x 1 }}{{ end }}{{ $x }}", "3"),
        ('{{ .metadata.name | printf "%s-%d" | len }}', "14"),
        ('{{ printf "%s/%03d" .metadata.name 7 }}', "p/007"),
        ('{{ or .none "d" | Quote }}', '"d"'),
        ("a  {{- /* gone */ -}}  b", "ab"),
        ("{{ index .spec.containers 1 }}", "map[image:i2 name:two]"),
        ('{{ define "T" }}<{{ . }}>{{ end }}{{ template "T" .spec.n }}', "<3>"),
        ('{{ ternary "y" "n" (gt .spec.n 2) }}', "y"),
        ('{{ range .spec.containers }}{{ if eq .name "two" }}{{ break }}{{ end }}{{ .name }}{{ end }}', "one"),
        ("{{ $.metadata.name }}{{ len .spec.containers }}", "p2"),
        ('{{ dict "a" 1 | toJson }}', '{"a":1}'),
        ("{{ and .none .spec.n }}", "<no value>"),
        ("{{ not .none }}", "true"),
        ("{{ or .none .metadata.name }}", "p"),
        ("{{ (index .spec.containers 0).name }}", "one"),
    ],
)
def test_go_templates(template: str, text: str) -> None:
    assert Template(template, GENERIC).render(POD) == text


@pytest.mark.parametrize("template", ["{{ if .a }}", "{{ nosuch .a }}", "{{ .a", "{{ end }}", "{{ := 3 }}", "{{ $a }}"])
def test_invalid_templates_raise_template_errors(template: str) -> None:
    with pytest.raises(TemplateError):
        Template(template, GENERIC).render(POD)


def test_the_render_cache_does_not_mix_up_objects() -> None:
    template = Template("name: {{ .metadata.name | Quote }}\nat: {{ .at | Quote }}\nx: 1\n", GENERIC)
    for name, at in [("first-pod", "2024-01-01T00:00:00Z"), ("second", "2025-05-05T05:05:05Z"), ('od"d', "x" * 9)]:
        found = render(template, {"metadata": {"name": name}, "at": at}, [name, at])
        assert found == {"name": name, "at": at, "x": 1}


def test_rendering_keeps_times_as_text_and_refuses_invalid_yaml() -> None:
    assert render(Template("a: 2024-01-01T00:00:00Z", {}), {}, []) == {"a": "2024-01-01T00:00:00Z"}
    with pytest.raises(TemplateError):
        render(Template("a: [", {}), {}, [])


@pytest.mark.parametrize(
    ("quantity", "thousandths"),
    [("500m", 500), ("1", 1000), (2, 2000), ("1.5", 1500), ("1Ki", 1_024_000), ("1k", 1_000_000), ("1e3", 1_000_000),
     ("100n", 1), ("2Gi", 2 * 1024**3 * 1000), (0.5, 500)],
)  # fmt: skip
def test_quantities(quantity: str | int | float, thousandths: int) -> None:
    assert milli(quantity) == thousandths


@pytest.mark.parametrize("quantity", ["", "1x", "Gi", "--1", "1 Gi"])
def test_invalid_quantities_are_refused(quantity: str) -> None:
    with pytest.raises(ValueError, match="quantit"):
        milli(quantity)
