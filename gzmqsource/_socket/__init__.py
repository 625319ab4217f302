"""One libzmq socket in one hub: how it is waited for, used and released."""
