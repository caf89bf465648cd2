"""A W&B server that takes what it is sent, and remembers it."""

import contextlib
import gzip
import http.server
import json
import re
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        raw = gzip.decompress(raw) if self.headers.get("content-encoding") == "gzip" else raw
        if "graphql" in self.path:
            query = json.loads(raw)
            name = re.search(r"(?:query|mutation)\s+(\w+)", query["query"])[1]
            self.server.asked.append((name, query.get("variables") or {}))
            if self.server.refuses and name == "UpsertBucket":
                self.answer({"errors": [{"message": "refused"}]}, self.server.refuses)
            else:
                self.answer({"data": self.data(name, query.get("variables"))})
            return
        if self.path.endswith("file_stream"):
            sent = json.loads(raw)
            lines = sent.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
            self.server.history += map(json.loads, lines)
            if sent.get("complete"):
                self.server.exit_codes.append(sent["exitcode"])
        self.answer({})

    def data(self, name, variables):
        if name == "RunResumeStatus" and self.server.last_step is not None:
            return {"model": {"id": "p", "name": "project", "bucket": resumed(self.server.last_step)}}
        if name != "CreateRunFiles":
            return ANSWERS.get(name, {})
        files = [{"name": file, "uploadUrl": f"{self.server.url}/{file}"} for file in variables["files"]]
        return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}

    def do_PUT(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.files.append(self.path.removeprefix("/"))
        self.answer({})

    def do_GET(self):
        self.answer({})

    do_HEAD = do_GET

    def answer(self, value, status=200):
        raw = json.dumps(value).encode() if self.command != "HEAD" else b""
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        with contextlib.suppress(OSError):  # the client has ended
            self.wfile.write(raw)

    def log_message(self, *_):
        pass


def resumed(step):
    """What the server knows of a run that has come to a step."""
    tail = json.dumps([json.dumps({"_step": step, "_runtime": 9})])
    counts = {"historyLineCount": step + 1, "eventsLineCount": 0, "logLineCount": 0}
    known = {"summaryMetrics": json.dumps({"_step": step}), "historyTail": tail, "eventsTail": '["{}"]'}
    return {**BUCKET, **counts, **known, "tags": [], "wandbConfig": '{"t": 1}'}


PROJECT = {"id": "p", "name": "project", "entity": {"id": "e", "name": "me"}}
BUCKET = {"id": "b", "name": "run", "displayName": "run", "config": "{}", "project": PROJECT}
ARTIFACT = {"id": "a", "state": "COMMITTED", "artifactSequence": {"id": "s", "latestArtifact": None}}
ANSWERS = {
    "UpsertBucket": {"upsertBucket": {"bucket": {**BUCKET, "historyLineCount": 0}, "inserted": True}},
    "CreateArtifact": {"createArtifact": {"artifact": ARTIFACT}},
}


@contextlib.contextmanager
def wandb_server():
    """Serves in a thread. The server has url, asked [(operation, variables)], history, exit_codes, files."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # clients that end without a goodbye
    server.refuses, server.last_step = 0, None  # an HTTP status for runs; the last step of a resumed one
    server.asked, server.history, server.exit_codes, server.files = [], [], [], []
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
