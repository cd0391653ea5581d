"""What users of a mail server do, each a function of its own, and whether dovestatd has of
it what Dovecot and /proc tell: python3 scenarios.py NAME"""

import collections
import concurrent.futures
import os
import random
import signal
import sys

from mail import *

# In the order of the levels.
LEVELS = {"user": "user", "domain": "domain", "ip": "ip"}
LOGINS = ("imap", "pop3", "submission", "sieve")


def fresh(name):
    """A user whom no run before had."""
    return f"{name}-{os.getpid()}@example.org"


def domain(user):
    return user.partition("@")[2]


def all_over():
    """Waits until no session is connected."""
    wait_for("the end of all sessions", lambda: not connected())


def totals(level, key):
    return {row[key]: row for row in dump(level)}


def cpu(row):
    return row["user_cpu"] + row["sys_cpu"]


def work(client, rounds=1, mail=MESSAGE * 10):
    """Keeps an IMAP session busy."""
    for _ in range(rounds):
        client.append("INBOX", None, None, mail)
        client.select()
        client.fetch("1:*", "(BODY[])")
        client.search(None, "TEXT", "nowhere")


def first():
    """The first session there is."""
    user = fresh("first")
    client = imap(user)
    work(client)
    row = session_of(user)
    assert row["ip"] == HOST and row["service"] == "imap" and row["num_cmds"] == 4, row
    assert int(row["pid"]) == int(log_lines("Logged in", user)[-1].split("mpid=")[1].split(",")[0])
    client.logout()
    all_over()


def protocols():
    """Everything that Dovecot serves: sums at every level are what its events say."""
    start_relay()
    skipped = len(events())
    before = {level: totals(level, key) for level, key in LEVELS.items()}
    before_global = dump("global")[0]
    before_auth = sum(row["num_cmds"] for row in dump("session", "connected"))
    for number, address in enumerate(["127.0.0.1", "127.0.1.1", "127.0.1.2"]):
        connect_from(address)
        user = f"p{number}@example.{'org' if number else 'com'}"
        client = imap(user)
        work(client)
        box = pop3(user)
        box.stat(), box.retr(1), box.quit()
        writer = submission(user)
        writer.sendmail(user, ["x@example.net"], MESSAGE), writer.quit()
        sieve = Sieve(user)
        sieve.ask(b"LISTSCRIPTS"), sieve.logout()
        deliver(user)
        client.logout()
    deliver("p0@example.com", "p1@example.org", "p2@example.org")
    for number, login in enumerate([imap, pop3, submission, Sieve]):
        connect_from(f"127.0.2.{number + 1}")
        refused(login, "p1@example.org", "wrong")
    all_over()

    # What the events say: by user and by address.
    def counted():
        count = collections.Counter()
        sessions = {}
        ports = {}
        for name, fields in events()[skipped:]:
            user, ip, session = fields.get("user"), fields.get("remote_ip"), fields.get("session")
            if name == "auth_request_finished" and fields["protocol"] in LOGINS:
                what = "auth_successes" if fields.get("success") == "yes" else "auth_failures"
                count[what, user, ip] += 1
                if what == "auth_successes":
                    sessions[session] = user, ip, fields["protocol"]
                    ports[ip, fields["remote_port"]] = session
            elif name == "mail_user_session_finished":
                sessions.setdefault(session, (user, ip, fields["service"]))
        return count, sessions, ports

    wait_for("all events", lambda: sum(n for (what, *_), n in counted()[0].items() if what == "auth_failures") == 4)
    count, sessions, ports = counted()
    for name, fields in events()[skipped:]:
        if name in ("imap_command_finished", "pop3_command_finished", "managesieve_command_finished",
                    "smtp_server_command_finished") and not fields.get("service", "").endswith("-login"):
            session = fields.get("session")
            if session not in sessions:
                session = ports.get((fields["remote_ip"], fields["remote_port"]))
            count["num_cmds", session] += 1
    assert len(sessions) == 3 * 5 + 3, sessions

    rows = totals("session", "session")
    for session, (user, ip, service) in sessions.items():
        row = rows[session]
        assert (row["user"], row["ip"], row["service"]) == (user, ip, service), (row, user, ip, service)
        if service != "lmtp":
            assert row["num_cmds"] == count["num_cmds", session], (row, count["num_cmds", session])
        assert row["connected"] == 0, row

    for level, key in LEVELS.items():
        after = totals(level, key)
        assert "" not in after, (level, after[""])
        for name, row in after.items():
            if name in ("auth@dovestat", "dovestat"):
                # The user of the bridge's own session, and its domain.
                continue
            old = before[level].get(name, collections.Counter())
            grown = lambda column: row[column] - old[column]
            mine = {"user": lambda user, ip: user == name, "ip": lambda user, ip: ip == name,
                    "domain": lambda user, ip: domain(user) == name}[level]
            own = [rows[session] for session, (user, ip, _) in sessions.items() if mine(user, ip)]
            assert grown("num_logins") == len(own), (level, name, row, len(own))
            for column in ("auth_successes", "auth_failures"):
                expected = sum(n for key, n in count.items() if key[0] == column and mine(*key[1:]))
                assert grown(column) == expected, (level, name, column, grown(column), expected)
            same_sums(grown, own, (level, name))
    row = dump("global")[0]
    grown = lambda column: row[column] - before_global[column]
    own = [rows[session] for session in sessions]
    # The bridge's own session, of which each successful authentication is a command.
    timed = sum(n for (what, *_), n in count.items() if what == "auth_successes")
    [auth] = dump("session", "connected")
    assert auth["service"] == "auth" and auth["num_cmds"] == before_auth + timed, (auth, before_auth, timed)
    own.append({column: 0 for column in rows[session]} | {"num_cmds": timed})
    assert grown("num_logins") == len(sessions), grown("num_logins")
    same_sums(grown, own, "global")


