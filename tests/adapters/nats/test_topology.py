"""The table of subjects, and the stream that is made from it."""

from __future__ import annotations

import pytest

from services.adapters.bus import QueueError
from services.adapters.nats import jetstream, topology
from services.adapters.nats.connection import NatsBus
from services.adapters.nats.topology import QueueLimits, ensure_topology
from tests.adapters.nats.collecting import linked
from tests.support.collecting import Collected


async def _config(bus: NatsBus, operation: str) -> dict[str, object]:
    answer = await jetstream.call(bus, operation)
    config: dict[str, object] = answer["config"]
    return config


async def test_the_stream_is_a_bounded_work_queue_that_refuses_what_is_new(nats_url: str) -> None:
    async with linked(nats_url) as link:
        await ensure_topology(link.bus, ["default"], QueueLimits(stream_bytes_max=1 << 20))
        stream = await _config(link.bus, "STREAM.INFO.WC_TASKS")
        assert (stream["retention"], stream["storage"], stream["discard"]) == ("workqueue", "file", "new")
        assert stream["max_bytes"] == 1 << 20
        assert stream["max_age"] == 3600 * 10**9
        assert stream["duplicate_window"] == 120 * 10**9
        consumer = await _config(link.bus, "CONSUMER.INFO.WC_TASKS.q_default")
        assert (consumer["ack_wait"], consumer["max_ack_pending"]) == (15 * 10**9, -1)
        assert (consumer["max_deliver"], consumer["filter_subject"]) == (-1, "wc.tasks.default")


async def test_making_it_again_keeps_it_and_changes_what_differs(nats_url: str) -> None:
    async with linked(nats_url) as link:
        heard: Collected[str] = Collected()
        link.bus.subscribe(topology.TOPOLOGY, lambda data, reply, subject: heard.add(subject))
        first = await ensure_topology(link.bus, ["default"])
        again = await ensure_topology(link.bus, ["default", "gpu"], QueueLimits(stream_bytes_max=1 << 20))
        assert again.created_at == first.created_at
        assert (await _config(link.bus, "STREAM.INFO.WC_TASKS"))["max_bytes"] == 1 << 20
        await jetstream.call(link.bus, "STREAM.DELETE.WC_TASKS")
        renewed = await ensure_topology(link.bus, ["default"])
        assert renewed.created_at > first.created_at
        await link.bus.flush()
        assert heard.items == [topology.TOPOLOGY] * 2


async def test_a_stream_that_is_not_there_is_told_by_its_code(nats_url: str) -> None:
    async with linked(nats_url) as link:
        with pytest.raises(QueueError) as caught:
            await jetstream.call(link.bus, "STREAM.INFO.WC_TASKS")
        assert caught.value.code == jetstream.STREAM_NOT_FOUND


@pytest.mark.parametrize("name", ["", "a.b", "a b", "*", ">", "a\n", "ü", "x" * 129])
def test_names_that_are_no_token_are_refused(name: str) -> None:
    for make in (topology.task_subject, topology.consumer_name, topology.logs_subject):
        with pytest.raises(ValueError, match="malformed"):
            make(name)
    with pytest.raises(ValueError, match="malformed"):
        topology.runner_subject(name, topology.VERDICT)


def test_subjects_tell_their_kind() -> None:
    subject = topology.owner_subject(255, topology.RESULT)
    assert subject == "wc.owner.255.result"
    assert topology.kind_of(subject) == topology.RESULT
    assert topology.kind_of(topology.runner_subject("r-1", topology.CONTROL)) == topology.CONTROL


def test_instants_are_cut_to_microseconds() -> None:
    assert jetstream.micros("1970-01-01T00:00:01.123456789Z") == 1_123_456
    assert jetstream.micros("1970-01-01T00:00:01.1Z") == 1_100_000
    assert jetstream.micros("1970-01-01T01:00:01+01:00") == 1_000_000
