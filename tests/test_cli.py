"""Commands from their command line: what they say, what they leave behind, how they end."""

import errno
import os
import re
import subprocess
import sys
import zipfile

import pytest

from tpdm import report
from tpdm.cli import config_dir, entry, quoted
from tpdm.evaluate import Settings as EvaluateSettings
from tpdm.sample import Settings as SampleSettings
from tpdm.train import Settings

ROOT = config_dir().parent


@pytest.fixture
def command(monkeypatch, tmp_path, capfd):
    """command(argv, body) -> (exit status, stdout, stderr); its folder must stay empty."""
    monkeypatch.chdir(tmp_path)

    def run(argv, body=lambda cfg: None, config="train", schema=Settings, first=None):
        monkeypatch.setattr(sys, "argv", [config, *argv])
        try:
            entry(config, schema, first)(body)()
            status = 0
        except SystemExit as end:
            status = end.code
        assert list(tmp_path.iterdir()) == []
        return status, *capfd.readouterr()

    return run


def test_the_body_gets_plain_values(command):
    seen = []
    assert command(["seed=3", "model=dit_s2"], seen.append)[0] == 0
    assert (type(seen[0]), type(seen[0]["model"])) == (dict, dict)
    assert (seen[0]["seed"], seen[0]["model"]["width"]) == (3, 384)


@pytest.mark.parametrize("path", ["/d/{00000..00127}.tar", "/d/{a,b}.tar", "{0..3}.tar", "/d/[0-9]*.tar"])
def test_a_path_pattern_needs_no_quotes_beyond_those_of_the_shell(command, path):
    seen = []
    assert command(["data=webdataset", f"data.path={path}"], seen.append)[0] == 0
    assert seen[0]["data"]["path"] == path


def test_path_patterns_can_be_swept(command):
    seen = []
    sweep = ["-m", "dry_run=true", "data=webdataset", "data.path=/d/{0,1}.tar,/e/[0-9].tar,f"]
    status, *_ = command(sweep, seen.append)
    assert (status, [cfg["data"]["path"] for cfg in seen]) == (0, ["/d/{0,1}.tar", "/e/[0-9].tar", "f"])


