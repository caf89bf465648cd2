import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from helpers.sweeps import Sweeps


@pytest.fixture
def sweeps(tmp_path):
    """Sweeps in a folder of their own; what still runs at the end is ended."""
    made = Sweeps(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.wait()


@pytest.fixture
def postgres():
    """The URL of an empty PostgreSQL database, on a server of its own that ends with the test."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb", path=os.pathsep.join(map(str, [*binaries, os.environ["PATH"]])))
    if found is None:
        pytest.skip("no PostgreSQL server here (Debian: apt install postgresql)")
    pytest.importorskip("psycopg")
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # pytest's own folders are closed to other users
    user = []
    if os.getuid() == 0:  # the server refuses to be root
        shutil.chown(folder, "nobody")
        user = ["setpriv", "--reuid=nobody", "--clear-groups"]
    data, tool = folder / "data", Path(found).parent

    def call(name, *words):
        subprocess.run([*user, tool / name, *words], check=True, capture_output=True, cwd=folder)

    call("initdb", "-D", data, "-U", "sweep", "-A", "trust")
    # Only a socket in its folder, so that no port is taken.
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    call("pg_ctl", "-D", data, "-l", folder / "log", "-o", options, "-w", "start")
    yield f"postgresql+psycopg://sweep@/postgres?host={folder}"
    call("pg_ctl", "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(folder)
