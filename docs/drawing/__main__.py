"""Draw the diagrams of the pages: ``make pictures``."""

from drawing.canvas import TARGET, draw
from drawing.flow import broker, flow, pool
from drawing.inside import edge, house
from drawing.queues import queues
from drawing.stop import stop

draw("flow", 540, flow)
draw("pool", 486, pool)
draw("broker", 448, broker)
draw("queues", 552, queues)
draw("stop", 640, stop)
draw("edge", 404, edge)
draw("house", 566, house)
print(f"drawn into {TARGET}")
