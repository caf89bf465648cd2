"""Fixtures of the sweep tests."""

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.sweeps import Sweeps


@pytest.fixture
def sweeps(tmp_path):
    """Sweeps in a temporary folder; kills those that still run at the end."""
    sweeps = Sweeps(tmp_path)
    yield sweeps
    for process in sweeps.started:
        process.kill()
        process.wait()


@pytest.fixture
def postgres(postgres_server):
    """The URL of an empty database on a PostgreSQL server that runs for this test only."""
    return postgres_server.url


@pytest.fixture
def postgres_server():
    """A PostgreSQL server that runs for this test only: the URL of a database, `start` and `stop`."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb", path=os.pathsep.join(map(str, [*binaries, os.environ["PATH"]])))
    if found is None:
        pytest.skip("no PostgreSQL server here (Debian: apt install postgresql)")
    pytest.importorskip("psycopg")
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # other users can't enter pytest's folders
    user = []
    if os.getuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, "nobody")
        user = ["setpriv", "--reuid=nobody", "--clear-groups"]
    data, tool = folder / "data", Path(found).parent

    def call(name, *arguments):
        subprocess.run([*user, tool / name, *arguments], check=True, capture_output=True, cwd=folder)

    call("initdb", "-D", data, "-U", "sweep", "-A", "trust")
    # It listens on a socket in its folder, not on a port.
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    start = functools.partial(call, "pg_ctl", "-D", data, "-l", folder / "log", "-o", options, "-w", "start")
    stop = functools.partial(call, "pg_ctl", "-D", data, "-m", "immediate", "stop")
    start()
    yield SimpleNamespace(url=f"postgresql+psycopg://sweep@/postgres?host={folder}", start=start, stop=stop)
    stop()
    shutil.rmtree(folder)
