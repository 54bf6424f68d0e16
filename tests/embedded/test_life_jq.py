"""jq in stage files: real jq, in a process of its own that no program holds up for long."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import jq
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raycp.config.embedded import EmbeddedSpec
from raycp.embedded.life import evaluator
from raycp.embedded.life.evaluator import STRIKES, Answers, Evaluator, JqError, check
from raycp.embedded.life.jqpath import compile_path
from raycp.embedded.life.stageset import cluster_stages, stage_functions

POD = {
    "metadata": {"name": "p", "labels": {"a.b/c": "x"}, "ownerReferences": [{"kind": "Job"}, {"kind": "Thing"}]},
    "spec": {"containers": [{"name": "one", "image": "i1"}, {"name": "two", "image": "i2"}], "n": 3},
    "status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "Other", "status": "True"}]},
}
RESULTS: list[tuple[str, list[Any] | None]] = [
    ('.status.conditions.[] | select( .type == "Ready" ) | .status', ["False"]),
    ('.metadata.labels["a.b/c"]', ["x"]),
    (".metadata.ownerReferences.[].kind", ["Job", "Thing"]),
    (".metadata.finalizers", []),
    (".metadata.finalizers.[]", None),
    (".metadata.finalizers[]?", []),
    (".spec.containers[1].name", ["two"]),
    (".spec.containers[-1].name", ["two"]),
    (".spec.containers | length", [2]),
    ("[.spec.containers[].name]", [["one", "two"]]),
    ("{a: .spec.n, metadata: .spec.n}", [{"a": 3, "metadata": 3}]),
    ('.spec.none // "fallback"', ["fallback"]),
    (".spec.n > 2 and (.spec.n < 4)", [True]),
    (".spec.n * 2 + 1", [7]),
    ('if .spec.n == 3 then "three" else "other" end', ["three"]),
    ('[.status.conditions[] | .status] | any(. == "True")', [True]),
    ('.metadata.name | startswith("p")', [True]),
    (".spec.n | tostring", ["3"]),
    ('.spec | has("n")', [True]),
    (".metadata.name, .spec.n", ["p", 3]),
    (".spec.n.deeper", None),
    ("reduce .spec.containers[] as $c (0; . + 1)", [2]),
    ("[limit(3; repeat(1))]", [[1, 1, 1]]),
    (".spec.n # a comment", [3]),
    ("nan", []),
    ("halt", None),
    ("empty", []),
]
ENDLESS = "def f: f; f"
N = ".spec | .n"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluator, "SECONDS", 0.2)


@pytest.fixture
async def made() -> AsyncIterator[list[Evaluator]]:
    found: list[Evaluator] = []
    yield found
    for each in found:
        each.close()


async def ask(made: list[Evaluator], *texts: str, obj: Any = POD) -> Answers:
    made.append(Evaluator({"v1/Pod": texts}))
    return await made[-1].answers("v1/Pod", obj)


async def until(check: Callable[[], Any]) -> None:
    end = time.monotonic() + 20
    while not check():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def children() -> list[psutil.Process]:
    """Those of jq, also as zombies: no one of them may be left."""
    found = []
    for each in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if each.status() == psutil.STATUS_ZOMBIE or "jqchild.py" in " ".join(each.cmdline()):
                found.append(each)
    return found


async def test_all_expressions_are_answered_together(made: list[Evaluator]) -> None:
    texts = [text for text, _ in RESULTS if text != "halt"]
    answers = await ask(made, *texts)
    assert {text: answers[text] for text in texts} == {text: found for text, found in RESULTS if text in texts}


async def test_an_expression_that_spoils_the_whole_harms_no_other(made: list[Evaluator]) -> None:
    answers = await ask(made, N, "halt", ".metadata.name")
    assert answers == {N: [3], "halt": None, ".metadata.name": ["p"]}
    assert not made[0].reasons


def json_like() -> st.SearchStrategy[Any]:
    names = st.sampled_from(["a", "b", "a.b/c", "and"])
    return st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "x"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
        max_leaves=12,
    )


STEPS = [".a", ".b", ".and", '["a"]', '.["a.b/c"]', "[0]", ".[1]", "[-1]", "[-9]"]


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(json_like(), st.lists(st.sampled_from(STEPS), max_size=4))
def test_a_path_is_looked_up_as_jq_does(value: Any, steps: list[str]) -> None:
    text = f".a{''.join(steps)}"
    path = compile_path(text)
    assert path is not None
    try:
        expected = [found for found in jq.compile(text).input_value(value).all() if found is not None]
    except ValueError:
        expected = None
    assert path(value) == expected


@pytest.mark.parametrize("text", [".", "..", ".a[]", "[0]", ".a?", ".a|.b", '.["\\(.b)"]', ".a[1:2]", ".a b", ".a.", "a", ".a[.b]"])
def test_what_is_more_than_a_path_is_for_jq(text: str) -> None:
    assert compile_path(text) is None


async def test_paths_need_no_process(made: list[Evaluator]) -> None:
    assert await ask(made, ".spec.n", " .metadata.name ", ".spec.n.deeper") == {
        ".spec.n": [3],
        " .metadata.name ": ["p"],
        ".spec.n.deeper": None,
    }
    shipped = cluster_stages(EmbeddedSpec(), stage_functions(lambda: 0.0, dict))
    assert await ask(made, *(text for stage in shipped for text in stage.expressions))
    assert not children()


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        (".a |", "syntax error"), (".a[", "syntax error"), ("nosuch(1)", "nosuch/1 is not defined"), (".a == ", "syntax error"),
        ('"open', "syntax error"), ("", "is empty"), (" \n", "is empty"), (".a] , [.b", "syntax error"),
        ("$nosuch", "$nosuch is not defined"), ('import "x" as x; .', ""), (". # \\", "syntax error"),
        ("." * 10_001, "longer than 10000"),
    ],
)  # fmt: skip
def test_an_invalid_expression_is_refused_when_it_is_read(expression: str, why: str) -> None:
    with pytest.raises(JqError) as caught:
        check(expression)
    assert str(caught.value).startswith(f"jq expression {expression[:200]!r}: ")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("impatient")
async def test_an_endless_expression_blocks_nothing_and_is_given_up(made: list[Evaluator]) -> None:
    texts = (N, ENDLESS)
    check(ENDLESS)
    made.append(Evaluator({"v1/Pod": texts}))
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    ticking = asyncio.create_task(tick())
    for strike in range(1, STRIKES + 1):
        ticks = 0
        answers = await made[0].answers("v1/Pod", POD)
        assert answers == {N: [3], ENDLESS: None}
        assert "ran for longer than 0.2 s" in made[0].reasons[ENDLESS]
        assert ("is not run again" in made[0].reasons[ENDLESS]) is (strike == STRIKES)
        assert ticks > 100, "the loop went on while jq ran"
    ticking.cancel()
    await made[0].answers("v1/Pod", POD)
    child = children()
    assert await made[0].answers("v1/Pod", POD) == {N: [3], ENDLESS: None}
    assert children() == child, "it ends no process any more"
    assert "is not run again" in made[0].reasons[ENDLESS]


@pytest.mark.usefixtures("impatient")
async def test_asked_from_all_sides_it_gives_up_the_same_expression_once(made: list[Evaluator]) -> None:
    made.append(Evaluator({"v1/Pod": (N, ENDLESS)}))
    found = await asyncio.gather(*(made[0].answers("v1/Pod", POD) for _ in range(STRIKES + 3)))
    assert found == [{N: [3], ENDLESS: None}] * (STRIKES + 3)


@pytest.mark.usefixtures("impatient")
async def test_what_is_endless_for_one_object_goes_on_for_others(made: list[Evaluator]) -> None:
    text = "if .spec.n == 3 then def f: f; f else .spec.n end"
    made.append(Evaluator({"v1/Pod": [text]}))
    for _ in range(STRIKES + 1):
        assert (await made[0].answers("v1/Pod", POD))[text] is None
        assert text in made[0].reasons
        assert (await made[0].answers("v1/Pod", {"spec": {"n": 4}}))[text] == [4]
        assert not made[0].reasons


@pytest.mark.parametrize("greedy", ["[repeat(1)]", '"x" * 1e10 | length', "def f: [f]; f"])
async def test_memory_is_bounded(made: list[Evaluator], greedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluator, "MEMORY", 128 << 20)
    monkeypatch.setattr(evaluator, "SECONDS", 20.0)
    assert await ask(made, N, greedy) == {N: [3], greedy: None}
    if "length" not in greedy:  # jq itself refuses a text of that length
        assert "took more than 128 MiB" in made[0].reasons[greedy]


async def test_expressions_see_no_environment(made: list[Evaluator], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "secret")
    answers = await ask(made, "env | keys[]", "$ENV.PASSWORD")
    assert answers["$ENV.PASSWORD"] == []
    assert set(answers["env | keys[]"] or ()) <= {"LC_CTYPE", "PYTHONPATH", "PYTHONSAFEPATH"}


async def test_a_killed_child_is_replaced(made: list[Evaluator]) -> None:
    await ask(made, N)
    (child,) = children()
    child.kill()
    child.wait(10)
    assert await made[0].answers("v1/Pod", POD) == {N: [3]}
    assert not made[0].reasons
    assert len(children()) == 1


async def test_cancelled_in_the_middle_of_an_answer_it_goes_on(made: list[Evaluator]) -> None:
    made.append(Evaluator({"v1/Pod": [ENDLESS], "v1/Node": [N]}))
    asking = asyncio.create_task(made[0].answers("v1/Pod", POD))
    await until(children)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await made[0].answers("v1/Node", POD) == {N: [3]}


async def test_cancelled_while_its_process_starts_it_leaves_none(made: list[Evaluator], monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Slow(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **more: Any) -> None:
            started.append(self)
            time.sleep(0.3)
            super().__init__(*args, **more)

    monkeypatch.setattr(subprocess, "Popen", Slow)
    made.append(Evaluator({"v1/Pod": [N]}))
    asking = asyncio.create_task(made[0].answers("v1/Pod", POD))
    await until(lambda: started)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until(lambda: getattr(started[0], "returncode", None) is not None)
    assert not children()


async def test_closed_it_leaves_no_process(made: list[Evaluator]) -> None:
    await ask(made, N)
    made[0].close()
    assert not children()


def test_the_child_ends_with_its_parent() -> None:
    code = (
        "import asyncio, os, psutil, signal\n"
        "from raycp.embedded.life.evaluator import Evaluator\n"
        "async def main():\n"
        "    print(await Evaluator({'k': ['.a | .']}).answers('k', {'a': 1}))\n"
        "    print(psutil.Process().children()[0].pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    answer, pid = done.stdout.splitlines()
    assert answer == "{'.a | .': [1]}"
    end = time.monotonic() + 20
    while psutil.pid_exists(int(pid)) and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_child_imports_nothing_of_raycp() -> None:
    """It starts in tens of milliseconds; and `import jq` in it is the package, whatever stands beside its file."""
    file = Path(evaluator.__file__).with_name("jqchild.py")
    code = f"import sys; sys.argv[1:] = ['1', '{1 << 30}']; import runpy; sys.stdin.close()\nrunpy.run_path({str(file)!r})\n"
    code += "assert not [each for each in sys.modules if each.startswith('raycp')], sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
