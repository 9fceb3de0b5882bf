import sys

from tpdm.runtime.source import source_sha256


def test_it_follows_imports_of_its_own_package_and_nothing_else(tmp_path, monkeypatch):
    package = tmp_path / "housed"
    package.mkdir()
    files = {
        "__init__": "",
        "a": "import os\nfrom housed.b import x",
        "b": "from housed import c",
        "c": "",
        "d": "",
    }
    for name, text in files.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    before = source_sha256(["housed.a"])
    (package / "d.py").write_text("other = 1")
    assert source_sha256(["housed.a"]) == before
    for name in "abc":
        (package / f"{name}.py").write_text(files[name] + "\n# edited")
        assert source_sha256(["housed.a"]) != before
        (package / f"{name}.py").write_text(files[name])
    assert source_sha256(["housed.a"]) == before
    sys.modules.pop("housed", None)


def test_a_predictor_does_not_decide_a_denoiser():
    whole = source_sha256(["tpdm.model.dit"])
    assert whole != source_sha256(["tpdm.model.dit", "tpdm.predictor.vit"])
    assert whole == source_sha256(["tpdm.model.dit", "tpdm.nn.attention"])
