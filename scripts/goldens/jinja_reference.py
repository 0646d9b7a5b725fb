"""The reference for chat templates: jinja2 with the settings that Hugging Face's transformers uses."""

import datetime
import json

import jinja2
import jinja2.ext
import jinja2.sandbox

JINJA2_VERSION = "3.1.6"


class Raised(Exception):
    """The error that raise_exception raises."""


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_text")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _text(self, caller):
        return caller()


class Namespace(jinja2.utils.Namespace):
    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        attributes = dict(*args, **kwargs)
        for name in attributes:
            Namespace._check(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name, value):
        Namespace._check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def _check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"attribute {name!r}")


def environment(now):
    def raise_exception(message):
        raise Raised(str(message))

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(pattern):
        return datetime.datetime.fromtimestamp(now, datetime.timezone.utc).strftime(pattern)

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals.update(raise_exception=raise_exception, strftime_now=strftime_now, namespace=Namespace)
    return env


def render(template, context, now=0):
    """Returns {"output": text}, {"raised": message} or {"error": the name of the exception}."""
    assert jinja2.__version__ == JINJA2_VERSION, f"jinja2=={JINJA2_VERSION} is needed, not {jinja2.__version__}"
    try:
        return {"output": environment(now).from_string(template).render(**context)}
    except Raised as error:
        return {"raised": str(error)}
    except Exception as error:  # any exception that a template can cause is an error in trimtab too
        return {"error": type(error).__name__}
