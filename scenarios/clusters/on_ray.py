"""Runs as tasks of a Ray cluster, through Ray's client: no shared file system, and no ports but the head's.

How Ray brings an order and an answer, bytes both, from machine to machine is its own matter: it trusts everybody who
reaches its ports, and pickles. So does whoever starts it; ours are no pickles.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gossip.errors import SettingError, nearest
from gossip.extras import needed
from gossip.plugins import one_line
from scenarios.clusters.executor import Ended, Executor
from scenarios.clusters.orders import Order, arrive, order, work
from scenarios.clusters.runs import Run
from scenarios.errors import RunFailed

POLL_S = 1.0
"""Between two looks, so that a Ctrl-C is heard."""

CONNECT_ATTEMPTS_MAX = 3
"""A head that is busy gives a client up that is not served within half a minute."""

SETTINGS: Mapping[str, float] = {"num_cpus": 1, "num_gpus": 0, "memory": 0}
"""What a run holds while it lasts, in Ray's names; memory in bytes, 0: not counted."""


def connect(address: str, option: str) -> Any:
    """Return the module ray, connected to the cluster at `address`; `option` says where it was given.

    Raises:
        SettingError: Ray is missing, or nothing that can be used answers there.
    """
    use = f"{option} {address} needs the package ray with its client"
    needed("grpc", use, extra="ray")  # its client's, and no part of plain ray
    ray = needed("ray", use, extra="ray")
    for attempt in range(CONNECT_ATTEMPTS_MAX):
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, namespace="gossip")
        except Exception as error:
            if isinstance(error, ConnectionAbortedError) and attempt < CONNECT_ATTEMPTS_MAX - 1:
                continue
            raise SettingError(
                f"{option} {address}: no Ray cluster can be used there: {one_line(error)}"
            ) from None
        break
    return ray


class Ray(Executor):
    """Tasks of Ray.

    Args:
        address: ray://HOST:PORT of the head, whose client server has port 10001 unless it was told otherwise.
        settings: see `SETTINGS`.

    Raises:
        SettingError: as `connect`, or a wrong setting.
    """

    def __init__(self, address: str, settings: Mapping[str, Any]) -> None:
        for key, value in settings.items():
            if key not in SETTINGS:
                raise SettingError(f"--cluster-set {key}={value}: unknown; {nearest(key, SETTINGS)}")
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
                raise SettingError(f"--cluster-set {key}={value}: must be a number that is not negative")
        holds = {key: value for key, value in {**SETTINGS, **settings}.items() if value}
        self._address = address
        self._ray = connect(address, "--cluster")
        _look_for_room(self._ray, holds)
        # Lost workers are our affair: Ray would not count them, nor say so.
        self._work = self._ray.remote(max_retries=0, **{"num_cpus": 0, **holds})(work)
        self._tasks: dict[Any, tuple[Run, Order]] = {}

    def submit(self, runs: Sequence[Run]) -> None:
        """See `Executor`."""
        for run in runs:
            ordered = order(run)
            with self._reached():
                self._tasks[self._work.remote(ordered.data)] = run, ordered

    def completed(self) -> Iterator[Ended]:
        """See `Executor`."""
        while self._tasks:
            with self._reached():
                ended, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=POLL_S)
            for task in ended:
                run, ordered = self._tasks.pop(task)
                answer = self._answer(task, run)
                if isinstance(answer, Ended):
                    yield answer
                    continue
                arrive(run, ordered, answer)
                yield Ended(run)

    def _answer(self, task: Any, run: Run) -> bytes | Ended:
        errors = self._ray.exceptions
        lost = (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.LocalRayletDiedError,
            errors.OutOfMemoryError,
            errors.ObjectLostError,
            errors.OwnerDiedError,
            errors.RaySystemError,
        )
        with self._reached():
            try:
                answer: bytes = self._ray.get(task)
            except errors.RayTaskError as error:
                raise SettingError(
                    f"a worker of {self._address} cannot do {run.told}: {one_line(error.cause or error)}; does it have "
                    "this gossip-node?"
                ) from None
            except lost as error:
                return Ended(run, one_line(error))
        return answer

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (ConnectionError, self._ray.exceptions.RayError) as error:
            raise RunFailed(
                f"--cluster {self._address}: the cluster's head is no longer there: {one_line(error)}; finished runs "
                "are kept, and the same command goes on from there"
            ) from None

    def cancel(self) -> None:
        """See `Executor`."""
        for task in self._tasks:
            with contextlib.suppress(Exception):
                self._ray.cancel(task, force=True)
        self._tasks.clear()

    def close(self) -> None:
        """See `Executor`."""
        self._ray.shutdown()


def _look_for_room(ray: Any, holds: Mapping[str, float]) -> None:
    """Say it where no machine that is there now can ever do a run: one may be on its way."""
    names = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(has.get(names[key], 0) >= value for key, value in holds.items()) for has in machines):
        return
    wanted = ", ".join(f"{key}={value:g}" for key, value in holds.items())
    print(
        f"gossip-scenario: --cluster-set {wanted}: none of the cluster's {len(machines)} machines has that; runs wait "
        "until one comes",
        file=sys.stderr,
    )
