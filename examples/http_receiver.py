"""A receiver for Tidegate's http sink that has each record exactly once, in SQLite: http_receiver.py PORT FILE"""
import sqlite3, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

db, lock = sqlite3.connect(sys.argv[2], check_same_thread=False), threading.Lock()
db.execute("CREATE TABLE IF NOT EXISTS lines (part TEXT, line TEXT)")
db.execute("CREATE TABLE IF NOT EXISTS stands (part TEXT PRIMARY KEY, generation INT, epoch INT, next INT, key TEXT)")


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept

    def do_POST(self):
        head, length = self.headers, int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) == length:  # else the sender has given up
            with lock, db:  # one transaction: lines and position change together, or not at all
                status, next = self.take(head, body.decode().split("\n")[:-1])
            self.send_response(status)
            if next is not None:
                self.send_header("Tidegate-Next", str(next))
            self.send_header("Content-Length", "0")
            self.end_headers()

    def take(self, head, lines):
        part = head["Tidegate-Topic-Id"] + "/" + head["Tidegate-Partition"]
        token = (int(head["Tidegate-Generation"]), int(head["Tidegate-Epoch"]))
        row = db.execute("SELECT generation, epoch, next, key FROM stands WHERE part = ?", (part,)).fetchone()
        generation, epoch, next, key = row or (0, 0, None, None)
        if token < (generation, epoch):
            return 409, None  # a later owner has acquired or written
        if head["Tidegate-Action"] == "write" and head["Idempotency-Key"] != key:  # else: it has come before
            if next is not None and next != int(head["Tidegate-Expected"]):
                return 409, None
            db.executemany("INSERT INTO lines VALUES (?, ?)", [(part, line) for line in lines])
            next, key = int(head["Tidegate-Next"]), head["Idempotency-Key"]
        db.execute("REPLACE INTO stands VALUES (?, ?, ?, ?, ?)", (part, *token, next, key))
        return 200, next

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
print(f"http://127.0.0.1:{server.server_port}/", flush=True)
server.serve_forever()
