"""Lines that name a mistake: what was wrong, and with which object."""

from mutants.mutation import Mutation

TEXTS = [
    Mutation(
        "a port above 65535 is bound as another one",
        "_socket/addresses.py",
        '    if len(port.lstrip("0")) > 5 or int(port) > _LAST_PORT:\n',
        "    if False:\n",
        "test_mistakes.py",
    ),
    Mutation(
        "who holds an address is not said",
        "_socket/addresses.py",
        "    kind = holder(socket, endpoint)\n",
        "    kind = None\n",
        "test_mistakes.py",
    ),
    Mutation(
        "a handler that cannot be called with one argument is accepted",
        "_source/handlers.py",
        "    _check_takes_one(handle)\n",
        "    pass\n",
        "test_mistakes.py",
    ),
    Mutation(
        "a number in the place of block waits for ever",
        "_source/source.py",
        "            if message is False and block is True:\n",
        "            if message is False and block:\n",
        "test_mistakes_of_calls.py",
    ),
    Mutation(
        "Full does not say of which source",
        "_source/core.py",
        "            full.args = (refusals.no_room(self, timeout if block else None),)\n",
        "            pass\n",
        "test_mistakes_of_calls.py",
    ),
    Mutation(
        "a handler that was forgotten is not reported",
        "_source/neglect.py",
        "    if core.state is State.OPEN and core.socket.is_readable():\n",
        "    if False:\n",
        "test_neglect.py",
    ),
    Mutation(
        "a subscriber without a topic is not reported",
        "_source/neglect.py",
        "    if core.started and has_topics(core) is False:\n",
        "    if False:\n",
        "test_neglect.py",
    ),
    Mutation(
        "a source in use is looked at for ever",
        "_source/neglect.py",
        "            if puller is None or is_in_use(core, puller):\n",
        "            if puller is None:\n",
        "test_neglect.py",
    ),
    Mutation(
        "a new source waits for the late look of an old one",
        "_source/neglect.py",
        "        if self._timer is not None and self._delay > FIRST:\n",
        "        if False:\n",
        "test_neglect.py",
    ),
    Mutation(
        "a reply that cannot be sent does not name its handler",
        "workers/_calling.py",
        "            raise type(error)(text) from None\n",
        "            raise\n",
        "test_neglect.py",
    ),
    Mutation(
        "an error of the rules has the passwords in it",
        "auth/__init__.py",
        "        got = type(domain).__name__\n",
        "        got = repr(domain)\n",
        "workers/test_mistakes_of_workers.py",
    ),
    Mutation(
        "a path is taken from the process that is bound to it",
        "_socket/addresses.py",
        "        except OSError:\n            return False\n        return True\n",
        "        except OSError:\n            return False\n        return False\n",
        "test_known_endpoints.py",
    ),
    Mutation(
        "libzmq takes the number that a port begins with",
        "_socket/addresses.py",
        '    if transport == "tcp" and not port.isdecimal() and _NEARLY_A_PORT.fullmatch(port):\n',
        "    if False:\n",
        "test_mistakes.py",
    ),
    Mutation(
        "seconds that no timer has are accepted",
        "workers/_seconds.py",
        "    if not least <= number <= LONGEST:\n",
        "    if not least <= number:\n",
        "workers/test_mistakes_of_workers.py",
    ),
]
