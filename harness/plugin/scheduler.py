"""The scheduler for workers of several kernels: a queue a kernel, which pytest-xdist's own work stealing serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.plugin.kernels import Plan, name_of, plan_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xdist.scheduler import WorkStealingScheduling
    from xdist.workermanage import WorkerController


class ByKernel:
    """A scheduler of tests whose workers are of different kernels: for each kernel a scheduler of its own."""

    def __init__(self, plan: Plan, config: pytest.Config, log: Any = None) -> None:
        from xdist.scheduler import WorkStealingScheduling

        self.config = config
        self._of: dict[str | None, WorkStealingScheduling] = {}
        for kernel in plan.names:
            scheduler = WorkStealingScheduling(config, log)
            scheduler.numnodes = plan.each
            self._of[kernel] = scheduler

    def _for(self, node: WorkerController) -> WorkStealingScheduling:
        return self._of[name_of(node)]

    @property
    def nodes(self) -> list[WorkerController]:
        """All workers."""
        return [node for scheduler in self._of.values() for node in scheduler.nodes]

    @property
    def collection_is_completed(self) -> bool:
        """Whether some kernel's workers have collected: they need not wait for other kernels' machines."""
        return any(scheduler.collection_is_completed for scheduler in self._of.values())

    @property
    def tests_finished(self) -> bool:
        """Whether nothing is left to be given out."""
        return all(scheduler.collection_is_completed and scheduler.tests_finished for scheduler in self._of.values())

    @property
    def has_pending(self) -> bool:
        """Whether something waits."""
        return any(scheduler.has_pending for scheduler in self._of.values())

    def add_node(self, node: WorkerController) -> None:
        """A worker is there."""
        self._for(node).add_node(node)

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        """A worker has collected."""
        self._for(node).add_node_collection(node, collection)

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float | None = None) -> None:
        """A test has ended."""
        self._for(node).mark_test_complete(node, item_index, duration or 0)

    def mark_test_pending(self, item: str) -> None:
        """A test whose worker was lost is to be run again: by those of its kernel."""
        for scheduler in self._of.values():
            if item in (scheduler.collection or ()):
                scheduler.mark_test_pending(item)
                return
        raise NotImplementedError(item)

    def remove_pending_tests_from_node(self, node: WorkerController, indices: Sequence[int]) -> None:
        """A worker gives tests back."""
        self._for(node).remove_pending_tests_from_node(node, indices)

    def remove_node(self, node: WorkerController) -> str | None:
        """A worker has gone; the test that it was at, if it was at one."""
        scheduler = self._for(node)
        if scheduler.collection is None:
            # Nothing was given out yet. The scheduler would take its other workers for idle, and end them.
            scheduler.node2pending.pop(node)
            scheduler.node2collection.pop(node, None)
            return None
        item: str | None = scheduler.remove_node(node)
        return item

    def give_up(self, node: WorkerController) -> None:
        """A worker has ended before it had begun a test, and none comes in its place: its tests are for the others."""
        scheduler = self._for(node)
        scheduler.numnodes -= 1
        scheduler.node2collection.pop(node, None)
        scheduler.pending.extend(scheduler.node2pending.pop(node, []))
        if scheduler.steal_requested_from_node is node:
            scheduler.steal_requested_from_node = None
        if not scheduler.numnodes:
            scheduler.pending.clear()
        self.schedule()

    def schedule(self) -> None:
        """Begin with whatever can begin."""
        for scheduler in self._of.values():
            if scheduler.node2collection and scheduler.collection_is_completed:
                scheduler.schedule()


SCHEDULER = pytest.StashKey[ByKernel]()


def make(config: pytest.Config, log: Any) -> ByKernel | None:
    """The scheduler of a session with --tcp-kernel."""
    plan = plan_of(config)
    if plan is None:
        return None
    config.stash[SCHEDULER] = ByKernel(plan, config, log)
    return config.stash[SCHEDULER]


def give_up(config: pytest.Config, node: WorkerController) -> None:
    """A worker will run nothing: the tests are for the others of its kernel, if it has others."""
    if SCHEDULER in config.stash:
        config.stash[SCHEDULER].give_up(node)
