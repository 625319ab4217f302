# What `__init__.py` has at run time, for type checkers: it takes the rest of zmq's names in a loop.
# Of two declarations of a name, a type checker takes the first, so no `*` may stand for one that is
# replaced.

from typing import Any

from zmq import _FINISHED_TRACKER as _FINISHED_TRACKER
from zmq import COPY_THRESHOLD as COPY_THRESHOLD
from zmq import DRAFT_API as DRAFT_API
from zmq import IPC_PATH_MAX_LEN as IPC_PATH_MAX_LEN
from zmq import PYZMQ_DRAFT_API as PYZMQ_DRAFT_API
from zmq import Stopwatch as Stopwatch
from zmq import SyncContext as SyncContext
from zmq import SyncSocket as SyncSocket
from zmq import backend as backend
from zmq import constants as constants
from zmq import curve_keypair as curve_keypair
from zmq import curve_public as curve_public
from zmq import error as error
from zmq import get_includes as get_includes
from zmq import get_library_dirs as get_library_dirs
from zmq import has as has
from zmq import strerror as strerror
from zmq import sugar as sugar
from zmq import utils as utils
from zmq import zmq_errno as zmq_errno
from zmq.constants import *  # noqa: F403
from zmq.error import *  # noqa: F403
from zmq.sugar.frame import *  # noqa: F403
from zmq.sugar.version import *  # noqa: F403

from gzmqsource.green._context import Context as Context
from gzmqsource.green._device import ThreadDevice as ThreadDevice
from gzmqsource.green._device import ThreadMonitoredQueue as ThreadMonitoredQueue
from gzmqsource.green._device import ThreadProxy as ThreadProxy
from gzmqsource.green._device import ThreadProxySteerable as ThreadProxySteerable
from gzmqsource.green._device import device as device
from gzmqsource.green._device import monitored_queue as monitored_queue
from gzmqsource.green._device import proxy as proxy
from gzmqsource.green._device import proxy_steerable as proxy_steerable
from gzmqsource.green._poll import Poller as Poller
from gzmqsource.green._poll import select as select
from gzmqsource.green._poll import zmq_poll as zmq_poll
from gzmqsource.green._socket import Socket as Socket
from gzmqsource.green._tracker import MessageTracker as MessageTracker

REPLACED: dict[str, Any]
