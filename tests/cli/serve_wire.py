"""Requests as bytes: those that must be refused, each a way in which two readers of one stream of bytes have disagreed
on where a request ends or whom it is for, or a flood; and those that must be answered."""

POST = b"POST /v1/completions HTTP/1.1\r\nHost: 127.1\r\nContent-Type: application/json\r\n"
BODY = b'{"prompt": "hi", "max_tokens": 1, "seed": 1}'
AGAIN = b"GET /version HTTP/1.1\r\nHost: 127.1\r\n\r\n"
ONCE = AGAIN[:-2] + b"Connection: close\r\n\r\n"


def get(line=b"GET /health HTTP/1.1", fields=b"Host: 127.1\r\n"):
    return line + b"\r\n" + fields + b"\r\n"


def field(extra):
    return get(fields=b"Host: 127.1\r\n" + extra + b"\r\n")


def sized(length, body=BODY, extra=b""):
    return POST + extra + b"Content-Length: " + length + b"\r\n\r\n" + body


def chunked(body, encoding=b"Transfer-Encoding: chunked\r\n"):
    return POST + encoding + b"\r\n" + body


N = str(len(BODY)).encode()
CHUNK = b"%x\r\n%b\r\n" % (len(BODY), BODY)
ENCODED = b"Transfer-Encoding: chunked\r\n"

