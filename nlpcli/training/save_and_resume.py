"""When a run in training is saved, and how it is resumed: between its state and its checkpoints on disk."""

from __future__ import annotations

from typing import Any

from nlpcli.training.checkpoint import load_checkpoint, newer_checkpoints, remove_older, save_checkpoint
from nlpcli.training.distributed.sharded_checkpoint import load_sharded
from nlpcli.training.distributed.sharding import GatheredOptimizer, whole_tensors
from nlpcli.training.training_state import TrainingState


class Checkpoints:
    """The checkpoints of the run that `state` is the state of. data: the fingerprint of what is trained on.

    saved_at: the step of the last one, -1 for none.
    """

    def __init__(self, state: TrainingState, data: str) -> None:
        self.state = state
        self.data = data
        self.saved_at = -1

    def load(self) -> None:
        """Puts the newest whole checkpoint into the state. Raises: NlpcliError where there is none that fits."""
        state = self.state
        average = state.average.weights if state.average else None
        if state.sharded is None:
            state.progress, state.carry = load_checkpoint(
                state.run, model=state.model, optimizer=state.optimizer, average=average
            )
        else:
            state.progress, state.carry = load_sharded(
                state.run, state.sharded, state.optimizer, state.settings, average
            )
        state.carry = state.processes.own_rows(state.carry, state.machine.device)
        self.saved_at = state.progress.step
        if state.scaling is not None:
            state.scaling.restore(state.progress)
        state.sums.restore(state.progress.window, first=state.processes.first)
        for damaged in newer_checkpoints(state.run, state.progress.step):
            state.observer.note(
                f"warning: the checkpoint {damaged} is damaged; training resumes from the one of step "
                f"{state.progress.step:,}"
            )
        if state.processes.first:
            remove_older(state.run, state.progress.step, state.settings.keep_checkpoints)
        if state.progress.data not in ("", self.data):
            state.observer.note(
                "warning: the training data has changed since the run stopped; training continues with the new data"
            )

    def save(self) -> None:
        """Writes a checkpoint of the state. Raises: RunFailed where weights are not finite or the folder is gone."""
        state = self.state
        state.folder.check()
        state.progress.window = state.log_window()
        if state.scaling is not None:
            state.scaling.store(state.progress)
        state.read_clock()
        carry, first = state.processes.rows(state.carry), state.processes.first
        average = state.running_average()
        state.gather()
        optimizer: Any = state.optimizer if state.sharded is None else GatheredOptimizer(state.optimizer, keep=first)
        if state.sharded is not None and average is not None:
            average = whole_tensors(average, keep=first)
        if first:
            save_checkpoint(
                state.run, model=state.plain, optimizer=optimizer, progress=state.progress, average=average,
                carry=carry, keep=state.settings.keep_checkpoints,
            )  # fmt: skip
        self.saved_at = state.progress.step
