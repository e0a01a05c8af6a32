"""What happens to the pods: a rotation, whatever can go wrong with one, and how it is put right."""

from stage import Pod, run

WELL = """
[[volume]]
path = "../db-0"
name = "db"
[[volume]]
path = "../tls-0"
name = "tls"
require = ["tls.crt", "tls.key"]
[[volume]]
path = "../api-0"
name = "api"
[[volume]]
path = "../busy"
[[target]]
name = "web"
http = "http://{app}/-/reload"
"""
TROUBLED = """
token_file = "token"
max_connections = 2
poll_interval = "200ms"
[[volume]]
path = "../db-1"
name = "db"
[[volume]]
path = "../tls-1"
name = "tls"
require = ["tls.crt", "tls.key"]
[[volume]]
path = "../api-1"
name = "api"
[[volume]]
path = "../ahead"
[[volume]]
path = "../again"
[[volume]]
path = "../late"
[[target]]
name = "web"
http = "http://127.0.0.1:1/-/reload"
retry_max = "1s"
[[target]]
name = "nginx"
pid_file = "../nginx.pid"
signal = "HUP"
"""
GONE = '[[volume]]\npath = "../db-0"\n name = "db"\n'


def prepare(stage):
    """The volumes before anything is rotated, and a process that handles no signal."""
    certificate = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    certificate += ["-nodes", "-days", "1", "-subj", "/CN=shop", "-keyout", "tls.key", "-out", "tls.crt"]
    run(certificate, cwd=stage.path)
    pair = ["--file", f"tls.crt={stage.path}/tls.crt", "--file", f"tls.key={stage.path}/tls.key"]
    for at in "01":
        stage.simulate(f"db-{at}", "password=fake-1", "secretwatch.version=1")
        stage.simulate(f"tls-{at}", *pair)
    stage.simulate("busy", "k=1")
    # Written long ago, so that a rotation that does not get there shows.
    for at in "01":
        stage.craft(f"api-{at}", "2026_01_31_10_00_00", **{"secretwatch.version": "1"})
    stage.craft("ahead", "2099_01_31_10_00_00", k="1")
    nginx = stage.start("nginx", ["sleep", "3600"])
    (stage.path / "nginx.pid").write_text(f"{nginx.pid}\n")


def start(stage):
    well = Pod(stage, "app-0", WELL.replace("{app}", stage.server.address))
    troubled = Pod(stage, "app-1", TROUBLED)
    gone = Pod(stage, "app-2", GONE)
    # The same directory twice: inotify has one watch for it, so the second volume is polled.
    (stage.path / "again").symlink_to("db-1")
    well.adopt("db")
    troubled.adopt("db", "--token-file", "token")
    return well, troubled, gone


def rotate(stage, well, troubled):
    """A rotation that reaches both pods; one app takes it up, and one does not."""
    for at in "01":
        stage.simulate(f"db-{at}", "password=fake-2", "secretwatch.version=2")
    for pod in (well, troubled):
        pod.until('secretwatch_secret_info{version="2",volume="db"} 1')
    well.adopt("db")


def disturb(stage, well, troubled, gone):
    """Whatever an alert is about. Returns connections that keep others out."""
    stage.simulate("tls-1", "--remove", "tls.key")
    for count in range(8):
        stage.simulate("busy", f"k={count + 2}")
        well.until(f'secretwatch_generation{{volume="busy"}} {count + 2}')
    rotate_crafted(stage.path / "api-0", "2026_02_01_10_00_00")
    well.until('secretwatch_generation{volume="api"} 2')
    gone.process.kill()
    troubled.until('secretwatch_holding_last_good{volume="tls"} 1')
    return [troubled.connect() for _ in range(2)]


def rotate_crafted(volume, written):
    """What the kubelet does, with a time of its own."""
    data = volume / f"..{written}.1"
    data.mkdir()
    (data / "secretwatch.version").write_text("2")
    (volume / "..data_tmp").symlink_to(data.name)
    (volume / "..data_tmp").rename(volume / "..data")


def refused(pod, count):
    """Clients that are refused: without a token, or (where others sit there) without a place."""
    for _ in range(count):
        with pod.connect() as client:
            try:
                client.sendall(b"GET /v1/secrets HTTP/1.1\r\nhost: localhost\r\n\r\n")
                client.recv(1)
            except (BrokenPipeError, ConnectionResetError):
                pass


def heal(stage, troubled):
    stage.simulate("tls-1", "--file", f"tls.key={stage.path}/tls.key")
    stage.simulate("late", "k=1")
    troubled.adopt("db", "--token-file", "token")
