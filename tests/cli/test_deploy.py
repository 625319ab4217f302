"""The deployments in examples/deploy: what they run is run here, and what they ask is asked.

What is not here stands for something that is: ports for free ones, and the paths and the image of
a server for this checkout. The rest of each command, its environment and its probes are the files'.
"""

import configparser
import contextlib
import json
import os
import pathlib
import re
import shlex
import shutil
import sys
import urllib.error
import urllib.request

import gevent
import pytest
import yaml
from command_under_test import COMMAND, run
from gevent import socket, subprocess
from helpers import free_ports, process_of
from http_pages import ask

from gzmqsource.cli._fleet.cores import usable_cores
from gzmqsource.testing import wait_until

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]

DEPLOY = pathlib.Path(__file__).parents[2] / "examples" / "deploy"

UNIT = "hello.service"


class Folder:
    """A copy of the deployments, with free ports in place of theirs."""

    def __init__(self, path):
        self.path = path
        ports = dict(zip(("5557", "9100"), free_ports(2), strict=True))
        self.requests, self.metrics = ports.values()
        for file in DEPLOY.iterdir():
            if file.is_file():
                text = re.sub(r"\b(5557|9100)\b", lambda port: ports[port[0]], file.read_text())
                (path / file.name).write_text(text.replace("/srv/hello/", f"{path}/"))

    def read(self, name):
        return (self.path / name).read_text()

    def yaml(self, name):
        return [*yaml.safe_load_all(self.read(name))]

    @contextlib.contextmanager
    def running(self, words, environment):
        """Run a command of the files, until it is ready."""
        assert words[0] == "gzmqsource"
        variables = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | environment
        command = (*COMMAND, *words[1:])
        with process_of(*command, cwd=self.path, env=variables, stderr=subprocess.PIPE) as process:
            wait_until(lambda: process.poll() is not None or self.status("/readyz") == 200, 30)
            assert process.poll() is None, process.stderr.read()
            yield process

    def status(self, path):
        """Return the status of a page, or None if there is no answer."""
        url = f"http://127.0.0.1:{self.metrics}{path}"
        return gevent.get_hub().threadpool.apply(_status, (url,))

    def workers(self):
        """Return the names of the workers that have told their numbers."""
        page = ask(self.metrics, "/metrics")[1]
        return set(re.findall(r'^gzmqsource_ready\{worker="(\w+)"\} 1\.0$', page, re.MULTILINE))

    def answer(self):
        """Return what the server answers."""
        asked = run("request", "--connect", f"tcp://127.0.0.1:{self.requests}", "world")
        return asked.stdout


