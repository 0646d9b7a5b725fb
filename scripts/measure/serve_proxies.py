#!/usr/bin/env python3
"""Whether nginx and haproxy see the same requests as the server behind them: serve_proxies.py TRIMTAB

Every request of tests/cli/serve_wire.py, hostile or not, goes through each proxy, and after it one for a path that is
not there. A disagreement on where a request ends shows as an answer of 404 that one side counts and the other does not.
Debian: nginx-light and haproxy."""

import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
if len(sys.argv) != 2:
    sys.exit(__doc__)
sys.argv.append(str(ROOT / "tests/golden"))
sys.path.insert(0, str(ROOT / "tests/cli"))
import program  # noqa: E402
from program import check  # noqa: E402
from serve_client import Server, soon  # noqa: E402
from serve_wire import ANSWERED, REFUSED  # noqa: E402

MARK = b"GET /mark HTTP/1.1\r\nHost: 127.1\r\nConnection: close\r\n\r\n"
INNER = b"POST /health HTTP/1.1\r\nHost: 127.1\r\nContent-Type: application/json\r\n" \
        b"Content-Length: %d\r\n\r\n%b" % (len(MARK), MARK)

NGINX = """daemon off; pid FOLDER/pid; error_log FOLDER/error; worker_processes 1; events {}
http {
  access_log off; client_body_temp_path FOLDER/a; proxy_temp_path FOLDER/b; fastcgi_temp_path FOLDER/c;
  uwsgi_temp_path FOLDER/d; scgi_temp_path FOLDER/e;
  upstream server { server 127.0.0.1:BACK; keepalive 4; }
  server {
    listen 127.0.0.1:FRONT; proxy_request_buffering off; client_header_timeout 2s; client_body_timeout 2s;
    location / {
      proxy_pass http://server; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $http_host;
    }
  }
}
"""

HAPROXY = """global
  maxconn 100
defaults
  mode http
  timeout client 3s
  timeout server 3s
  timeout connect 3s
  timeout http-request 2s
frontend front
  bind 127.0.0.1:FRONT
  default_backend back
backend back
  http-reuse always
  server one 127.0.0.1:BACK
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def ask(port, data):
    """All that comes back within some seconds."""
    got = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=4) as connection:
            connection.sendall(data)
            while piece := connection.recv(1 << 16):
                got += piece
    except (TimeoutError, ConnectionError):
        pass
    return got


def n_unknown(server):
    return server.metrics().get('trimtab_http_refused_total{reason="404"}', 0)


def compare(server, name, command, text, folder):
    port, path = free_port(), folder / name
    path.write_text(text.replace("FRONT", str(port)).replace("BACK", str(server.port)).replace("FOLDER", str(folder)))
    proxy = subprocess.Popen([*command, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    soon(lambda: is_open(port), f"{name} does not start")
    requests = {"a body that is a request": INNER} | REFUSED | {key: data for key, (data, _) in ANSWERED.items()}
    n_answered = 0
    for what, data in requests.items():
        before = n_unknown(server)
        got = ask(port, data + MARK)
        seen, served = len(re.findall(rb"HTTP/1\.[01] 404", got)), n_unknown(server) - before
        check(seen == served, f"{name}: {what}: {seen} marks are answered, {served} were served")
        n_answered += b" 200 OK" in got
    proxy.terminate()
    proxy.wait()
    return {"proxy": name, "requests": len(requests), "answered": n_answered}


def main():
    with tempfile.TemporaryDirectory() as name, Server("--behind-proxy") as server:
        folder = pathlib.Path(name)
        print(json.dumps(compare(server, "nginx", ["nginx", "-c"], NGINX, folder)), flush=True)
        print(json.dumps(compare(server, "haproxy", ["haproxy", "-f"], HAPROXY, folder)), flush=True)
    program.end()


main()
