"""Compares `trimtab template` with jinja2 over a folder of real chat templates.

    python scripts/check_templates.py FOLDER build/trimtab

FOLDER holds *.jinja files. The source package of llama-cpp-python carries about seventy:

    pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36
    (unpack; vendor/llama.cpp/models/templates)

For each template and message list: = the same text, e refused by both, X different. Exit code 1 when one differs.
"""

import argparse
import datetime
import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

from jinja_reference import render

DAY = datetime.datetime(2024, 7, 31, 12, tzinfo=datetime.timezone.utc)
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get <the> weather's state & more",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["c", "f"]}},
                "required": ["city"],
            },
        },
    }
]
MESSAGES = {
    "user": [{"role": "user", "content": "Hello <|im_end|> äö"}],
    "system": [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "Hi\n"}],
    "turns": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "2+2?"},
    ],
    "thought": [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello!"},
        {"role": "user", "content": "2+2?"},
    ],
    "parts": [{"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}]}],
    "bad": [{"role": "assistant", "content": "x"}, {"role": "assistant", "content": "y"}],
}
CALL = [
    {"role": "user", "content": "Weather?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "abcdefghi", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Köln"}}}
        ],
    },
    {"role": "tool", "name": "get_weather", "tool_call_id": "abcdefghi", "content": "sunny"},
    {"role": "user", "content": "Thanks"},
]


def run(program, template, context, folder):
    """What the program prints, or None when it refuses. An object in place of the list carries tools."""
    path = pathlib.Path(folder) / "messages.json"
    messages = {"messages": context["messages"], "tools": context["tools"]} if context["tools"] else context["messages"]
    path.write_text(json.dumps(messages), encoding="utf-8")
    command = [program, "template", str(template), "--messages", str(path), "--bos", "<s>", "--eos", "</s>"]
    command += ["--date", DAY.strftime("%Y-%m-%d")]
    if not context["add_generation_prompt"]:
        command.append("--no-generation-prompt")
    done = subprocess.run(command, capture_output=True, timeout=60)
    return done.stdout.decode() if done.returncode == 0 else None


def compare(program, template, folder, with_tools):
    source = template.read_bytes().decode()
    lists = [(name, messages, None) for name, messages in MESSAGES.items()]
    if with_tools and "tools" in source:
        lists += [("tools", MESSAGES["system"], TOOLS), ("call", CALL, TOOLS)]
    marks, different = "", []
    for name, messages, tools in lists:
        for prompt in (True, False):
            context = {"messages": messages, "tools": tools, "documents": None, "add_generation_prompt": prompt}
            context |= {"bos_token": "<s>", "eos_token": "</s>"}
            want = render(source, context, DAY.timestamp()).get("output")
            got = run(program, template, context, folder)
            same = got == want or (got is not None and want is not None and got == want + "\n")
            marks += "X" if not same else "e" if want is None else "="
            if not same:
                different.append(name)
    return marks, different


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("program")
    parser.add_argument("--tools", action="store_true", help="for a program whose message file may carry tools")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    templates = sorted(arguments.folder.glob("*.jinja"))
    if not templates:
        sys.exit(f"{arguments.folder}: no *.jinja files")
    whole = same = total = 0
    with tempfile.TemporaryDirectory() as folder:
        for template in templates:
            marks, different = compare(arguments.program, template, folder, arguments.tools)
            whole += "X" not in marks
            same += len(marks) - marks.count("X")
            total += len(marks)
            print(f"{template.name:60} {marks} {' '.join(dict.fromkeys(different))}")
    print(f"{whole} of {len(templates)} templates the same throughout; {same} of {total} renderings")
    sys.exit(0 if same == total else 1)


if __name__ == "__main__":
    main()
