"""What the bridge costs, and what Dovecot pays for telling it: python3 bench.py [NAME...]"""

import concurrent.futures
import os
import random
import shutil
import signal
import statistics
import struct
import sys
import tempfile

from mail import *

CONFIG, PACKAGED = "/etc/dovecot/conf.d/99-dovestat.conf", "/usr/share/dovestat/99-dovestat.conf"
SOCKET, BRIDGE = "/run/dovestat/events", "dovestat-bridge"


def cpu_secs(pid):
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9


def stats_pid():
    """Dovecot's process that exports events."""
    return int(run("pgrep", "-x", "stats").split()[-1])


def set_exporter(is_there):
    if is_there:
        shutil.copy(PACKAGED, CONFIG)
    elif os.path.exists(CONFIG):
        os.remove(CONFIG)
    # The judge of the tests would be most of the cost.
    with open("/etc/dovecot/local.conf") as file:
        text = file.read()
    with open("/etc/dovecot/local.conf", "w") as file:
        file.write(text.partition("# What tells the test")[0])
    run("systemctl", "reset-failed", "dovecot")
    run("systemctl", "restart", "dovecot")
    imap("warm@example.org").logout()


def listens():
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(SOCKET) == 0


def set_bridge(state):
    """Makes the bridge be there, stopped by a signal, killed, absent, or leave its socket."""
    if main_pid(BRIDGE):
        run("systemctl", "kill", "--signal=CONT", BRIDGE)
    run("systemctl", "reset-failed", BRIDGE)
    run("systemctl", "start", BRIDGE)
    wait_for("a bridge that listens", listens)
    imap("warm@example.org").logout()
    if state == "stopped":
        os.kill(main_pid(BRIDGE), signal.SIGSTOP)
    elif state == "killed":
        run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", BRIDGE)
    if state in ("killed", "absent", "stale"):
        run("systemctl", "stop", BRIDGE)
        assert not os.path.exists(SOCKET)
    if state == "stale":
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(SOCKET)
        os.chmod(SOCKET, 0o666)


def start_without():
    """A second Dovecot, at port 1143, without any exporter; all else is the same."""
    with open("/etc/dovecot/local.conf") as file:
        local = file.read().partition("# What tells the test")[0]
    place = tempfile.mkdtemp(dir="/etc", prefix="without")
    with open(f"{place}/dovecot.conf", "w") as file:
        file.write(f"""dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
base_dir = /run/dovecot-without
instance_name = without
protocols = imap
{local}
service imap-login {{
  inet_listener imap {{
    port = 1143
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
""")
    run("dovecot", "-c", f"{place}/dovecot.conf")
    return place


def login_ms(port):
    begin = time.monotonic()
    client = imaplib.IMAP4(HOST, port)
    client.login(f"latency{port}@example.org", PASSWORD)
    took = (time.monotonic() - begin) * 1e3
    client.logout()
    return took


def latency(rounds=4, count=100):
    """Logins with each state of the bridge, by turns with those of a second Dovecot, which has no exporter."""
    place = start_without()
    states = ["no exporter", "there", "stopped", "killed", "absent", "stale"]
    times = {state: {143: [], 1143: []} for state in states}
    try:
        for _ in range(rounds):
            for state in random.sample(states, len(states)):
                set_exporter(state != "no exporter")
                if state != "no exporter":
                    set_bridge(state)
                for _ in range(count if state != "stale" else 10):
                    for port in random.sample([143, 1143], 2):
                        times[state][port].append(login_ms(port))
        set_bridge("there")
    finally:
        run("doveadm", "-c", f"{place}/dovecot.conf", "stop")
        shutil.rmtree(place)
    ratios = {}
    for state, found in times.items():
        ours, without = (statistics.median(found[port]) for port in (143, 1143))
        ratios[state] = ours / without
        print(f"login, {state:12} {ours:7.2f} ms, by turns with {without:6.2f} ms of the other Dovecot: "
              f"{ratios[state] / ratios['no exporter']:.3f} times that of no exporter")


