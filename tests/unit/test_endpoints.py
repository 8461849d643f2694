"""Endpoints that misbehave: what is asked again, what is refused, and what ends the run."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from alignment_assets.commands.doctor import examine
from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference import spool
from alignment_assets.inference.backends.by_model import InferenceByModel, check_backends
from alignment_assets.inference.backends.openai import client as endpoint_client
from alignment_assets.inference.backends.openai import endpoint
from alignment_assets.inference.backends.openai import http as endpoint_http
from alignment_assets.inference.backends.openai.backend import served_name, settings_of
from alignment_assets.inference.backends.openai.client import EndpointClient
from alignment_assets.inference.backends.openai.http import EndpointError, open_http
from alignment_assets.inference.backends.openai.protocol import ServedModel
from alignment_assets.inference.progress import Progress
from alignment_assets.inference.types import Answer, Request
from alignment_assets.recipe.environment import UnsetError
from alignment_assets.recipe.load import RecipeError
from alignment_assets.recipe.run import Run
from alignment_assets.warehouse.resource import Warehouse
from tests.conftest import changed_recipe
from tests.support.endpoints import KEY, Asked, Server, asking, recipe_for

RATED = [{"role": "user", "content": "good"}]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_client, "RETRY_SECONDS", (0.02, 0.1))
    monkeypatch.setattr(endpoint_client, "PROGRESS_SECONDS", 0.05)
    monkeypatch.setattr(endpoint, "PAUSE_SECONDS", (0.05, 0.2))
    monkeypatch.setattr(endpoint, "PROBE_SECONDS", (0.05, 0.2))


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def other() -> Iterator[Server]:
    with Server() as server:
        yield server


def error_of(run: Asked) -> str:
    """Return the message that ends a run, without the key in it."""
    with pytest.raises(EndpointError) as caught:
        run.answer()
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None
    return str(caught.value)


# -- what becomes of requests ----------------------------------------------------------------------


# Answers that arrive and hold no text, and what is said of them.
WORTHLESS = {
    "nothing": "the server gave no choice",
    "null": "the server gave no content (null)",
    "no content": "the server gave no content (null)",
    "thought alone": "no content, but 1,200 characters of reasoning_content; start it without a",
    "refuses": "no content, but 11 characters of refusal",
    "tools": "tool calls (tool_calls), not with a text",
}


def test_every_request_ends_once_with_an_answer_or_a_reason(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_http, "RESPONSE_BYTES", 8 << 20)
    once = ["500", "408", "429 at once", "503", "cut", "cut short", "garbage", "half"]
    failing = ("500", "cut", "garbage", "half", "odd", "endless")
    expected = {
        **{f"{behaviour} #once": "stop" for behaviour in once},
        **{f"good #{number}": "stop" for number in range(200)},
        **{f"always {behaviour} #": "failed" for behaviour in failing},
        "too long #": "context_length",
        "always shorter #": "context_length",
        "refused #": "rejected",
        "always filtered #": "rejected",
        **{f"always {behaviour} #": "rejected" for behaviour in WORTHLESS},
        "always thought apart #": "stop",
    }
    run = Asked(recipe_for(server), asking(*expected), tmp_path).answer()

    rows = run.rows()
    assert {name: row["finish_reason"] for name, row in rows.items()} == expected
    for name, row in rows.items():
        if name == "always thought apart #":
            assert row["text"] == "<think>\nLet me see.\n</think>\n\nfine"
            continue
        assert (row["text"] == "fine") == (expected[name] == "stop")
        assert (row["error"] is None) == (expected[name] == "stop")
    assert rows["good #1"]["prompt_tokens"] == 10
    assert rows["good #1"]["completion_tokens"] == 5
    assert 0 < rows["good #1"]["seconds"] < 60
    assert (rows["good #1"]["engine"], rows["good #1"]["engine_version"]) == ("openai", "mock/1")
    assert server.seen["always 500 #"] == server.seen["always garbage #"] == 3  # attempts
    assert "3 times" in rows["always 500 #"]["error"]
    assert "out of order" in rows["always 500 #"]["error"]
    assert "busy" in rows["always garbage #"]["error"]
    assert "8 MiB" in rows["always endless #"]["error"]
    assert "maximum context length is 1024" in rows["too long #"]["error"]
    assert server.seen["too long #"] == server.seen["refused #"] == 1
    assert rows["refused #"]["error"].startswith("no such role")
    assert len(rows["refused #"]["error"]) == 1000
    assert "7 of 8 tokens" in rows["always shorter #"]["error"]
    assert "content_filter" in rows["always filtered #"]["error"]
    for behaviour, said in WORTHLESS.items():
        assert said in rows[f"always {behaviour} #"]["error"]
        assert server.seen[f"always {behaviour} #"] == 1
    progress = run.progress
    assert (progress.done, progress.failed) == (len(expected), 10 + len(WORTHLESS))
    assert (progress.engine, progress.engine_version) == ("openai", "mock/1")
    assert progress.completion_tokens == 5 * (200 + len(once))


def test_an_answer_that_does_not_come_counts_as_failed(server: Server, tmp_path: Path) -> None:
    requests = asking("hangs #", "always hangs #", "good #")
    rows = Asked(recipe_for(server, attempts=2, timeout=0.3), requests, tmp_path).answer().rows()
    reasons = {name: row["finish_reason"] for name, row in rows.items()}
    assert reasons == {"hangs #": "stop", "always hangs #": "failed", "good #": "stop"}
    assert "no answer within 0.3 s" in rows["always hangs #"]["error"]


def test_too_many_requests_cost_no_attempt_and_are_not_repeated_before_they_may(
    server: Server, tmp_path: Path
) -> None:
    started = time.monotonic()
    requests = asking(*(f"429 #{number}" for number in range(4)))
    rows = Asked(recipe_for(server, attempts=1), requests, tmp_path).answer().rows()
    assert {row["finish_reason"] for row in rows.values()} == {"stop"}
    assert set(server.seen.values()) == {2}
    assert time.monotonic() - started > 0.9  # Retry-After: 1


def test_sampling_reaches_the_server_and_nothing_that_it_might_not_know(
    server: Server, tmp_path: Path
) -> None:
    sampling = {"temperature": 0.3, "top_p": 0.9, "top_k": 0, "min_p": 0.0, "max_tokens": 7}
    (plain,) = asking("plain #")
    changed = Request("two", "generate", "generate", plain.messages, {**sampling, "top_k": 5})
    graded = Request(
        "three", "grade", "generate", plain.messages, sampling, None, '{"type": "object"}'
    )
    standard = {"temperature": 0.3, "top_p": 0.9, "max_tokens": 7}
    first = Request("one", "generate", "generate", plain.messages, sampling)
    for number, request in enumerate([first, changed, graded]):
        Asked(recipe_for(server), [request], tmp_path / str(number)).answer()
    one, two, three = server.bodies
    assert one == {"model": "mock", "messages": plain.messages, "n": 1, **standard}
    assert two == {**one, "top_k": 5}
    schema = {"name": "answer", "schema": {"type": "object"}, "strict": True}
    assert three == {**one, "response_format": {"type": "json_schema", "json_schema": schema}}


def test_vllm_is_told_all_and_gives_the_labels_own_logprobs(tmp_path: Path) -> None:
    with Server(vllm=True) as server:
        recipe = recipe_for(server)
        rated = [Request(str(n), "rate", "weigh", RATED, {}, ["7", "8"]) for n in range(20)]
        rated.append(Request("long", "rate", "weigh", RATED, {}, ["7", "eight"]))
        rows = Asked(recipe, rated, tmp_path / "rate").answer().rows()
        Asked(recipe, asking("good #"), tmp_path / "generate").answer()
        classified = Request(
            "one", "classify", "classify", [*RATED, {"role": "assistant", "content": "abc"}]
        )
        logits = Asked(recipe, [classified], tmp_path / "classify").answer().rows()
    refusal = rows.pop("long")
    assert refusal["finish_reason"] == "rejected"
    assert refusal["error"] == "the label 'eight' is 5 tokens of this model, not one"
    for row in rows.values():
        assert row["engine_version"] == "vllm 9.9"
        assert row["label_logprobs"] == [
            {"label": "7", "logprob": -1.0},
            {"label": "8", "logprob": -2.0},
        ]
    rate, generate, classify = server.bodies[0], server.bodies[-2], server.bodies[-1]
    assert rate["logprob_token_ids"] == [ord("7"), ord("8")]
    assert (rate["temperature"], rate["max_tokens"], rate["top_k"]) == (0.0, 1, 0)
    assert generate["chat_template_kwargs"] == {"date_string": "02 Sep 2025"}
    assert generate["top_k"] == 0
    assert (classify["use_activation"], classify["add_generation_prompt"]) == (False, False)
    assert logits["one"]["value"] == -3.0


def test_other_servers_labels_are_read_from_the_likeliest_tokens(
    server: Server, tmp_path: Path
) -> None:
    def rate(text: str) -> Request:
        return Request(
            text, "rate", "weigh", [{"role": "user", "content": text}], {}, ["7", "8", "9"]
        )

    requests = [rate("good #"), rate("silent #"), rate("always unlikely #")]
    rows = Asked(recipe_for(server), requests, tmp_path).answer().rows()
    found = {entry["label"]: entry["logprob"] for entry in rows["good #"]["label_logprobs"]}
    spelled = math.log(math.exp(-0.5) + math.exp(-1.5) + math.exp(-2.5))  # "7", " 7", "Ġ7"
    assert found == pytest.approx({"7": spelled, "8": -3.0})
    assert server.bodies[0]["top_logprobs"] == 20
    for name, reason in (("silent #", "no log-probabilities"), ("always unlikely #", "none of")):
        assert rows[name]["finish_reason"] == "rejected"
        assert rows[name]["label_logprobs"] is None
        assert reason in rows[name]["error"]


# -- settings that do not fit ----------------------------------------------------------------------


def test_a_refused_key_ends_the_run_and_is_shown_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MOCK_KEY", KEY)
    with Server(key="another") as server:
        refused = Asked(recipe_for(server, api_key="env:MOCK_KEY"), asking("good #"), tmp_path)
        message = error_of(refused)
        assert "401" in message
        assert server.url in message
        assert "MOCK_KEY" in message
        assert "wants a key" in error_of(Asked(recipe_for(server), asking("good #"), tmp_path))
    with Server(key=KEY) as server:
        recipe = recipe_for(server, api_key="env:MOCK_KEY")
        assert "403" in error_of(Asked(recipe, asking("forbidden #"), tmp_path / "2"))
        rows = Asked(recipe, asking("good #"), tmp_path / "3").answer().rows()
        assert rows["good #"]["finish_reason"] == "stop"
        monkeypatch.setenv("MOCK_KEY", f"{KEY}\nX-Header: y")
        assert "MOCK_KEY" in error_of(Asked(recipe, asking("good #"), tmp_path))
        monkeypatch.delenv("MOCK_KEY")
        with pytest.raises(UnsetError, match="MOCK_KEY"):
            Asked(recipe, asking("good #"), tmp_path).answer()
    assert KEY not in caplog.text


def test_what_a_recipe_has_wrong_is_said_at_once(server: Server, tmp_path: Path) -> None:
    def message(recipe: str, text: str = "good #", **settings: object) -> str:
        return error_of(Asked(recipe_for(server, **settings), asking(text), tmp_path / recipe))

    place = "recipe demo: models.served.backend.openai"
    wrong_name = message("name", name="another")
    assert f"{server.url} serves ['mock'] and not 'another'; set {place}.name" in wrong_name
    assert f"set {place}.urls" in message("urls", urls=[server.url.removesuffix("/v1")])
    assert "http://elsewhere.example/v1" in message("moved", "moved #")
    assert "chat_template" in message("template", "always template #")
    assert server.seen["moved #"] == server.seen["always template #"] == 1


def test_servers_that_are_not_there_are_named_at_the_start(tmp_path: Path) -> None:
    server = Server()
    server.stop()
    started = time.monotonic()
    message = error_of(Asked(recipe_for(server), asking("good #"), tmp_path))
    assert server.url in message
    assert "start the servers" in message
    assert time.monotonic() - started < 10


def test_more_connections_than_a_process_may_have_are_refused_before_they_are_made(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_http.resource, "getrlimit", lambda _: (1024, 4096))
    message = error_of(Asked(recipe_for(server, concurrency=4000), asking("good #"), tmp_path))
    assert "4000 connections" in message
    assert "ulimit -n" in message


# -- endpoints that die ----------------------------------------------------------------------------


def test_one_that_dies_costs_no_attempt_and_gets_work_again_when_it_is_back(
    server: Server, other: Server, tmp_path: Path
) -> None:
    """Three things happen in turn: one dies with requests in hand, it is seen, it is back."""
    run = Asked(
        recipe_for(server, other, attempts=1, concurrency=4),
        asking(*(f"slow #{number}" for number in range(800))),
        tmp_path,
    )
    story: list[str] = []

    def watch(progress: Progress) -> None:
        if not story and progress.done > 20:
            server.stop()
            story.append("stopped")
        elif story == ["stopped"] and progress.engines == 1:
            server.bodies.clear()
            server.start()
            story.append("started")

    run.answer(watch)
    rows = run.rows()
    assert story == ["stopped", "started"]
    assert len(rows) == 800
    assert {row["finish_reason"] for row in rows.values()} == {"stop"}
    assert len(server.bodies) > 50  # again part of it
    assert max(server.most, other.most) == 4


def test_when_all_are_gone_the_run_ends_and_keeps_what_was_answered(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_client, "ALL_LOST_SECONDS", 0.5)
    requests = asking(*(f"slow #{number}" for number in range(300)))
    run = Asked(recipe_for(server, concurrency=4), requests, tmp_path)
    stopped: list[int] = []

    def watch(progress: Progress) -> None:
        if progress.done > 20 and not stopped:
            server.stop()
            stopped.append(progress.done)

    with pytest.raises(EndpointError, match="no endpoint has answered") as caught:
        run.answer(watch)
    assert server.url in str(caught.value)
    assert stopped[0] <= len(run.rows()) < 300

    server.start()
    left = [request for request in requests if request.request_id not in run.rows()]
    Asked(run.job.run.recipe, left, tmp_path).answer()
    assert len(run.rows()) == 300


def test_nothing_but_too_many_requests_ends_the_run_too(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_client, "ALL_LOST_SECONDS", 0.5)
    monkeypatch.setattr(endpoint, "THROTTLED_SECONDS", 0.5)
    message = error_of(Asked(recipe_for(server), asking("always 503 #"), tmp_path))
    assert "too many requests" in message
    assert "loading" in message


def test_one_that_fails_fast_does_not_eat_all_requests(
    server: Server, other: Server, tmp_path: Path
) -> None:
    server.broken = True
    requests = asking(*(f"slow #{number}" for number in range(300)))
    recipe = recipe_for(server, other, attempts=2, concurrency=4)
    rows = Asked(recipe, requests, tmp_path).answer().rows()
    assert {row["finish_reason"] for row in rows.values()} == {"stop"}
    assert len(server.bodies) < 100


# -- how much at once ------------------------------------------------------------------------------


def test_requests_are_read_as_there_is_room_and_never_more_are_in_flight(server: Server) -> None:
    settings = settings_of(recipe_for(server, concurrency=8).models["served"])
    answered: list[Answer] = []
    ahead = []

    def requests() -> Iterator[Request]:
        for number in range(600):
            ahead.append(number - len(answered))
            # The first eight are held until all are in hand; every fifth of the others fails at
            # first, and is held to be asked again.
            behaviour = "eight" if number < 8 else "500" if number % 5 == 0 else "slow"
            yield from asking(f"{behaviour} #{number}")

    async def run() -> None:
        async with open_http(settings, "here") as http:
            client = EndpointClient(
                http, ServedModel("mock"), 3, lambda a, _: answered.append(a), lambda: None, print
            )
            await client.check()
            await client.run(requests())

    asyncio.run(run())
    assert len(answered) == 600
    assert {answer.finish_reason for answer in answered} == {"stop"}
    assert server.most == 8
    assert max(ahead) <= 8


def test_an_endpoint_is_given_all_it_may_be_given_from_the_start(
    server: Server, tmp_path: Path
) -> None:
    run = Asked(
        recipe_for(server, concurrency=48), asking(*(f"waits #{n}" for n in range(60))), tmp_path
    )

    def watch(progress: Progress) -> None:
        if server.in_hand == 48:
            server.release.set()

    run.answer(watch)
    assert server.most == 48
    assert {row["finish_reason"] for row in run.rows().values()} == {"stop"}


@pytest.mark.parametrize("status", [429, 503])
def test_a_full_endpoint_is_given_less_and_by_and_by_more_again(
    status: int, server: Server, tmp_path: Path
) -> None:
    server.room, server.full = 8, status
    requests = asking(*(f"slow #{number}" for number in range(900)))
    run = Asked(recipe_for(server, attempts=1, concurrency=64), requests, tmp_path)

    def watch(progress: Progress) -> None:
        if progress.done > 300 and server.room == 8:
            server.room = 10**9

    run.answer(watch)
    rows = run.rows()
    assert len(rows) == 900
    assert {row["finish_reason"] for row in rows.values()} == {"stop"}
    assert set(server.seen.values()) == {1}
    assert 0 < server.refused < 300  # 64 at once, again and again, would be thousands
    assert server.most > 16


def test_samples_of_a_prompt_go_to_one_endpoint_while_both_are_busy(
    server: Server, other: Server, tmp_path: Path
) -> None:
    requests = [
        replace(request, request_id=f"{prompt}/{sample}")
        for prompt, request in enumerate(asking(*(f"slow #{n} {'x' * 200}" for n in range(60))))
        for sample in range(10)
    ]
    run = Asked(recipe_for(server, other, concurrency=8), requests, tmp_path).answer()
    assert len(run.rows()) == 600
    counts = server.seen + other.seen
    assert set(counts.values()) == {10}
    assert len(set(server.seen) & set(other.seen)) <= 6
    assert 200 < sum(server.seen.values()) < 400


def test_what_a_dead_endpoint_was_to_be_asked_the_other_is_asked_once(
    server: Server, other: Server, tmp_path: Path
) -> None:
    run = Asked(
        recipe_for(server, other, attempts=1, concurrency=4),
        asking(*(f"slow #{number}" for number in range(300))),
        tmp_path,
    )
    in_hand: list[int] = []

    def watch(progress: Progress) -> None:
        if progress.done > 20 and not in_hand:
            in_hand.append(server.in_hand)
            server.stop()

    run.answer(watch)
    rows = run.rows()
    assert len(rows) == 300
    assert {row["finish_reason"] for row in rows.values()} == {"stop"}
    assert set(other.seen.values()) == {1}
    # Twice was asked at most what the dead one had in hand.
    assert len(set(server.seen) & set(other.seen)) <= 4


def test_an_answer_is_on_disk_while_others_are_waited_for(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "FLUSH_SECONDS", 0.2)
    run = Asked(recipe_for(server), asking("good #", "waits #"), tmp_path)
    early: list[set[str]] = []

    def watch(progress: Progress) -> None:
        if run.spool.exists() and run.rows() and not early:
            early.append(set(run.rows()))
            assert progress.in_flight == 1
            server.release.set()

    run.answer(watch)
    assert early == [{"good #"}]
    assert set(run.rows()) == {"good #", "waits #"}


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupted_run_leaves_its_answers(
    interrupt: type[BaseException], server: Server, tmp_path: Path
) -> None:
    requests = asking("good #1", "good #2", *(f"waits #{number}" for number in range(100)))
    run = Asked(recipe_for(server), requests, tmp_path)

    def stop(progress: Progress) -> None:
        if progress.done == 2:
            raise interrupt

    before = threading.active_count()
    with pytest.raises(interrupt):
        run.answer(stop)
    assert set(run.rows()) == {"good #1", "good #2"}
    server.release.set()
    assert threading.active_count() <= before + 20  # the server's own


# -- which backend, and what is seen of it before a run --------------------------------------------


def test_each_model_is_answered_by_the_backend_that_it_names(
    server: Server, tmp_path: Path
) -> None:
    recipe = recipe_for(server, name="mock")
    inference = InferenceByModel()
    settings = '{"backend": "openai", "max_model_len": 8192, "model": "mock"}'
    assert inference.limits(recipe.models["served"]) == settings
    local = inference.limits(recipe.models["smollm2-135m"])
    assert '"backend": "vllm"' in local
    run = Asked(recipe, asking("good #"), tmp_path)
    inference.answer(run.job)
    assert run.rows()["good #"]["engine_settings"] == settings
    # What is known of weights that only a server has: its name for them, and the revision.
    fingerprint = inference.fingerprint("served", Run(recipe, tmp_path))
    assert fingerprint == inference.fingerprint("served", Run(recipe_for(server), tmp_path))
    models = recipe.model_dump(mode="json")["models"]
    models["served"]["revision"] = "2"
    newer = changed_recipe({"models": models})
    assert fingerprint != inference.fingerprint("served", Run(newer, tmp_path))


def test_the_served_name_is_the_weights_unless_there_is_another(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = recipe_for(server).models["served"]
    assert served_name(model) == "mock"
    assert served_name(model.model_copy(update={"weights": "hf:owner/name"})) == "owner/name"
    monkeypatch.setenv("WEIGHTS", "hf:owner/other")
    assert served_name(model.model_copy(update={"weights": "env:WEIGHTS"})) == "owner/other"


@pytest.mark.parametrize(
    ("urls", "reason"),
    [
        (["http://user:secret@here/v1"], "a key goes to api_key"),
        (["http://here/v1?key=secret"], "a key goes to api_key"),
        (["http://here/v1", "http://here/v1/"], "twice"),
        (["here:8000/v1"], "does not begin with http"),
    ],
)
def test_urls_that_cannot_be_are_refused(urls: list[str], reason: str, server: Server) -> None:
    models = recipe_for(server).model_dump(mode="json")["models"]
    models["served"]["backend"]["openai"]["urls"] = urls
    with pytest.raises(RecipeError, match=reason):
        check_backends(changed_recipe({"models": models}))


def test_the_doctor_looks_at_endpoints_and_at_no_weights(
    server: Server, other: Server, tmp_path: Path
) -> None:
    warehouse = Warehouse(database=str(tmp_path / "alignment.duckdb"))

    def findings(*servers: Server, **settings: object) -> list[tuple[str, str]]:
        recipe = recipe_for(*servers, **settings)
        run = Run(recipe, tmp_path)
        resources = {
            "warehouse": warehouse,
            "inference": InferenceByModel(),
            "gpus": GpuPool(),
        }
        seen = examine(run, resources)
        return [(one.verdict, one.text) for one in seen if one.subject == "model served"]

    assert findings(server) == [("ok", f"{server.url} serves it, mock/1")]
    other.stop()
    there, gone = findings(server, other)
    assert (there[0], gone[0]) == ("ok", "warning")
    assert other.url in gone[1]
    assert [verdict for verdict, _ in findings(other)] == ["problem"]
    ((verdict, text),) = findings(server, name="another")
    assert verdict == "problem"
    assert "serves ['mock'] and not 'another'" in text
    ((verdict, text),) = findings(server, api_key="env:NO_SUCH_KEY")
    assert verdict == "problem"
    assert "NO_SUCH_KEY" in text


def test_a_template_that_leaves_system_messages_out_is_noticed_before_anything_is_asked(
    tmp_path: Path,
) -> None:
    told = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "good #told"}]
    plain = [{"role": "user", "content": "good #plain"}]
    requests = [Request(f"r{n}", "generate", "generate", m) for n, m in enumerate((told, plain))]
    for drops, ended in ((True, "rejected"), (False, "stop")):
        with Server(vllm=True) as server:
            server.drops_system = drops
            home = tmp_path / ended
            home.mkdir()
            rows = Asked(recipe_for(server), requests, home).answer().rows()
            by_id = {row["request_id"]: row for row in rows.values()}
            assert by_id["r0"]["finish_reason"] == ended
            assert by_id["r1"]["finish_reason"] == "stop"
            assert server.seen["good #told"] == (0 if drops else 1)
            if drops:
                assert "say system_prompt: prepend_to_user" in by_id["r0"]["error"]
