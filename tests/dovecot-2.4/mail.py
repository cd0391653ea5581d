"""Clients of a mail server, and what it tells of itself by other ways than the bridge's:
its log, events that it writes into a file, /proc."""

import base64
import imaplib
import json
import os
import poplib
import smtplib
import socket
import socketserver
import subprocess
import threading
import time

HOST, PASSWORD = "127.0.0.1", "pass"
EVENTS, LOG = "/run/judge/events", "/var/log/dovecot.log"
MESSAGE = b"From: a@example.org\r\nTo: b@example.org\r\nSubject: test\r\n\r\n" + b"words of a mail\r\n" * 500


connect = socket.create_connection


def connect_from(address):
    """The address that clients have from now on."""
    def create(place, *args, **kwargs):
        return connect(place, source_address=(address, 0))
    socket.create_connection = create


def run(*args):
    """What a command prints."""
    return subprocess.run(args, check=True, stdout=subprocess.PIPE, text=True).stdout


def dump(level, *filters):
    """Rows of dovestatd, numbers as numbers."""
    asked = ["dovestat", "-f", "ndjson", "dump", level, *filters]
    # It complains where there is nothing yet.
    found = subprocess.run(asked, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return [json.loads(line) for line in found.stdout.splitlines()]


def wait_for(what, condition, secs=20):
    """Waits until a condition holds, and returns what it is then."""
    end = time.monotonic() + secs
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"{what}: not within {secs} s"
        time.sleep(0.05)


def connected():
    """The sessions of mail users that are connected: the bridge has one for the time of authentications."""
    return [row for row in dump("session", "connected") if row["service"] != "auth"]


def session_of(user):
    """The one session of a user that is connected, once it is there."""
    return wait_for(f"the session of {user}", lambda: dump("session", "connected", f"user={user}"))[0]


def imap(user, password=PASSWORD):
    client = imaplib.IMAP4(HOST)
    client.login(user, password)
    return client


def pop3(user, password=PASSWORD):
    client = poplib.POP3(HOST)
    client.user(user)
    client.pass_(password)
    return client


def submission(user, password=PASSWORD):
    client = smtplib.SMTP(HOST, 587)
    client.ehlo()
    client.login(user, password)
    return client


def deliver(*users):
    """One mail for all of these, in one connection to LMTP."""
    client = smtplib.LMTP(HOST, 24)
    client.ehlo()
    client.mail("sender@example.net")
    for user in users:
        assert client.rcpt(user)[0] == 250, user
    # smtplib reads one reply; there is one for each recipient.
    replies = [client.data(MESSAGE)] + [client.getreply() for _ in users[1:]]
    assert all(code == 250 for code, _ in replies), replies
    client.quit()


class Sieve:
    """A client of ManageSieve."""

    def __init__(self, user, password=PASSWORD):
        self.socket = socket.create_connection((HOST, 4190))
        self.lines = self.socket.makefile("rb")
        self.reply()
        plain = f"\0{user}\0{password}".encode()
        self.ask(b'AUTHENTICATE "PLAIN" "%s"' % base64.b64encode(plain))

    def reply(self):
        while True:
            line = self.lines.readline()
            assert line, "the server closed the connection"
            if line.startswith((b"OK", b"NO", b"BYE")):
                return line

    def ask(self, command):
        self.socket.sendall(command + b"\r\n")
        line = self.reply()
        assert line.startswith(b"OK"), line
        return line

    def logout(self):
        self.ask(b"LOGOUT")
        self.socket.close()


class Relay(socketserver.StreamRequestHandler):
    """The server that submission passes mails on to."""

    def handle(self):
        self.wfile.write(b"220 relay\r\n")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                while self.rfile.readline() not in (b".\r\n", b""):
                    pass
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 yes\r\n")
            if verb == b"QUIT":
                return


def start_relay():
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    server = socketserver.ThreadingTCPServer((HOST, 2525), Relay)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()


def refused(login, *args):
    """A login that must fail."""
    try:
        login(*args)
    except (imaplib.IMAP4.error, poplib.error_proto, smtplib.SMTPException, AssertionError):
        return
    raise AssertionError(f"{login.__name__} {args} was let in")


def proc(pid):
    """What a process used so far, by /proc."""
    def read(name):
        with open(f"/proc/{pid}/{name}") as file:
            return file.read()
    stat = read("stat").rpartition(")")[2].split()
    pairs = [line.split(":") for line in (read("io") + read("status")).splitlines()]
    values = {key: value.strip() for key, value in pairs}
    return {
        "cpu": int(read("schedstat").split()[0]) / 1e9,
        "min_faults": int(stat[7]),
        "maj_faults": int(stat[9]),
        "vol_cs": int(values["voluntary_ctxt_switches"]),
        "invol_cs": int(values["nonvoluntary_ctxt_switches"]),
        "disk_input": int(values["read_bytes"]),
        "disk_output": int(values["write_bytes"]),
        "read_count": int(values["syscr"]),
        "write_count": int(values["syscw"]),
        "read_bytes": int(values["rchar"]),
        "write_bytes": int(values["wchar"]),
    }


def events():
    """What Dovecot has told so far, by name and fields."""
    with open(EVENTS) as file:
        lines = [json.loads(line) for line in file.read().split("\n") if line]
    return [(line["event"], line["fields"]) for line in lines]


def log_lines(*words):
    """Lines of Dovecot's log with all of these."""
    with open(LOG) as file:
        return [line for line in file if all(word in line for word in words)]


def main_pid(unit):
    return int(run("systemctl", "show", "-p", "MainPID", "--value", unit))