@pytest.mark.parametrize(
    "word", ["a=[1,2]", "a={b:1}", "a='/d/{0..1}'", "a=${b}/[0-9]", "a=choice([1],[2])", "a=/d/{0", "a", "a="]
)
def test_what_hydra_reads_is_left_to_it(word):
    assert quoted(word) == word


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["model=dti"], "model=dti is not known; did you mean dit?; accepted: diffit, diffit_unet"),
        (["model/block=adaln_zer"], "model/block=adaln_zer is not known; did you mean adaln_zero?"),
        (["modle=dit"], "modle is no key; did you mean model?"),
        (["trainer.max_step=3"], "trainer.max_step is no key; did you mean trainer.max_steps?"),
        (["+trainer.max_step=3"], "trainer.max_step is no key of trainer=denoiser; did you mean trainer.max"),
        (["trainer.max_steps.x=3"], "trainer.max_steps.x is no key"),
        (["trainer.max_steps=many"], "trainer.max_steps='many' (str) is not accepted; accepted: int > 0"),
        (["trainer.max_steps=0"], "trainer.max_steps=0 (int) is not accepted; accepted: int > 0"),
        (["predictor_optimizer.lr=-1"], "predictor_optimizer.lr=-1 (int) is not accepted; accepted: float"),
        (["seed=-1"], "seed=-1 (int) is not accepted; accepted: int >= 0"),
        (["device=gpu"], "device='gpu' (str) is not accepted; did you mean cpu?; accepted: auto, cpu, cuda"),
        (["evaluation=null"], "evaluation=null is not known; accepted: auto, digits, images, none"),
        (["model=tld_small", "model/block=adaln"], "model/block=adaln is part of no model that is chosen"),
        (["seed=1,2"], "Ambiguous value for argument 'seed=1,2'"),
        (["launcher=slurm", "seed=1,2", "modle=dit"], "modle is no key; did you mean model?"),
        (["seed"], "'seed' is no setting; write key=value"),
        (["seed=[1"], "'seed=[1' is no setting"),
        (["runs='"], "\"runs='\" is no setting"),
        (["model=3"], "Config group override must be a string or a list. Got int; given: model=3"),
        (["runs=${nothing}"], "runs: Interpolation key 'nothing' not found"),
        (["model=mixture", "data=digits"], "model.easy_std reads data.easy_std, which data=digits has not"),
        (["runs=???"], "runs is missing; give it as runs=VALUE"),
        (["~seed"], "seed is missing; this command needs"),
        (["-cn", "trian"], "--config-name trian is not known; did you mean train?"),
        (["-cd", "nowhere"], "Additional config directory"),
        (["--steps", "3"], "unrecognized arguments: --steps"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_status_2(command, argv, line):
    status, out, err = command(argv)
    assert (status, out) == (2, "")
    assert err.startswith(f"tpdm: error: {line}")
    assert err.count("\n") == 1


def test_a_part_of_what_is_not_chosen_and_a_prompt_as_it_was_typed(command):
    def told(*argv):
        return command(["checkpoint=a.pt", "prompt=a, [b", *argv], config="sample", schema=SampleSettings)[2]

    assert told("codec/text=clip").startswith("tpdm: error: codec/text=clip is part of no codec that is")
    assert told("codec=3").endswith("given: checkpoint=a.pt prompt=a, [b codec=3\n")


def test_a_preset_of_another_command_names_those_of_this_one(command):
    told = command(["run=x", "suite=sd3"], config="evaluate", schema=EvaluateSettings)[2]
    line = "suite=sd3 overrides scheduler, which this command has not; accepted: arena, data, rollout\n"
    assert told == f"tpdm: error: {line}"


def test_no_steps_is_a_mistake(command):
    status, _, err = command(["run=x", "steps=0"], config="sample", schema=SampleSettings)
    assert (status, err) == (2, "tpdm: error: steps=0 (int) is not accepted; accepted: int > 0 or null\n")


def raising(error):
    def body(cfg):
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ValueError("run=x is\n no run"), 2, "run=x is no run"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), 2, "[Errno 2] No such file: 'x'"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 2, "[Errno 13] Permission denied: 'x'"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 2, "[Errno 28] No space left on device: 'x'"),
        (OSError(errno.EIO, "Input/output error"), 1, "OSError: [Errno 5] Input/output error"),
        (FloatingPointError("loss is nan at step 3"), 1, "FloatingPointError: loss is nan at step 3"),
        (RuntimeError("a\nb"), 1, "RuntimeError: a b"),
        (AssertionError(), 1, "AssertionError"),
    ],
)  # fmt: skip
def test_a_failure_is_one_line_and_a_status_that_tells_whose(command, error, status, line):
    assert command([], raising(error)) == (status, "", f"tpdm: error: {line}\n")


def test_debug_shows_the_traceback(command):
    status, _, err = command(["debug=true"], raising(RuntimeError("deep")))
    assert status == 1
    assert "Traceback (most recent call last)" in err
    assert err.endswith("tpdm: error: RuntimeError: deep\n")


def test_debug_shows_where_composing_failed(command):
    status, _, err = command(["debug=true", "model=dti"])
    assert status == 2
    assert "Traceback (most recent call last)" in err


def test_an_interrupt_ends_with_130_and_adds_nothing(command):
    assert command([], raising(KeyboardInterrupt())) == (130, "", "")


