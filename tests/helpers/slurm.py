"""A Slurm cluster of one node, started without systemd on loopback, for tests."""

import os
import platform
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])
# No accounting, no cgroups, no user slurm. After a requeue a job is held until its credential has expired.
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=20
NodeName={host} NodeAddr=127.0.0.1 CPUs=4
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def is_installed():
    """Whether a cluster can be started here: Debian's packages are, and this is root."""
    return os.getuid() == 0 and all(shutil.which(name, path=PATH) for name in DAEMONS)


class Cluster:
    """A running cluster; `stop` ends all of it.

    Attributes:
        folder: of all its files.
        environment: what its commands need.
    """

    def __init__(self, folder):
        self.folder, self.daemons = folder, []
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": PATH}
        for name in ("state", "spool"):
            (folder / name).mkdir()
        values = {"host": platform.node(), "folder": folder, "ports": free_ports(2)}
        (folder / "slurm.conf").write_text(CONF.format(**values))
        (folder / "key").write_bytes(secrets.token_bytes(128))
        (folder / "key").chmod(0o400)

    def start(self):
        key, files = self.folder / "key", {"socket": "socket", "pid-file": "pid", "log-file": "log"}
        munge = [f"--{option}={self.folder}/munge.{name}" for option, name in files.items()]
        seed = f"--seed-file={self.folder}/munge.seed"
        self._start("munged", "--foreground", "--force", f"--key-file={key}", seed, *munge)
        self._wait(lambda: (self.folder / "munge.socket").exists(), 10)
        self._start("slurmctld", "-D", "-c", "-f", self.folder / "slurm.conf")
        self._start("slurmd", "-D", "-c", "-f", self.folder / "slurm.conf")
        self._wait(lambda: "idle" in self.call("sinfo", "-h", "-o", "%T", check=False), 60)

    def stop(self):
        """Cancel all jobs, and end the daemons and what is left of the jobs."""
        self.call("scancel", "--full", "--signal=KILL", "--state=RUNNING", "--user=root", check=False)
        self.call("scancel", "--user=root", check=False)
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait(10)
        for process in processes_with(f"SLURM_CONF={self.folder}/"):  # slurmstepd and its tasks
            try:
                os.kill(process, 9)
            except ProcessLookupError:
                continue

    def call(self, *words, check=True, timeout=30, **environment):
        """What a command of Slurm prints."""
        try:
            done = subprocess.run(
                [str(word) for word in words],
                env=self.environment | environment,
                capture_output=True,
                text=True,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            if check:
                raise
            return ""
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def state(self, job):
        """The state of a job or of an array's task, as Slurm says it; empty once it is forgotten."""
        shown = self.call("scontrol", "-o", "show", "job", job, check=False)
        return shown.partition("JobState=")[2].partition(" ")[0]

    def wait(self, job, *states, seconds=120):
        """Wait until a job is in one of these states."""
        self._wait(lambda: self.state(job) in states, seconds, lambda: f"{job} is {self.state(job)}")

    def _start(self, name, *words):
        with open(self.folder / f"{name}.out", "ab") as out:
            command = [shutil.which(name, path=PATH), *map(str, words)]
            self.daemons.append(
                subprocess.Popen(
                    command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=self.environment
                )
            )

    def _wait(self, condition, seconds, explain=lambda: ""):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"timed out: {explain()}{self._logs()}"
            dead = [daemon.args[0] for daemon in self.daemons if daemon.poll() is not None]
            assert not dead, f"{dead} ended: {self._logs()}"
            time.sleep(0.2)

    def _logs(self):
        logs = [*self.folder.glob("*.log"), *self.folder.glob("*.out")]
        return "".join(f"\n{log.name}: " + "\n".join(log.read_text().splitlines()[-5:]) for log in logs)


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def processes_with(variable):
    """The processes in whose environment a variable starts so."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = file.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(one.startswith(variable.encode()) for one in variables):
            found.append(int(file.parent.name))
    return found
