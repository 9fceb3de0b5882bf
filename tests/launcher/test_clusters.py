import os
import shlex
import signal
import subprocess

from tpdm.launcher.clusters import python

SAY = "import signal, sys, os; print(signal.getsignal(signal.SIGUSR2), *sys.path[:3], *sys.argv[1:])"


def test_a_job_imports_from_the_snapshot_and_not_from_where_it_stands(tmp_path):
    """And is not ended by a signal that comes before it can answer."""
    line = [*shlex.split(python(tmp_path / "co de")), "-c", SAY, "an argument"]
    env = {**os.environ, "PYTHONPATH": "/plugins"}
    out = subprocess.run(line, env=env, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert out.strip() == f"{signal.SIG_IGN!s} {tmp_path / 'co de'} /plugins {out.split()[-3]} an argument"
    assert str(tmp_path) != out.split()[-3]
