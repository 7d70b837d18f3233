"""Supervises several processes on one port: starts them, replaces crashed ones, drains all.

The workers share the port with SO_REUSEPORT; the kernel spreads connections over them. They
are spawned, never forked: neither gRPC nor CUDA survives a fork. One more process than workers
is warm and stands by: it opens the port at once when a worker crashes. Each worker has one end of a
pipe: it reports there that it is ready, receives there the order to drain, and drains by itself
when the other end is closed.
"""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

from initcore.machine import available_cpus

from initserver.config import CommandConfig, ServerConfig
from initserver.net import HttpPort, hold_port
from initserver.observe import FOLDER_VARIABLE, WorkersMetrics, make_metrics_folder
from initserver.process.signals import SIGNALS, Signals
from initserver.process.worker import DRAIN, FAILED, READY, SERVE, WARM, run_worker

_LOG = logging.getLogger("initserver")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0
_STABLE_SECONDS = 60.0
_MOST_FAILED_STARTS = 3
# Workers end by themselves when the grace is over; this many seconds later they are killed.
_OVERTIME = 1.0
# The longest pause while no worker is ready: shorter than the patience of clients.
_LONGEST_GAP = 2.0
# Processes that serve, are warm or are starting, below which one that crashed is replaced at once.
_LEAST_PROCESSES = 2


class WorkerFailed(RuntimeError):  # noqa: N818 - the command's message and exit status
    """A worker cannot start, and another try would not help."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _Worker:
    """A slot for a worker, and the process that is in it now.

    Attributes:
        is_warm: whether the process could serve.
        is_told: whether it has been told to.
        is_ready: whether it does.
        stands_by: whether the log says that it waits.
        start_at: when the next process starts; None means that there is one, or none yet.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: Any = None
        self.pipe: Connection | None = None
        self.is_warm = self.is_told = self.is_ready = self.stands_by = False
        self.born = 0.0
        self.failures = 0
        self.start_at: float | None = 0.0

    def pause(self) -> float:
        """Seconds until the next start, longer after each failure in a row."""
        if time.monotonic() - self.born > _STABLE_SECONDS:
            self.failures = 0
        self.failures += 1
        return float(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (self.failures - 1)))