SUMS = ("num_cmds", "min_faults", "maj_faults", "vol_cs", "invol_cs", "disk_input", "disk_output", "read_count",
        "read_bytes", "write_count", "write_bytes")


def same_sums(grown, sessions, where):
    """Totals are the sums of their sessions."""
    for column in SUMS:
        expected = sum(row[column] for row in sessions)
        assert grown(column) == expected, (where, column, grown(column), expected)
    for column in ("user_cpu", "sys_cpu"):
        expected = sum(row[column] for row in sessions)
        assert abs(grown(column) - expected) < 2e-6 * (len(sessions) + 1), (where, column, grown(column), expected)


def differences(row, own):
    """Where a session is not what its process used: 2% of CPU, 0.1% of bytes."""
    off = {}
    if abs(cpu(row) - own["cpu"]) > 0.02 * own["cpu"]:
        off["cpu"] = cpu(row), own["cpu"]
    for column in ("disk_input", "disk_output", "read_bytes", "write_bytes"):
        if abs(row[column] - own[column]) > 0.001 * own[column]:
            off[column] = row[column], own[column]
    for column in ("min_faults", "maj_faults", "read_count", "write_count", "vol_cs", "invol_cs"):
        if abs(row[column] - own[column]) > 0.02 * own[column] + 5:
            off[column] = row[column], own[column]
    return off


def same_figures(user, when):
    """Waits until the session of a user is what its process used, and returns both."""
    off = {}
    for _ in range(100):
        row = session_of(user)
        own = proc(row["pid"])
        off = differences(row, own)
        if not off:
            return row, own
        time.sleep(0.1)
    raise AssertionError(f"{user}, {when}: the session's and the process's {off}: {row}")


