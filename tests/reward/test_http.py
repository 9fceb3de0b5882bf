"""A scorer behind a URL: what is sent, what is tried again, what is given up."""

import base64
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from tpdm.registry import build


class Server(HTTPServer):
    """Answers every request with the next of `answers`, (status, body); remembers what it was sent."""

    def __init__(self, answers):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.seen = list(answers), []
        self.url = f"http://127.0.0.1:{self.server_port}/score"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        server.seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        status, body = server.answers.pop(0)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode() if not isinstance(body, bytes) else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def serve():
    servers = []

    def serve(*answers):
        server = Server(answers)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def reward_of(url, retries=2, batch_size=2, timeout=5.0):
    choices = {"url": url, "batch_size": batch_size, "timeout": timeout, "retries": retries, "wait": 0.0}
    return build("reward", {"name": "http", "cost": {"name": "linear", "cost": 0.0}, **choices})


def test_images_and_prompts_go_out_in_batches_and_scores_come_back_in_order(serve):
    server = serve((200, {"scores": [1, 2.5]}), (200, {"scores": [None]}))
    images = torch.rand(3, 3, 4, 5) * 2 - 1
    scores = reward_of(server.url)(images, None, None, ["a", "b", "c"])
    assert scores[:2].tolist() == [1.0, 2.5]
    assert scores[2].isnan()
    assert [sent["prompts"] for sent in server.seen] == [["a", "b"], ["c"]]
    picture = Image.open(BytesIO(base64.b64decode(server.seen[1]["images"][0])))
    level = ((images[2] + 1) * 127.5).round().permute(1, 2, 0)
    torch.testing.assert_close(torch.from_numpy(np.asarray(picture).copy()).float(), level)


def test_what_may_pass_is_tried_again(serve):
    server = serve((503, {}), (429, {}), (200, {"scores": [4]}))
    assert reward_of(server.url)(torch.zeros(1, 1, 2, 2), None, None).item() == 4
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("answers", "message", "calls"),
    [
        ([(503, {})] * 3, "did not answer in 3 tries of 5 s: .*503", 3),
        ([(404, {})], "did not answer in 1 tries of 5 s: .*404", 1),
        ([(200, {"score": 1})], r'expected \{"scores"', 1),
        ([(200, b"<html>")], r"answered b'<html>'", 1),
        ([(200, b"[" * 100_000)], r"answered b'\[\[", 1),
        ([(200, {"scores": [1, 2]})], "answered 2 scores for 1 images", 1),
    ],
)
def test_what_cannot_pass_is_given_up_with_a_reason(serve, answers, message, calls):
    server = serve(*answers)
    with pytest.raises(ConnectionError, match=message):
        reward_of(server.url)(torch.zeros(1, 1, 2, 2), None, None)
    assert len(server.seen) == calls


def test_nobody_there_is_said_with_the_address():
    with pytest.raises(
        ConnectionError, match=r"reward\.url=http://127\.0\.0\.1:1/ did not answer in 2 tries"
    ):
        reward_of("http://127.0.0.1:1/", retries=1)(torch.zeros(1, 1, 2, 2), None, None)


def test_a_scorer_that_hangs_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the call and never says a word
        port = silent.getsockname()[1]
        scorer = reward_of(f"http://127.0.0.1:{port}/", retries=1, timeout=0.05)
        with pytest.raises(ConnectionError, match=r"did not answer in 2 tries of 0\.05 s: .*timed out"):
            scorer(torch.zeros(1, 1, 2, 2), None, None)


def test_what_is_no_address_is_refused():
    with pytest.raises(ValueError, match=r"reward\.url=localhost is no address"):
        reward_of("localhost")
