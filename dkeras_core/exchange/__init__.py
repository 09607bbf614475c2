"""The parameter server and its client: frames, sockets and session security. Only NumPy and the standard library."""

from dkeras_core.exchange.client import Client
from dkeras_core.exchange.joining import probe
from dkeras_core.exchange.security import new_secret
from dkeras_core.exchange.server import ParameterServer
from dkeras_core.exchange.status import ExchangeResult, ServerStatus
from dkeras_core.exchange.versions import versions

__all__ = ["Client", "ExchangeResult", "ParameterServer", "ServerStatus", "new_secret", "probe", "versions"]
