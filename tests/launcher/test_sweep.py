import pickle

import pytest

from tpdm.launcher.sweep import Sent, Sweep, folder_of, names_of

CFG = {"run_name": None, "runs": "runs", "seed": 0, "launcher": {"name": "slurm", "wait": True}}


def test_jobs_are_named_by_what_differs():
    jobs = [
        [f"model/block={block}", f"seed={seed}", "a=1"]
        for block in ("adaln", "in_context")
        for seed in (0, 1)
    ]
    names = names_of(jobs)
    assert [name for name, _ in names] == ["adaln_0", "adaln_1", "in_context_0", "in_context_1"]
    assert names[0][1] == {"model/block": "adaln", "seed": "0"}
    assert names_of([["seed=0"]]) == [("job", {})]


def test_names_are_plain_and_never_meet():
    values = ["[1,2]", "[1,2]]", "/a/b", "a_b", "x" * 300, "x" * 299 + "y"]
    names = [name for name, _ in names_of([[f"a={value}"] for value in values])]
    assert len(set(names)) == len(values)
    assert not any("/" in name or len(name) > 200 for name in names)


def test_the_same_command_finds_its_folder_however_it_is_launched():
    other = {**CFG, "launcher": {"name": "submitit_local"}}
    assert folder_of([CFG, CFG]) == folder_of([other, other])
    assert folder_of([CFG]) != folder_of([{**CFG, "seed": 1}])
    assert str(folder_of([{**CFG, "run_name": "mine"}])) == "runs/mine"
    with pytest.raises(ValueError, match="run_name="):
        folder_of([{**CFG, "run_name": "../mine"}])


def test_a_job_sent_again_is_known_by_its_new_id(tmp_path):
    sweep = Sweep(tmp_path)
    sweep.record(["train"], [Sent("a", {}, "1_0", 1, "slurm"), Sent("b", {}, "1_1", 1, "slurm")])
    sweep.record(["train"], [Sent("a", {}, "2", 1, "slurm")])
    assert {name: job.id for name, job in sweep.sent().items()} == {"a": "2", "b": "1_1"}
    with pytest.raises(ValueError, match="is no sweep"):
        Sweep.open(tmp_path / "elsewhere")


def test_a_rank_that_leaves_no_result_failed_and_its_log_is_told(tmp_path):
    sweep, job = Sweep(tmp_path), Sent("a", {}, "7", 3, "slurm")
    sweep.keep_result(job, None)
    sweep.result_path(job, 1).write_bytes(pickle.dumps(("error", "Traceback of rank 1")))
    sweep.log(job, 2).write_text("one\nlast words\n")
    told = [(failure.rank, failure.text) for failure in sweep.failures(job, "NODE_FAIL")]
    lost = "left no result (NODE_FAIL); its log ends with:\none\nlast words"
    assert told == [(1, "Traceback of rank 1"), (2, lost)]


def test_a_result_that_was_cut_short_is_a_failure_and_runs_nothing(tmp_path):
    sweep, job = Sweep(tmp_path), Sent("a", {}, "7", 1, "slurm")
    sweep.keep_result(job, None)
    path = sweep.result_path(job)
    for content in (path.read_bytes()[:8], b"", pickle.dumps(pytest.fail), pickle.dumps(None)):
        path.write_bytes(content)
        [failure] = sweep.failures(job, "COMPLETED")
        assert failure.text.startswith(f"{path} cannot be read (")
