"""What engines on CPUs are given of a machine's cores."""

from __future__ import annotations

import os

import pytest

from alignment_assets.inference.backends.vllm import backend
from alignment_assets.inference.backends.vllm.backend import core_shares


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "cores", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)


def test_one_engine_has_all_cores_and_its_threads_sleep() -> None:
    assert core_shares(1) == [{"OMP_NUM_THREADS": "8", "OMP_WAIT_POLICY": "passive"}]


def test_engines_side_by_side_share_them() -> None:
    shares = core_shares(3)
    assert [share["OMP_NUM_THREADS"] for share in shares] == ["2", "2", "2"]
    bound = [share["VLLM_CPU_OMP_THREADS_BIND"].split(",") for share in shares]
    assert sorted(core for part in bound for core in part) == list("01234567")


def test_more_engines_than_cores_have_a_thread_each() -> None:
    assert {share["OMP_NUM_THREADS"] for share in core_shares(9)} == {"1"}


def test_the_environment_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert core_shares(1) == [{"OMP_NUM_THREADS": "5", "OMP_WAIT_POLICY": "active"}]
