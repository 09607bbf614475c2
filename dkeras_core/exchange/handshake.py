"""The handshake: both sides prove that they hold the job's secret, then key the channel for this session."""

from __future__ import annotations

from dkeras_core.errors import ExchangeError
from dkeras_core.exchange import frames, security
from dkeras_core.exchange.channel import Channel
from dkeras_core.exchange.frames import FrameError, Header, Kind


def as_client(channel: Channel, secret: bytes) -> None:
    """Join side. Raises ExchangeError when the server does not hold the secret or turns this client away."""
    nonce = security.new_nonce()
    hello = Header(Kind.HELLO, channel.worker, channel.attempt, 0, len(nonce)).pack()
    channel.send_control(Kind.HELLO, nonce)
    header, payload = channel.receive_raw()
    if header.kind is Kind.END:  # not authenticated yet: text of a stranger, so it is quoted
        said = str(frames.decode_control(payload).get("message", ""))[:300]
        raise ExchangeError(f"the parameter server turned the connection away: {said!r}")
    if header.kind is not Kind.CHALLENGE or len(payload) != security.NONCE_SIZE + security.PROOF_SIZE:
        raise FrameError("did not answer the handshake as this protocol asks")
    challenge, proof = payload[: security.NONCE_SIZE], payload[security.NONCE_SIZE :]
    transcript = hello + nonce + challenge
    if not security.same(proof, security.server_proof(secret, transcript)):
        raise ExchangeError(
            "the server at this address does not hold the secret of this job",
            "another job's server may listen there now: look whether this job's driver still runs",
        )
    channel.send_control(Kind.PROOF, security.client_proof(secret, transcript))
    to_server, to_client = security.session_keys(secret, transcript)
    channel.bind(to_server, to_client)


def as_server(channel: Channel, secret: bytes) -> None:
    """Server side; sets the channel's worker and attempt. Raises FrameError for whoever lacks the secret."""
    header, nonce = channel.receive_raw()
    if header.kind is not Kind.HELLO or len(nonce) != security.NONCE_SIZE:
        raise FrameError("did not begin with a handshake")
    channel.worker, channel.attempt = header.worker, header.attempt
    challenge = security.new_nonce()
    transcript = header.pack() + nonce + challenge
    channel.send_control(Kind.CHALLENGE, challenge + security.server_proof(secret, transcript))
    header, proof = channel.receive_raw()
    if header.kind is not Kind.PROOF or not security.same(proof, security.client_proof(secret, transcript)):
        raise FrameError("failed the challenge: it does not hold the secret of this job")
    to_server, to_client = security.session_keys(secret, transcript)
    channel.bind(to_client, to_server)