def test_jobs_of_a_sweep_have_their_own_runs_and_outlive_each_other(command, tmp_path_factory):
    """They share denoisers, are reported, and the same command again runs what is missing."""
    runs, seen = tmp_path_factory.mktemp("runs"), []

    def body(cfg):
        seen.append((cfg["seed"], cfg["runs"], cfg["run_name"], cfg["denoisers"]))
        if cfg["seed"] == 0:
            raise FloatingPointError("loss is nan")
        summary = runs / "a" / cfg["run_name"] / "summary.json"
        summary.parent.mkdir()
        summary.write_text('{"seconds": {}, "commit": null}')

    sweep = ["-m", "seed=0,1", "run_name=a", f"runs={runs}"]
    status, _, err = command(sweep, body)
    folder = f"{runs}/a"
    assert (status, seen) == (1, [(k, folder, str(k), f"{folder}/denoisers") for k in (0, 1)])
    assert err == "tpdm: error: FloatingPointError: loss is nan\n"
    _, out, _ = command([folder], main_of(report), "report", report.Settings, "sweep")
    assert re.search(r"^failed .* 0: FloatingPointError: loss is nan$", out, re.MULTILINE), out
    assert "1 done, 0 running, 0 queued, 1 failed" in out

    seen.clear()
    status, out, _ = command(sweep, body)
    assert (status, [seed for seed, *_ in seen]) == (1, [0])
    assert f"sweep: {folder}, 2 jobs: 1 done, 1 to run" in out


def main_of(entry):
    return entry.main.__wrapped__


def test_an_experiment_is_a_primary_config_beside_the_groups(command, tmp_path):
    folder = tmp_path.parent / f"{tmp_path.name}_experiments"
    folder.mkdir()
    (folder / "claim.yaml").write_text("defaults: [train, _self_]\nseed: 7\n")
    seen = []
    assert command(["-cd", str(folder), "-cn", "claim", "model=dit_s2"], seen.append)[0] == 0
    assert (seen[0]["seed"], seen[0]["model"]["width"]) == (7, 384)


def test_help_and_config_come_without_torch(tmp_path):
    script = (
        "import sys, tpdm.train as train\n"
        "for flags in (['--help'], ['--cfg', 'job', 'model=dit_s2']):\n"
        "    sys.argv = ['train', *flags]\n"
        "    train.main()\n"
        "print({'torch', 'diffusers', 'sklearn', 'numpy'} & set(sys.modules))\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "model/block: adaln, adaln_zero, cross_attention, in_context" in out.stdout
    assert "width: 384" in out.stdout
    assert out.stdout.endswith("set()\n")
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_group_and_shows_examples(command):
    _, out, _ = command(["--help"], sys.modules["tpdm.train"].main.__wrapped__)
    groups = {file.parent.relative_to(config_dir()).as_posix() for file in config_dir().glob("*/**/*.yaml")}
    of_others = {"suite", "arena", "search"}  # suites, and what they are made of, are other commands' choices
    for group in groups - {"hydra"} - of_others:
        assert f"\n  {group}: " in out
    assert out.count("\n  python -m tpdm.train ") >= 5  # tests/test_docs.py composes each


def test_the_wheel_carries_the_configs(tmp_path, monkeypatch):
    build = pytest.importorskip("hatchling.build")
    monkeypatch.chdir(ROOT)
    wheel = build.build_wheel(str(tmp_path))
    zipfile.ZipFile(tmp_path / wheel).extractall(tmp_path / "site")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    script = "import tpdm.cli, tpdm.train; print(tpdm.cli.config_dir()); tpdm.train.main()"
    out = subprocess.run(
        [sys.executable, "-c", script, "--cfg", "job", "model=dit_s2"],
        cwd=elsewhere, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert out.stdout.startswith(f"{tmp_path / 'site' / 'tpdm' / 'conf'}\n")
    assert "width: 384" in out.stdout


def test_a_mistake_in_a_process_of_its_own(tmp_path):
    out = subprocess.run(
        [sys.executable, "-m", "tpdm.train", "data.rows=0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (out.returncode, out.stdout) == (2, "")
    assert out.stderr == "tpdm: error: data.rows=0 (int) is not accepted; accepted: int > 0\n"
    assert list(tmp_path.iterdir()) == []
