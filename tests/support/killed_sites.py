"""A server and sites as processes that are killed at chosen moments; all are forks of one that has loaded everything.

Run as ``python -m support.killed_sites``: a line of JSON for each run comes in, and one with the exit code goes out.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from secfpp.data.federated import FederatedDataset
from secfpp.data.folders import FolderSettings, load_folder
from secfpp.deploy import children
from secfpp.deploy.agreed import Agreed
from secfpp.deploy.child import Child, serve
from secfpp.deploy.results import write_results
from secfpp.deploy.server_process import run_at_sites
from secfpp.deploy.site_folder import SiteFolder
from secfpp.deploy.site_process import PATIENCE, OpenSite
from secfpp.models.backbone import Backbone, load_backbone

WARM: dict[str, tuple[FederatedDataset, Backbone, Agreed]] = {}


def open_warm(folder: Path) -> OpenSite:
    """A site with images and model that are in memory already."""
    site = SiteFolder(folder)
    site.know(*WARM["all"][:2], WARM["all"][2])
    return OpenSite(site, PATIENCE)


class Nursery:
    """Forks processes of sites from one that has no threads and none of the server's sockets."""

    def __init__(self) -> None:
        self._here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            self._here.close()
            self._fork_as_told(there)
            os._exit(0)
        there.close()

    def site(self, folder: Path, channel: socket.socket) -> int:
        """The number of a new process that answers on `channel`."""
        socket.send_fds(self._here, [os.fsencode(folder)], [channel.fileno()])
        return int(self._here.recv(64))

    @staticmethod
    def _fork_as_told(orders: socket.socket) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            name, (*descriptors,), *_ = socket.recv_fds(orders, 4096, 1)
            if not name:
                return
            pid = os.fork()
            with socket.socket(fileno=descriptors[0]) as channel:
                if pid == 0:
                    orders.close()
                    try:
                        serve(f"{__name__}:open_warm", Path(os.fsdecode(name)), channel)
                    finally:
                        os._exit(0)
            with suppress(OSError):  # the server has ended
                orders.send(str(pid).encode())


class WarmChild(Child):
    """A `Child` whose process is a fork."""

    nursery: Nursery

    def __init__(self, opener: str, folder: Path) -> None:
        self._socket, other = socket.socketpair()
        self._turn = threading.Lock()
        with other:
            self._pid = self.nursery.site(folder, other)

    @property
    def pid(self) -> int:
        return self._pid

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Deadly(children.ChildrenTransport):
    """Kills this process, or a site's, some time after an exchange began.

    Args:
        folders: site to its folder.
        kill: ``exchange``, the number of it from 1; ``delay`` in seconds; ``site``, whose process is killed, and
            ``back``, seconds until it is started again; without a site this process is killed.
    """

    def __init__(self, folders: Mapping[str, Path], kill: Mapping[str, Any] | None) -> None:
        super().__init__(folders)
        self.count, self._kill, self._ends = 0, kill, threading.Event()

    def exchange(self, messages: Mapping[str, bytes], deadline: float) -> Mapping[str, bytes]:
        self.count += 1
        if self._kill and self.count == self._kill["exchange"]:
            threading.Thread(target=self._strike, args=(self._kill,), daemon=True).start()
        return super().exchange(messages, deadline)

    def _strike(self, kill: Mapping[str, Any]) -> None:
        time.sleep(kill["delay"])
        site = kill.get("site")
        os.kill(self.children[site].pid if site else os.getpid(), signal.SIGKILL)
        time.sleep(kill["back"])
        self.start(site)


def server(root: Path, kill: Mapping[str, Any] | None) -> None:
    """The server of a run in `root`, which has a folder for each site."""
    children.Child = WarmChild  # type: ignore[misc]
    WarmChild.nursery = Nursery()
    folders = {path.parent.name: path.parent for path in root.glob("*/site.toml")}
    with Deadly(folders, kill) as transport:
        served = run_at_sites(transport, WARM["all"][2], root / "server", resume=True)
        write_results(root / "results", served)
        (root / "exchanges").write_text(str(transport.count))


def main() -> None:
    data, agreed = Path(sys.argv[1]), Agreed.load(Path(sys.argv[2]))
    whole = load_folder(FolderSettings(root=str(data), size=agreed.image_size), agreed.seed)
    WARM["all"] = (whole, load_backbone("mini", device="cpu"), agreed)
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                server(Path(job["root"]), job["kill"])
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])), flush=True)


if __name__ == "__main__":
    main()
