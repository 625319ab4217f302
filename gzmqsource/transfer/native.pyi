from gzmqsource.transfer.interface import Backlog, Waiting
from gzmqsource.transfer.message import Message
from gzmqsource.transfer.pure import PureAllowance, PureSizes, PureTransfer
from gzmqsource.transfer.pure_shortcuts import PureShortcuts

version: str

class NativeTransfer(PureTransfer): ...
class NativeAllowance(PureAllowance): ...
class NativeSizes(PureSizes): ...

class NativeShortcuts(PureShortcuts):
    def __init__(
        self,
        transfer: NativeTransfer,
        allowance: NativeAllowance,
        backlog: Backlog,
        waiting: Waiting,
        copies: bool,
    ) -> None: ...

def weight_of(message: Message) -> int: ...
