"""Compares `trimtab template` with jinja2 over a folder of real chat templates (`make conformance` runs it).

    python scripts/measure/check_templates.py FOLDER build/trimtab

FOLDER holds *.jinja files. For each template and conversation: = the same text, e refused by both, X different. A
template counts as rendered alike when nothing differs and something is not refused. Exit code 1 when one differs.
"""

import argparse
import datetime
import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "goldens"))
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
# Cohere's older templates take tools without "function" around them.
FLAT_TOOLS = [
    {
        "name": "get_weather",
        "description": "Get the weather",
        "parameter_definitions": {"city": {"description": "where", "type": "str", "required": True}},
    }
]
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
    """(What the program prints, or None when it refuses; its message.)"""
    path = pathlib.Path(folder) / "messages.json"
    conversation = {key: context[key] for key in ("messages", "tools") if context[key]}
    path.write_text(json.dumps(conversation), encoding="utf-8")
    command = [program, "template", str(template), "--messages", str(path), "--bos", "<s>", "--eos", "</s>"]
    command += ["--date", DAY.strftime("%Y-%m-%d")]
    if not context["add_generation_prompt"]:
        command.append("--no-generation-prompt")
    done = subprocess.run(command, capture_output=True, timeout=60)
    return (done.stdout.decode() if done.returncode == 0 else None), done.stderr.decode().strip()


def conversations(source):
    found = [(name, messages, None) for name, messages in MESSAGES.items()]
    if "parameter_definitions" in source:
        found += [("flat tools", MESSAGES["system"], FLAT_TOOLS)]
    if "tools" in source:
        found += [("tools", MESSAGES["system"], TOOLS), ("call", CALL, TOOLS)]
    return found


def compare(program, template, folder):
    """(A mark for each rendering, what differs or why all were refused.)"""
    source = template.read_bytes().decode()
    marks, different, message = "", [], ""
    for name, messages, tools in conversations(source):
        for prompt in (True, False):
            context = {"messages": messages, "tools": tools, "documents": None, "add_generation_prompt": prompt}
            context |= {"bos_token": "<s>", "eos_token": "</s>"}
            want = render(source, context, DAY.timestamp()).get("output")
            got, message = run(program, template, context, folder)
            same = got == want
            marks += "X" if not same else "e" if want is None else "="
            if not same:
                different.append(name)
    if "=" in marks or different:
        return marks, " ".join(dict.fromkeys(different))
    return marks, "refused: " + message.removeprefix("trimtab: ").removeprefix(f"{template}: ")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("program")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    templates = sorted(arguments.folder.glob("*.jinja"))
    if not templates:
        sys.exit(f"{arguments.folder}: no *.jinja files")
    alike = refused = same = total = 0
    with tempfile.TemporaryDirectory() as folder:
        for template in templates:
            marks, note = compare(arguments.program, template, folder)
            alike += "=" in marks and "X" not in marks
            refused += note.startswith("refused")
            same += len(marks) - marks.count("X")
            total += len(marks)
            print(f"{template.name:60} {marks:18} {note}".rstrip(), flush=True)
    print(f"{alike} of {len(templates)} templates render as jinja2 does, {refused} are refused as by jinja2, "
          f"{len(templates) - alike - refused} differ; {same} of {total} renderings the same")
    sys.exit(0 if same == total else 1)


if __name__ == "__main__":
    main()