def _status(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def ends(process):
    """Stop a server as all of these do, and return its exit status."""
    process.terminate()
    return process.wait(timeout=30)


def stops_within(folder, environment=()):
    """Return the seconds that a server takes to stop, of a file of options or the environment."""
    if "GZMQSOURCE_SERVE_STOP_TIMEOUT" in environment:
        return float(environment["GZMQSOURCE_SERVE_STOP_TIMEOUT"])
    (found,) = re.findall(r"^stop-timeout = (\d+)$", folder.read("hello.toml"), re.MULTILINE)
    return float(found)


# systemd


@pytest.fixture
def unit(folder):
    """The options of the unit's section [Service]."""
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(folder.read(UNIT))
    return parser["Service"]


def test_the_unit_serves_and_systemd_is_told(folder, unit, tmp_path):
    assert unit["Type"] == "notify"
    words = shlex.split(unit["ExecStart"])
    assert words[0] == f"{tmp_path}/.venv/bin/gzmqsource"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        microseconds = str(int(unit["WatchdogSec"]) * 1_000_000)
        variables = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": microseconds}
        with folder.running(["gzmqsource", *words[1:]], variables) as process:
            assert manager.recv(1000) == b"STATUS=no worker is ready"
            assert manager.recv(1000).startswith(b"READY=1\n")
            assert manager.recv(1000) == b"WATCHDOG=1"
            assert folder.answer() == b"hello\tworld\n"
            # It is ready with the first of them.
            expected = {str(each + 1) for each in range(usable_cores())}
            wait_until(lambda: folder.workers() == expected)
            reload = shlex.split(unit["ExecReload"].replace("$MAINPID", str(process.pid)))
            subprocess.run(reload, check=True)
            # It may take long enough for the watchdog to be fed meanwhile.
            told = (each for each in iter(lambda: manager.recv(1000), b"") if b"DOG" not in each)
            assert next(told).startswith(b"RELOADING=1\n")
            assert next(told).startswith(b"READY=1\n")
            assert ends(process) == 0
            assert next(told).startswith(b"STOPPING=1\n")


def test_the_unit_has_more_time_to_stop_than_the_server_takes(folder, unit):
    assert unit["KillMode"] == "mixed"
    assert int(unit["TimeoutStopSec"]) > stops_within(folder)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")
def test_systemd_has_nothing_to_say_of_the_unit(folder, tmp_path):
    program = tmp_path / ".venv" / "bin" / "gzmqsource"
    program.parent.mkdir(parents=True)
    program.symlink_to(sys.executable)
    unit = tmp_path / UNIT
    unit.write_text(unit.read_text().replace("/srv/hello", str(tmp_path)))
    checked = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    broken = tmp_path / "broken.service"
    broken.write_text(unit.read_text().replace("Type=notify", "Type=notfy"))
    checked = subprocess.run(
        ["systemd-analyze", "verify", broken], capture_output=True, text=True, check=False
    )
    assert "notfy" in checked.stderr


# Docker


def instructions(text):
    """Return what a Dockerfile says, by instruction, in order."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line and line[0] != "#"]
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines)]


@pytest.fixture
def image(folder):
    """The last of each instruction of the Dockerfile."""
    return dict(instructions(folder.read("Dockerfile")))


@pytest.fixture
def environment(image):
    """The variables of the image."""
    return dict(word.split("=", 1) for word in shlex.split(image["ENV"]))


def test_the_image_is_small_and_its_user_is_not_root(folder, image):
    assert re.fullmatch(r"python:3\.\d+-slim", image["FROM"])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", image["USER"])
    known = {"FROM", "RUN", "WORKDIR", "COPY", "USER", "ENV", "EXPOSE", "HEALTHCHECK"}
    assert set(image) == known | {"ENTRYPOINT", "CMD"}
    *copied, _ = image["COPY"].split()
    assert all((DEPLOY / name).exists() for name in copied)
    assert image["EXPOSE"].split() == [folder.requests, folder.metrics]


def test_the_image_serves_and_is_healthy_while_it_does(folder, image, environment):
    words = json.loads(image["ENTRYPOINT"]) + json.loads(image["CMD"])
    check = json.loads(re.sub(r".*\bCMD\s+", "", image["HEALTHCHECK"]))
    assert "/healthz" in check[-1]
    with folder.running(words, environment) as process:
        assert folder.answer() == b"hello\tworld\n"
        assert status_of(check) == 0
        assert ends(process) == 0
        (line, *_) = process.stderr.read().splitlines()
        assert json.loads(line)["logger"] == "gzmqsource.serve"
    assert status_of(check) != 0


def status_of(check):
    """Return the exit status of a check of health, a list of words; Docker has set a proxy."""
    assert check[:3] == ["env", "no_proxy=*", "python"]
    command = [*check[:2], sys.executable, *check[3:]]
    variables = os.environ | {"http_proxy": "http://127.0.0.1:1"}
    ended = subprocess.run(command, capture_output=True, env=variables, timeout=30, check=False)
    return ended.returncode


# Compose


def test_the_composed_server_is_asked_once_it_is_ready(folder, image, environment):
    (services,) = (each["services"] for each in folder.yaml("compose.yaml"))
    server, asking = services["hello"], services["ask"]
    words = json.loads(image["ENTRYPOINT"])
    kind, *check = server["healthcheck"]["test"]
    assert kind == "CMD"
    assert "/readyz" in check[-1]
    variables = environment | server["environment"]
    with folder.running([*words, *json.loads(image["CMD"])], variables) as process:
        assert status_of(check) == 0
        assert folder.workers()
        assert asking["depends_on"] == {"hello": {"condition": "service_healthy"}}
        command = [word.replace("//hello:", "//127.0.0.1:") for word in asking["command"]]
        assert run(*command).stdout == b"hello\tworld\n"
        assert ends(process) == 0
    assert int(server["stop_grace_period"].rstrip("s")) > stops_within(folder, variables)
    assert server["ports"] == [
        f"127.0.0.1:{port}:{port}" for port in (folder.requests, folder.metrics)
    ]


# Kubernetes


@pytest.fixture
def kubernetes(folder):
    """The service, the deployment, and its one container."""
    objects = {each["kind"]: each for each in folder.yaml("kubernetes.yaml")}
    (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    return objects["Service"], objects["Deployment"]["spec"], container


def test_the_pods_serve_and_their_probes_are_answered(folder, image, kubernetes):
    _, _, container = kubernetes
    ports = {each["name"]: str(each["containerPort"]) for each in container["ports"]}
    assert ports == {"requests": folder.requests, "metrics": folder.metrics}
    variables = {each["name"]: each["value"] for each in container["env"]}
    words = json.loads(image["ENTRYPOINT"]) + container["args"]
    with folder.running(words, variables) as process:
        for name, path in {
            "startupProbe": "/healthz",
            "livenessProbe": "/healthz",
            "readinessProbe": "/readyz",
        }.items():
            assert container[name]["httpGet"] == {"path": path, "port": "metrics"}
            assert folder.status(path) == 200
        assert folder.answer() == b"hello\tworld\n"
        assert ends(process) == 0


def test_a_rolling_update_has_a_new_pod_before_an_old_one_ends(folder, kubernetes):
    service, deployment, container = kubernetes
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    labels = deployment["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == deployment["selector"]["matchLabels"] == labels
    assert service["spec"]["clusterIP"] == "None"
    pod = deployment["template"]["spec"]
    before = container["lifecycle"]["preStop"]["exec"]["command"]
    assert before[0] == "sleep"
    variables = {each["name"]: each["value"] for each in container["env"]}
    time = float(before[1]) + stops_within(folder, variables)
    assert pod["terminationGracePeriodSeconds"] > time
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["enableServiceLinks"]


def test_each_variable_is_an_option(folder, environment, kubernetes):
    _, _, container = kubernetes
    (services,) = (each["services"] for each in folder.yaml("compose.yaml"))
    named = {
        *environment,
        *services["hello"]["environment"],
        *(each["name"] for each in container["env"]),
    }
    options = set(re.findall(r"--([a-z-]+)", run("serve", "--help").stdout.decode()))
    common = set(re.findall(r"--([a-z-]+)", run("--help").stdout.decode()))
    for name in named - {"PYTHONDONTWRITEBYTECODE"}:
        option = name.removeprefix("GZMQSOURCE_").lower().replace("_", "-")
        assert option in common or option.removeprefix("serve-") in options, name
