from gzmqsource.transfer.interface import Backlog, Waiting
from gzmqsource.transfer.pure import PureAllowance, PureShortcuts, PureTransfer

class NativeTransfer(PureTransfer): ...
class NativeAllowance(PureAllowance): ...

class NativeShortcuts(PureShortcuts):
    def __init__(
        self,
        transfer: NativeTransfer,
        allowance: NativeAllowance,
        backlog: Backlog,
        waiting: Waiting,
    ) -> None: ...
