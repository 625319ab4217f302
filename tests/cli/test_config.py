"""Options from the environment and from a file, and what wins."""

import json
import os
import signal
import sys

import pytest
import zmq
from command_under_test import run
from gevent import subprocess
from helpers import closing, free_ports

from gzmqsource import Source
from gzmqsource.cli._command import gzmqsource
from gzmqsource.cli._config import environment_of_workers

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]


@pytest.fixture
def config(tmp_path):
    """Write a file of options; gives its path."""

    def write(text):
        path = tmp_path / "options.toml"
        path.write_text(text)
        return path

    return write


def environment(**variables):
    return os.environ | {name: str(value) for name, value in variables.items()}


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(config, tmp_path):
    path = config('[keygen]\nname = "file"\n')

    def made(*common, words=(), **variables):
        finished = run(*common, "keygen", tmp_path, *words, env=environment(**variables))
        assert finished.returncode == 0, finished.stderr
        public, _ = finished.stdout.decode().split()
        return public.removeprefix(f"{tmp_path}/").removesuffix(".key")

    variable = {"GZMQSOURCE_KEYGEN_NAME": "environment"}
    assert made() == "gzmqsource"
    assert made("--config", path) == "file"
    assert made("--config", path, **variable) == "environment"
    assert made("--config", path, words=["--name", "word"], **variable) == "word"
    again = run("keygen", tmp_path, env=environment(GZMQSOURCE_CONFIG=path))
    assert b"file.key exists already" in again.stderr


def run_python(program, *words, **options):
    command = [sys.executable, "-c", program, *words]
    return subprocess.run(command, capture_output=True, timeout=60, check=False, **options)


def asked_at(*ports):
    for port in ports:
        finished = run("request", "--connect", f"tcp://127.0.0.1:{port}", "x")
        assert finished.stdout == b"old\tx\n"


def test_a_server_has_all_its_options_from_a_file(serving, config):
    metrics, one, two = free_ports(3)
    path = config(f"""
log-level = "debug"
[serve]
bind = ["tcp://127.0.0.1:{one}", "tcp://127.0.0.1:{two}"]
metrics = {metrics}
spawn = 2
dead-after = 5
timeout = 0.5
patch = true
[recv]
nothing-that-serve = "looks at"
""")
    serving(common=("--config", path), binds=False)
    asked_at(one, two)
    assert b"endpoint" in run("top", metrics, "--interval", 0.1, "--count", 1).stdout


def test_a_server_has_all_its_options_from_the_environment(serving):
    one, two = free_ports(2)
    serving(
        GZMQSOURCE_SERVE_CONNECT=f"tcp://127.0.0.1:{one} tcp://127.0.0.1:{two}",
        GZMQSOURCE_SERVE_PATCH="0",
        GZMQSOURCE_SERVE_SPAWN="1",
        GZMQSOURCE_SERVE_TYPE="router",
    )
    for port in one, two:
        bound = ("request", "--bind", f"tcp://127.0.0.1:{port}", "x")
        assert run(*bound).stdout == b"old\tx\n"


def test_files_are_separated_by_colons_in_the_environment(address, context, tmp_path):
    paths = [tmp_path / "a file", tmp_path / "another"]
    for path in paths:
        path.write_text(path.name)
    with closing(Source.open(zmq.PULL, bind=address, context=context)) as (source,):
        variable = {"GZMQSOURCE_SEND_FILE": ":".join(map(str, paths))}
        assert run("send", "--connect", address, env=environment(**variable)).returncode == 0
        assert [source.recv(timeout=10) for _ in paths] == [[b"a file"], [b"another"]]


