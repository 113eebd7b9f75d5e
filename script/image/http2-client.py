"""Owns a client of the image's test that has a tunnel in a stream of HTTP/2.

http2-client.py HOST PORT AUTHORITY PATH    writes what a GET of PATH through the tunnel to AUTHORITY gives
"""

import socket
import ssl
import sys

import h2.config
import h2.connection
import h2.events

STREAM = 1

host, port, authority, path = sys.argv[1:]

context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
context.set_alpn_protocols(["h2"])

wire = context.wrap_socket(socket.create_connection((host, int(port)), timeout=30))
assert wire.selected_alpn_protocol() == "h2", "HTTP/2 was not agreed on"

# The fields of a CONNECT are not those of a request with a path (RFC 9113, section 8.5).
connection = h2.connection.H2Connection(h2.config.H2Configuration(validate_outbound_headers=False))
connection.initiate_connection()
connection.send_headers(STREAM, [(":method", "CONNECT"), (":authority", authority)])

answer = bytearray()
ended = False

while not ended:
    wire.sendall(connection.data_to_send())
    data = wire.recv(65536)
    assert data, "the connection was closed"

    for event in connection.receive_data(data):
        if isinstance(event, h2.events.ResponseReceived):
            status = dict(event.headers)[b":status"]
            assert status == b"200", status
            connection.send_data(STREAM, f"GET {path} HTTP/1.0\r\n\r\n".encode())
        elif isinstance(event, h2.events.DataReceived):
            answer += event.data
            connection.acknowledge_received_data(event.flow_controlled_length, STREAM)
        elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
            ended = True

sys.stdout.buffer.write(answer.partition(b"\r\n\r\n")[2])