class Workers:
    """The supervisor of the workers of one server.

    Args:
        server: how each worker runs.
        command: how many workers there are, and how they log.

    Attributes:
        address: HOST:PORT that they share.
        hub_address: HOST:PORT of the Hub endpoint, which they share too, "" if there is none.
        metrics_address: HOST:PORT of metrics and probes, "" if there is none.
        backend: name of the backend, "" until a worker is ready.

    Raises:
        ListenError: if an address cannot be bound.
        MissingPackageError: if metrics are on and their package is missing.
    """

    def __init__(self, server: ServerConfig, command: CommandConfig) -> None:
        self._context = multiprocessing.get_context("spawn")
        holder, self.address = hold_port(server.listen)
        self._holders = [holder]
        self.hub_address = ""
        if server.hub_listen is not None:
            holder, self.hub_address = hold_port(server.hub_listen)
            self._holders.append(holder)
        self._grace = server.grace
        self._command = command
        self._workers = [_Worker(number) for number in range(command.workers + 1)]
        # The one that stands by starts when the others are ready.
        self._workers[-1].start_at = None
        self._is_draining = False
        self.backend = ""
        self.metrics_address = ""
        self._folder = ""
        self._metrics: WorkersMetrics | None = None
        self._http: HttpPort | None = None
        if server.metrics_listen is not None:
            self._folder = make_metrics_folder()
            os.environ[FOLDER_VARIABLE] = self._folder
            try:
                self._metrics = WorkersMetrics(self._folder)
                self._http = HttpPort(server.metrics_listen, self._metrics.text, self._is_ready)
            except BaseException:
                self._clean_up()
                raise
            self.metrics_address = self._http.address
        self._config = dataclasses.replace(
            server,
            listen=self.address,
            hub_listen=self.hub_address or None,
            metrics_listen=None,
            threads=server.threads or max(1, available_cpus() // command.workers),
        )

    def run(self, announce: Callable[[], None]) -> None:
        """Serves until SIGINT or SIGTERM, then drains; a second signal kills the workers.

        Args:
            announce: called once, when all workers are ready.

        Raises:
            WorkerFailed: if they cannot start.
        """
        try:
            with Signals(on_second=self._end_at_once) as signals:
                self._supervise(signals, announce)
        finally:
            self._end_at_once()

    def _supervise(self, signals: Signals, announce: Callable[[], None]) -> None:
        announced = False
        deadline = float("inf")
        while not (self._is_draining and all(w.process is None for w in self._workers)):
            self._start_due()
            self._wait(signals, deadline)
            if signals.count and not self._is_draining:
                self._drain()
                deadline = time.monotonic() + self._grace + _OVERTIME
            if time.monotonic() > deadline:
                self._kill()
            self._receive(announced)
            self._reap(announced)
            self._tell_warm_ones()
            if not announced and self._is_ready(self._command.workers):
                announced = True
                announce()
                self._workers[-1].start_at = 0.0

    def _is_ready(self, least: int = 1) -> bool:
        return not self._is_draining and sum(one.is_ready for one in self._workers) >= least

    def _tell_warm_ones(self) -> None:
        """Has as many processes serve as there should be workers."""
        missing = self._command.workers - sum(one.is_told for one in self._workers)
        for worker in self._workers:
            if missing > 0 and worker.is_warm and not worker.is_told and not self._is_draining:
                worker.is_told = self._send(worker, SERVE)
                missing -= worker.is_told
            elif worker.is_warm and not (worker.is_told or worker.stands_by):
                worker.stands_by = True
                _LOG.info("worker %d stands by", worker.number)

    def _start_due(self) -> None:
        for worker in self._workers:
            if worker.start_at is not None and worker.start_at <= time.monotonic():
                worker.start_at = None
                if not self._is_draining:
                    self._start(worker)

    def _start(self, worker: _Worker) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=run_worker,
            args=(self._config, self._command, worker.number, self._metrics is not None, theirs),
            name=f"initserver-worker-{worker.number}",
        )
        # Blocked signals stay pending until the new process has handlers.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        worker.process, worker.pipe, worker.born = process, ours, time.monotonic()

    def _wait(self, signals: Signals, deadline: float) -> None:
        """Waits for a signal, a message, the end of a process, or the next deadline."""
        things: list[Any] = [signals]
        moments = [deadline]
        for worker in self._workers:
            if worker.process is not None:
                things.append(worker.process.sentinel)
            if worker.pipe is not None:
                things.append(worker.pipe)
            if worker.start_at is not None:
                moments.append(worker.start_at)
        pause = min(moments) - time.monotonic()
        ready: list[Any] = wait(things, None if pause == float("inf") else max(0.0, pause))
        if any(one is signals for one in ready):
            signals.wait()

    def _receive(self, announced: bool) -> None:
        """Receives the messages of the workers."""
        for worker in self._workers:
            while worker.pipe is not None and worker.pipe.poll():
                try:
                    kind, *rest = worker.pipe.recv()
                except (EOFError, OSError):
                    worker.pipe.close()
                    worker.pipe = None
                    break
                if kind == WARM:
                    worker.is_warm = True
                elif kind == READY:
                    worker.is_ready, self.backend = True, rest[0]
                    if announced:
                        _LOG.info("worker %d is ready, pid %d", worker.number, worker.process.pid)
                elif kind == FAILED:
                    status, message = rest
                    if not announced:
                        raise WorkerFailed(message, status)
                    _LOG.error("worker %d cannot start: %s", worker.number, message)

    def _reap(self, announced: bool) -> None:
        """Reaps processes that have ended, and schedules their replacements."""
        for worker in self._workers:
            process = worker.process
            if process is None or process.is_alive():
                continue
            process.join()
            if worker.pipe is not None:
                worker.pipe.close()
            could_serve = worker.is_warm
            worker.process = worker.pipe = None
            worker.is_warm = worker.is_told = worker.is_ready = worker.stands_by = False
            if self._metrics:
                self._metrics.worker_ended(process.pid)
            if self._is_draining:
                continue
            pause = self._pause(worker, could_serve)
            if not announced and worker.failures >= _MOST_FAILED_STARTS:
                raise WorkerFailed(f"workers end before they are ready ({_end(process)})", 1)
            worker.start_at = time.monotonic() + pause
            if self._metrics:
                self._metrics.worker_restarts.add()
            _LOG.warning(
                "worker %d, pid %d, has ended (%s); its replacement starts in %.1f s",
                worker.number,
                process.pid,
                _end(process),
                pause,
            )

    def _pause(self, ended: _Worker, could_serve: bool) -> float:
        """Seconds until the replacement of a process that has ended starts."""
        pause = ended.pause()
        if could_serve and sum(one.process is not None for one in self._workers) < _LEAST_PROCESSES:
            return 0.0
        return pause if self._is_ready() else min(pause, _LONGEST_GAP)

    def _drain(self) -> None:
        self._is_draining = True
        for worker in self._workers:
            worker.is_ready = False
            self._send(worker, DRAIN)

    def _send(self, worker: _Worker, order: str) -> bool:
        """Whether the order could be sent."""
        if worker.pipe is None:
            return False
        try:
            worker.pipe.send(order)
        except OSError:
            return False  # it is ending already
        return True

    def _kill(self) -> None:
        for worker in self._workers:
            if worker.process is not None and worker.process.is_alive():
                worker.process.kill()

    def _end_at_once(self) -> None:
        self._kill()
        self._clean_up()

    def _clean_up(self) -> None:
        for holder in self._holders:
            holder.close()
        if self._folder:
            os.environ.pop(FOLDER_VARIABLE, None)
            shutil.rmtree(self._folder, ignore_errors=True)


def _end(process: Any) -> str:
    """How a process ended, in words."""
    code = process.exitcode
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit status {code}"
