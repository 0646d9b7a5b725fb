"""Renders templates with jinja2 and writes the results to tests/golden/templates/{features,chat}.json.

    python scripts/goldens/make_template_goldens.py [--gguf SmolLM2-135M-Instruct.Q4_1.gguf]

Needs jinja2==3.1.6, and gguf to read the real SmolLM2 template (Apache-2.0) again. The other templates beside the
output were written for these tests; they use the features that the templates of those families use.
"""

import argparse
import json
import pathlib
import warnings

from jinja_reference import JINJA2_VERSION, render
from template_cases import GROUPS

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "templates"
NOW = 1722387723  # 2024-07-31 01:02:03 UTC

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The <weather> of a city & its \"mood\"",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Köln, say"},
                    "unit": {"type": "string", "enum": ["c", "f"]},
                    "days": {"type": "integer", "minimum": 1},
                },
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "stop", "description": "", "parameters": {"strict": True, "list": []}}},
]
CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Köln", "days": 2}}}
CHATS = {
    "user": {"messages": [{"role": "user", "content": "Hello <|im_end|> äö 🎉"}]},
    "system": {"messages": [{"role": "system", "content": " Be brief. \n"}, {"role": "user", "content": "Hi\n"}]},
    "turns": {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello!"},
            {"role": "user", "content": "  2+2?"},
        ]
    },
    "tools": {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Weather?"}],
              "tools": TOOLS},
    "tools_in_system": {
        "messages": [{"role": "user", "content": "Weather?"}],
        "tools": TOOLS,
        "put_tools_in_user": False,
        "date": "1 May 2025",
    },
    "call": {
        "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "name": "get_weather", "content": "sunny"},
            {"role": "assistant", "content": "Sunny."},
            {"role": "user", "content": "Thanks"},
        ],
        "tools": TOOLS,
    },
    "two_calls": {
        "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "Two:", "tool_calls": [CALL, CALL]},
            {"role": "tool", "content": "sunny"},
            {"role": "tool", "content": "{\"rain\": 1}"},
        ]
    },
    "builtins": {
        "messages": [
            {"role": "user", "content": "?"},
            {"role": "assistant", "tool_calls": [{"function": {"name": "search", "arguments": {"q": "x", "n": "1"}}}]},
            {"role": "ipython", "content": {"result": [1, 2]}},
        ],
        "builtins": ["search", "code"],
    },
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}]},
    "empty": {"messages": []},
    "no_content": {"messages": [{"role": "user"}]},
    "extra_key": {"messages": [{"role": "user", "content": "x", "items": 1, "get": 2}]},
}


def features():
    for group, cases in GROUPS.items():
        for i, case in enumerate(cases):
            template, context = case if isinstance(case, tuple) else (case, {})
            yield {"name": f"{group} {i}", "template": template, "context": context, **render(template, context, NOW)}


def chats():
    for path in sorted(FOLDER.glob("*.jinja")):
        template = path.read_bytes().decode()
        for name, chat in CHATS.items():
            for prompt in (True, False):
                context = {**chat, "add_generation_prompt": prompt, "bos_token": "<s>", "eos_token": "</s>"}
                yield {"name": f"{path.name} {name} {prompt}", "file": path.name, "context": context} | render(
                    template, context, NOW
                )


def write(name, cases):
    cases = list(cases)
    with open(FOLDER / name, "w", encoding="utf-8") as file:
        json.dump({"jinja2": JINJA2_VERSION, "now": NOW, "cases": cases}, file, indent=1)
        file.write("\n")
    rendered = sum("output" in case for case in cases)
    print(f"{name}: {len(cases)} cases, {rendered} of them rendered, the rest refused")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", help="read smollm2.jinja anew from this file's tokenizer.chat_template")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.gguf:
        import gguf

        field = gguf.GGUFReader(arguments.gguf).fields["tokenizer.chat_template"]
        (FOLDER / "smollm2.jinja").write_bytes(bytes(field.parts[field.data[0]]))
    write("features.json", features())
    write("chat.json", chats())


if __name__ == "__main__":
    main()