def events_cost(commands=20_000, sessions=10):
    """CPU of an event that was counted: commands of IMAP, each when the one before is answered, and a
    hundred at once. Dovecot drops events that the bridge does not take at once."""
    def ask_one(client):
        for _ in range(commands // sessions):
            client.noop()

    def ask_many(client):
        block = b"".join(b"n%d NOOP\r\n" % number for number in range(100))
        for _ in range(commands // sessions // 100):
            client.send(block)
            for _ in range(100):
                client.readline()

    def measure(ask):
        clients = [imap(f"cost{number}@example.org") for number in range(sessions)]
        pids = [int(pid) for pid in run("pgrep", "-x", "imap").split()]
        watched = {"imap": pids, "stats": [stats_pid()], "bridge": [main_pid(BRIDGE)]}
        cost = lambda: {name: sum(map(cpu_secs, pids)) for name, pids in watched.items()}
        before = cost()
        with concurrent.futures.ThreadPoolExecutor(sessions) as pool:
            list(pool.map(ask, clients))
        time.sleep(2)
        after = cost()
        counted = sum(row["num_cmds"] for row in dump("session", "connected", "user=cost*"))
        for client in clients:
            client.logout()
        costs = {name: (after[name] - before[name]) / commands * 1e6 for name in after}
        costs["bridge"] *= commands / (counted or commands)
        return costs | {"lost": 1 - counted / commands}

    set_bridge("there")
    for what, ask in (("one by one", ask_one), ("100 at once", ask_many)):
        found = {}
        for is_there in (False, True) * 3:
            set_exporter(is_there)
            for name, cost in measure(ask).items():
                found.setdefault((name, is_there), []).append(cost)
        lost = statistics.median(found["lost", True])
        print(f"CPU of a command's event, commands {what}, of which {lost:.1%} were not counted:")
        for name in ("bridge", "stats", "imap"):
            with_it, without = (statistics.median(found[name, state]) for state in (True, False))
            print(f"    {name:6} {with_it:6.2f} us, without exporter {without:6.2f}")


def idle(count=10_000, settle=90, secs=60):
    """CPU of the bridge for so many sessions that do nothing, of a made-up anvil."""
    place = tempfile.mkdtemp(dir="/tmp")
    devnull = os.open("/dev/null", os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, devnull, fd) for fd in (0, 1, 2)]
    pids = [os.posix_spawn("/usr/bin/sleep", ["sleep", "1000"], {}, file_actions=actions) for _ in range(count)]
    begin = time.time()
    rows, lines = [], []
    for number, pid in enumerate(pids):
        at = begin + number * 1e-4
        guid = struct.pack("<IIII", int(at % 1 * 1e9), int(at), pid, 1).hex()
        user = f"idle{number}@example.org"
        rows.append(f"{pid}\t{user}\timap\t127.0.0.1\t{guid}\t\n")
        who = f"field:protocol=imap\tfield:user={user}\tfield:session=idle{number}\tfield:remote_ip=127.0.0.1" \
              f"\tfield:remote_port={number % 60000 + 1}"
        times = f"start_time:{at - 0.01:.6f}\tend_time:{at:.6f}"
        lines.append(f"event:auth_request_finished\t{times}\t{who}\tfield:success=yes\tfield:duration=1\n"
                     f"event:auth_userdb_request_finished\t{times}\t{who}\tfield:result=ok\tfield:duration=1\n")
    reply = ("VERSION\tanvil-server\t2\t0\n\n" + "".join(rows) + "\n").encode()
    anvil = socket.socket(socket.AF_UNIX)
    anvil.bind(f"{place}/anvil")
    anvil.listen(8)

    def serve():
        while True:
            client, _ = anvil.accept()
            with client:
                data = b""
                while chunk := client.recv(4096):
                    data += chunk
                    while b"CONNECT-DUMP\n" in data:
                        data = data.partition(b"CONNECT-DUMP\n")[2]
                        client.sendall(reply)

    threading.Thread(target=serve, daemon=True).start()
    bridge = subprocess.Popen(["dovestat", "bridge", "-e", f"{place}/events", "-a", f"{place}/anvil",
                               "--fifo", "/run/dovestat/stats-mail"])
    try:
        wait_for("the socket", lambda: os.path.exists(f"{place}/events"))
        with socket.socket(socket.AF_UNIX) as exporter:
            exporter.connect(f"{place}/events")
            exporter.sendall("".join(lines).encode())
            wait_for("the sessions", lambda: dump("global")[0]["num_connected_sessions"] >= count, 60)
            for what, wait in (("the first minute", secs), ("settling", settle), ("then", secs)):
                before, begin = cpu_secs(bridge.pid), time.monotonic()
                time.sleep(wait)
                used = (cpu_secs(bridge.pid) - before) / (time.monotonic() - begin)
                print(f"{count} idle sessions, {what}: {used:.2%} of a core, "
                      f"{used / count * 1e6:.3f} us a session and second")
            with open(f"/proc/{bridge.pid}/status") as file:
                print("memory of the bridge:", next(line.split()[1] for line in file if line.startswith("VmRSS")), "kB")
    finally:
        bridge.terminate()
        bridge.wait()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(place)


if __name__ == "__main__":
    for name in sys.argv[1:] or ["latency", "events_cost", "idle"]:
        globals()[name]()
