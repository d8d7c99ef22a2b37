"""Fetching, against a server on this machine that answers as the Hugging Face hub does."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import python

CONTENT = b"date,OT\n" + b"2020-01-01 00:00:00,1.5\n" * 200
FETCH = """
import dataclasses, sys
from pathlib import Path
from bench.data import fetch
from bench.core.base import BenchError
from bench.core.card import cards
from models.llm_files import BACKBONES

sha256, into = sys.argv[1:]
card = cards()["ETTh1"].model_copy(update={"sha256": (sha256,)})
backbone = dataclasses.replace(BACKBONES["gpt2"], files={"vocab.json": sha256}, revision="a" * 40)
try:
    print(fetch.fetch_data(card))
    print(fetch.fetch_weights(backbone))
except BenchError as error:
    print("refused:", error)
"""


class Hub(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._answer(send=False)

    def do_GET(self) -> None:
        self._answer(send=True)

    def _answer(self, *, send: bool) -> None:
        known = ("/datasets/thuml/Time-Series-Library/resolve/main/ETT-small/ETTh1.csv",
                 f"/openai-community/gpt2/resolve/{'a' * 40}/vocab.json")  # fmt: skip
        found = self.path in known
        content = CONTENT if found else b"{}"
        self.send_response(200 if found or self.path == "/" else 404)
        self.send_header("ETag", '"' + hashlib.sha256(content).hexdigest() + '"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if send:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def fetch(endpoint: str, sha256: str, tmp_path: Path) -> list[str]:
    changes = {
        "BENCH_DATA": str(tmp_path / "data"),
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
    }
    done = python("-c", FETCH, sha256, tmp_path / "data", env=changes)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_file_is_fetched_verified_and_not_fetched_again(hub: str, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    path = tmp_path / "data" / "ETT-small" / "ETTh1.csv"
    assert fetch(hub, sha256, tmp_path) == [f"ETTh1: fetched and verified ({path})", "gpt2: fetched, verified"]
    assert path.read_bytes() == CONTENT
    assert fetch("http://127.0.0.1:9", sha256, tmp_path) == [
        f"ETTh1: here, verified ({path})",
        "gpt2: here, verified",
    ]


def test_a_fetched_file_with_another_hash_is_refused_and_not_left_behind(hub: str, tmp_path: Path) -> None:
    (line,) = fetch(hub, "0" * 64, tmp_path)
    path = tmp_path / "data" / "ETT-small" / "ETTh1.csv"
    assert line.startswith(
        f"refused: ETTh1: {path} has SHA-256 {hashlib.sha256(CONTENT).hexdigest()[:8]}, its card says 0000"
    )
    assert not path.exists()


def test_a_hub_that_does_not_answer_is_named_with_what_to_do_instead(tmp_path: Path) -> None:
    (line,) = fetch("http://127.0.0.1:9", "0" * 64, tmp_path)
    assert line.startswith("refused: ETTh1: could not reach thuml/Time-Series-Library at http://127.0.0.1:9")
    assert str(tmp_path / "data" / "ETT-small" / "ETTh1.csv") in line