WRONG = {
    "unknown table": ("[serv]", "[serv] is unknown: did you mean [serve]?"),
    "unknown key in front": ("spawn = 1", "spawn is unknown: there are [bench], [broker]"),
    "unknown key": ("[serve]\nspwan = 1", "[serve] spwan is unknown: did you mean spawn?"),
    "underscore": ("[serve]\nmax_waiting = 1", "max_waiting is unknown: did you mean max-waiting?"),
    "strange key": ("[serve]\nxyzzy = 1", "[serve] xyzzy is unknown: there are bind, connect,"),
    "an option that only a master has": ("[serve]\nnumbers = true", "[serve] numbers is unknown"),
    "no option": ("[serve]\nhelp = true", "[serve] help is unknown"),
    "a file in a file": ('config = "x"', "config is unknown"),
    "no integer": ("[serve]\nspawn = true", "[serve] spawn is an integer, not True"),
    "a fraction": ("[serve]\nspawn = 2.5", "[serve] spawn is an integer, not 2.5"),
    "quoted": ('[serve]\nspawn = "2"', "[serve] spawn is an integer, not '2'"),
    "no number": ('[serve]\ntimeout = "x"', "[serve] timeout is a number, not 'x'"),
    "no flag": ("[serve]\npatch = 1", "[serve] patch is true or false, not 1"),
    "no list": ('[serve]\nbind = "x"', "[serve] bind is a list of strings, not 'x'"),
    "a list of numbers": ("[serve]\nbind = [1]", "[serve] bind is a list of strings, not [1]"),
    "no string": ("[serve]\nplain-user = 1", "[serve] plain-user is a string, not 1"),
    "no choice": ("[serve]\ntype = 1", "[serve] type is one of 'rep', 'pull'"),
    "no table": ("serve = 1", "serve has to be a table: [serve]"),
    "a table too many": ("[serve.spawn]", "[serve] spawn is an integer, not {}"),
    "out of range": (
        "[serve]\nspawn = 0",
        "not in the range 1<=x<=2147483647. (It is from FILE: [serve] spawn.)",
    ),
    "another choice": ('log-format = "x"', "'text', 'json'. (It is from FILE: log-format.)"),
    "a bad port": (
        '[serve]\nbind = ["tcp://x:80000"]',
        "65535 (It is from FILE: [serve] bind",
    ),
    "not TOML": ("[serve", "this is not TOML: "),
    "NUL": ('[serve]\npid = "a\\u0000b"', "[serve] pid contains a NUL"),
    "NUL in a list": ('[serve]\nbind = ["tcp://x\\u0000"]', "[serve] bind contains a NUL"),
    "a file without a name": ('[serve]\npid = ""', "'--pid': a file has a name"),
    "too deep": ("x = " + "[" * 100_000, "this is not TOML: "),
    "keys that are too deep": ("[serve]\nspawn" + ".x" * 3000 + " = 1", "FILE: "),
    "too many digits": ("[serve]\nspawn = 0x" + "f" * 5000, "FILE: [serve] spawn"),
    "too many digits of a string": ("[serve]\npid = 0x" + "f" * 5000, "[serve] pid is a string"),
}


