"""One libzmq socket in one hub: how it is waited for, used and released."""

from gzmqsource._socket.hub_socket import HubSocket as HubSocket
