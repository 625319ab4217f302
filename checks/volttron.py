"""VOLTTRON's router with agents, RPC and pub/sub, over the drop-in and over the patch.

``make volttron``. VOLTTRON wants older versions of pyzmq and gevent than the project's environment
has, so this makes one of its own.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import venv

PROJECT = pathlib.Path(__file__).parent.parent
PLACE = PROJECT / "build" / "volttron"

#: Seconds for the program. It takes 5.
LIMIT = 60

#: Runs the program over the drop-in, and leaves `zmq` as it is.
DROP_IN = """
import runpy, sys
import zmq.green
from gzmqsource import green

for name, new in green.REPLACED.items():
    setattr(zmq.green, name, new)
runpy.run_path(sys.argv[1], run_name="__main__")
"""

FORMS = {"zmq.green": (), "drop-in": ("-c", DROP_IN), "patched": ("-m", "gzmqsource.monkey")}

#: The router runs in a thread of its own, as the platform has it; and as there, in the same process
#: an agent answers what the others ask about their rights.
PROGRAM = """
import os, socket, types
import gevent, gevent.event

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"

from volttron.client.vip.agent.subsystems import RPC, Hello, PeerList, Ping, PubSub
from volttron.messagebus.zmq import ZmqMessageBus
from volttron.messagebus.zmq.zmq_core import ZmqCore
from volttron.server.server_options import ServerOptions
from volttron.types.auth.auth_credentials import Credentials

TOTAL = 300


class Agent:
    def __init__(self, identity):
        self.core = ZmqCore(
            self,
            address=address,
            credentials=Credentials(identity=identity),
            server_credentials=Credentials(identity="platform"),
            agent_contexts={identity: types.SimpleNamespace(address=address)},
        )
        self.peers, self.ping = PeerList(core=self.core), Ping(self.core)
        self.hello = Hello(core=self.core)
        common = {"core": self.core, "owner": self, "peerlist_subsys": self.peers}
        self.rpc = RPC(**common)
        self.pubsub = PubSub(
            **common, rpc_subsys=self.rpc, tag_vip_id=None, tag_refresh_interval=-1
        )
        self.core.setup()

    def start(self):
        running = gevent.event.Event()
        gevent.spawn(self.core.run, running)
        assert running.wait(20)


options = ServerOptions(address=[address], auth_enabled=False, instance_name="here")
bus = ZmqMessageBus(server_options=options)
bus._stop_handler = None
bus.start()

with gevent.Timeout(50):
    rights, asked, asking = map(Agent, ("platform.auth", "asked", "asking"))
    rights.rpc.export(lambda identity: {}, "get_protected_rpcs")
    rights.rpc.export(lambda **_: True, "check_pubsub_authorization")
    asked.rpc.export(lambda a, b: a + b, "add")
    for agent in (rights, asked, asking):
        agent.start()
    while not {"platform.auth", "asked", "asking"} <= set(asking.peers.list().get()):
        gevent.sleep(0.01)

    calls = [asking.rpc.call("asked", "add", number, 1) for number in range(TOTAL)]
    assert [call.get() for call in calls] == [number + 1 for number in range(TOTAL)]

    heard = []
    asked.pubsub.subscribe("pubsub", "devices", lambda *message: heard.append(message[-1])).get()
    for number in range(TOTAL):
        asking.pubsub.publish("pubsub", "devices/meter", {}, number).get()
    while len(heard) < TOTAL:
        gevent.sleep(0.01)
    assert heard == list(range(TOTAL))

print(type(asked.core._connection._socket).__bases__[-1].__module__, flush=True)
os._exit(0)  # the router has no end of its own
"""


def python():
    """Return the interpreter of the environment, which is made if it is not there."""
    interpreter = PLACE / "bin" / "python"
    if not (PLACE / "installed").exists():
        venv.create(PLACE, clear=True, with_pip=True)
        pip = (interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        subprocess.run([*pip, "volttron"], check=True)
        (PLACE / "installed").touch()
    return interpreter


def run(interpreter, form):
    """Run the program over a form; return whether its sockets are of that form, and all is well."""
    with tempfile.TemporaryDirectory() as home:
        program = pathlib.Path(home, "program.py")
        program.write_text(PROGRAM)
        done = subprocess.run(
            [interpreter, *FORMS[form], program],
            env={**os.environ, "VOLTTRON_HOME": home, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
    wanted = "zmq.green.core" if form == "zmq.green" else "gzmqsource.green"
    well = done.returncode == 0 and done.stdout.split() == [wanted]
    print(f"VOLTTRON over {form}: {'complete' if well else done.stdout + done.stderr}")
    return well


def main():
    interpreter = python()
    failed = [form for form in FORMS if not run(interpreter, form)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
