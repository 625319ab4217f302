"""Lines of the command that are broken: its streams, its options, and what it refuses."""

from mutants.mutation import Mutation

COMMAND_LINE = [
    Mutation(
        "a socket gets the number of an output that was closed",
        "cli/__init__.py",
        "    open_streams()\n",
        "",
        "cli/test_closed_streams.py",
    ),
    Mutation(
        "messages for an output that was closed are discarded",
        "cli/_early.py",
        '        (1, "stdout", os.O_RDONLY),\n',
        '        (1, "stdout", os.O_WRONLY),\n',
        "cli/test_closed_streams.py",
    ),
    Mutation(
        "a handler that prints fails if the output was closed",
        "cli/_serve.py",
        "    discard_closed_output()\n",
        "",
        "cli/test_closed_streams.py",
    ),
    Mutation(
        "a number that libzmq does not take is a traceback",
        "cli/_numbers.py",
        "        super().__init__(least, most)\n",
        "        super().__init__(least)\n",
        "cli/test_refused_numbers.py",
    ),
    Mutation(
        "a hangup does nothing to a broker",
        "cli/_command.py",
        "            release_hangups()\n",
        "            pass\n",
        "cli/test_hangups.py",
    ),
    Mutation(
        "a hangup ends a broker that nohup has started",
        "cli/_early.py",
        "        signal.signal(signal.SIGHUP, _before)",
        "        signal.signal(signal.SIGHUP, signal.SIG_DFL)",
        "cli/test_hangups.py",
    ),
    Mutation(
        "a hangup during the start of a broker is forgotten",
        "cli/_early.py",
        "        if hung_up:\n",
        "        if False:\n",
        "cli/test_hangups.py",
    ),
    Mutation(
        "no verb has IPv6",
        "cli/_sockets.py",
        '    return {"ipv6": 1} if needs else {}\n',
        "    return {}\n",
        "cli/test_ipv6.py",
    ),
    Mutation(
        "a broker has no IPv6",
        "cli/_broker.py",
        ", **ipv6_for(front, back)",
        "",
        "cli/test_ipv6.py",
    ),
    Mutation(
        "a proxy has no IPv6",
        "cli/_watch.py",
        "security | ipv6_for(front, back)",
        "security",
        "cli/test_ipv6.py",
    ),
    Mutation(
        "top in the background shows nothing",
        "cli/_top.py",
        "    if live is not None and not has_foreground(console):\n",
        "    if False:\n",
        "cli/test_top_screens.py",
    ),
    Mutation(
        "any page of metrics is one of gzmqsource",
        "cli/_reading.py",
        "        if not is_ours:\n",
        "        if False:\n",
        "cli/test_foreign_pages.py",
    ),
    Mutation(
        "a page of another program is no problem",
        "cli/_checkup.py",
        '            yield Finding("not-gzmqsource", self._wrong, _OTHER_PAGE)\n',
        "",
        "cli/test_foreign_pages.py",
    ),
    Mutation(
        "a module that exits while it is imported is success",
        "cli/_loading.py",
        "    except (Exception, SystemExit) as error:\n",
        "    except Exception as error:\n",
        "cli/test_loading.py",
    ),
]
