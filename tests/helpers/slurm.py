"""A Slurm of one node, started without systemd and without privileges beyond this machine."""

import os
import platform
import secrets
import shutil
import subprocess
import time
from pathlib import Path

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
SchedulerType=sched/builtin
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
JobRequeue=1
KillWait=30
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=60 State=UP
"""
SERVERS = ("munged", "slurmctld", "slurmd")


def is_installed():
    """Whether Slurm is here (Debian: slurmctld slurmd slurm-client munge)."""
    return os.getuid() == 0 and all(shutil.which(name, path=PATH) for name in (*SERVERS, "sbatch"))


PATH = os.environ["PATH"] + ":/usr/sbin"


class Slurm:
    """A running Slurm: `environment` makes srun, sbatch and submitit use it."""

    def __init__(self, folder):
        self.folder = Path(folder)
        host = platform.node().partition(".")[0]
        port = 20000 + secrets.randbelow(20000)
        text = CONFIG.format(folder=folder, host=host, port=port, node_port=port + 1)
        (self.folder / "slurm.conf").write_text(text)
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        self.environment = {**os.environ, "PATH": PATH, "SLURM_CONF": str(self.folder / "slurm.conf")}
        self._servers = [
            self._start(
                *("munged", "--foreground", "--force", f"--key-file={key}"),
                *(f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge.pid"),
                *(f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"),
            )
        ]
        self._wait((self.folder / "munge.socket").exists)
        self._servers.append(self._start("slurmctld", "-D", "-c"))
        self._wait(lambda: self.call("scontrol", "ping", check=False).returncode == 0)
        self._servers.append(self._start("slurmd", "-D", "-c", "-N", host))
        self._wait(lambda: "idle" in self.call("sinfo", "-h", "-o", "%T", check=False).stdout)

    def call(self, *words, check=True, **settings):
        """Run one of Slurm's commands."""
        return subprocess.run(
            words, env=self.environment, capture_output=True, text=True, check=check, timeout=60, **settings
        )

    def state(self, job):
        """A job's state, such as RUNNING."""
        return (
            self.call("scontrol", "show", "job", str(job), check=False)
            .stdout.partition("JobState=")[2]
            .split()[0]
        )

    def wait(self, job, *states, seconds=120):
        """Wait until a job is in one of these states."""
        self._wait(lambda: self.state(job) in states, seconds)

    def stop(self):
        """End the jobs and the servers."""
        self.call("scancel", "--user=root", "--signal=KILL", check=False)
        for server in reversed(self._servers):
            server.terminate()
            server.wait(timeout=30)

    def _start(self, *words):
        log = open(self.folder / f"{words[0]}.out", "w")  # noqa: SIM115 (the server's, to its end)
        return subprocess.Popen(words, env=self.environment, stdout=log, stderr=log)

    def _wait(self, condition, seconds=30):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "Slurm did not get there"
            time.sleep(0.05)
