"""What is told of a step: one step late, to the log, to TensorBoard, and whatever fails."""

import dataclasses
import math
import resource
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event, SessionLog

from dart_jax.model.config import LoraConfig
from dart_jax.records import read_jsonl
from dart_jax.sft import row_shapes
from dart_jax.sft.config import SftConfig
from dart_jax.sft.cross_entropy import SegmentSums
from dart_jax.sft.metrics import LogLine, NonFiniteLoss, Speed, Workload, scalars
from dart_jax.sft.monitor import Monitor, ProfilerTrace
from dart_jax.sft.packing import make_plan
from dart_jax.sft.sinks import EventFile, LogFile, ProgressBar, open_sinks
from dart_jax.sft.step import Metrics
from dart_jax.sft.validation import ValidationLine


def make_line(step, loss=1.0):
    return LogLine(
        step=step,
        loss=loss,
        loss_by_severity={"minor": 0.5},
        loss_by_source={"repair": 0.5},
        grad_norm=2.0,
        update_norm=0.1,
        learning_rate=1e-3,
        weight_mass=12.0,
        examples=4,
        effective_examples=3.5,
        supervised_tokens=12,
        tokens=40,
        padded_tokens=64,
        flops=1000,
        speed=Speed(0.5, 24.0, 80.0, 128.0, 2000.0, None),
    )


class Recorder:
    """A sink that keeps the lines; None writes as if the disk were full."""

    def __init__(self, full=False):
        self.steps, self.full, self.closed = [], full, False

    def write(self, line):
        if self.full:
            raise OSError(28, "No space left on device")
        self.steps.append(line.step)

    def measured(self, line):
        self.steps.append(("held out", line.step))

    def close(self):
        self.closed = True


@pytest.fixture
def plan(make_examples):
    return make_plan(make_examples(8), SftConfig(batch_size=2), epochs=1, seed=0)


@pytest.fixture
def monitor_to(plan, config, tmp_path):
    """A function: a monitor of the plan that writes to these sinks."""

    def make(*sinks, steps=None):
        work = Workload(config, LoraConfig(), None)
        trace = ProfilerTrace(tmp_path / "trace", steps)
        return Monitor(plan, work, [0.1] * len(plan), sinks, trace)

    return make


def metrics_of(batch, loss=1.0):
    shape = batch.examples.shape
    sums = SegmentSums(*(np.ones(shape, np.float32) for _ in range(3)))
    return Metrics(*(np.float32(x) for x in (loss, 1.0, 1.0, 1.0)), sums)


def give(monitor, plan, *numbers, loss=1.0):
    for number in numbers:
        batch = plan[number - 1]
        monitor.before(number, batch)
        monitor.after(metrics_of(batch, loss))


def test_each_step_is_read_when_the_next_one_was_given(plan, monitor_to):
    sink = Recorder()
    with monitor_to(sink) as monitor:
        seen = []
        for number in (1, 2, 3):
            give(monitor, plan, number)
            seen.append(list(sink.steps))
        monitor.flush()
        assert sink.steps == [1, 2, 3]
    assert seen == [[], [1], [1, 2]]
    assert sink.closed


def test_a_new_shape_waits_so_that_its_compilation_is_its_own(
    make_examples, config, tmp_path, monkeypatch
):
    """Rows of two lengths, in turn."""
    monkeypatch.setattr(row_shapes, "PROGRAM_TOKENS", 0)
    short, long = make_examples(2), make_examples(1)[0]
    long = dataclasses.replace(long, tokens=long.tokens * 8, prompt_length=long.prompt_length * 8)
    sft = SftConfig(batch_size=1, packing="none")
    plan = make_plan([*short, long], sft, epochs=1, seed=0)
    shapes = [plan[index].batch.tokens.shape for index in range(3)]
    assert len(set(shapes)) == 2
    sink = Recorder()
    work = Workload(config, LoraConfig(), None)
    monitor = Monitor(plan, work, [0.1] * 3, [sink], ProfilerTrace(tmp_path, None))
    for number in (1, 2, 3):
        monitor.before(number, plan[number - 1])
        new = shapes[number - 1] not in shapes[: number - 1]
        assert sink.steps == list(range(1, number if new else number - 1))
        monitor.after(metrics_of(plan[number - 1]))


def test_a_loss_that_is_no_number_is_told_before_it_is_logged(plan, monitor_to):
    sink = Recorder()
    monitor = monitor_to(sink)
    give(monitor, plan, 1)
    give(monitor, plan, 2, loss=math.nan)
    with pytest.raises(NonFiniteLoss, match=r"step 2: loss nan, .*" + ", ".join(plan.ids(1))):
        monitor.flush()
    assert sink.steps == [1]


def test_a_sink_that_fails_is_told_of_once(plan, monitor_to, capsys):
    full, sink = Recorder(full=True), Recorder()
    with monitor_to(full, sink) as monitor:
        give(monitor, plan, 1, 2, 3)
    assert sink.steps == [1, 2]
    said = capsys.readouterr().err
    assert said.count("warning: Recorder failed, training goes on: [Errno 28] No space left") == 1


