"""Writes the descriptors inside a wheel as one google.protobuf.FileDescriptorSet.

Generated Python modules hold their serialized descriptor as a bytes literal. It is read as text:
nothing of the wheel is imported or run.
"""

import ast
import re
import sys
import zipfile

LITERAL = re.compile(r"AddSerializedFile\((b'(?:[^'\\]|\\.)*'|b\"(?:[^\"\\]|\\.)*\")\)")


def varint(number):
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def main(path):
    with zipfile.ZipFile(path) as wheel:
        for name in sorted(wheel.namelist()):
            if not name.endswith("_pb2.py"):
                continue
            found = LITERAL.search(wheel.read(name).decode())
            if found is None:
                sys.exit(f"{path}: {name} holds no serialized descriptor")
            descriptor = ast.literal_eval(found.group(1))
            # FileDescriptorSet.file is field 1, length-delimited.
            sys.stdout.buffer.write(b"\x0a" + varint(len(descriptor)) + descriptor)


main(sys.argv[1])
