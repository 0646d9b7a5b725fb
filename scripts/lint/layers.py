#!/usr/bin/env python3
"""Holds the tree to cmake/rooms.txt, the table of who may use whom: every #include of a room's files and, given object
files, every call from one room to another.

    layers.py [--root FOLDER]                                  the includes
    layers.py --build FOLDER [--list FILE | OBJECT...]         the calls; FOLDER is where CMake compiled the objects

Prints a line for each violation, and exits with 1 if there was one. nm is needed for the calls."""

import argparse
import os
import pathlib
import re
import subprocess
import sys

import tree

INCLUDE = re.compile(r'\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')


class Table:
    """cmake/rooms.txt. A path belongs to the room with the longest name that it begins with."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.path = self.root / "cmake" / "rooms.txt"
        self.room_of_place = {}  # folder or file: its room's name
        self.uses = {}  # room: the places that it may use
        self.outside = {}  # header of another project: the rooms that may include it
        self.wrong = []
        for number, line in enumerate(self.path.read_text(encoding="utf-8").splitlines(), 1):
            line = line.split("#")[0].strip()
            if line:
                self.read_line(f"cmake/rooms.txt:{number}", line)

    def read_line(self, where, line):
        before, colon, after = line.partition(":")
        places, used = before.split(), after.split()
        if not colon or not places:
            self.wrong.append(f"{where}: not `places: places that they may use`")
            return
        unknown = [place for place in used if place not in self.room_of_place]
        if places[0].startswith("<"):
            self.wrong += [f"{where}: {place} is no room" for place in unknown]
            self.outside[places[0].strip("<>")] = {self.room_of_place[place] for place in used if place not in unknown}
            return
        # So that there is no circle: a room uses what stands above it.
        self.wrong += [f"{where}: {place} is no room of a line above" for place in unknown]
        self.wrong += [f"{where}: there is no {place}" for place in places if not (self.root / place).exists()]
        self.wrong += [f"{where}: {place} has a line already" for place in places if place in self.room_of_place]
        self.room_of_place.update((place, places[0]) for place in places)
        self.uses[places[0]] = used

    def room(self, name):
        """The room that a path is in, or None."""
        while name and name not in self.room_of_place:
            name = os.path.dirname(name)
        return self.room_of_place.get(name)

    def may_use(self, room, name):
        """Whether a room's files may use those of the path `name`."""
        other = self.room(name)
        return other == room or any(self.room_of_place[place] == other for place in self.uses[room])

    def headers(self, room):
        """The single files that a room may use, as paths."""
        return [place for place in self.uses[room] if (self.root / place).is_file()]


def included(root, name, header, names):
    """The file of the tree that an include names, or None. The order is that of the build's -I."""
    for folder in (os.path.dirname(name), "", "base", "runtime"):
        path = os.path.normpath(os.path.join(folder, header))
        if path in names:
            return path
    return None


def check_includes(table):
    names = set(tree.files(table.root))
    for name in sorted(names):
        room = table.room(name)
        if room is None or not name.endswith(tree.CODE):
            continue
        for number, line in enumerate(tree.lines(table.root, name), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            if match[2]:
                if match[2] in table.outside and room not in table.outside[match[2]]:
                    yield f"{name}:{number}: <{match[2]}> in {room}, which cmake/rooms.txt does not allow"
                continue
            path = included(table.root, name, match[1], names)
            if path is None:
                continue  # another project's, or made by the build
            if table.room(path) is None:
                yield f"{name}:{number}: {room} includes {path}, which is in no room of cmake/rooms.txt"
            elif not table.may_use(room, path):
                yield f"{name}:{number}: {room} includes {path}: {room} may not use {table.room(path)}"


def source_of(build, root, path, names):
    """The source that CMake compiled into an object: by its target's folder, or else the longest end of its path
    that is a file of the tree."""
    parts = pathlib.PurePath(os.path.relpath(path, build)).with_suffix("").parts
    if "CMakeFiles" in parts:
        at = parts.index("CMakeFiles")
        # CMake writes .. as __.
        below = [".." if part == "__" else part for part in parts[at + 2:]]
        name = os.path.normpath("/".join([*parts[:at], *below]))
        if name in names:
            return name
    for first in range(len(parts)):
        name = "/".join(part for part in parts[first:] if part != "__")
        if name in names:
            return name
    return None


def symbols(objects):
    """The symbols of objects: who defines each, and who needs which."""
    done = subprocess.run(["nm", "-A", "-P", "--", *objects], stdout=subprocess.PIPE, text=True, check=True)
    defined, needed = {}, []
    for line in done.stdout.splitlines():
        path, _, rest = line.partition(": ")
        name, kind = rest.split()[:2]
        if kind == "U":
            needed.append((path, name))
        elif kind in "TDBRCVWGSi":
            defined.setdefault(name, path)
    return defined, needed


def check_calls(table, build, objects):
    names = set(tree.files(table.root))
    sources = {path: source_of(build, table.root, path, names) for path in objects}
    for path in sorted(path for path in sources if sources[path] is None or table.room(sources[path]) is None):
        yield f"{path}: of no source in a room of cmake/rooms.txt"
        del sources[path]
    defined, needed = symbols(list(sources))
    words = {}  # header: the words in it
    for path, name in needed:
        source, maker = sources[path], sources.get(defined.get(name))
        room = table.room(source)
        if maker is None or table.may_use(room, maker):
            continue
        for header in table.headers(room):
            if header not in words:
                words[header] = set(re.findall(r"\w+", "\n".join(tree.lines(table.root, header))))
        if not any(name in words[header] for header in table.headers(room)):
            yield f"{source}: {room} calls {name} of {maker}: {room} may not use {table.room(maker)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default=tree.ROOT, type=pathlib.Path)
    parser.add_argument("--build")
    parser.add_argument("--list", help="a file with an object's path on each line")
    parser.add_argument("objects", nargs="*")
    arguments = parser.parse_args()
    table = Table(arguments.root)
    objects = arguments.objects + (pathlib.Path(arguments.list).read_text().split("\n") if arguments.list else [])
    objects = [os.path.abspath(path) for path in objects if path]
    found = list(table.wrong)
    if not found and arguments.build:
        if not objects:
            found = ["no objects were given"]
        else:
            found = list(check_calls(table, os.path.abspath(arguments.build), objects))
    elif not found:
        found = list(check_includes(table))
    for line in found:
        print(line)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
