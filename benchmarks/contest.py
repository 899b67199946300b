"""Runs the scenarios: everybody on one node, in turn, each in a process of its own."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from benchmarks.acks import AckWitness
from benchmarks.contenders import ENTRANTS
from benchmarks.contenders.base import Guarantees
from benchmarks.process import ContenderProcess
from benchmarks.sample import Sample
from benchmarks.scenario import Scenario
from benchmarks.servers import Servers
from benchmarks.witness import NotTheSameWork, Witness
from benchmarks.workload import Workload

__all__ = ["Contest", "Row", "Rows"]

REQUIRED = Guarantees()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One contender with one workload."""

    scenario: Scenario
    workload: Workload
    contender: str
    connections: int | None = None
    """Made for the warm-up; None where nobody counted, 0 where those of another workload served."""
    samples: list[Sample] = field(default_factory=list)

    @property
    def figures(self) -> list[float]:
        return [self.scenario.unit.figure(sample) for sample in self.samples]

    @property
    def median(self) -> float:
        return statistics.median(self.figures)

    @property
    def rate(self) -> float:
        return statistics.median(sample.rate for sample in self.samples)

    @property
    def median_seconds(self) -> float:
        return statistics.median(sample.median_seconds for sample in self.samples)

    @property
    def slow_seconds(self) -> float:
        return statistics.median(sample.slow_seconds for sample in self.samples)

    @property
    def cpu_per_message(self) -> float:
        return statistics.median(sample.cpu_per_message for sample in self.samples)


Rows = list[Row]


class Contest:
    """The processes of the contenders, alive over all scenarios."""

    def __init__(self, servers: Servers, *, rounds: int, tell: Callable[[str], None]) -> None:
        self._servers = servers
        self._witness = Witness(servers.node)
        self._ack_witness = AckWitness(servers.node)
        self._rounds = rounds
        self._tell = tell
        self._processes: dict[str, ContenderProcess] = {}

    def start(self, names: Iterable[str]) -> None:
        """Start the processes. Raise NotTheSameWork if one guarantees less than the others."""
        for name in names:
            entrant = ENTRANTS[name]
            if not entrant.declares_queue:
                self._servers.node.declare_queue(entrant.queue)
            self._processes[name] = ContenderProcess(entrant, self._servers.addresses(entrant))
        for process in self._processes.values():
            guarantees = process.guarantees()
            required = replace(REQUIRED, **dict.fromkeys(process.entrant.lacks, False))
            if guarantees != required:
                raise NotTheSameWork(
                    f"{process.entrant.title} gives {guarantees}, the others give {required}: "
                    "their figures must not stand side by side"
                )

    def run(self, scenario: Scenario) -> Rows:
        self._tell(scenario.title)
        entries = [(name, workload) for workload in scenario.workloads for name in scenario.contenders]
        rows = [self._open(scenario, name, workload) for name, workload in entries]
        try:
            for number in range(scenario.rounds or self._rounds):
                # There and back: a node that grows slower, or faster, favours nobody.
                for row in rows if number % 2 == 0 else rows[::-1]:
                    row.samples.append(self._round(row))
        finally:
            for name in scenario.contenders:
                self._processes[name].close_connections()
        return rows

    def stop(self) -> None:
        for process in self._processes.values():
            process.stop()

    def _open(self, scenario: Scenario, name: str, workload: Workload) -> Row:
        """Connect a contender and warm it up, before the eyes of the witness."""
        process, entrant = self._processes[name], ENTRANTS[name]
        workload = workload.scaled(entrant.share_of(workload.way))
        if workload.way == "consume":
            return self._open_worker(scenario, name, workload)
        before = self._witness.look(entrant.queue)
        process.open(workload.label, workload)
        if not scenario.is_warmed_up:
            return Row(scenario=scenario, workload=workload, contender=name)
        process.round(workload.label)
        after = self._witness.look(entrant.queue)
        if not entrant.is_asking:
            self._witness.check(entrant, before, after, entrant.published(workload.total))
        return Row(
            scenario=scenario,
            workload=workload,
            contender=name,
            connections=after.connections_made - before.connections_made,
        )

    def _open_worker(self, scenario: Scenario, name: str, workload: Workload) -> Row:
        """Start a worker and warm it up, before the eyes of the witness."""
        process, entrant, witness = self._processes[name], ENTRANTS[name], self._ack_witness
        label, total = workload.label, workload.total
        before = witness.look(entrant.queue)
        process.open(label, workload)
        witness.check_held(entrant, before, witness.look(entrant.queue))
        process.release(label)
        process.fill(label)
        filled = witness.look(entrant.queue)
        witness.check_filled(entrant, filled, total)
        process.round(label)
        # One message more: the first, which was held.
        witness.check_handled(entrant, before, witness.look(entrant.queue), total + 1)
        return Row(scenario=scenario, workload=workload, contender=name)

    def _round(self, row: Row) -> Sample:
        entrant = ENTRANTS[row.contender]
        if row.workload.way == "consume":
            self._processes[row.contender].fill(row.workload.label)
            sample = self._processes[row.contender].round(row.workload.label)
            self._ack_witness.check_empty(entrant)
            return sample
        sample = self._processes[row.contender].round(row.workload.label)
        self._witness.collect(entrant, entrant.published(row.workload.total))
        return sample
