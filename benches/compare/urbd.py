"""urbd as a contender of a bench that starts block servers and drives them over NBD.

Two daemons on loopback, authentication on, both disks in sync; URBD_BIN names the folder with the
programs (default: target/release). The metadata is internal, as in production, so the device is a
little smaller than its backing file."""
import os
import time

from benchlib.core import Contender, nbd

BIN = os.environ.get("URBD_BIN", "target/release")
EXTRA = os.environ.get("URBD_BENCH_DISK_OPTIONS", "")

CONF = """
resource r0 {{
    protocol C;
    disk {{ {extra} }}
    net {{ cram-hmac-alg sha1; shared-secret "bench"; }}
    on boole  {{ device /dev/drbd1; disk {a}; address 127.0.0.1:{pa}; meta-disk internal; }}
    on cardan {{ device /dev/drbd1; disk {b}; address 127.0.0.1:{pb}; meta-disk internal; }}
}}
"""


def start(ctx):
    conf = ctx.path("r0.res")
    with open(conf, "w") as f:
        f.write(CONF.format(a=ctx.a, b=ctx.b, pa=ctx.port(), pb=ctx.port(), extra=EXTRA))
    settings = ctx.path("urbd.toml")
    with open(settings, "w") as f:
        f.write("[nbd]\nlisten = []\n")

    def adm(node, *words):
        return ctx.run([f"{BIN}/urbdadm", "-c", conf, "--node", node, "--run-dir", ctx.path(node), *words])

    for node in ("boole", "cardan"):
        os.mkdir(ctx.path(node))
        adm(node, "create-md", "--force", "r0")
        ctx.spawn([f"{BIN}/urbd", "--settings", settings, "--node", node, "--run-dir", ctx.path(node)],
                  wait=ctx.path(f"{node}/control.sock"))
    for node in ("boole", "cardan"):
        adm(node, "up", "r0")
    until = time.monotonic() + 15
    while "Connected" not in adm("boole", "cstate", "r0"):
        if time.monotonic() > until:
            raise RuntimeError("the nodes do not find each other")
        time.sleep(0.05)
    adm("boole", "new-current-uuid", "--clear-bitmap", "r0")
    adm("boole", "primary", "r0")
    size = int(ctx.size) - (2 << 20)
    ctx.size = size - size % (1 << 20)
    return nbd(f"nbd+unix:///r0?socket={ctx.path('boole/nbd.sock')}")


CONTENDERS = [
    Contender("urbd", "mirror", "both copies, O_DIRECT", "both copies durable", start,
              missing=lambda: None if os.path.exists(f"{BIN}/urbd") else f"no programs in {BIN} (set URBD_BIN)",
              about="two urbd nodes, protocol C, sha1 authentication, activity log on"),
]
