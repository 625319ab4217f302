"""The lines that keep the invariants, and what each becomes when it is broken."""

from mutants.asking import ASKING
from mutants.behind_brokers import BEHIND_BROKERS
from mutants.broker import BROKER
from mutants.command_line import COMMAND_LINE
from mutants.doors import DOORS
from mutants.fleet import FLEET
from mutants.green import GREEN
from mutants.installing import INSTALLING
from mutants.mutation import SIMULATION, Mutation
from mutants.operating import OPERATING
from mutants.others import OTHERS
from mutants.receiving import RECEIVING
from mutants.reporting import REPORTING
from mutants.requests import REQUESTS
from mutants.responding import RESPONDING
from mutants.socket_floor import SOCKET
from mutants.source_floor import SOURCE
from mutants.stopping import STOPPING
from mutants.texts import TEXTS
from mutants.verbs import VERBS

__all__ = ["MUTATIONS", "SIMULATION", "Mutation"]

MUTATIONS = [
    *SOCKET,
    *SOURCE,
    *RECEIVING,
    *GREEN,
    *OTHERS,
    *OPERATING,
    *ASKING,
    *REPORTING,
    *RESPONDING,
    *DOORS,
    *FLEET,
    *INSTALLING,
    *STOPPING,
    *VERBS,
    *REQUESTS,
    *BROKER,
    *BEHIND_BROKERS,
    *TEXTS,
    *COMMAND_LINE,
]