def test_summary_adds_up(plan, monitor_to):
    monitor = monitor_to()
    assert monitor.summary("repair") == "repair: nothing left to train"
    give(monitor, plan, 1, 2)
    monitor.flush()
    assert monitor.summary("repair").startswith("repair: steps 1-2 in ")
    assert "loss 1.000 -> 1.000" in monitor.summary("repair")


def test_log_is_rewound_to_the_checkpoint(tmp_path, capsys):
    path = tmp_path / "log.jsonl"
    log = LogFile(path, 0)
    for step in (1, 2, 3):
        log.write(make_line(step))
    LogFile(path, 2).write(make_line(3, loss=7.0))
    assert read_jsonl(path, LogLine) == [make_line(1), make_line(2), make_line(3, loss=7.0)]
    assert not capsys.readouterr().err
    LogFile(path, 5)
    assert f"{path} lacks 2 of 5 finished steps, first 4" in capsys.readouterr().err


def test_lines_of_a_full_disk_come_with_the_next_one(tmp_path):
    """A real limit on the size of files: the write ends in the midst of a line."""
    path = tmp_path / "log.jsonl"
    log = LogFile(path, 0)
    log.write(make_line(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, before[1]))
    try:
        for step in (2, 3):
            with pytest.raises(OSError):
                log.write(make_line(step))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    log.write(make_line(4))
    assert [line.step for line in read_jsonl(path, LogLine)] == [1, 2, 3, 4]


def test_lines_of_a_full_disk_come_at_the_end(tmp_path):
    path = tmp_path / "log.jsonl"
    log = LogFile(path, 0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError):
            log.write(make_line(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    log.close()
    assert [line.step for line in read_jsonl(path, LogLine)] == [1]


def read_events(path):
    """Events of a file of records: length, its checksum, data, its checksum."""

    def masked(data):
        crc = crc32c(data)
        return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF

    data, events = path.read_bytes(), []
    while data:
        [length] = struct.unpack("<Q", data[:8])
        body = data[12 : 12 + length]
        assert struct.unpack("<I", data[8:12])[0] == masked(data[:8])
        assert struct.unpack("<I", data[12 + length : 16 + length])[0] == masked(body)
        events.append(Event.FromString(body))
        data = data[16 + length :]
    return events


def test_event_file_is_readable_before_it_is_closed(tmp_path):
    events = EventFile(tmp_path, 4)
    events.write(make_line(5))
    [path] = tmp_path.iterdir()
    assert "tfevents" in path.name
    version, start, scalar = read_events(path)
    assert version.file_version == "brain.Event:2"
    # What an earlier start logged from step 5 on is forgotten.
    assert (start.step, start.session_log.status) == (5, SessionLog.START)
    found = {value.tag: value.simple_value for value in scalar.summary.value}
    assert scalar.step == 5
    assert found == pytest.approx(dict(scalars(make_line(5))))
    assert found["loss_by_severity/minor"] == 0.5
    assert found["speed/real_tokens_per_second"] == 80.0
    assert "speed/utilisation" not in found
    events.close()


def test_the_held_out_loss_is_beside_the_scalars_of_its_step(tmp_path, plan, monitor_to):
    events, bar = EventFile(tmp_path / "events", 0), ProgressBar("title", 8, 0)
    with monitor_to(events, bar) as monitor:
        monitor.measured(ValidationLine(step=6, epoch=1.5, loss=0.25, examples=2))
        bar.write(make_line(7))
        assert "loss 1.000 (held out 0.250)" in str(bar._bar)
    [path] = (tmp_path / "events").iterdir()
    *_, event = read_events(path)
    found = {value.tag: value.simple_value for value in event.summary.value}
    assert (event.step, found) == (6, {"validation/loss": 0.25})


def test_two_starts_within_a_second_have_two_files(tmp_path):
    for done in (0, 3):
        EventFile(tmp_path, done).close()
    assert len(list(tmp_path.iterdir())) == 2


def test_finished_training_opens_no_event_file(tmp_path):
    for sink in open_sinks(tmp_path, "title", 1, 1):
        sink.close()
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_trace_of_some_steps(plan, monitor_to, tmp_path, capsys):
    double = jax.jit(lambda x: 2 * x)
    with monitor_to(steps=(2, 3)) as monitor:
        for number in (1, 2, 3, 4):
            monitor.before(number, plan[number - 1])
            double(jnp.ones(3))
            monitor.after(metrics_of(plan[number - 1]))
            assert (tmp_path / "trace").exists() == (number >= 3)
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))
    assert f"trace up to step 3 (sft.profile_steps): {tmp_path}/trace" in capsys.readouterr().out


@pytest.mark.parametrize("steps", [None, (7, 9)])
def test_no_trace_of_steps_that_do_not_come(steps, plan, monitor_to, tmp_path):
    with monitor_to(steps=steps) as monitor:
        give(monitor, plan, 1, 2)
    assert not (tmp_path / "trace").exists()