REFUSED = {
    # Two accounts of how long the body is.
    "length and encoding": sized(N, CHUNK + b"0\r\n\r\n", ENCODED),
    "encoding and length": POST + b"Content-Length: " + N + b"\r\n" + ENCODED + b"\r\n" + CHUNK + b"0\r\n\r\n",
    "two lengths": sized(N, extra=b"Content-Length: 1\r\n"),
    "one length twice": sized(N, extra=b"Content-Length: " + N + b"\r\n"),
    "a list of lengths": sized(N + b", " + N),
    "a signed length": sized(b"+" + N),
    "a negative length": sized(b"-1"),
    "a length in hexadecimal": sized(b"0x10"),
    "a length with a space": sized(b"4 4"),
    "an empty length": sized(b""),
    "a length beyond 64 bits": sized(b"18446744073709551617"),
    "a length in other digits": sized("٤٤".encode()),
    "a space before the colon": POST + b"Content-Length : " + N + b"\r\n\r\n" + BODY,
    "gzip and chunked": chunked(CHUNK + b"0\r\n\r\n", b"Transfer-Encoding: gzip, chunked\r\n"),
    "chunked twice": chunked(CHUNK + b"0\r\n\r\n", b"Transfer-Encoding: chunked, chunked\r\n"),
    "two encodings": chunked(CHUNK + b"0\r\n\r\n", ENCODED + ENCODED),
    "an encoding and identity": chunked(CHUNK + b"0\r\n\r\n", ENCODED + b"Transfer-Encoding: identity\r\n"),
    "almost chunked": chunked(CHUNK + b"0\r\n\r\n", b"Transfer-Encoding: xchunked\r\n"),
    "chunked after a vertical tab": chunked(CHUNK + b"0\r\n\r\n", b"Transfer-Encoding: \x0bchunked\r\n"),
    "chunked with a parameter": chunked(CHUNK + b"0\r\n\r\n", b"Transfer-Encoding: chunked;q=1\r\n"),
    "chunked in a quoted string": chunked(CHUNK + b"0\r\n\r\n", b'Transfer-Encoding: "chunked"\r\n'),
    "an empty encoding": chunked(CHUNK + b"0\r\n\r\n", b"Transfer-Encoding:\r\n"),
    "chunked in HTTP/1.0": chunked(CHUNK + b"0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "an encoding that is folded": chunked(CHUNK + b"0\r\n\r\n", b"Transfer-Encoding:\r\n chunked\r\n"),
    # Chunks.
    "a chunk's size with 0x": chunked(b"0x" + CHUNK + b"0\r\n\r\n"),
    "a chunk's size with a sign": chunked(b"+" + CHUNK + b"0\r\n\r\n"),
    "a negative chunk": chunked(b"-1\r\n" + CHUNK + b"0\r\n\r\n"),
    "a chunk without a size": chunked(b"\r\n" + CHUNK + b"0\r\n\r\n"),
    "a chunk's size beyond 64 bits": chunked(b"1000000000000002c" + CHUNK[2:] + b"0\r\n\r\n"),
    "a chunk longer than it says": chunked(b"5\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a chunk without an end": chunked(CHUNK[:-2] + b"0\r\n\r\n"),
    "a chunk's size before a bare LF": chunked(CHUNK.replace(b"\r\n", b"\n", 1) + b"0\r\n\r\n"),
    "a chunk's size before a bare CR": chunked(CHUNK.replace(b"\r\n", b"\r", 1) + b"0\r\n\r\n"),
    "a space before a chunk's size": chunked(b" " + CHUNK + b"0\r\n\r\n"),
    "a chunk's data before a bare LF": chunked(CHUNK[:-2] + b"\n0\r\n\r\n"),
    "a chunk's extension with a bare LF": chunked(CHUNK.replace(b"\r\n", b";a\n\r\n", 1) + b"0\r\n\r\n"),
    "a last chunk before a bare LF": chunked(CHUNK + b"0\r\n\n"),
    "a field after the body": chunked(CHUNK + b"0\r\nHost: b\r\n\r\n"),
    "a length after the body": chunked(CHUNK + b"0\r\nContent-Length: 4\r\n\r\n"),
    # Lines.
    "bare LF everywhere": get().replace(b"\r\n", b"\n"),
    "a bare LF after a field": field(b"A: b\nC: d"),
    "a bare LF at the end": b"GET /health HTTP/1.1\r\nHost: 127.1\r\n\n",
    "a bare CR in a value": field(b"A: b\rC: d"),
    "CR CR LF": field(b"A: b\r"),
    "NUL in a value": field(b"A: b\0c"),
    "NUL in a name": field(b"A\0: b"),
    "a control character": field(b"A: b\x01"),
    "DEL": field(b"A: \x7f"),
    "a form feed": field(b"A: b\x0cc"),
    "a folded field": field(b"A: b\r\n c"),
    "a field folded by a tab": field(b"A: b\r\n\tc"),
    "a fold before any field": get(fields=b" Host: 127.1\r\n"),
    "a field without a colon": field(b"Abc"),
    "a field without a name": field(b": b"),
    "a name with a space": field(b"A b: c"),
    "a name with a tab": field(b"A\t: c"),
    "a name in brackets": field(b"A(b): c"),
    "a name with an at sign": field(b"A@b: c"),
    "a name beyond ASCII": field("Ä: c".encode()),
    # Whom it is for.
    "no Host": get(fields=b""),
    "two Hosts": get(fields=b"Host: 127.1\r\nHost: b\r\n"),
    "one Host twice": get(fields=b"Host: 127.1\r\nHost: 127.1\r\n"),
    "an empty Host": get(fields=b"Host: \r\n"),
    "a Host with a path": get(fields=b"Host: a/b\r\n"),
    "a Host with a user": get(fields=b"Host: a@b\r\n"),
    "a list of Hosts": get(fields=b"Host: a, b\r\n"),
    "a Host with a space": get(fields=b"Host: a b\r\n"),
    "a Host with a port that is none": get(fields=b"Host: a:http\r\n"),
    "a Host with a long port": get(fields=b"Host: a:800000\r\n"),
    "a Host in half a bracket": get(fields=b"Host: [::1\r\n"),
    "another host in the target": get(b"GET http://b/health HTTP/1.1"),
    "a user in the target": get(b"GET http://u@a/health HTTP/1.1"),
    "another scheme": get(b"GET ftp://a/health HTTP/1.1"),
    "CONNECT": get(b"CONNECT a:443 HTTP/1.1"),
    "OPTIONS *": get(b"OPTIONS * HTTP/1.1"),
    "a target without a slash": get(b"GET health HTTP/1.1"),
    # The request line.
    "HTTP/0.9": b"GET /health\r\n\r\n",
    "HTTP/2.0": get(b"GET /health HTTP/2.0"),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.2": get(b"GET /health HTTP/1.2"),
    "HTTP/1.10": get(b"GET /health HTTP/1.10"),
    "http in small letters": get(b"GET /health http/1.1"),
    "a space after the version": get(b"GET /health HTTP/1.1 "),
    "two spaces before the target": get(b"GET  /health HTTP/1.1"),
    "two spaces after the target": get(b"GET /health  HTTP/1.1"),
    "tabs": get(b"GET\t/health\tHTTP/1.1"),
    "a target with a space": get(b"GET /health b HTTP/1.1"),
    "a target beyond ASCII": get("GET /ä HTTP/1.1".encode()),
    "a target with a fragment": get(b"GET /health#a HTTP/1.1"),
    "a target with a backslash": get(b"GET /a\\b HTTP/1.1"),
    "a target with NUL": get(b"GET /health\0 HTTP/1.1"),
    "a line before the request": b"\r\n" + get(),
    "a space before the request": b" " + get(),
    "a method that is none": get(b"G@T /health HTTP/1.1"),
    "an unknown method": get(b"STEER /health HTTP/1.1"),
    "no method": get(b" /health HTTP/1.1"),
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(range(200)),
    # Floods.
    "a long target": get(b"GET /" + b"a" * 5000 + b" HTTP/1.1"),
    "a request line without an end": b"A" * 20000,
    "a target without an end": b"GET /" + b"a" * 20000,
    "a long field": field(b"A: " + b"b" * 17000),
    "a field without an end": b"GET / HTTP/1.1\r\nA: " + b"b" * 20000,
    "many fields": field(b"\r\n".join(b"A: b" for _ in range(100))),
    "a body too long": sized(b"16777217", b""),
    "a chunk too long": chunked(b"1000001\r\n"),
    "another expectation": sized(N, b"", b"Expect: 200-ok\r\n"),
}

# The bytes, and how many answers they get.
ANSWERED = {
    "a request": (get(), 1),
    "two at once": (get() + AGAIN, 2),
    "five at once": (get() + AGAIN * 4, 5),
    "HTTP/1.0": (get(b"GET /health HTTP/1.0"), 1),
    "an absolute target": (get(b"GET http://127.1/health HTTP/1.1"), 1),
    "an absolute target of https": (get(b"GET https://127.1/health HTTP/1.1"), 1),
    "an absolute target in large letters": (get(b"GET HTTP://LocalHost/health HTTP/1.1", b"Host: localHost\r\n"), 1),
    "a query": (get(b"GET /health?a=%00&b=/../ HTTP/1.1"), 1),
    "an address as Host": (get(fields=b"Host: 127.0.0.1:8000\r\n"), 1),
    "an address of IPv6 as Host": (get(fields=b"hOST:[::1]:8000 \r\n"), 1),
    "HEAD": (get(b"HEAD /health HTTP/1.1"), 1),
    "bytes beyond ASCII in a value": (field("A: ä".encode()), 1),
    "a tab in a value": (field(b"A:\tb\tc"), 1),
    "an upgrade, which is not taken": (field(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c") + AGAIN, 2),
    "an upgrade with a body": (sized(N, extra=b"Connection: upgrade\r\nUpgrade: h2c\r\n") + AGAIN, 2),
    "an upgrade with a body in chunks": (chunked(CHUNK + b"0\r\n\r\n", ENCODED +
                                                 b"Connection: upgrade\r\nUpgrade: h2c\r\n") + AGAIN, 2),
    "99 fields": (field(b"\r\n".join(b"A: b" for _ in range(98))), 1),
    "a body": (sized(N), 1),
    "a body, and a request": (sized(N) + AGAIN, 2),
    "a body in a chunk": (chunked(CHUNK + b"0\r\n\r\n") + AGAIN, 2),
    "a body in many chunks": (chunked(b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n") + AGAIN, 2),
    "a chunk's extension": (chunked(CHUNK.replace(b"\r\n", b";a=b\r\n", 1) + b"0\r\n\r\n") + AGAIN, 2),
    "a request with a body that needs none": (field(b"Content-Length: 3") + b"abc" + AGAIN, 2),
}