def busy():
    """Five sessions at work, against their processes."""
    users = [fresh(f"busy{number}") for number in range(5)]
    clients = {user: imap(user) for user in users}
    with concurrent.futures.ThreadPoolExecutor(len(users)) as pool:
        list(pool.map(lambda user: work(clients[user], 15, MESSAGE * 40), users))
    for user in users:
        row, own = same_figures(user, "at the end")
        print(f"{user}: CPU {cpu(row):.6f} s, of the process {own['cpu']:.6f} s; "
              f"read and written {row['read_bytes'] + row['write_bytes']}, {own['read_bytes'] + own['write_bytes']}")
    last = {user: session_of(user) for user in users}
    for client in clients.values():
        client.logout()
    all_over()
    for user, row in last.items():
        end = totals("session", "session")[row["session"]]
        assert all(end[column] >= row[column] for column in SUMS), (row, end)
        assert cpu(row) <= cpu(end) + 1e-6 < cpu(row) + 0.1, (row, end)


def logged_in(user):
    """Which process serves which session of a user, by Dovecot's log."""
    found = {}
    for line in log_lines("Logged in: user=<" + user + ">"):
        found[line.split("session=<")[1].split(">")[0]] = line.split("mpid=")[1].split(",")[0]
    return found


def storm():
    """200 sessions of three users at one address, as fast as they come: each has its process."""
    seed = int(os.environ.get("SEED") or random.randrange(1 << 30))
    print(f"seed {seed}")
    chance = random.Random(seed)
    users = [fresh(f"storm{number}") for number in range(3)]
    wanted = [chance.choice(users) for _ in range(200)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        clients = list(pool.map(imap, wanted))
    rows = wait_for("200 sessions", lambda: (rows := dump("session", "connected", f"user=storm*-{os.getpid()}@*")) and len(rows) == 200 and rows, 30)
    right = {}
    for user in users:
        right.update(logged_in(user))
    wrong = [row for row in rows if str(row["pid"]) != right[row["session"]]]
    print(f"{len(rows)} sessions, {len(wrong)} with a process that is not theirs")
    assert not wrong, wrong[:3]
    chance.shuffle(clients)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda client: client.logout(), clients))
    all_over()
    logins = totals("user", "user")
    for user in users:
        assert logins[user]["num_logins"] == wanted.count(user), (user, logins[user], wanted.count(user))


def hibernation():
    """A session that idles goes to another process and back, and stays one."""
    user = fresh("idle")
    client = imap(user)
    client.append("INBOX", None, None, MESSAGE)
    client.select()
    first = session_of(user)
    names = lambda: [name for name, fields in events() if fields.get("user") == user]
    for round in (1, 2):
        client.send(b"x IDLE\r\n")
        wait_for("hibernation", lambda: names().count("imap_client_hibernated") == round)
        time.sleep(6)
        assert session_of(user)["session"] == first["session"]
        client.send(b"DONE\r\n")
        while not client.readline().startswith(b"x "):
            pass
        client.search(None, "TEXT", "mail")
        wait_for("the process that has it then", lambda: names().count("imap_client_unhibernated") == round)
    client.logout()
    all_over()
    row = totals("user", "user")[user]
    assert row["num_logins"] == 1 and row["auth_successes"] == 1, row
    assert row["num_cmds"] == names().count("imap_command_finished"), (row, names())
    session = totals("session", "session")[first["session"]]
    same_sums(row.__getitem__, [session], user)


def systemctl(*args):
    run("systemctl", *args)


