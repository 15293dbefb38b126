"""Two machines on this one: network namespaces with names, addresses and a cable between them.

They share the file system, as the nodes of a cluster do. Each one sees one core, so that a rank
takes as many threads as one of two ranks on two cores.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.cluster_runs import ROOT, environment

_PROGRAMS = ("ip", "unshare", "mount", "taskset")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
HOSTS = ("node0", "node1")
_HOSTS_FILE = "".join(f"{a} {h}\n" for a, h in zip(ADDRESSES, HOSTS, strict=True))
_ENTER = 'mount --bind "$1" /etc/hosts; hostname "$2"; shift 2; exec "$@"'


def why_not() -> str:
    """Why there can be no namespaces here; empty if there can."""
    if os.geteuid() != 0:
        return "needs the rights of root"
    if missing := [name for name in _PROGRAMS if shutil.which(name) is None]:
        return f"needs {', '.join(missing)} of iproute2 and util-linux"
    probe = f"probe-{os.getpid()}"
    made = subprocess.run(("ip", "netns", "add", probe), capture_output=True, check=False)
    if made.returncode != 0:
        return f"no network namespaces here: {made.stderr.decode().strip()}"
    subprocess.run(("ip", "netns", "delete", probe), check=True)
    return ""


class Node:
    """One of the machines."""

    def __init__(self, namespace: str, number: int, hosts: Path) -> None:
        self.number, self.address, self.host = number, ADDRESSES[number], HOSTS[number]
        self._enter = (
            *("ip", "netns", "exec", namespace, "taskset", "--cpu-list", str(number)),
            *("unshare", "--mount", "--uts", "sh", "-ec", _ENTER, "sh", str(hosts), self.host),
        )

    def start(
        self, command: Sequence[str], log: Path, **variables: str
    ) -> "subprocess.Popen[bytes]":
        """Run a command there, in a process group of its own, with its output added to `log`."""
        with log.open("a") as output:
            return subprocess.Popen(
                (*self._enter, *command),
                cwd=ROOT,
                env={**environment(), **variables},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )


@contextmanager
def two_nodes(folder: Path) -> Iterator[tuple[Node, Node]]:
    """Make two machines that know each other by name, with a network of their own; remove them."""
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{_HOSTS_FILE}")
    names = [f"{host}-{os.getpid()}" for host in HOSTS]
    cable = [f"cable{number}-{os.getpid()}"[:15] for number in range(2)]
    with ExitStack() as stack:
        for name in names:
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "delete", name)
        _ip("link", "add", cable[0], "type", "veth", "peer", "name", cable[1])
        for name, end, address in zip(names, cable, ADDRESSES, strict=True):
            _ip("link", "set", end, "netns", name)
            _ip("-n", name, "address", "add", f"{address}/24", "dev", end)
            for device in ("lo", end):
                _ip("-n", name, "link", "set", device, "up")
        yield Node(names[0], 0, hosts), Node(names[1], 1, hosts)


def _ip(*arguments: str) -> None:
    subprocess.run(("ip", *arguments), check=True)
