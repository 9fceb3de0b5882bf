"""Published files: found in a folder, or the error says what to fetch and where to put it."""

import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread, Timer

import pytest

from tpdm.runtime import hub
from tpdm.runtime.hub import published


def test_a_folder_that_has_every_file_is_taken(tmp_path):
    (tmp_path / "config.json").touch()
    (tmp_path / "model-00001.safetensors").touch()
    assert published(str(tmp_path), ["config.json", "*.safetensors"], "model.path") == tmp_path


def test_a_missing_file_is_named_with_what_was_expected(tmp_path):
    (tmp_path / "config.json").touch()
    with pytest.raises(ValueError, match=r"model\.path=.* has no \*\.safetensors; expected there: config"):
        published(str(tmp_path), ["config.json", "*.safetensors"], "model.path")


@pytest.mark.parametrize("where", ["nowhere", "/no/where", "./a/b", "a b/c"])
def test_what_is_neither_folder_nor_id_is_refused(where):
    with pytest.raises(ValueError, match=r"model\.path=.* is no folder here, and no id of the hub"):
        published(where, ["config.json"], "model.path")


def test_without_a_network_the_error_says_what_to_download_and_where_to_put_it(tmp_path, monkeypatch):
    """The hub's address here refuses connections, as a network that is down does."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    told = r"model\.path=some/model .*hf download some/model --local-dir FOLDER.* set model\.path=FOLDER"
    with pytest.raises(ValueError, match=told):
        published("some/model", ["config.json"], "model.path")


def test_a_licence_to_be_accepted_is_told(tmp_path, monkeypatch):
    """As the hub answers who has not: gated, with its own header."""
    from huggingface_hub import constants

    class Gated(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(403)
            self.send_header("X-Error-Code", "GatedRepo")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Gated) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        told = r"model\.path=some/model .*403.*after its licence is accepted.*hf download some/model"
        with pytest.raises(ValueError, match=told):
            published("some/model", ["config.json"], "model.path")
        server.shutdown()


def test_a_hub_that_never_answers_is_given_up(tmp_path, monkeypatch):
    """Were it not, the connection that breaks later would be another error."""
    from huggingface_hub import constants

    listener = socket.create_server(("127.0.0.1", 0))
    breaks = Timer(10, listener.close)
    breaks.start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "SECONDS", 0.1)
    with pytest.raises(ValueError, match=r"model\.path=some/model .*timed out.*hf download some/model"):
        published("some/model", ["config.json"], "model.path")
    breaks.cancel()
    listener.close()