def restarts():
    """The bridge, the daemon and Dovecot are started anew while users are logged in."""
    users = [fresh(f"stay{number}") for number in range(5)]
    clients = [imap(user) for user in users]
    for client in clients:
        work(client)
    before = {user: session_of(user) for user in users}
    acts = {
        "the bridge restarted": ("restart", "dovestat-bridge"),
        "the bridge killed": ("kill", "--kill-whom=main", "--signal=KILL", "dovestat-bridge"),
        "the daemon restarted": ("restart", "dovestatd"),
        "Dovecot reloaded": ("reload", "dovecot"),
    }
    for round, (what, act) in enumerate(acts.items()):
        pid = main_pid("dovestat-bridge")
        systemctl(*act)
        if "bridge" in what:
            wait_for("a new bridge", lambda: main_pid("dovestat-bridge") not in (0, pid))
            wait_for("its socket", lambda: os.path.exists("/run/dovestat/events"))
        for client in clients:
            work(client)
        late = fresh(f"late{round}")
        client = imap(late)
        session_of(late)
        client.logout()
        wait_for("its end", lambda: len(connected()) == len(users))
        for user in users:
            same_figures(user, what)
            row = session_of(user)
            assert (row["session"], row["pid"]) == (before[user]["session"], before[user]["pid"]), row
        for user, row in totals("user", "user").items():
            if user in users or user == late:
                assert row["num_logins"] == 1 and row["auth_successes"] == 1, (what, row)
        rows = [row for row in dump("session", "connected") if row["service"] == "auth"]
        assert [int(row["pid"]) for row in rows] in ([], [main_pid("dovestat-bridge")]), (what, rows)
    print("Dovecot restarted")
    systemctl("reset-failed", "dovecot")
    systemctl("restart", "dovecot")
    all_over()
    client = imap("new@example.org")
    session_of("new@example.org")
    client.logout()
    all_over()


def check():
    """What `dovestat check` says."""
    found = subprocess.run(["dovestat", "check"], stdout=subprocess.PIPE, text=True)
    assert (found.returncode == 0) == ("WRONG" not in found.stdout), found
    return found.stdout


def reported(user):
    """A session of a user is reported."""
    client = imap(user)
    session_of(user)
    client.logout()
    all_over()


def checks():
    """Each reason why nothing arrives is named, and what to do is enough."""
    events_socket, config = "/run/dovestat/events", "/etc/dovecot/conf.d/99-dovestat.conf"
    reported("checked@example.org")
    assert "WRONG" not in check(), check()
    # A socket that nothing listens at.
    systemctl("stop", "dovestat-bridge")
    assert f"WRONG:   no bridge listens: {events_socket}: No such file" in check(), check()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(events_socket)
    os.chmod(events_socket, 0o666)
    stale.close()
    assert f"WRONG:   no process listens at {events_socket}" in check(), check()
    systemctl("start", "dovestat-bridge")
    wait_for("a bridge that listens", lambda: "WRONG" not in check())
    reported("stale@example.org")
    # A socket that Dovecot may not write to, which it does not log.
    os.chown(events_socket, 0, 0)
    systemctl("reset-failed", "dovecot")
    systemctl("restart", "dovecot")
    imap("denied@example.org").logout()
    # Its last event is one that does not connect Dovecot to the next bridge.
    wait_for("all its events", lambda: ("mail_user_session_finished", "denied@example.org") in
             [(name, fields.get("user")) for name, fields in events()])
    said = check()
    assert "WRONG:   Dovecot's stats process runs as dovecot, who cannot write to " in said, said
    assert f"note:    Dovecot has not connected to {events_socket}" not in said, said
    systemctl("restart", "dovestat-bridge")
    wait_for("a bridge that listens", lambda: "WRONG" not in check())
    # Until an event connects Dovecot. What this program connected itself is closed soon.
    wait_for("no connection", lambda: f"note:    Dovecot has not connected to {events_socket}" in check())
    reported("allowed@example.org")
    assert f"note:    Dovecot has not connected to {events_socket}" not in check(), check()
    # A configuration that lacks something, or all.
    with open(config) as file:
        text = file.read()
    with open(config, "w") as file:
        file.write(text.replace(" remote_port", ""))
    assert "lack remote_port in fields: " in check(), check()
    os.remove(config)
    assert "WRONG:   Dovecot 2.4.1-4 is not told to report" in check(), check()
    with open(config, "w") as file:
        file.write(text)
    assert "WRONG" not in check(), check()


def start_bridge(*settings):
    """Starts the bridge with settings of its unit, as an administrator has them, and Dovecot."""
    place = "/etc/systemd/system/dovestat-bridge.service.d"
    os.makedirs(place, exist_ok=True)
    with open(f"{place}/test.conf", "w") as file:
        file.write("\n".join(["[Service]", *settings, ""]))
    systemctl("daemon-reload")
    systemctl("reset-failed", "dovecot", "dovestat-bridge")
    systemctl("restart", "dovestat-bridge")
    wait_for("its socket", lambda: os.path.exists("/run/dovestat/events"))
    systemctl("restart", "dovecot")