@pytest.mark.parametrize(("text", "error"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_an_error_that_names_it_and_the_key(config, text, error):
    path = config(text)
    finished = run("--config", path, "serve", "json:dumps")
    assert finished.returncode == 2
    written = finished.stderr.decode()
    assert error.replace("FILE", str(path)) in written
    assert str(path) in written
    assert "Traceback" not in written


def test_a_password_of_a_wrong_type_is_in_no_error(config):
    path = config("[serve]\nplain-password = 31415926")
    finished = run("--config", path, "serve", "json:dumps")
    assert (finished.returncode, finished.stdout) == (2, b"")
    told = f"Error: {path}: [serve] plain-password is a string, not a value of the type int\n"
    assert finished.stderr.decode() == told


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path):
    for path, reason in (tmp_path, "Is a directory"), (tmp_path / "x", "No such file or directory"):
        finished = run("--config", path, "serve", "json:dumps")
        assert (finished.returncode, finished.stderr) == (2, f"Error: {path}: {reason}\n".encode())


def test_a_file_that_is_not_utf_8_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "binary"
    path.write_bytes(b'x = "\xff"')
    finished = run("--config", path, "serve", "json:dumps")
    assert finished.returncode == 2
    assert f"{path}: this is not TOML" in finished.stderr.decode()


def test_a_wrong_variable_is_an_error_that_names_it():
    variable = {"GZMQSOURCE_SERVE_SPAWN": "many"}
    finished = run("serve", "json:dumps", env=environment(**variable))
    assert finished.returncode == 2
    assert b"(It is from the environment variable GZMQSOURCE_SERVE_SPAWN.)" in finished.stderr


@pytest.mark.parametrize("where", ["words", "environment", "file"])
@pytest.mark.parametrize(
    ("word", "reason"),
    [("--log-level=loud", "Invalid value for '--log-level': 'loud'"), ("--nope", "No such option")],
)
def test_what_is_wrong_before_the_verb_is_a_record_for_programs(config, where, word, reason):
    words = {"words": ("--log-format", "json"), "file": ("--config", config('log-format = "json"'))}
    variable = {"GZMQSOURCE_LOG_FORMAT": "json"} if where == "environment" else {}
    finished = run(*words.get(where, ()), word, "doctor", env=environment(**variable))
    assert (finished.returncode, finished.stdout) == (2, b"")
    assert json.loads(finished.stderr)["message"].startswith(reason)


def test_no_words_are_answered_with_the_help_in_any_format():
    finished = run(env=environment(GZMQSOURCE_LOG_FORMAT="json"))
    assert (finished.returncode, finished.stdout) == (2, b"")
    assert finished.stderr.startswith(b"Usage:")


def test_a_variable_with_the_version_of_an_image_means_nothing():
    finished = run("doctor", env=environment(GZMQSOURCE_VERSION="1.2", GZMQSOURCE_PORT="tcp://x"))
    assert finished.returncode == 0
    assert b"transfer" in finished.stdout


def test_workers_have_no_option_of_their_master_but_the_log(monkeypatch, config):
    kept = {"PATH": "/bin", "GZMQSOURCE_TRANSFER": "pure", "GZMQSOURCE_PATCH": "green"}
    dropped = {
        "GZMQSOURCE_CONFIG": str(config("")),
        "GZMQSOURCE_SERVE_WORKERS": "4",
        "GZMQSOURCE_PLAIN_PASSWORD": "secret",
        "NOTIFY_SOCKET": "@x",
        "WATCHDOG_USEC": "1000",
        "WATCHDOG_PID": "1",
    }
    for name in [name for name in os.environ if name.startswith("GZMQSOURCE_")]:
        monkeypatch.delenv(name)
    for name, value in {**kept, **dropped}.items():
        monkeypatch.setenv(name, value)
    words = ["--log-format", "json", "--log-level", "DEBUG", "doctor"]
    with gzmqsource.make_context("gzmqsource", words) as context, context.scope():
        theirs = environment_of_workers()
    assert kept.items() <= theirs.items()
    assert not dropped.keys() & theirs
    logs = {name: value for name, value in theirs.items() if name.startswith("GZMQSOURCE_LOG_")}
    assert logs == {"GZMQSOURCE_LOG_FORMAT": "json", "GZMQSOURCE_LOG_LEVEL": "debug"}


@pytest.mark.parametrize("where", ["words", "environment"])
def test_a_hangup_before_the_verb_is_imported_ends_no_server(tmp_path, where):
    program = (
        "import os, signal, sys\n"
        "from gzmqsource.cli import _early\n"
        "_early.hold_hangups()\n"
        "os.kill(os.getpid(), signal.SIGHUP)\n"
        "print(_early.hung_up)\n"
    )
    words = ["--log-format", "text", "serve"] if where == "words" else ["recv"]
    variables = {"GZMQSOURCE_RECV_CURVE_CLIENTS": "/"} if where == "environment" else {}
    finished = run_python(program, *words, env=environment(**variables))
    assert (finished.returncode, finished.stdout) == (0, b"True\n")
    ended = run_python(program, "recv")
    assert ended.returncode == -signal.SIGHUP
