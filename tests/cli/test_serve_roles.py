"""The options of `serve` for workers: what they refuse, and a worker of a broker elsewhere."""

import os
import signal
import sys

import pytest
import zmq
import zmq.auth
from click.testing import CliRunner
from command_under_test import running, until_told
from gevent import subprocess
from helpers import endpoint_of, free_ports, process_of

from gzmqsource import Source
from gzmqsource.auth import Authenticator
from gzmqsource.broker import Broker
from gzmqsource.cli._fleet.cores import usable_cores
from gzmqsource.cli._serve import serve
from gzmqsource.testing import wait_until
from gzmqsource.workers import Requester

pytestmark = [pytest.mark.once, pytest.mark.limit(60)]

BIND = ("--bind", "tcp://127.0.0.1:*")
JOIN = ("--join", "ipc://workers")

REFUSED = {
    "--workers and --join": (*BIND, *JOIN, "--workers", 2),
    "--join and --bind": (*BIND, *JOIN),
    "--join and --connect": (*JOIN, "--connect", "ipc://elsewhere"),
    "--workers and --connect": ("--connect", "ipc://elsewhere", "--workers", 2),
    "--workers is for requests: --type rep or router, not pull": (
        *(*BIND, "--workers", 2, "--type", "pull"),
    ),
    "--join is for requests: --type rep or router, not sub": (*JOIN, "--type", "sub"),
    "--join has no --max-waiting": (*JOIN, "--max-waiting", 5),
    "--stuck-after needs --workers": (*BIND, "--stuck-after", 5),
    "--max-requests needs --workers or --join": (*BIND, "--max-requests", 5),
    "--max-requests-jitter needs --max-requests": (*BIND, "--max-requests-jitter", 5),
    "'few' is not a valid number of workers (or auto)": (*BIND, "--workers", "few"),
    "0 is not in the range 1<=x<=2147483647": (*BIND, "--workers", 0),
    "a port is a number from 1 to 65535": ("--join", "tcp://127.0.0.1:80000"),
    "no endpoint: use --bind URL": ("--workers", 2),
    "the handler is MODULE:FUNCTION": (*BIND, "--workers", 2),
}


@pytest.mark.parametrize(("text", "options"), REFUSED.items(), ids=REFUSED)
def test_options_that_make_no_sense_are_refused_with_the_rule(text, options):
    handler = "answer" if text.startswith("the handler") else "no_such_module:answer"
    finished = CliRunner().invoke(serve, [handler, *map(str, options)])
    assert finished.exit_code == 2
    assert text in " ".join(finished.output.split())


@pytest.mark.parametrize(
    ("quota", "cores"), [("150000 100000", 2), ("max 100000", None), ("1000 100000", 1)]
)
def test_the_usable_cores_are_those_that_a_container_may_use(tmp_path, quota, cores):
    allowed = len(os.sched_getaffinity(0))
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert usable_cores(tmp_path / "cpu.max") == min(cores or allowed, allowed)
    assert usable_cores(tmp_path / "none") == allowed


def test_what_the_master_has_from_the_environment_no_worker_has(context, tmp_path):
    endpoint = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    code = "import os\ndef answer(request):\n    return [str(dict(os.environ)).encode()]\n"
    (tmp_path / "joined.py").write_text(code)
    with (
        running(
            *("serve", "joined:answer", "--bind", endpoint, "--workers", 1),
            *("--plain-user", "ann"),
            cwd=tmp_path,
            env=os.environ | {"GZMQSOURCE_PLAIN_PASSWORD": "secret", "OWN": "kept"},
        ),
        Requester.open(
            endpoint, context=context, linger=0, plain_username=b"ann", plain_password=b"secret"
        ) as requester,
    ):
        (environment,) = requester.request(b"x", timeout=20)
        assert b"'OWN': 'kept'" in environment
        assert b"secret" not in environment


def joining(folder, *arguments):
    """Start a worker in a folder."""
    (folder / "joined.py").write_text("def answer(request):\n    return [b'joined', *request]\n")
    return running("serve", "joined:answer", *arguments, cwd=folder, stderr=subprocess.PIPE)


@pytest.fixture
def broker(context):
    with Broker.open("tcp://127.0.0.1:*", "tcp://127.0.0.1:*", context=context) as broker:
        broker.start()
        yield broker


@pytest.fixture
def requester(broker, context):
    with Requester.open(endpoint_of(broker.front), context=context, linger=0) as requester:
        yield requester


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python has no -P")
def test_a_module_beside_the_handler_hides_none_that_a_worker_needs(tmp_path):
    script, folder = tmp_path / "gzmqsource", tmp_path / "served"
    script.write_text("from gzmqsource.cli import main\nmain()\n")  # as pip installs it
    folder.mkdir()
    (folder / "served.py").write_text("def answer(request):\n    return request\n")
    (folder / "random.py").write_text("raise RuntimeError('this is another module')\n")
    words = ("serve", "served:answer", *BIND, "--workers", 1)
    with process_of(
        *(sys.executable, script, *words),
        cwd=folder,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    ) as process:
        until_told(process, "is ready")
        process.terminate()
        assert process.wait(timeout=20) == 0


def test_a_process_works_for_a_broker_elsewhere_until_it_is_told_to_stop(
    broker, requester, tmp_path
):
    with joining(tmp_path, "--join", endpoint_of(broker.back), "--spawn", 3) as process:
        assert requester.request(b"x", timeout=20) == [b"joined", b"x"]
        assert [worker.slots for worker in broker.workers()] == [3]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    wait_until(lambda: broker.workers() == [])


def test_a_worker_without_a_master_ends_after_so_many_requests(broker, requester, tmp_path):
    with joining(tmp_path, "--join", endpoint_of(broker.back), "--max-requests", 2) as process:
        for _ in range(2):
            requester.request(b"x", timeout=20)
        assert process.wait(timeout=20) == 0


def test_a_worker_joins_with_the_keys_that_it_is_given(context, tmp_path):
    for name in "broker", "worker":
        zmq.auth.create_certificates(tmp_path, name)
    _, secret = zmq.auth.load_certificate(tmp_path / "broker.key_secret")
    assert secret is not None
    front = Source.open(zmq.ROUTER, bind="tcp://127.0.0.1:*", context=context)
    back = Source.open(
        zmq.ROUTER,
        bind="tcp://127.0.0.1:*",
        context=context,
        curve_server=True,
        curve_secretkey=secret,
        zap_domain=b"back",
    )
    with Authenticator(context) as authenticator, Broker(front, back) as broker:
        authenticator.configure_curve(domain="back", location=tmp_path)
        broker.start()
        arguments = ["--join", endpoint_of(back), "--curve-key", tmp_path / "worker.key_secret"]
        with joining(tmp_path, *arguments) as process:
            assert "needs the --curve-server-key of the peer" in process.stderr.read()
        arguments += ["--curve-server-key", tmp_path / "broker.key"]
        with joining(tmp_path, *arguments) as process:
            until_told(process, "pid")
            wait_until(broker.workers)
