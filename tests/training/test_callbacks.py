"""Callbacks: when they are called, what they see, and that they change nothing by themselves."""

from types import SimpleNamespace

import pytest
from helpers.run_files import same

from famkd.errors import UserError
from famkd.run.directory import Run
from famkd.training.callbacks import EVENTS, Callbacks, Moment
from famkd.training.loop import train


class Watcher:
    """Writes down every event with the epoch, the step and the number of finished epochs."""

    def __init__(self):
        self.seen: list[tuple] = []
        for event in EVENTS:
            setattr(self, event, lambda now, event=event: self.note(event, now))

    def note(self, event: str, now: Moment) -> None:
        self.seen.append((event.removeprefix("on_"), now.epoch, now.step, len(now.metrics)))


def test_events_come_in_order_and_change_nothing(small):
    watcher = Watcher()
    watched = train(small("--epochs", "2"), out="watched", callbacks=[watcher])
    plain = train(small("--epochs", "2"), out="plain")
    epoch = [("epoch_begin", 0), ("step_end", 1), ("step_end", 2), ("step_end", 3)]
    assert watcher.seen == [
        ("train_begin", 0, 0, 0),
        *((event, 1, step, 0) for event, step in epoch), ("epoch_end", 1, 3, 1),
        *((event, 2, step, 1) for event, step in epoch), ("epoch_end", 2, 3, 2),
        ("train_end", 2, 3, 2),
    ]  # fmt: skip
    same(watched, plain)
    again = Watcher()
    train(small("--epochs", "2"), out="watched", callbacks=[again])  # finished
    assert again.seen == []


def test_an_exception_loses_nothing_and_a_resumed_training_calls_them_again(small):
    def on_epoch_end(now: Moment):
        if now.epoch == 1:
            assert now.run.metrics() == now.metrics  # saved before
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        train(small("--epochs", "2"), out="run", callbacks=[on_epoch_end])
    assert len(Run("run").metrics()) == 1
    watcher = Watcher()
    train(small("--epochs", "2"), out="run", resume=True, callbacks=[watcher])
    assert watcher.seen[0] == ("train_begin", 1, 0, 1)
    assert [seen[:2] for seen in watcher.seen if seen[0] == "epoch_end"] == [("epoch_end", 2)]


def test_what_a_callback_changes_counts(small):
    def on_train_end(now: Moment):
        now.run.write_teacher({"top1": 1.0})

    def on_step_end(now: Moment):
        for parameter in now.student.parameters():
            parameter.data.zero_()

    run = train(small("--epochs", "1"), out="run", callbacks=[on_step_end, on_train_end])
    assert not any(value.any() for key, value in run.student_state().items() if "weight" in key)
    assert run.teacher == {"top1": 1.0}


@pytest.mark.parametrize(("given", "why"), [
    (lambda now: None, "is called at no event: name a function"),
    (SimpleNamespace(on_epoch_ends=print), r"no event on_epoch_ends\. Did you mean on_epoch_end"),
    (object(), "The callback object is called at no event"),
])  # fmt: skip
def test_what_is_called_at_no_event_is_refused(given, why):
    with pytest.raises(UserError, match=why):
        Callbacks([given])


def test_callbacks_are_not_sent_to_other_processes(small):
    with pytest.raises(UserError, match="start this program with torchrun"):
        train(small("--devices", "2", "--accelerator", "cpu"), out="run", callbacks=[Watcher()])