def configure(*changes):
    """Changes what Dovecot is told to report, from what the package has."""
    with open("/usr/share/dovestat/99-dovestat.conf") as file:
        text = file.read()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    with open("/etc/dovecot/conf.d/99-dovestat.conf", "w") as file:
        file.write(text)


def arguments():
    """Arguments of commands are reported on request, and no password in any."""
    start_relay()
    user = fresh("arguments")
    configure((" fields = service", " fields = cmd_human_args service"),
              ("(event=smtp_server_command_finished AND NOT cmd_name=AUTH)", "event=smtp_server_command_finished"))
    start_bridge("ExecStart=", "ExecStart=/usr/bin/dovestat bridge --args")
    client = imap(user)
    client.select("INBOX")
    client.search(None, "TEXT", "nowhere")
    client.logout()
    writer = submission(user)
    writer.sendmail(user, ["x@example.net"], MESSAGE), writer.quit()
    box = pop3(user)
    box.quit()
    script = Sieve(user)
    script.logout()
    commands = lambda: {row["cmd"]: row["args"] for row in dump("command", f"user={user}")}
    args = wait_for("all services' commands", lambda: {"SEARCH", "RCPT", "DATA"} <= commands().keys() and commands())
    print("arguments:", args)
    assert args["SELECT"] == "INBOX" and args["SEARCH"] == "TEXT nowhere", args
    assert "x@example.net" in args["RCPT"], args
    plain = base64.b64encode(f"\0{user}\0{PASSWORD}".encode()).decode()
    assert plain not in str(dump("command")) and PASSWORD not in str(args), args
    configure()
    start_bridge()


def posts():
    """Events that come by HTTP."""
    configure(("driver = unix", "driver = http-post"),
              ("unix_path = /run/dovestat/events", "http_post_url = http://127.0.0.1:9120/events"),
              ("unix_connect_timeout = 10ms", ""))
    start_bridge("ExecStart=", "ExecStart=/usr/bin/dovestat bridge --http 127.0.0.1:9120", "PrivateNetwork=no",
                 "RestrictAddressFamilies=AF_INET", "IPAddressAllow=localhost")
    user = fresh("posted")
    client = imap(user)
    work(client)
    row = session_of(user)
    assert (row["ip"], row["service"]) == (HOST, "imap"), row
    client.logout()
    all_over()
    row = totals("user", "user")[user]
    assert (row["num_logins"], row["auth_successes"], row["num_cmds"]) == (1, 1, 5), row
    assert row["min_faults"] > 0, row
    assert "note:    Dovecot 2.4.1-4 posts events by event_exporter dovestat" in check(), check()
    configure()
    start_bridge()


def stopped():
    """Logins go on while the bridge is stopped, and are counted after."""
    pid = main_pid("dovestat-bridge")
    took = {}
    for state in ("served", "stopped"):
        if state == "stopped":
            os.kill(pid, signal.SIGSTOP)
        took[state] = []
        for number in range(30):
            begin = time.monotonic()
            client = imap(fresh(f"{state}{number % 3}"))
            took[state].append(time.monotonic() - begin)
            client.logout()
    os.kill(pid, signal.SIGCONT)
    worst = {state: max(times) for state, times in took.items()}
    print(f"longest login: {worst['served'] * 1e3:.1f} ms served, {worst['stopped'] * 1e3:.1f} ms stopped")
    assert worst["stopped"] < worst["served"] + 0.2, took
    logins = lambda state: [totals("user", "user").get(fresh(f"{state}{number}"), {}).get("num_logins") for number in range(3)]
    for state in took:
        wait_for(f"logins while {state}", lambda: logins(state) == [10, 10, 10])
    all_over()


if __name__ == "__main__":
    globals()[sys.argv[1]]()
