#!/usr/bin/python3
"""Writes which process did a piece of work, and how many it has done: as a persistent worker, in both forms of the protocol, or once."""

import json
import os
import sys

PROCESS = os.urandom(8).hex()
DONE = 0


def work(arguments):
    global DONE
    DONE += 1
    out, name = arguments
    with open(out, "w", encoding="utf-8") as file:
        file.write(f"{PROCESS} {DONE} {name}\n")


def number(stream):
    """A base-128 number; None at the end."""
    value = shift = 0
    while byte := stream.read(1):
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
        shift += 7
    return None


def arguments_of(message):
    """The strings of a WorkRequest's first field; the others are skipped."""
    at, found = 0, []
    while at < len(message):
        tag, at = varint(message, at)
        if tag & 7 == 2:
            length, at = varint(message, at)
            if tag >> 3 == 1:
                found.append(message[at : at + length].decode())
            at += length
        else:
            _, at = varint(message, at)
    return found


def varint(message, at):
    value = shift = 0
    while True:
        byte = message[at]
        value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
        if byte < 0x80:
            return value, at


def stay_json():
    for line in sys.stdin:
        work(json.loads(line)["arguments"])
        print(json.dumps({"exitCode": 0, "output": ""}), flush=True)


def stay_proto():
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while (length := number(requests)) is not None:
        work(arguments_of(requests.read(length)))
        # An empty WorkResponse: exit code 0.
        answers.write(b"\0")
        answers.flush()


if "--persistent_worker" in sys.argv:
    stay_json() if "--form=json" in sys.argv else stay_proto()
else:
    with open(sys.argv[-1][1:], encoding="utf-8") as flags:
        work(flags.read().splitlines())
