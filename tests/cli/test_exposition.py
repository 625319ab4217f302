"""One answer for a server and all its workers."""

import gevent
import pytest
import zmq
from helpers import closing
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gzmqsource import Source
from gzmqsource.cli._exposition import Exposition, _merged

pytestmark = pytest.mark.once


def exposition_of(number, kind=Counter, labels=()):
    """Return what a process says that has a few numbers."""
    registry = CollectorRegistry()
    things = kind("things", "What there is.", labels, registry=registry)
    if labels:
        things = things.labels("inner")
    (things.observe if kind is Histogram else things.inc)(number)
    Gauge("only", "What one has.", registry=registry).set(number)
    return generate_latest(registry).decode()


def samples_of(text, name):
    """Return the values of a sample's name, by the labels, from an answer of which all is valid."""
    seen = set()
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            assert line not in seen
            seen.add(line)
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def test_each_family_is_there_once_with_the_samples_of_all():
    text = _merged(exposition_of(1), {"1": exposition_of(2), "2": exposition_of(3)}).decode()
    values = {(): 1, (("worker", "1"),): 2, (("worker", "2"),): 3}
    assert samples_of(text, "things_total") == values
    assert samples_of(text, "only") == values
    assert set(samples_of(text, "things_created")) == set(values)


def test_a_histogram_is_a_histogram_still():
    own = generate_latest(CollectorRegistry()).decode()
    text = _merged(own, {"1": exposition_of(2, Histogram)}).decode()
    assert "# TYPE things histogram" in text
    assert samples_of(text, "things_sum") == {(("worker", "1"),): 2}
    assert samples_of(text, "things_bucket")[("le", "+Inf"), ("worker", "1")] == 1


def test_a_label_that_is_in_the_way_has_another_name():
    text = _merged("", {"1": exposition_of(2, labels=["worker"])}).decode()
    labels = (("exported_worker", "inner"), ("worker", "1"))
    assert samples_of(text, "things_total") == {labels: 2}


def test_a_family_of_another_type_is_left_out():
    text = _merged("", {"1": exposition_of(2), "2": exposition_of(3, Gauge)}).decode()
    assert samples_of(text, "things_total") == {(("worker", "1"),): 2}
    assert samples_of(text, "things") == {}
    assert samples_of(text, "only") == {(("worker", "1"),): 2, (("worker", "2"),): 3}


@pytest.fixture
def exposition():
    """Make one, with workers or without, and end it."""
    made = []

    def make(**options):
        made.append(Exposition(**options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_the_answer_has_what_runs_and_the_numbers_of_all(exposition, context):
    asked = []

    def workers(seconds):
        asked.append(seconds)
        gevent.sleep(0)
        return {"1": exposition_of(7), "2": None}

    answer = exposition(not_ready=lambda: "it starts", workers=workers)
    with closing(Source.open(zmq.PULL, bind="inproc://numbers", context=context)):
        for count in 1, 2:
            text = answer().decode()
            missed = samples_of(text, "gzmqsource_worker_metrics_missed_total")
            assert missed == {(("worker", "1"),): 0, (("worker", "2"),): count}
    assert asked == [0.5, 0.5]
    assert samples_of(text, "gzmqsource_ready") == {(): 0}
    assert samples_of(text, "things_total") == {(("worker", "1"),): 7}
    ((labels, _),) = samples_of(text, "gzmqsource_build_info").items()
    assert dict(labels)["transfer"] in ("native", "pure")
    assert samples_of(text, "gzmqsource_sources")


def test_the_hub_runs_while_the_numbers_of_many_workers_are_joined(exposition):
    text = exposition_of(1)
    lines = "".join(f'many{{x="{number}"}} 1\n' for number in range(3000))
    answer = exposition(workers=lambda _: {str(each): text + lines for each in range(20)})
    ticks = 0

    def tick():
        nonlocal ticks
        while True:
            gevent.sleep(0.01)
            ticks += 1

    ticking = gevent.spawn(tick)
    answer()
    ticking.kill()
    assert ticks > 3
