"""A Slurm of two nodes on this machine, with a partition whose jobs are preempted by another's."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scontrol", "squeue")
_CONF = """\
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={controller}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
SlurmctldTimeout=300
SlurmdTimeout=300
SchedulerParameters=sched_interval=1,bf_interval=1
NodeName=node1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={first} CPUs=1 State=UNKNOWN
NodeName=node2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={second} CPUs=1 State=UNKNOWN
PartitionName=low Nodes=node1,node2 Default=YES State=UP PriorityTier=1 GraceTime=120
PartitionName=high Nodes=node1,node2 State=UP PriorityTier=10 PreemptMode=OFF
"""


def missing_programs() -> list[str]:
    """What of Slurm is not installed, or why it cannot run here."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    missing = [name for name in _PROGRAMS if shutil.which(name, path=path) is None]
    return missing or ([] if os.geteuid() == 0 else ["the rights of root"])


class Slurm:
    """A running cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{os.environ['PATH']}:/usr/sbin",
        }

    def ask(self, *command: str) -> str:
        """Run a command of Slurm's; return what it prints."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def state(self, job: str) -> str:
        """Return the state of a job, such as RUNNING, and how often it was started again."""
        told = self.ask("scontrol", "show", "job", job)
        fields = dict(field.split("=", 1) for field in told.split() if "=" in field)
        return f"{fields['JobState']} {fields['Restarts']}"

    def wait(self, job: str, *states: str, timeout_s: float = 600.0) -> str:
        """Wait until a job is in one of `states`; return that."""
        deadline = time.monotonic() + timeout_s
        while (state := self.state(job)) not in states:
            if time.monotonic() > deadline:
                raise TimeoutError(f"job {job} is {state}, not {' or '.join(states)}")
            time.sleep(0.2)
        return state


@contextmanager
def slurm(folder: Path) -> Iterator[Slurm]:
    """Start the daemons, which keep all they write in `folder`; end them."""
    folder.chmod(0o755)
    ports = dict(zip(("controller", "first", "second"), _free_ports(3), strict=True))
    (folder / "slurm.conf").write_text(_CONF.format(folder=folder, **ports))
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(64))
    key.chmod(0o600)
    cluster = Slurm(folder)
    munged = ("munged", "--foreground", "--force", f"--key-file={key}")
    files = (f"--{name}={folder}/munge.{name}" for name in ("socket", "pid-file", "log-file"))
    with ExitStack() as stack:
        for name, command in (
            ("munged", (*munged, *files, f"--seed-file={folder}/munge.seed")),
            ("slurmctld", ("slurmctld", "-D")),
            ("node1", ("slurmd", "-D", "-N", "node1")),
            ("node2", ("slurmd", "-D", "-N", "node2")),
        ):
            log = stack.enter_context((folder / f"{name}.out").open("wb"))
            process = subprocess.Popen(command, env=cluster.environment, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            time.sleep(1)
        deadline = time.monotonic() + 60
        while "idle" not in cluster.ask("sinfo", "-h", "-p", "low", "-o", "%T %D"):
            assert time.monotonic() < deadline, (folder / "slurmctld.log").read_text()[-3000:]
            time.sleep(0.5)
        yield cluster


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
