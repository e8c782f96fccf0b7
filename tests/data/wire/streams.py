#!/usr/bin/env python3
"""Cuts a packet capture into the byte streams of its TCP connections, one file for each direction.

usage: streams.py CAPTURE.pcap PREFIX

Writes PREFIX.N.ROLE.dialer.bin and PREFIX.N.ROLE.acceptor.bin: N counts the connections that got past their first
packet, in the order of their SYNs, ROLE is "data" or "meta" as the dialer's first packet says.
"""
import struct, sys


def segments(path):
    """(source, destination, sequence number, flags, bytes) of every TCP segment over IPv4 over Ethernet."""
    raw = open(path, "rb").read()
    endian = "<" if raw[:4] == b"\xd4\xc3\xb2\xa1" else ">"
    at = 24
    while at < len(raw):
        _, _, kept, length = struct.unpack_from(endian + "4I", raw, at)
        assert kept == length, "the capture cut a frame short"
        frame = raw[at + 16:at + 16 + kept]
        at += 16 + kept
        if frame[12:14] != b"\x08\x00" or frame[23] != 6:
            continue
        ip = frame[14:14 + struct.unpack(">H", frame[16:18])[0]]
        tcp = ip[(ip[0] & 15) * 4:]
        sport, dport, seq = struct.unpack(">HHI", tcp[:8])
        yield (ip[12:16], sport), (ip[16:20], dport), seq, tcp[13], tcp[(tcp[12] >> 4) * 4:]


def streams(path):
    """Per connection: the dialer's bytes and the acceptor's bytes."""
    found, order = {}, []
    for src, dst, seq, flags, data in segments(path):
        if flags & 2:
            found[src, dst] = [seq + 1, {}]
            if not flags & 16:
                order.append((src, dst))
        elif data and (src, dst) in found:
            start, parts = found[src, dst]
            parts.setdefault((seq - start) & 0xffffffff, b"")
            if len(data) > len(parts[(seq - start) & 0xffffffff]):
                parts[(seq - start) & 0xffffffff] = data
    for src, dst in order:
        yield tuple(joined(found[way][1]) if way in found else b"" for way in ((src, dst), (dst, src)))


def joined(parts):
    out = b""
    for at, data in sorted(parts.items()):
        assert at <= len(out), f"hole at byte {len(out)}: the capture lost a frame"
        out += data[len(out) - at:]
    return out


def main(capture, prefix):
    number = 0
    for dialer, acceptor in streams(capture):
        role = {b"\xff\xf2": "data", b"\xff\xf1": "meta"}.get(dialer[4:6])
        if role and (len(dialer) > 8 or acceptor):
            for side, stream in (("dialer", dialer), ("acceptor", acceptor)):
                with open(f"{prefix}.{number}.{role}.{side}.bin", "wb") as out:
                    out.write(stream)
            number += 1


main(*sys.argv[1:])
