"""Seeds side by side in processes of their own, supervised: one that dies takes one cell with it, not the run."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from secfpp.errors import DiskFullError
from secfpp.experiment.results.cells import note_failure
from secfpp.experiment.run.training import Emit, Event, SeedTask, train_seed
from secfpp.experiment.spec.plan import Cell

_PATIENCE = 10.0  # seconds that a stopped process gets before it is killed


@dataclass
class _Worker:
    """A process with the task it is at."""

    process: SpawnProcess
    task: SeedTask
    now: Cell | None = None
    ended: set[Cell] = field(default_factory=set)

    def see(self, event: Event) -> None:
        if event.kind == "started":
            self.now = event.cell
        elif event.kind in ("finished", "failed"):
            self.ended.add(event.cell)
            self.now = None


def train_in_processes(tasks: Sequence[SeedTask], workers: int, emit: Emit) -> None:
    """Train `tasks`, at most `workers` of them at a time, each in a fresh process.

    A process that dies fails the cell that it was training; the rest of its task goes to a new process. One that
    dies while it prepares fails all that is left of its task. Whatever ends this function, the processes end too;
    what they finished, and the checkpoint of what they did not, is on disk.

    Args:
        tasks: one per seed; their config decides each worker's threads.
        workers: processes at a time.
        emit: told of everything that happens, in this process; events of a cell come in order.
    """
    waiting, running = deque(tasks), dict[Connection, _Worker]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                connection, worker = _start(waiting.popleft())
                running[connection] = worker
            ready = set(wait(list(running)))
            for connection, worker in list(running.items()):
                if connection not in ready:
                    continue
                try:
                    event = connection.recv()
                except (EOFError, OSError):
                    del running[connection]
                    connection.close()
                    worker.process.join()
                    if rest := _bury(worker, emit):
                        waiting.append(rest)
                    continue
                worker.see(event)
                emit(event)
    finally:
        for worker in running.values():
            worker.process.terminate()
        for connection, worker in running.items():
            worker.process.join(_PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            connection.close()


def _start(task: SeedTask) -> tuple[Connection, _Worker]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, task), name=f"secfpp seed {task.seed}", daemon=True)
    # A worker is stopped by its parent, never by the Ctrl-C that the terminal sends to both: it inherits this mask.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return ours, _Worker(process, task)


def _work(connection: Connection, task: SeedTask) -> None:
    """What a worker does."""
    from secfpp.models.backbone import load_backbone

    def emit(event: Event) -> None:
        try:
            connection.send(replace(event, error=None))
        except BrokenPipeError as error:  # nobody waits for the results any more
            raise SystemExit(1) from error

    model = task.config.backbone
    backbone = load_backbone(
        model.name, device=model.device, threads=model.threads, dtype=model.dtype, compile=model.compile
    )
    try:
        train_seed(task, backbone, emit)
    except DiskFullError as error:
        emit(Event("full", task.cells[0], text=str(error)))


def _bury(worker: _Worker, emit: Emit) -> SeedTask | None:
    """Fail what a process that ended has lost; returns what is left to do."""
    rest = worker.task.without(worker.ended)
    if not rest.cells:
        return None
    lost = (worker.now,) if worker.now else rest.cells
    message = f"its process {_end(worker.process.exitcode)}; the same command goes on from its last round"
    for cell in lost:
        note_failure(worker.task.directory, cell, message)
        emit(Event("failed", cell, text=message))
    left = rest.without(set(lost))
    return left if left.cells else None


def _end(exitcode: int | None) -> str:
    if exitcode == -signal.SIGKILL:
        return "was killed (out of memory? then use fewer --workers)"
    if exitcode is not None and exitcode < 0:
        return f"was ended by signal {signal.Signals(-exitcode).name}"
    return f"ended with status {exitcode}"
