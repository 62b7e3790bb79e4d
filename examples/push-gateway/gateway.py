#!/usr/bin/env python3
"""A gateway for `switchboard-relay --push-url http://127.0.0.1:8090/wake`.

The relay asks it to wake a phone with POST and {"server_id":…,"platform":…,"token":…}. It answers with 204 if the
notification is sent; the relay counts any other status as a failure, and does not ask again.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def fcm(server_id, token):
    """Firebase: POST https://fcm.googleapis.com/v1/projects/PROJECT/messages:send, with an OAuth 2.0 access token, and
    {"message": {"token": token, "data": {"server_id": server_id}, "android": {"priority": "high"}}}."""
    print(f"fcm: wake a phone of {server_id!r}", flush=True)


def apns(server_id, token):
    """Apple, over HTTP/2: POST https://api.push.apple.com/3/device/TOKEN, with a signed JWT, `apns-topic: BUNDLE`,
    `apns-push-type: background`, and {"aps": {"content-available": 1}, "server_id": server_id}."""
    print(f"apns: wake a phone of {server_id!r}", flush=True)


PLATFORMS = {"fcm": fcm, "apns": apns}


class Gateway(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # The relay keeps its connections open.

    def do_POST(self):
        try:
            wake = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            PLATFORMS[wake["platform"]](wake["server_id"], wake["token"])
            self.send_response(204)
        except (KeyError, TypeError, ValueError):
            self.send_response(400)
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8090
    with ThreadingHTTPServer(("127.0.0.1", port), Gateway) as server:
        print(f"listening on port {server.server_address[1]}", flush=True)
        server.serve_forever()
