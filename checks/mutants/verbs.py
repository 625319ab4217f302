"""Lines of what the verbs say, wait for and count that are broken."""

from mutants.mutation import Mutation

VERBS = [
    Mutation(
        "what no peer has is success",
        "cli/_send.py",
        "            self.undelivered = self.total - len(self.refused)\n",
        "            self.undelivered = 0\n",
        "cli/test_send_waiting.py",
    ),
    Mutation(
        "what libzmq has given up is success",
        "cli/_send.py",
        "self.is_interrupted or core.gave_up",
        "self.is_interrupted",
        "cli/test_send_waiting.py",
    ),
    Mutation(
        "a message in hand is lost by a signal",
        "cli/_send.py",
        "        except gevent.GreenletExit:\n            self._held = held\n",
        "        except gevent.GreenletExit:\n",
        "cli/test_pipes.py",
    ),
    Mutation(
        "the peer at a wildcard is missed",
        "cli/_peers.py",
        "        return self.is_bound and ports[0] == ports[1]\n",
        "        return False\n",
        "cli/test_send_waiting.py",
    ),
    Mutation(
        "an outage is said once, and the next one never",
        "cli/_peers.py",
        "            self.is_reported, self.reason = False, None\n",
        "            self.reason = None\n",
        "cli/test_send_waiting.py",
    ),
    Mutation(
        "a request that is interrupted is success",
        "cli/_pipes.py",
        "                self._is_broken_off = True\n",
        "                pass\n",
        "cli/test_request_verb.py",
    ),
    Mutation(
        "a repeated SIGTERM ends what handlers have begun",
        "cli/_signals.py",
        "repeated or (signal.SIGINT,)",
        "repeated or (signal.SIGINT, signal.SIGTERM)",
        "cli/test_stop_twice.py",
    ),
    Mutation(
        "a second Ctrl-C changes nothing",
        "cli/_signals.py",
        "        if has_told:\n",
        "        if False:\n",
        "cli/test_stop_twice.py",
    ),
    Mutation(
        "the live line is shown in the background",
        "cli/_live.py",
        "        if has_foreground(self.console):\n            return super().process",
        "        if True:\n            return super().process",
        "cli/test_live_line.py",
    ),
    Mutation(
        "the cursor is hidden",
        "cli/_live.py",
        "        return False\n\n\n@functools.cache",
        "        return super().show_cursor(_show)\n\n\n@functools.cache",
        "cli/test_live_line.py",
    ),
    Mutation(
        "a piece copies what follows it",
        "cli/_text.py",
        "        yield whole[start : start + _PIECE]\n",
        "        yield whole[start:][:_PIECE]\n",
        "cli/test_large_messages.py",
    ),
    Mutation(
        "a signal is not heard while a message is written",
        "cli/_output.py",
        "                    yield_to_io(get_hub())\n",
        "                    pass\n",
        "cli/test_large_messages.py",
    ),
    Mutation(
        "gevent looks for its plugins at each step",
        "cli/_serve.py",
        "    module.entry_points = found.select\n",
        "    pass\n",
        "cli/test_serve_patched.py",
    ),
    Mutation(
        "a child that a handler forks becomes a second server",
        "cli/_handler.py",
        "                self._end_child()\n",
        "                pass\n",
        "cli/test_forking_handlers.py",
    ),
]
